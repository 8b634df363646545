"""What `everreach up` and `everreach down` do: the servers, the Dagster UI and daemon, the service, and their end.

Every process that `up` starts carries the variable EVERREACH_UP_HOME and hands it on to its own children, so that
code servers and run workers are found too, also those of an `up` that was killed.

What does not belong here: how Postgres and Chroma are started (`resources/servers.py`), how a child is started and
printed (`everreach_assets/processes.py`), what Dagster runs (`everreach_assets/build.py`).
"""

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import click
import dagster as dg
import psutil
import sqlalchemy.exc

from everreach_assets.domain.errors import Unavailable
from everreach_assets.lost_runs import fail_lost_runs
from everreach_assets.processes import Child, Command, marked, start, stop_requests
from resources.addresses import Addresses, child_environment, prepare_dagster_home
from resources.hosts import chroma_place, postgres_place
from resources.ports import LOOPBACK, answers_http, is_port_free
from resources.processes import end_processes, is_alive
from resources.servers import embedded_processes, running_servers, stop_unused_servers
from resources.settings import PROJECT_FOLDER, Settings, bracketed

MARK = "EVERREACH_UP_HOME"
GRACE_SECONDS = 15  # a run worker that is told to end writes its last events
LOST_RUNS_SECONDS = 30  # how often it is seen to whether a command was killed amid a run of its own
DOWN_SECONDS = 120  # the sum of what `up` may need: Dagster's grace time twice, Chroma's, Postgres's


def up(settings: Settings, *, workspace: Path = PROJECT_FOLDER / "workspace.yaml") -> int:
    """Run everything until Ctrl-C, SIGTERM or the end of one process; answers the exit code.

    Zero after Ctrl-C and when another `up` runs already, one when a process ended by itself.

    Raises:
        Unavailable: the port is taken, or a server cannot be started. Nothing is left running.
    """
    with _up_lock(settings) as lock:
        if lock is None:
            click.echo(f"Already running{_holder_text(settings)}. 'everreach down' stops it.")
            return 0
        holder = {
            "pid": os.getpid(),
            "url": _url(settings),
            "since": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC",
        }
        _note(lock, json.dumps(holder))
        try:
            return _run(settings, workspace, stop_requests())
        finally:
            _note(lock, "")


def down(settings: Settings) -> int:
    """Stop the running `up`, or what a killed one left behind; answers the exit code.

    Raises:
        Unavailable: it did not end in time.
    """
    if not settings.home.exists():
        click.echo("Nothing is running.")
        return 0
    pid = _stop_holder(settings)
    ended = _end_marked(settings)
    stopped = stop_unused_servers(settings)
    if pid is not None:
        click.echo(f"Stopped everreach up (process {pid}).")
    if ended or stopped:
        of_dagster = [f"{_count(ended)} of Dagster and the service"] if ended else []
        click.echo(f"Stopped what a killed command had left: {' and '.join([*of_dagster, *stopped])}.")
    used = embedded_processes(settings)
    if used:
        click.echo(f"Another command still uses {_names(used)}; it stops them when it ends.")
    elif pid is None and not ended and not stopped:
        click.echo("Nothing is running.")
    return 0


def clean_data(settings: Settings) -> int:
    """Stop what runs and delete the data folder; answers the exit code.

    Raises:
        Unavailable: another command still works with the data; nothing was deleted.
    """
    down(settings)
    if used := embedded_processes(settings):
        raise Unavailable(f"another command still uses {_names(used)}, so no data was deleted: end it, then try again")
    if settings.home.exists():
        shutil.rmtree(settings.home)
        click.echo(f"Deleted {settings.home}.")
    else:
        click.echo(f"There is no data in {settings.home}.")
    return 0


def _run(settings: Settings, workspace: Path, stop_requested: threading.Event) -> int:
    if ended := _end_marked(settings):
        click.echo(f"Ended {_count(ended)} that a killed 'everreach up' had left.")
    for port, setting in (
        (settings.everreach_webserver_port, "EVERREACH_WEBSERVER_PORT"),
        (settings.everreach_metrics_port, "EVERREACH_METRICS_PORT"),
    ):
        if not is_port_free(port):
            raise Unavailable(f"port {port} is taken by another program: end it, or set {setting} to a free port")
    click.echo("Starting the servers, Dagster and the service (half a minute) ...")
    with running_servers(settings) as addresses:
        # Dagster's own configuration reads the environment, here as in its processes.
        os.environ.update(child_environment(settings, addresses))
        environment = os.environ | {MARK: str(settings.home)}
        dagster_home = prepare_dagster_home(settings)
        _fail_lost_runs(dagster_home, launcher_is_gone=True)
        servers = embedded_processes(settings)
        children: dict[str, Child] = {}
        try:
            if not stop_requested.is_set():
                children = _start_children(settings, workspace, environment)
            places = places_of(settings, addresses, servers)
            failure = _watch(settings, children, servers, stop_requested, dagster_home, places)
        finally:
            click.echo("Stopping ...")
            count = _end_marked(settings)
            for child in children.values():
                child.printer.join(timeout=5)  # its last lines say why it ended
    if failure:
        click.echo(f"Error: {failure}; everything was stopped. Its last lines are above.", err=True)
    still_used = embedded_processes(settings)
    count += len(servers) - len(still_used)
    left = len(_marked(settings))
    click.echo(f"Stopped {_count(count)}, {left or 'none'} left.")
    if still_used:
        click.echo(f"Another command still uses {_names(still_used)}; it stops them when it ends.")
    return 1 if failure or left else 0


def _start_children(settings: Settings, workspace: Path, environment: dict[str, str]) -> dict[str, Child]:
    programs, port = Path(sys.executable).parent, str(settings.everreach_webserver_port)
    webserver: Command = [programs / "dagster-webserver", "-h", LOOPBACK, "-p", port, "-w", workspace]
    daemon: Command = [programs / "dagster-daemon", "run", "-w", workspace]
    service: Command = [programs / "everreach", "serve"]
    return {
        "the Dagster webserver": start("webserver", webserver, environment),
        "the Dagster daemon": start("daemon", daemon, environment),
        "the service": start("service", service, environment),
    }


def _fail_lost_runs(dagster_home: Path, *, launcher_is_gone: bool) -> None:
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        for run_id in fail_lost_runs(instance, launcher_is_gone=launcher_is_gone):
            click.echo(f"Run {run_id} had lost its process; it is recorded as failed.")


def _watch(
    settings: Settings,
    children: dict[str, Child],
    servers: dict[str, psutil.Process],
    stop_requested: threading.Event,
    dagster_home: Path,
    places: str,
) -> str | None:
    is_announced = False
    runs_looked_at = time.monotonic()
    while not stop_requested.wait(0.2):
        if time.monotonic() - runs_looked_at > LOST_RUNS_SECONDS:
            with contextlib.suppress(
                sqlalchemy.exc.OperationalError
            ):  # where its server is gone, the next lines see it
                _fail_lost_runs(dagster_home, launcher_is_gone=False)
            runs_looked_at = time.monotonic()
        for name, child in children.items():
            if child.process.poll() is not None:
                return f"{name} ended by itself with exit code {child.process.returncode}"
        for name, server in servers.items():
            if not is_alive(server):
                return f"{name} ended by itself (its log is in {settings.home})"
        if not is_announced and _is_ready(settings):
            click.echo(
                f"\nReady.\n{places}\n\n"
                "Sensors and schedules run. Record outcomes from another terminal, for example with\n"
                "'everreach ingest outcomes FILE'; Ctrl-C here, or 'everreach down', stops everything.\n"
            )
            is_announced = True
    return None


def _is_ready(settings: Settings) -> bool:
    certificate, _ = settings.tls_files or (None, None)
    host, port = settings.service_host_here, settings.everreach_metrics_port
    return answers_http(settings.everreach_webserver_port, "/server_info") and answers_http(
        port, "/healthz", host=host, certificate=certificate
    )


# Processes of ours


def _marked(settings: Settings) -> list[psutil.Process]:
    return marked(MARK, settings.home)


def _end_marked(settings: Settings) -> int:
    """End them all; answers how many there were.

    Those that start others go first: the webserver and the daemon. The rest is told at once, since a code server waits
    for its run workers.
    """
    ended = set(found := _marked(settings))
    numbers = {process.pid for process in found}
    end_processes([one for one in found if _parent(one) not in numbers], grace_seconds=GRACE_SECONDS)
    for _ in range(3):  # what started meanwhile is found in the next round
        found = _marked(settings)
        ended.update(found)
        end_processes(found, grace_seconds=GRACE_SECONDS)
    return len(ended)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


# The lock


@contextlib.contextmanager
def _up_lock(settings: Settings) -> Iterator[IO[str] | None]:
    """The file that one `up` holds for its whole life, or None when another holds it."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock_path(settings).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


def _stop_holder(settings: Settings) -> int | None:
    """Tell the running `up` to stop and wait for its end; answers its process number."""
    pid, deadline = None, time.monotonic() + DOWN_SECONDS
    while time.monotonic() < deadline:
        with _up_lock(settings) as lock:
            if lock is not None:
                return pid
            holder = _holder(settings)
        if pid is None and holder:
            pid = int(holder["pid"])
            click.echo(f"Stopping everreach up (process {pid}) ...")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
    raise Unavailable(
        f"everreach up (process {pid}) did not end within {DOWN_SECONDS} s: end it with 'kill -9 {pid}', then run "
        "'everreach down' again"
    )


def _holder(settings: Settings) -> dict[str, str]:
    """What the holder of the lock wrote: pid, url, since. Empty while it starts or ends."""
    text = _lock_path(settings).read_text(encoding="utf-8")
    try:
        return dict(json.loads(text)) if text else {}
    except ValueError:
        return {}


def _holder_text(settings: Settings) -> str:
    holder = _holder(settings)
    return f" at {holder['url']}: process {holder['pid']}, since {holder['since']}" if holder else ""


def _note(lock: IO[str], text: str) -> None:
    lock.truncate(0)
    lock.write(text)
    lock.flush()


def _lock_path(settings: Settings) -> Path:
    return settings.home / "up.lock"


# Words


def _url(settings: Settings) -> str:
    return f"http://localhost:{settings.everreach_webserver_port}"


def _service_url(settings: Settings) -> str:
    scheme = "https" if settings.tls_files else "http"
    host = settings.service_host_here
    name = "localhost" if host == LOOPBACK else bracketed(host)
    return f"{scheme}://{name}:{settings.everreach_metrics_port}"


def places_of(settings: Settings, addresses: Addresses, servers: Iterable[str]) -> str:
    """Where everything is, a line each, without passwords.

    Args:
        addresses: of the servers, wherever they run.
        servers: the names of those that are embedded.
    """
    service, home = _service_url(settings), settings.home
    index = "pgvector, in the database"
    if settings.vector_backend == "chroma":
        index = f"Chroma at {chroma_place(addresses.chroma_host or LOOPBACK, addresses.chroma_port)}"
    logs = ", ".join(str(home / f"{name.lower()}.log") for name in servers)
    places = {
        "Dagster UI": _url(settings),
        "HTTP API": f"{service}/api/v1, described at {service}/openapi.json",
        "metrics": f"{service}/metrics",
        "alerts": "'make monitoring' adds Prometheus and Alertmanager",
        "database": f"Postgres at {postgres_place(addresses.database_url)}; 'everreach psql' opens it",
        "index": index,
        "data": str(home),
        "logs": f"{logs}{'; ' if logs else ''}Dagster's and the service's are here",
    }
    return "\n".join(f"  {what:<10}  {where}" for what, where in places.items())


def _count(processes: int) -> str:
    return f"{processes} process{'' if processes == 1 else 'es'}"


def _names(servers: list[str] | dict[str, psutil.Process]) -> str:
    return " and ".join(servers) or "no server"
