"""A server on loopback that takes messages as dispatch does, records them, and answers as it is told."""

import functools
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import JsonHandler, local_server, serving

HANG_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    """How one call is answered; with `hangs` it is not."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = field(default_factory=lambda: {"ok": True})
    hangs: bool = False


class DispatchServer:
    """The server. Scripted answers are given first, in their order; then `always`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.script: deque[Answer] = deque()
        self.always = Answer()
        self.is_stopping = threading.Event()
        self._server = local_server(functools.partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/dispatch?key=hunter2"

    @contextmanager
    def running(self) -> Iterator["DispatchServer"]:
        with serving(self._server, self.is_stopping):
            yield self

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages]

    def wait_for(self, count: int, seconds: float) -> list[str]:
        """The texts, once there are that many.

        Raises:
            AssertionError: there are not, in that time.
        """
        deadline = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} messages of {count}: {self.texts}"
            time.sleep(0.05)
        return self.texts


class _Handler(JsonHandler):
    def __init__(self, owner: DispatchServer, *arguments: Any) -> None:
        self._owner = owner
        super().__init__(*arguments)

    def post(self, body: Any) -> None:
        self._owner.messages.append(body)
        answer = self._owner.script.popleft() if self._owner.script else self._owner.always
        if answer.hangs:
            self.close_connection = True
            self._owner.is_stopping.wait(HANG_SECONDS)
            return
        self.answer(answer.status, answer.headers, answer.body)
