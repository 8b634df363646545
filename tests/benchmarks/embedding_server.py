"""The stand-in for the embedding provider: OpenAI's protocol in a process of its own, a fixed latency, and a tally.

Its vectors follow from the text alone (`tests.openai_server.vector_of`), so each stored vector can be judged.
"""

import base64
import contextlib
import functools
import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tests.openai_server import Answer, OpenAIServer, vector_of


@dataclass(frozen=True)
class Tally:
    """What the server was asked since it was asked last.

    Attributes:
        at_once: the most requests that were under way at a time.
        most_inputs: texts of the largest request.
    """

    requests: int = 0
    texts: int = 0
    at_once: int = 0
    most_inputs: int = 0


class _Server(OpenAIServer):
    def __init__(self, latency_seconds: float) -> None:
        super().__init__()
        self._latency_seconds = latency_seconds
        self._counting = threading.Lock()
        self._tally, self._under_way = Tally(), 0

    def receive(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Answer:
        """Count the request; its text is not kept."""
        return self.always

    def payload(self, body: dict[str, Any], answer: Answer) -> object:
        inputs = body["input"]
        with self._counting:
            self._under_way += 1
            known = self._tally
            self._tally = Tally(
                known.requests + 1,
                known.texts + len(inputs),
                max(known.at_once, self._under_way),
                max(known.most_inputs, len(inputs)),
            )
        time.sleep(self._latency_seconds)
        try:
            if body.get("encoding_format") != "base64":
                return super().payload(body, answer)
            tokens = sum(len(text.split()) for text in inputs)
            rows = [{"object": "embedding", "index": place, "embedding": _packed(t)} for place, t in enumerate(inputs)]
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            return {"object": "list", "model": body["model"], "usage": usage, "data": rows}
        finally:
            with self._counting:
                self._under_way -= 1

    def take_tally(self) -> Tally:
        with self._counting:
            taken, self._tally = self._tally, Tally()
        return taken


@functools.cache
def _packed(text: str) -> str:
    return base64.b64encode(vector_of(text).astype("<f4").tobytes()).decode()


@dataclass(frozen=True)
class EmbeddingServer:
    """The server as the benchmark sees it."""

    base_url: str
    _pipe: Connection

    def take_tally(self) -> Tally:
        """What it was asked since the last call of this."""
        self._pipe.send("tally")
        taken: Tally = self._pipe.recv()
        return taken

    def learn(self, texts: list[str]) -> None:
        """Draw the vectors of the texts, so that no contender waits for it."""
        self._pipe.send(texts)
        self._pipe.recv()


@contextlib.contextmanager
def embedding_server(latency_seconds: float) -> Iterator[EmbeddingServer]:
    """The server, for as long as the block lasts; in another process, whose work is none of the contenders'."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, latency_seconds))
    process.start()
    try:
        yield EmbeddingServer(ours.recv(), ours)
    finally:
        ours.send(None)
        process.join(timeout=30)


def _serve(pipe: Connection, latency_seconds: float) -> None:
    with _Server(latency_seconds).running() as server:
        assert isinstance(server, _Server)
        pipe.send(server.base_url)
        while (asked := pipe.recv()) is not None:
            if asked == "tally":
                pipe.send(server.take_tally())
            else:
                for text in asked:
                    _packed(text)
                pipe.send("learned")
