"""The embedded servers: Postgres and Chroma under the data folder, reachable from this machine only.

Whoever needs them asks `running_servers`. They are started when they do not run, shared by every command that runs
at the same time, and stopped by the last one that leaves. Two files in the data folder keep that true, also when a
command is killed, since the system drops a dead process's locks:

    servers.lock    held while servers are started or stopped: never two starters at once
    servers.users   held (shared) by every command that uses them: whoever can take it alone may stop them

What does not belong here: how each is started (`embedded_postgres.py`, `embedded_chroma.py`), the tables
(`database.py`), the processes of Dagster (`everreach_assets/supervisor.py`).
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
from pydantic import SecretStr

from resources.addresses import Addresses
from resources.embedded_chroma import chroma_process, ensure_chroma, stop_chroma
from resources.embedded_postgres import ensure_database, ensure_postgres, postgres_process, stop_postgres, with_database
from resources.hosts import refuse_foreign_hosts
from resources.migrations import migrate
from resources.ports import LOOPBACK
from resources.server_files import explained, make_folder
from resources.settings import Settings


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


def embedded_processes(settings: Settings) -> dict[str, psutil.Process]:
    """The embedded servers that run now, by name, in the order in which they are stopped."""
    chroma, postgres = chroma_process(settings.home), postgres_process(settings.home)
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


@contextlib.contextmanager
def _as_user(home: Path) -> Iterator[IO[bytes]]:
    """The file whose shared lock marks a user; on leaving, the last user stops the servers."""
    with explained(home):
        make_folder(home)
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
                    stop_chroma(home)
                    stop_postgres(home)


@contextlib.contextmanager
def _starting_or_stopping(home: Path) -> Iterator[None]:
    with (home / "servers.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _started(settings: Settings) -> Addresses:
    home = settings.home
    with explained(home):
        if _wants_postgres(settings):
            server = ensure_postgres(home)
            database = with_database(server, "everreach")
            ensure_database(server, "everreach")
            migrate(database)
        else:
            server = database = _plain(settings.everreach_database_url)
        dagster = _plain(settings.everreach_dagster_database_url)
        if not dagster:
            dagster = with_database(server, "dagster")
            ensure_database(server, "dagster")
        if _wants_chroma(settings):
            return Addresses(database, dagster, LOOPBACK, ensure_chroma(home, settings.chroma_port))
    return Addresses(database, dagster, settings.chroma_host, settings.chroma_port)


def _wants_postgres(settings: Settings) -> bool:
    return settings.everreach_database_url is None


def _wants_chroma(settings: Settings) -> bool:
    return settings.vector_backend == "chroma" and settings.chroma_host is None


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
