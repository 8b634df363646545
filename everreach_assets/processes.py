"""Processes that a command starts, prints under their names, and ends with itself: for `up` and for `monitoring`.

What does not belong here: which processes these are (`supervisor.py`, `monitoring.py`).
"""

import contextlib
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import psutil

from resources.settings import PROJECT_FOLDER

Command = list[str | Path]


@dataclass(frozen=True)
class Child:
    """A process that a command started, and the thread that prints its lines."""

    process: subprocess.Popen[str]
    printer: threading.Thread


def start(name: str, command: Command, environment: dict[str, str]) -> Child:
    """Start it in a session of its own, so that Ctrl-C reaches only us, and print its lines under its name."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=PROJECT_FOLDER,  # workspace.yaml's working_directory is relative to it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    printer = threading.Thread(target=_print_lines, args=(name, process.stdout), daemon=True)
    printer.start()
    return Child(process, printer)


def _print_lines(name: str, lines: IO[str]) -> None:
    for line in lines:
        with contextlib.suppress(OSError):  # our terminal is gone: read on, or the child would block on a full pipe
            click.echo(f"{click.style(f'{name:<9} |', fg='cyan')} {line.rstrip()}")


def stop_requests() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and the end of the terminal set; nothing is interrupted half-way."""
    requested = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: requested.set())
    return requested


def marked(mark: str, home: Path) -> list[psutil.Process]:
    """The processes that carry this variable with this folder: children of a command, their children, and so on."""
    return [process for process in psutil.process_iter() if _environment(process).get(mark) == str(home)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:  # it ended, or it is another user's and so none of ours
        return {}
