"""The embedded Chroma server: its store under the data folder, its port and process in `servers.json` there.

What does not belong here: when it is started and stopped (`servers.py`), what is in it (`chroma_index.py`).
"""

import json
import os
import sys
from pathlib import Path

import psutil

from everreach_assets.domain.errors import Unavailable
from resources.ports import LOOPBACK, answers_http, free_port, is_port_free
from resources.processes import end_processes, is_alive, listens, wait_until
from resources.server_files import not_started, set_aside, write_whole

START_SECONDS = 120
STOP_SECONDS = 30


def ensure_chroma(home: Path, preferred_port: int) -> int:
    """Chroma running on the data folder; answers its port.

    Raises:
        Unavailable: it does not start.
    """
    running = chroma_process(home)
    if running:
        if wait_until(lambda: _answers(*running), running[0], 10):
            return running[1]
        end_processes([running[0]], grace_seconds=STOP_SECONDS)
    set_aside(_log(home))
    port = preferred_port if is_port_free(preferred_port) else free_port()
    if _start(home, port):
        return port
    if not is_port_free(port):  # somebody was faster
        port = free_port()
        if _start(home, port):
            return port
    raise Unavailable(not_started("Chroma", _log(home)))


def stop_chroma(home: Path) -> None:
    """End it, if it runs."""
    if chroma := chroma_process(home):
        end_processes([chroma[0]], grace_seconds=STOP_SECONDS)
    (home / "servers.json").unlink(missing_ok=True)


def chroma_process(home: Path) -> tuple[psutil.Process, int] | None:
    """The Chroma server that the state file names, with its port, when it is alive and the same process."""
    try:
        state = json.loads((home / "servers.json").read_text(encoding="utf-8"))["chroma"]
        process = psutil.Process(state["pid"])
        same = abs(process.create_time() - state["started_at"]) < 1  # a number may be used again, an instant not
        return (process, state["port"]) if same and is_alive(process) else None
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None


def _start(home: Path, port: int) -> bool:
    """Whether Chroma started on the port."""
    process = _launch(home, port)
    state = {"chroma": {"pid": process.pid, "started_at": process.create_time(), "port": port}}
    write_whole(home / "servers.json", json.dumps(state))
    if wait_until(lambda: _answers(process, port), process, START_SECONDS):
        return True
    end_processes([process], grace_seconds=STOP_SECONDS)
    return False


def _answers(process: psutil.Process, port: int) -> bool:
    """Whether this very process answers: another's Chroma may have taken the port since it was looked at."""
    return listens(process, port) and answers_http(port, "/api/v2/heartbeat")


def _launch(home: Path, port: int) -> psutil.Process:
    data, log = home / "chroma", _log(home)
    data.mkdir(mode=0o700, exist_ok=True)
    program = Path(sys.executable).parent / "chroma"
    # posix_spawn and no Popen: the server may outlive this process, so no object here stands for it.
    pid = os.posix_spawn(
        program,
        [str(program), "run", "--path", str(data), "--host", LOOPBACK, "--port", str(port)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,  # Ctrl-C in the terminal must not reach it
    )
    return psutil.Process(pid)


def _log(home: Path) -> Path:
    return home / "chroma.log"
