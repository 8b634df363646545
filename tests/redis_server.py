"""A real Redis for tests, on a free port of loopback, with everything in memory."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.conftest import program
from tests.servers import reserved_port

START_SECONDS = 30


class RedisServer:
    """The server; it can be stopped, and started again empty on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = reserved_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([program("redis-server"), *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < deadline, "redis-server did not start"
                    time.sleep(0.02)

    def contents(self) -> dict[str, bytes]:
        """All that it holds, by key; a set's or a sorted set's members one on a line."""
        with redis.Redis.from_url(self.url) as client:
            return {key.decode("latin-1"): key + b"\n" + _value(client, key) for key in client.scan_iter()}

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None


def _value(client: redis.Redis, key: bytes) -> bytes:
    held: Any
    match client.type(key):
        case b"string":
            held = [client.get(key)]
        case b"set":
            held = client.smembers(key)
        case b"zset":
            held = client.zrange(key, 0, -1)
        case other:
            raise AssertionError(f"nobody has said how a {other!r} is read")
    return b"\n".join(each for each in held if each)  # what has just ended has no value


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
