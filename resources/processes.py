"""Processes of this machine, whoever started them: whether they live, and their end.

What does not belong here: starting one and printing its lines (`everreach_assets/processes.py`).
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. One that ended and was not collected by its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this process is the one that listens on the TCP port."""
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # it is gone, or not ours to look at
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def end_processes(
    processes: Iterable[psutil.Process], *, grace_seconds: float, signals: Sequence[int] = (signal.SIGTERM,)
) -> None:
    """Send each signal in turn, with the grace time after each, and in the end SIGKILL to what is left."""
    remaining = list(processes)
    for number in (*signals, signal.SIGKILL):
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + grace_seconds
        while remaining and time.monotonic() < deadline:
            remaining = [process for process in remaining if not _ended_within(process, 0.05)]
        if not remaining:
            return


def wait_until(condition: Callable[[], bool], process: psutil.Process, seconds: float) -> bool:
    """Whether the condition came true in time, and before the process ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _ended_within(process, 0.05):
        if condition():
            return True
    return False


def _ended_within(process: psutil.Process, seconds: float) -> bool:
    try:
        process.wait(seconds)  # collects it when it is our child
    except psutil.TimeoutExpired:
        return not is_alive(process)
    return True
