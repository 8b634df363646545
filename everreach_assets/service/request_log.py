"""One line for each request, and each line of the process as JSON: what happened, never what was said.

A line holds the method, the route's template, the status, times and sizes, and the request's id: no text, no token, no
query string, and of an unexpected error its type and where it was raised, since its message may quote a row.
"""

import datetime as dt
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everreach_assets.domain.errors import EverReachError
from everreach_assets.service.errors import unexpected

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
WATCHED = frozenset({"/metrics", "/healthz", "/readyz"})
"""Asked for every few seconds by machines: logged where they fail, else at the level DEBUG."""

CALLER_LEFT = 499
"""In the log only, as nginx writes it: the caller closed the connection before the body was there."""

logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["errors"] = list(_described(record.exc_info[1]))
        return json.dumps(line, default=str)


def _described(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """The error and those that led to it: type and places; the message of our own errors alone, which quote no text."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        described: dict[str, Any] = {"type": f"{type(error).__module__}.{type(error).__qualname__}"}
        if isinstance(error, EverReachError):
            described["message"] = str(error)
        described["at"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        yield described
        error = error.__cause__ or error.__context__


def log_as_json(level: int = logging.INFO) -> None:
    """Write every line of this process to standard error as JSON: ours from `level` on, those of libraries from WARNING
    on (some of theirs below it name addresses that were called)."""
    lines = logging.StreamHandler()
    lines.setFormatter(JsonLines())
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    for ours in ("everreach_assets", "resources"):
        logging.getLogger(ours).setLevel(level)


class RequestLog:
    """Gives each request an id, logs it, and answers what nobody expected. The caller's X-Request-ID is kept if it is
    a plain one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        observed = _Observed(scope, receive, send)
        start = time.perf_counter()
        try:
            await self._app(scope, observed.receive, observed.send)
        except ClientDisconnect:
            observed.status = observed.status or CALLER_LEFT
        except Exception:
            logger.exception("an error of the service itself", extra={"fields": {"request_id": observed.request_id}})
            if observed.status == 0:
                await unexpected(Request(scope))(scope, observed.receive, observed.send)
        finally:
            is_usual = observed.route in WATCHED and 200 <= observed.status < 400
            logger.log(
                logging.DEBUG if is_usual else logging.INFO,
                "request",
                extra={"fields": observed.fields(time.perf_counter() - start)},
            )


class _Observed:
    """The two ends of a request, with what passes through them counted."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._sent_bytes = 0
        self.status = 0
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self.request_id

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
        self._sent_bytes += len(message.get("body", b""))
        await self._send(message)

    @property
    def route(self) -> str:
        """The template of the route, never the path: that is the caller's text."""
        return str(getattr(self._scope.get("route"), "path", "none"))

    def fields(self, seconds: float) -> dict[str, object]:
        method = self._scope["method"]
        return {
            "method": method if method.isalpha() and len(method) <= 10 else "other",
            "route": self.route,
            "status": self.status,
            "ms": round(seconds * 1_000, 1),
            "bytes_in": self._received_bytes,
            "bytes_out": self._sent_bytes,
            "request_id": self.request_id,
        }
