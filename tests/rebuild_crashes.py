"""The project's definitions, in which run workers are killed as by `kill -9`: at each stage of a rebuild the first that
gets there. A code server loads `defs`; `python -m tests.rebuild_crashes STAGE WORKSPACE` is Dagster's daemon, which is
killed at that stage of a tick, or never.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

STAGES = ("labelling", "embedding", "replacing", "replaced")


def killed_once(stage: str, call: Callable[..., Any], *, is_after: bool = False) -> Callable[..., Any]:
    """The function, at whose call (or end) the first process is killed that gets there."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        answer = call(*arguments, **named) if is_after else None
        try:
            (Path(os.environ["EVERREACH_HOME"]) / f"killed-{stage}").touch(exist_ok=False)
        except FileExistsError:
            return answer if is_after else call(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it was killed")

    return wrapped


def definitions() -> dg.Definitions:
    """The project's, with the stages of `strategy_rebuild_job` replaced."""
    from everreach_assets import classification
    from everreach_assets.assets import embeddings, strategies
    from everreach_assets.build import build_definitions
    from resources import strategies as strategy_rows

    def replace(owner: Any, name: str, stage: str, *, is_after: bool = False) -> None:
        setattr(owner, name, killed_once(stage, getattr(owner, name), is_after=is_after))

    replace(classification, "classify_new_outcomes", "labelling")
    replace(embeddings, "embed_collection", "embedding")
    replace(strategy_rows, "store_strategy", "replacing")
    replace(strategies, "rebuild_strategy", "replaced", is_after=True)  # committed, and Dagster does not know it
    return build_definitions()


def daemon(stage: str, workspace: str) -> None:
    """Dagster's daemon, killed where Dagster's own tests of crashes would be (`check_for_debug_crash`)."""
    from dagster._daemon import sensor
    from dagster._daemon.cli import cli

    def check(_: object, reached: str) -> None:
        if reached == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(sensor, "check_for_debug_crash", check)  # noqa: B010 - it is not exported
    cli(["run", "-w", workspace])


if __name__ == "__main__":
    daemon(*sys.argv[1:])
else:
    defs = definitions()
