"""The Postgres that holds the truth: its connection pool and what is checked before it is trusted.

What does not belong here: the statements of one noun (they are in `resources/<noun>.py`), the schema
(`resources/migrations.py`) and the starting of an embedded server (`resources/servers.py`).
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import psycopg
import psycopg_pool
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from everreach_assets.domain.errors import Refused, Unavailable

Connection = psycopg.Connection[TupleRow]

SQL_FOLDER = Path(__file__).parent.parent / "sql"

SESSION_SETTINGS = {
    "TimeZone": "UTC",
    "hnsw.ef_search": "200",  # recall@10 of 1.00 on 10,000 real texts, where the default 40 gave 0.92
    "hnsw.iterative_scan": "strict_order",  # a filter must not cost rows (pgvector README, iterative index scans)
}
MINIMUM_PGVECTOR = (0, 8, 4)  # before it, a vacuum could corrupt an HNSW index


class Database:
    """A pool of connections to the truth.

    Use `connection()` for reads and `transaction()` for writes that belong together.

    Args:
        wait_seconds: for a connection.
        statement_seconds: that one statement may take; None: as long as it takes.
    """

    def __init__(
        self,
        url: str,
        *,
        max_connections: int = 8,
        wait_seconds: float = 30.0,
        statement_seconds: float | None = None,
    ) -> None:
        self.url = url
        limit = {} if statement_seconds is None else {"statement_timeout": f"{statement_seconds * 1000:.0f}ms"}
        self._pool = psycopg_pool.ConnectionPool(
            url,
            min_size=0,
            max_size=max_connections,
            open=False,
            timeout=wait_seconds,
            kwargs={"autocommit": True, "connect_timeout": 10, "application_name": "everreach"},
            configure=partial(_configure, SESSION_SETTINGS | limit),
            check=psycopg_pool.ConnectionPool.check_connection,
        )

    def again(self, *, max_connections: int, wait_seconds: float, statement_seconds: float) -> "Database":
        """Another pool on the same server, open, and closed by the caller: for calls that must not hold up others."""
        other = Database(
            self.url, max_connections=max_connections, wait_seconds=wait_seconds, statement_seconds=statement_seconds
        )
        other._pool.open()  # the server was checked when this one was opened
        return other

    def open(self) -> "Database":
        """Open the pool.

        Raises:
            Unavailable: the server does not answer.
            Refused: the server's pgvector is too old, or it may lose what it acknowledged.
        """
        self._pool.open()
        with self.connection() as connection:
            _refuse_unsafe_server(connection)
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> "Database":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit, for single statements.

        Raises:
            Unavailable: none could be had, or it broke.
        """
        try:
            with self._pool.connection() as connection:
                yield connection
        except (psycopg_pool.PoolTimeout, *BROKEN) as error:
            raise Unavailable(
                f"the database at {describe(self.url)} does not answer ({str(error).strip()}); "
                "check that it runs, then run the same command again"
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection inside one transaction: all of it lands, or nothing."""
        with self.connection() as connection, connection.transaction():
            yield connection


BROKEN = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)
"""What psycopg raises when a statement or a connection came to an end before its time."""

READ_TIMEOUT_SECONDS = 3
"""Of a statement, and of the connection: less than Prometheus waits for a scrape (10 s)."""


@contextlib.contextmanager
def read_snapshot(url: str) -> Iterator[Connection]:
    """One consistent view of the database that cannot change it, on a connection of its own.

    Not of the pool: after a time without the server a pool waits ever longer before it tries again, and a watcher must
    see at once that the server is back.

    Raises:
        Unavailable: the server does not answer, or went away meanwhile.
    """
    try:
        with psycopg.connect(
            url, connect_timeout=READ_TIMEOUT_SECONDS, application_name="everreach-metrics"
        ) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)",
                (f"{READ_TIMEOUT_SECONDS}s",),
            )
            yield connection
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"the database at {describe(url)} does not answer ({str(error).strip()}); check that it runs"
        ) from error


def _configure(session_settings: Mapping[str, str], connection: Connection) -> None:
    for name, value in session_settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
        register_vector(connection)


def _refuse_unsafe_server(connection: Connection) -> None:
    row = connection.execute(
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
        " current_setting('fsync'), current_setting('synchronous_commit')"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    version, fsync, synchronous_commit = row
    if version is not None and tuple(int(part) for part in version.split(".")) < MINIMUM_PGVECTOR:
        raise Refused(f"pgvector {version} can corrupt its indexes on vacuum: install 0.8.4 or newer")
    if fsync != "on" or synchronous_commit == "off":
        raise Refused(
            f"the database runs with fsync={fsync}, synchronous_commit={synchronous_commit} and may lose what it "
            "acknowledged: set both to 'on'"
        )


def describe(url: str) -> str:
    """The address without its user and password, for messages."""
    parts = conninfo_to_dict(url)
    host, port = str(parts.get("host") or "/"), parts.get("port")
    place = "a local socket" if host.startswith("/") else f"{host}{f':{port}' if port else ''}"
    return f"{place}/{parts.get('dbname') or ''}"
