"""A memory with a provider, a backup and models to move to, each of whose vectors tell who made them."""

from collections.abc import Sequence

import numpy as np

from everreach_assets import healing, migration
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Vector
from everreach_assets.embedding import EmbeddingReport, embed_collection
from everreach_assets.search import SearchResult, search_text
from resources.database import Database
from resources.embedder import Embedder
from resources.providers import LocalHashingProvider, Purpose
from resources.spaces import SpacesInForce
from resources.vector_db import VectorDB
from resources.vector_index import VectorIndex
from tests.indexes import assert_of_own_models

PRIMARY = Space("openai", "primary", WIDTH, "1")
SAME_WIDTH = Space("voyage", "as-wide", WIDTH, "1")
NARROW = Space("voyage", "narrow", 384, "1")
NEXT = Space("openai", "next", WIDTH, "1")
KEEP_DAYS = 14


class Model(LocalHashingProvider):
    """Hashed vectors that are another model's for each space; answers while `is_up`, and for `calls_left` calls."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.is_up = True
        self.calls_left: int | None = None
        self.texts: list[str] = []

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        if not self.is_up or self.calls_left == 0:
            raise Unavailable(f"{self.space}: no answer")
        if self.calls_left is not None:
            self.calls_left -= 1
        self.texts += [each.text for each in inputs]
        hashed = super().ask(inputs, purpose, timeout_seconds).vectors
        return Answer(range(len(inputs)), [self.own(each)[: self.space.width] for each in hashed], self.space.model)

    def own(self, hashed: Vector) -> Vector:
        """The hashed vector as this model would have it: turned by an amount of its own, and as wide as the model."""
        turned = np.roll(hashed, sum(self.space.model.encode()))
        folded = turned.reshape(-1, self.space.width).sum(axis=0)
        unit = folded / np.linalg.norm(folded)
        return np.pad(unit, (0, WIDTH - self.space.width)).astype(np.float32)


class SpaceMemory:
    """The parts that assets work on, for posts and their outcomes."""

    def __init__(self, database: Database, index: VectorIndex, backup: Space | None = SAME_WIDTH) -> None:
        self.database = database
        self.models = {space: Model(space) for space in (PRIMARY, SAME_WIDTH, NARROW, NEXT)}
        self.primary = self.models[PRIMARY]
        self.backup = self.models[backup] if backup else None
        self.index = index
        self.texts: set[str] = set()
        self.with_settings(PRIMARY)

    def with_settings(self, space: Space) -> None:
        """The settings name this space from now on."""
        self.embedder = Embedder(self.models[space], backup=self.backup, open_space=self.models.get)
        self.vector_db = VectorDB(self.database, self.index, SpacesInForce(self.database, self.embedder.space_of))

    def run(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with self.database.connection() as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

    def write(self, name: str, text: str, label: str = "hit") -> str:
        """A post with a labelled outcome, or another text of it."""
        self.texts.add(text)
        self.run(
            "INSERT INTO actp_feedback_posts (platform, post_id, text, text_sha256)"
            " VALUES ('x', %s, %s, sha256(%s::bytea))"
            " ON CONFLICT (platform, post_id) DO UPDATE SET text = excluded.text, text_sha256 = excluded.text_sha256",
            *(name, text, text.encode()),
        )
        self.run(
            """
            WITH snapshot AS (
                INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)
                SELECT 'x', %s, '2026-01-01 UTC', '{"views": 5}' WHERE NOT EXISTS (
                    SELECT FROM outcome_snapshots WHERE platform = 'x' AND post_id = %s)
                RETURNING seq
            )
            INSERT INTO outcome_labels
                (platform, post_id, snapshot_seq, label, reason, reference_posts, classifier_version)
            SELECT 'x', %s, seq, %s, '', 9, '1' FROM snapshot
            """,
            *(name, name, name, label),
        )
        return f"x:{name}"

    def remove(self, name: str) -> None:
        for table in ("outcome_labels", "outcome_snapshots", "actp_feedback_posts"):
            self.run(f"DELETE FROM {table} WHERE platform = 'x' AND post_id = %s", name)

    def embed(self) -> tuple[EmbeddingReport, EmbeddingReport]:
        """Bring posts, then outcomes, up to date."""
        parts = {"database": self.database, "embedder": self.embedder, "vector_db": self.vector_db}
        return embed_collection(CONTENT.name, **parts), embed_collection(OUTCOMES.name, **parts)  # type: ignore[arg-type]

    def heal(self) -> int:
        """Heal; answers how many vectors wait on."""
        reports = healing.heal(database=self.database, embedder=self.embedder, vector_db=self.vector_db)
        return sum(each.waiting for each in reports)

    def begin(self, target: Space = NEXT) -> None:
        migration.begin(CONTENT.name, target, database=self.database, vector_db=self.vector_db)

    def fill(self, shard: int | None = None) -> migration.Filling:
        return migration.fill(CONTENT.name, database=self.database, embedder=self.embedder, shard=shard)

    def switch(self) -> int:
        return migration.switch(
            CONTENT.name,
            keep_days=KEEP_DAYS,
            database=self.database,
            embedder=self.embedder,
            vector_db=self.vector_db,
        )

    def switch_back(self) -> int:
        return migration.switch_back(
            CONTENT.name, keep_days=KEEP_DAYS, database=self.database, vector_db=self.vector_db
        )

    def search(self, text: str, n: int = 10, collection: str = CONTENT.name, **where: object) -> SearchResult:
        return search_text(
            collection,
            text,
            n,
            where or None,
            database=self.database,
            embedder=self.embedder,
            vector_db=self.vector_db,
        )

    def space_of(self, collection: str = CONTENT.name) -> dict[str, Space]:
        """The space of each document's vector, by id."""
        rows = self.run("SELECT doc_id, space_id FROM vector_embeddings WHERE collection = %s", collection)
        known = {space.space_id: space for space in self.models}
        return {str(doc_id): known[str(space_id)] for doc_id, space_id in rows}

    def store(self) -> list[tuple[object, ...]]:
        """All that is stored, but for revisions and times."""
        return self.run(
            "SELECT collection, doc_id, space_id, embedding::text, metadata, text_sha256, 'in use'"
            " FROM vector_embeddings UNION ALL"
            " SELECT collection, doc_id, space_id, embedding::text, '{}', text_sha256, 'aside' FROM vectors_aside"
            " ORDER BY 1, 2, 7"
        )

    def assert_sound(self) -> None:
        """Index and truth agree (I2), and no space holds a vector that another model made (I3)."""
        for collection in (CONTENT.name, OUTCOMES.name):
            report = self.vector_db.check_index(collection)
            assert report.is_whole, report
        self.assert_unmixed()

    def assert_unmixed(self) -> None:
        """No space holds a vector that another model made, in Postgres or in Chroma (I3).

        A vector is the model's own if it is what the model makes of one of the texts that were ever written.
        """
        hashed = [each for each in Embedder().embed_many(CONTENT.name, sorted(self.texts)).vectors if each is not None]
        own = {
            space.space_id: np.array([model.own(vector) for vector in hashed]) for space, model in self.models.items()
        }
        assert_of_own_models(self.database, self.index, own)
