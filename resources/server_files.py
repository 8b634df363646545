"""The data folder of the embedded servers: made, explained where it cannot be used, its logs kept and quoted."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from everreach_assets.domain.errors import Unavailable


def make_folder(home: Path) -> None:
    """Make the data folder, for its owner alone, where it is missing."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def explained(home: Path) -> Iterator[None]:
    """Say what to do about an error of the operating system in the block.

    Raises:
        Unavailable: in its place.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the servers of {home} cannot be started ({error}): check disk space and permissions, or name "
            "another folder in EVERREACH_HOME"
        ) from error


def set_aside(log: Path) -> None:
    """Keep the log of the start before, and none older."""
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def not_started(server: str, log: Path) -> str:
    """What to say where a server does not start: the end of its log, and what to do."""
    return (
        f"{server} does not start. The end of its log {log}:\n{_last_lines(log)}\n"
        "Remove the cause (disk space, permissions, a port in use) and run the same command again"
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-10:]) or "  (empty)"


def write_whole(path: Path, text: str) -> None:
    """Write a file that a reader finds either as it was or whole."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
