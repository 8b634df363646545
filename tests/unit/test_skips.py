"""In CI nothing skips unnoticed: the rule of `tests/conftest.py`, on a pytest run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.settings import PROJECT_FOLDER
from tests.conftest import SKIPPED_IN_CI

SKIPPING = "import pytest\ndef test_one():\n    pytest.skip('no such program')\ndef test_two():\n    pass\n"


def run(folder: Path, *options: str, ci: str) -> "subprocess.CompletedProcess[str]":
    (folder / "pytest.ini").write_text("[pytest]")
    (folder / "test_skipping.py").write_text(SKIPPING)
    # With a folder of its own: a session closes the folder that sessions share to every other user, and the Postgres of
    # this one, which root runs as another user, would lose its data under it.
    own = ("--basetemp", folder / "own")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.conftest",
            "-c",
            folder / "pytest.ini",
            *own,
            *options,
            folder,
        ],
        cwd=PROJECT_FOLDER,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_skip_that_is_not_listed_fails_the_run_in_ci(tmp_path: Path) -> None:
    finished = run(tmp_path, "--numprocesses", "1", ci="true")
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "1 passed, 1 skipped" in finished.stdout
    assert finished.stdout.splitlines()[-1].startswith("not passed: test_skipping.py::test_one (skipped")


@pytest.mark.slow
def test_outside_ci_it_does_not(tmp_path: Path) -> None:
    finished = run(tmp_path, ci="")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "not passed" not in finished.stdout


def test_the_files_that_may_skip_are_there() -> None:
    assert [path for path in SKIPPED_IN_CI if not (PROJECT_FOLDER / path).is_file()] == []
