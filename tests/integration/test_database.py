"""Migrations up, down and up again, and what every session of the database is set to, on a real Postgres."""

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from everreach_assets.domain.errors import Refused, Unavailable
from resources.database import SESSION_SETTINGS, Database, describe
from resources.migrations import migrate, roll_back
from tests.conftest import PostgresServer, database_named

OWN_OBJECTS = """
SELECT class.relkind::text, class.relname FROM pg_class AS class
WHERE class.relnamespace = 'public'::regnamespace
    AND class.relname NOT LIKE ALL (ARRAY['\\_yoyo%', 'yoyo\\_%'])
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = class.oid AND deptype = 'e')
    AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_class AS owner ON owner.oid = pg_index.indrelid
        WHERE pg_index.indexrelid = class.oid AND owner.relname LIKE ANY (ARRAY['\\_yoyo%', 'yoyo\\_%']))
UNION ALL
SELECT 'type', typname FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype = 'd'
UNION ALL
SELECT 'function', proname FROM pg_proc AS function
WHERE pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = function.oid AND deptype = 'e')
ORDER BY 1, 2
"""
"""Tables, indexes, views, sequences, domains and functions that are neither an extension's nor the migrator's."""

SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' AND table_name !~ 'yoyo' ORDER BY 1, 2
"""


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without a schema."""
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE unmigrated")
        yield database_named(postgres_server, "unmigrated")
        connection.execute("DROP DATABASE unmigrated WITH (FORCE)")


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_migrations_go_up_down_and_up_again_and_leave_nothing_when_down(empty_url: str) -> None:
    applied = migrate(empty_url)
    assert applied == sorted(applied)
    first = rows(empty_url, OWN_OBJECTS), rows(empty_url, SHAPE)
    assert ("r", "vector_embeddings") in first[0]
    assert migrate(empty_url) == []

    assert roll_back(empty_url, steps=len(applied)) == applied[::-1]
    assert rows(empty_url, OWN_OBJECTS) == []

    assert migrate(empty_url) == applied
    assert (rows(empty_url, OWN_OBJECTS), rows(empty_url, SHAPE)) == first


@pytest.mark.slow
def test_each_migration_can_be_undone_and_redone_alone(empty_url: str) -> None:
    applied = migrate(empty_url)
    whole = rows(empty_url, SHAPE)
    for steps in range(1, len(applied) + 1):
        assert roll_back(empty_url, steps=steps) == applied[::-1][:steps]
        assert migrate(empty_url) == applied[-steps:]
        assert rows(empty_url, SHAPE) == whole


def test_two_processes_that_migrate_at_once_apply_each_migration_once(empty_url: str) -> None:
    program = "import sys; from resources.migrations import migrate; print(len(migrate(sys.argv[1])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, empty_url], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    applied = sorted(int(process.communicate(timeout=120)[0]) for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert applied[0] == 0
    assert applied[1] > 0
    assert migrate(empty_url) == []


def test_the_vectors_table_has_the_columns_of_the_contract(database: Database) -> None:
    with database.connection() as connection:
        columns = dict(
            connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = 'vector_embeddings'::regclass AND attnum > 0"
            ).fetchall()
        )
    contract = {
        "id": "uuid",
        "collection": "text",
        "doc_id": "text",
        "embedding": "vector(1536)",
        "metadata": "jsonb",
        "created_at": "timestamp with time zone",
    }
    assert contract.items() <= columns.items()


def test_every_session_has_the_settings(database: Database) -> None:
    for _ in range(2):
        with database.connection() as connection:
            for name, value in SESSION_SETTINGS.items():
                row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                assert row == (value,)


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def insert_twice() -> None:
        with database.transaction() as connection:
            for _ in range(2):
                connection.execute("INSERT INTO embedding_spaces VALUES ('s', 'p', 'm', 1, 'v')")

    with pytest.raises(psycopg.errors.UniqueViolation):
        insert_twice()
    with database.connection() as connection:
        assert connection.execute("SELECT count(*) FROM embedding_spaces").fetchone() == (0,)


def test_the_first_call_after_connections_were_cut_succeeds(
    database: Database, postgres_server: PostgresServer
) -> None:
    with database.connection() as connection:
        row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", row)
    with database.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_that_is_cut_during_a_call_is_unavailable(
    database: Database, postgres_server: PostgresServer
) -> None:
    def use_a_cut_connection() -> None:
        with psycopg.connect(postgres_server.get_uri(), autocommit=True) as server, database.connection() as connection:
            server.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
            connection.execute("SELECT 1")

    with pytest.raises(Unavailable, match="run the same command again"):
        use_a_cut_connection()


def test_a_database_that_may_lose_commits_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
    database = Database(database_url)
    try:
        with pytest.raises(Refused, match="synchronous_commit=off"):
            database.open()
    finally:
        database.close()


def test_messages_name_the_server_and_not_the_password() -> None:
    described = describe("postgresql://jane:secret@db.example.org:5433/everreach")
    assert described == "db.example.org:5433/everreach"
