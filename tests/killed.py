"""Programs that are killed, as by `kill -9`, at a call of one of our functions; a test says what holds after it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from resources.settings import Settings

_AT_THE_CALL = """
import importlib, os, signal, sys

step, calls = sys.argv[1:3]
del sys.argv[1:3]
owner, name = step.rsplit(".", 1)
try:
    owner = importlib.import_module(owner)
except ModuleNotFoundError:
    module, type_name = owner.rsplit(".", 1)
    owner = getattr(importlib.import_module(module), type_name)
real, left = getattr(owner, name), [int(calls)]

def killed(*arguments, **named):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*arguments, **named)

setattr(owner, name, killed)
"""


def run_until_killed(program: str, *arguments: str, step: str, calls: int, imports: str) -> None:
    """Run a program in a process of its own, which must die at that call.

    Args:
        program: in Python; `arguments` are its `sys.argv[1:]`.
        arguments: of the program.
        step: the function at whose call the process is killed, as it is looked up: `module.name` or `module.Type.name`.
        calls: of that function that go before.
        imports: of the program, made before the function is replaced: so each module has the functions it would have.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{_AT_THE_CALL}\n{program}", step, str(calls), *arguments],
        capture_output=True,
        text=True,
        timeout=500,  # the imports alone take a while where many tests run at once
        check=False,
        cwd=Path(__file__).parents[1],  # a program may import what the tests share
        env={key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
