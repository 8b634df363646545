"""Servers that a test starts for itself, on ports of loopback that nobody else is given meanwhile."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from resources.ports import LOOPBACK, answers_http
from tests.waiting import until

START_SECONDS = 120  # a second on an idle machine
_reservations: list[socket.socket] = []


def reserved_port() -> int:
    """A port of loopback that nothing listens on, and that nobody else is given while these tests run.

    The port that a moment ago was free may be another process's when the server comes to listen on it, and a server of
    the same kind then answers in its place. A socket that is bound and does not listen keeps the system from giving the
    port away; a server that sets SO_REUSEADDR, as all of these do, may listen on it all the same.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((LOOPBACK, 0))
    _reservations.append(reservation)
    return int(reservation.getsockname()[1])


@contextlib.contextmanager
def running_server(command: Sequence[str], *, port: int, ready: str, log: Path) -> Iterator[None]:
    """A server on the port of loopback that answers the path `ready`, until the block ends; its output is in `log`."""

    def told() -> str:
        return log.read_text(errors="replace")[-2000:]

    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(
                lambda: answers_http(port, ready) or process.poll() is not None,
                seconds=START_SECONDS,
                says=told,
            )
            assert process.poll() is None, told()
            yield
            assert process.poll() is None, f"{command[0]} ended by itself: {told()}"
        finally:
            process.terminate()
            process.wait(timeout=30)
