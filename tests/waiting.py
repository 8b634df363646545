"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, seconds: float, says: Callable[[], str] = str) -> None:
    """Wait for the condition; where it does not come, the test fails with what `says` answers."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {says()}"
        time.sleep(0.2)
