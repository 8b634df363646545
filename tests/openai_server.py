"""A server on loopback that speaks OpenAI's `POST /v1/embeddings` and `/v1/chat/completions`, for the real client.

It answers with vectors that follow from the text alone, unless the next answer is scripted: an error, silence, a reset
connection, or vectors that are not what was asked for. It records every request.
"""

import base64
import contextlib
import functools
import hashlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from everreach_assets.domain.vectors import Vector
from tests.http_server import JsonHandler, local_server, serving

NATIVE_WIDTH = 1536
HANG_SECONDS = 20

Rows = list[tuple[int, Vector]]
"""The index and the vector of each item of an answer."""


@functools.cache
def vector_of(text: str, width: int = NATIVE_WIDTH) -> Vector:
    """The vector, of unit length, that the server has for a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    drawn = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    unit: Vector = drawn / np.linalg.norm(drawn)
    return unit


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    Attributes:
        change: applied to the vectors before they are sent.
        body: sent instead of the vectors: JSON, or bytes as they are.
        drop: `hang` never answers, `drip` does so byte by byte and never ends, `reset` breaks the connection.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[Rows], Rows] | None = None
    body: object = None
    drop: str = ""


def error(status: int, *, code: str | None = None, message: str = "no", retry_after: str | None = None) -> Answer:
    """An error as OpenAI words it."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Answer(status, headers, body={"error": {"message": message, "type": "error", "param": None, "code": code}})


@dataclass(frozen=True)
class Received:
    """A request that reached the server."""

    at: float
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    inputs: list[str]


class OpenAIServer:
    """The server. An answer comes from the rule, where it has one for the inputs; else from the script, in its order;
    else it is the vectors, of the model asked for or of `answers_as`, or what `phrase` says of the claims of a chat.

    Attributes:
        most_at_once: requests that were under way together, at most.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.script: deque[Answer] = deque()
        self.always: Answer = Answer()
        self.width = NATIVE_WIDTH
        self.ignores_base64 = False
        self.latency_seconds = 0.0
        self.answers_as: str | None = None
        self.rule: Callable[[list[str]], Answer | None] | None = None
        self.phrase: Callable[[list[dict[str, Any]]], object] = lambda _: {}
        self.most_at_once = self._at_once = 0
        self.is_stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = local_server(functools.partial(_Handler, self))
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextmanager
    def running(self) -> Iterator["OpenAIServer"]:
        with serving(self._server, self.is_stopping):
            yield self

    def inputs_of(self, body: dict[str, Any]) -> list[str]:
        """The texts of a request."""
        return [each["content"] for each in body["messages"]] if "messages" in body else list(body["input"])

    def receive(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Answer:
        """Record a request, and choose its answer."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            inputs = self.inputs_of(body)
            time.sleep(self.latency_seconds)
        finally:
            with self._lock:
                self._at_once -= 1
        with self._lock:
            self.requests.append(Received(time.monotonic(), path, headers, body, inputs))
            if self.rule and (answer := self.rule(inputs)):
                return answer
            return self.script.popleft() if self.script else self.always

    @property
    def inputs(self) -> list[str]:
        """Every text that the server was sent."""
        return [text for request in self.requests for text in request.inputs]

    def payload(self, body: dict[str, Any], answer: Answer) -> object:
        """What the server answers where nothing is amiss."""
        if "messages" in body:
            return self._chat(body)
        width = body.get("dimensions") or self.width
        rows: Rows = [(number, vector_of(text, width)) for number, text in enumerate(body["input"])]
        if answer.change:
            rows = answer.change(rows)
        is_base64 = body.get("encoding_format") == "base64" and not self.ignores_base64
        tokens = sum(len(text.split()) for text in body["input"])
        return {
            "object": "list",
            "model": self.answers_as or body["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "data": [
                {
                    "object": "embedding",
                    "index": number,
                    "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                    if is_base64
                    else vector.tolist(),
                }
                for number, vector in rows
            ],
        }

    def _chat(self, body: dict[str, Any]) -> object:
        said = self.phrase(json.loads(body["messages"][-1]["content"]))
        content = said if isinstance(said, str) else json.dumps(said)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


class _Handler(JsonHandler):
    def __init__(self, owner: OpenAIServer, *arguments: Any) -> None:
        self._owner = owner
        super().__init__(*arguments)

    def post(self, body: Any) -> None:
        answer = self._owner.receive(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
        if answer.drop:
            self._drop(answer.drop)
            return
        payload = self._owner.payload(body, answer) if answer.body is None else answer.body
        self.answer(answer.status, answer.headers, payload)

    def _drop(self, how: str) -> None:
        self.close_connection = True
        if how == "hang":
            self._owner.is_stopping.wait(HANG_SECONDS)
        elif how == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client leaves
                while not self._owner.is_stopping.wait(0.05):
                    self.wfile.write(b" ")
        else:  # closing with a linger of zero sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
