"""What the tests of the sync share: rows to send, and the ledger before and after.

The clouds themselves, and how they fail, are in `clouds.py`.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from everreach_assets.cloud_sync import SyncReport, sync_collection
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.sync import Outgoing, Removal
from everreach_assets.domain.vectors import WIDTH, Document, Metadata, Vector
from resources import sync_ledger
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database

CONTENT, OUTCOMES, LESSONS, PROSPECTS = (
    "content_embeddings",
    "outcome_embeddings",
    "lesson_embeddings",
    "prospect_embeddings",
)
SPACE = Space("local", "test", WIDTH, "1")
OTHER_SPACE = Space("local", "other", WIDTH, "1")
CLOUDS = ("chroma", "pgvector")

OpenStore = Callable[[str], CloudStore]


def vectors(rows: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH), dtype=np.float32)


def documents(rows: int, seed: int = 0, **metadata: object) -> list[Document]:
    given: Metadata = {"platform": "x", "published_at": 1_700_000_000} | metadata  # type: ignore[assignment]
    return [Document(f"x:{i:05}", row, given) for i, row in enumerate(vectors(rows, seed))]


def sync(database: Database, store: CloudStore, collection: str = CONTENT) -> SyncReport:
    return sync_collection(collection, database=database, cloud=Cloud(store))


def ledger(database: Database, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def pending(database: Database, collection: str = CONTENT) -> int:
    with database.connection() as connection:
        return sync_ledger.count_pending(connection, collection)


def counted(database: Database, collection: str = CONTENT) -> Counter[str]:
    """The rows in everreach_sync_docs_total, by what became of them."""
    rows = ledger(
        database,
        "SELECT labels ->> 'result', value::int FROM metric_counters WHERE metric = 'everreach_sync_docs_total'"
        " AND labels ->> 'collection' = %s AND value > 0",
        collection,
    )
    return Counter(dict(rows))  # type: ignore[arg-type]


def row(rev: int, doc_id: str = "x:1", seed: int = 0, **metadata: str) -> Outgoing:
    return Outgoing(doc_id, rev, SPACE.space_id, metadata, bytes(32), vectors(1, seed)[0])


def revision(store: CloudStore, doc_id: str = "x:1") -> tuple[int, bool] | None:
    held = store.held(CONTENT, [Removal(doc_id, 0)]).get(doc_id)
    return None if held is None else (held.rev, held.is_deleted)
