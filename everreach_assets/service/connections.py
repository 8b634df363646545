"""A connection that waits for a request for no longer than is reasonable, and says in JSON when it got none.

uvicorn sets no limit to how long the head of a request may take: callers who never finish one could hold every
connection that the process may open. What does not belong here: the body's limits (`bodies.py`).
"""

import asyncio
import json

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0


class ImpatientConnection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it (by h11, which bounds the size of a head), with a limit of time for each head."""

    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in the one shape of errors; nobody knows its request's id, so it is empty."""
        body = json.dumps({"error": f"{msg} Send HTTP/1.1.", "details": [], "request_id": ""}).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _watch(self) -> None:
        """Begin the wait where no request is under way; data that do not complete a head do not begin it anew."""
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting:
            self._stop_watching()
        elif self._closing is None and not self.transport.is_closing():
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
