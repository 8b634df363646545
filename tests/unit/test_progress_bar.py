"""The progress bar on a terminal and in a file."""

import os
import sys
from pathlib import Path

import pytest

from everreach_assets.commands.shared import progress_bar

SHOW_CURSOR = b"\x1b[?25h"
"""The last thing that a bar writes."""


def draw(monkeypatch: pytest.MonkeyPatch, error_output: int) -> None:
    with os.fdopen(error_output, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar("posts.csv") as on_progress:
            on_progress(3, 4)


def test_the_progress_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, programs_end = os.openpty()
    try:
        draw(monkeypatch, os.dup(programs_end))
        written = b""
        while SHOW_CURSOR not in written:  # a terminal hands over what has come so far
            written += os.read(terminal, 100_000)
        drawn = written.decode()
    finally:
        os.close(programs_end)
        os.close(terminal)
    assert "posts.csv" in drawn
    assert "75%" in drawn


def test_the_progress_bar_is_not_drawn_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    draw(monkeypatch, os.open(log, os.O_WRONLY | os.O_CREAT))
    assert log.read_text() == ""
