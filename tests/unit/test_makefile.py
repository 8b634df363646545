"""What `make` hands on to the command. `make -n` says it without running it."""

import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def handed_on(*variables: str) -> list[str]:
    """The words of the command that `make run` ends with."""
    said = subprocess.run(
        ["make", "--dry-run", "run", *variables], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (command,) = [line for line in said.splitlines() if "everreach run" in line]
    return shlex.split(command)


def test_make_run_hands_on_a_file_with_a_blank_in_its_name_its_platform_and_its_mapping() -> None:
    assert handed_on("POSTS=a b.csv", "PLATFORM=x", "MAP=m.yaml") == [
        ".venv/bin/everreach",
        "run",
        "--posts",
        "a b.csv",
        "--platform",
        "x",
        "--map",
        "m.yaml",
    ]


def test_make_run_alone_hands_on_nothing() -> None:
    assert handed_on() == [".venv/bin/everreach", "run"]
