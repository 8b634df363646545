"""Backup and restore as docs/deployment.md says, with the server's own pg_dump and pg_restore."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from everreach_assets.domain.vectors import Document
from everreach_assets.memory import open_memory
from resources.database import Database
from resources.embedded_postgres import postgres_binaries
from resources.metric_records import Record, record
from resources.settings import Settings
from tests.conftest import PostgresServer, database_named

RESTORED = "restored"


@pytest.fixture
def restored_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database."""
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {RESTORED}")
        yield database_named(postgres_server, RESTORED)
        connection.execute(f"DROP DATABASE {RESTORED} WITH (FORCE)")


def run(program: Path, *arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        [program, *arguments], env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def rows(url: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        read = sql.SQL("SELECT {0}::text FROM {0} ORDER BY 1")
        return {name: [row[0] for row in connection.execute(read.format(sql.Identifier(name)))] for (name,) in tables}


@pytest.mark.slow
def test_a_backup_restores_every_row_and_the_index_is_made_again(
    database: Database, database_url: str, restored_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        _env_file=None,
        everreach_home=tmp_path,
        everreach_database_url=SecretStr(database_url),
        everreach_dagster_database_url=SecretStr(database_url),
        vector_backend="pgvector",
    )
    vectors = np.random.default_rng(7).normal(size=(50, 1536))
    with open_memory(settings) as memory:
        lessons = [Document(f"lesson-{number}", vector, {}) for number, vector in enumerate(vectors)]
        memory.vector_db.upsert_many("lesson_embeddings", lessons)
    with database.connection() as connection:
        record(connection, [Record("everreach_dms_sent_total", 7, {"platform": "x"})])
    before = rows(database_url)
    assert len(before["vector_embeddings"]) == 50

    dump = tmp_path / "everreach.dump"
    run(postgres_binaries() / "pg_dump", "--format=custom", f"--file={dump}", database_url)
    run(postgres_binaries() / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={restored_url}", dump)
    assert rows(restored_url) == before

    everreach = Path(sys.executable).with_name("everreach")
    environment = {
        "EVERREACH_HOME": str(tmp_path),
        "EVERREACH_DATABASE_URL": restored_url,
        "EVERREACH_DAGSTER_DATABASE_URL": restored_url,
        "VECTOR_BACKEND": "pgvector",
    }
    assert "The schema is the newest." in run(everreach, "migrate", environment=environment)
    run(everreach, "index", "rebuild", environment=environment)
    assert "lesson_embeddings: 50 vectors" in run(everreach, "index", "check", environment=environment)
