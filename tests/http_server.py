"""How the stand-ins for what cannot be reached from here run: an HTTP server on loopback, in a thread, ended in order.

What does not belong here: what each of them answers (`openai_server.py`, `telegram_server.py`, ...).
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonHandler(BaseHTTPRequestHandler):
    """Takes and answers JSON by POST, on connections that are kept open, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.post(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def post(self, body: Any) -> None:
        """Answer a request with this body."""
        raise NotImplementedError

    def answer(self, status: int, headers: Mapping[str, str], payload: object) -> None:
        """Send the payload: bytes as they are, anything else as JSON."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Tests read what was recorded instead."""


def local_server(handler: Callable[..., BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on a free port of loopback, which `serving` starts."""
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)


@contextmanager
def serving(server: ThreadingHTTPServer, is_stopping: threading.Event | None = None) -> Iterator[None]:
    """Let it answer for as long as the block lasts.

    Args:
        is_stopping: set at the end, for answers that wait on purpose.
    """
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        if is_stopping is not None:
            is_stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
