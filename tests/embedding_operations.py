"""A database with posts, providers on loopback, and all that stands between them as the settings wire it.

What does not belong here: what a test makes of them (`tests/integration/test_embedding_operations.py` and others).
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from click.testing import CliRunner

from everreach_assets.cli import main
from everreach_assets.domain.collections import CONTENT
from everreach_assets.embedding import EmbeddingReport, embed_collection
from everreach_assets.memory import open_embedder, open_vector_db
from resources import metric_records
from resources.database import Database
from resources.embedder import Embedder
from resources.settings import Settings
from resources.vector_db import VectorDB
from tests.openai_server import OpenAIServer
from tests.voyage_server import VoyageServer

POSTS = 23


class Parts(TypedDict):
    """What a step on the memory is given."""

    database: Database
    embedder: Embedder
    vector_db: VectorDB


class Operations:
    """A database with posts, a primary and a backup that answer, and the embedder that the settings choose."""

    def __init__(self, database: Database, openai: OpenAIServer, voyage: VoyageServer) -> None:
        self.database = database
        self.openai = openai
        self.voyage = voyage

    def settings(self, **changed: object) -> Settings:
        return Settings(_env_file=None, **self.environment(**changed))  # type: ignore[arg-type]

    def environment(self, **changed: object) -> dict[str, object]:
        return {
            "vector_backend": "pgvector",
            "openai_api_key": "sk-test",
            "openai_base_url": self.openai.base_url,
            "voyage_api_key": "pa-test",
            "voyage_base_url": self.voyage.base_url,
            "embedding_timeout_seconds": 20.0,
            "embedding_deadline_seconds": 20.0,
        } | changed

    @contextmanager
    def embedder(self, **changed: object) -> Iterator[Embedder]:
        opened = open_embedder(self.settings(**changed), self.database)
        try:
            yield opened
        finally:
            opened.close()

    def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with self.database.connection() as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def add_posts(self, posts: int = POSTS) -> None:
        """As many posts, less those that are there."""
        self.run(
            "INSERT INTO actp_feedback_posts (platform, post_id, account, text, text_sha256)"
            " SELECT 'x', 'p' || lpad(n::text, 3, '0'), 'a', 'Text number ' || n, sha256(('Text number ' || n)::bytea)"
            " FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING",
            posts,
        )

    @contextmanager
    def memory(self, **changed: object) -> Iterator[Parts]:
        """What collections are embedded, healed and searched with."""
        settings = self.settings(**changed)
        with (
            self.embedder(**changed) as embedder,
            contextlib.closing(open_vector_db(settings, self.database, embedder)) as vector_db,
        ):
            yield {"database": self.database, "embedder": embedder, "vector_db": vector_db}

    def embed(self, **changed: object) -> EmbeddingReport:
        with self.memory(**changed) as parts:
            return embed_collection(CONTENT.name, **parts)

    def everreach(self, *arguments: str) -> str:
        environment = {"EVERREACH_DATABASE_URL": self.database.url, "VECTOR_BACKEND": "pgvector"}
        done = CliRunner().invoke(main, arguments, env=environment)
        assert done.exit_code == 0, done.output
        return done.output

    def stored(self) -> dict[object, object]:
        return dict(self.run("SELECT doc_id, embedding::text FROM vector_embeddings ORDER BY doc_id"))  # type: ignore[arg-type]

    def metric(self, name: str) -> float:
        with self.database.connection() as connection:
            values = [each.value for each in metric_records.stored(connection) if each.metric == name]
        return sum(value for value in values if isinstance(value, int | float))

    def open_breaker(self, seconds_ago: float = 0, *, times: int = 1) -> None:
        self.run(
            "INSERT INTO embedding_breakers (provider, failures, opened_at, times_opened)"
            " VALUES ('openai', 5, now() - make_interval(secs => %s), %s) ON CONFLICT (provider) DO UPDATE"
            " SET failures = 5, opened_at = excluded.opened_at, times_opened = excluded.times_opened,"
            " probe_until = NULL",
            seconds_ago,
            times,
        )

    def age_breakers(self, seconds: float) -> None:
        """Let so much time pass for the breakers."""
        self.run("UPDATE embedding_breakers SET opened_at = opened_at - make_interval(secs => %s)", seconds)

    def breaker(self, row: str = "openai") -> tuple[object, ...]:
        rows = self.run(
            "SELECT failures, opened_at IS NOT NULL, times_opened FROM embedding_breakers WHERE provider = %s", row
        )
        return rows[0] if rows else (0, False, 0)
