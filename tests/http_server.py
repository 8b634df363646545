"""How the stand-ins for what cannot be reached from here run: an HTTP server on loopback, in a thread, ended in order.

What does not belong here: what each of them answers (`openai_server.py`, `dispatch_server.py`, `grafana_server.py`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
