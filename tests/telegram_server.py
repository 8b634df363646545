"""A server on loopback that speaks `sendMessage` of Telegram's Bot API, and refuses what Telegram refuses.

https://core.telegram.org/bots/api#sendmessage
"""

import functools
import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from tests.http_server import JsonHandler, local_server, serving

MAX_CHARACTERS = 4_096
"""Of a text without its tags, in units of UTF-16."""

TAGS = {*"abisu", "blockquote", "code", "del", "em", "ins", "pre", "span", "strike", "strong", "tg-spoiler"}


class TelegramServer:
    """The server. It knows one bot and one chat, and keeps what it sent there.

    Attributes:
        sent: the bodies of the requests that were accepted.
        refused: the errors, as they were answered.
    """

    def __init__(self, token: str, chat_id: int) -> None:
        self.sent: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self._token = token
        self._chat_id = chat_id
        self._server = local_server(functools.partial(_Handler, self))
        self.api_url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["TelegramServer"]:
        with serving(self._server):
            yield self

    def receive(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send the message, or say why not."""
        if path != f"/bot{self._token}/sendMessage":
            return self._refused(404 if path.startswith(f"/bot{self._token}/") else 401, "no such method or bot")
        if str(body.get("chat_id")) != str(self._chat_id):
            return self._refused(400, "chat not found")
        if fault := _fault(body["text"], is_html=body.get("parse_mode") == "HTML"):
            return self._refused(400, fault)
        self.sent.append(body)
        chat = {"id": self._chat_id, "type": "supergroup", "title": "alerts"}
        message = {"message_id": len(self.sent), "date": 1, "chat": chat, "text": shown(body["text"])}
        return {"ok": True, "result": message}

    def _refused(self, code: int, description: str) -> dict[str, Any]:
        self.refused.append({"ok": False, "error_code": code, "description": description})
        return self.refused[-1]


def _fault(text: str, *, is_html: bool) -> str:
    """What is wrong with a text; nothing where it can be sent."""
    if is_html and (wrong := _Tags(text).wrong):
        return f"can't parse entities: {wrong}"
    read = shown(text) if is_html else text
    if not read.strip():
        return "message text is empty"
    return "message is too long" if len(read.encode("utf-16-le")) > 2 * MAX_CHARACTERS else ""


def shown(text: str) -> str:
    """What a reader sees of a text in Telegram's HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", text))


class _Tags(HTMLParser):
    """Finds the tags that Telegram does not take."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wrong = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        if self._open:
            self.wrong = self.wrong or f'Can\'t find end tag corresponding to start tag "{self._open[-1]}"'

    def handle_starttag(self, tag: str, _: Any) -> None:
        if tag not in TAGS:
            self.wrong = self.wrong or f'Unsupported start tag "{tag}"'
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong = self.wrong or "Unexpected end tag"


class _Handler(JsonHandler):
    def __init__(self, owner: TelegramServer, *arguments: Any) -> None:
        self._owner = owner
        super().__init__(*arguments)

    def post(self, body: Any) -> None:
        answer = self._owner.receive(self.path, body)
        self.answer(int(answer.get("error_code", 200)), {}, answer)
