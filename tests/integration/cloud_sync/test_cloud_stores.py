"""The stores of the cloud themselves: revisions, tombstones, what was altered."""

from collections.abc import Callable

import chromadb
import psycopg

from everreach_assets.domain.sync import Removal
from resources.chroma_index import close_client
from resources.cloud_store import CloudStore
from resources.database import Database
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    SPACE,
    documents,
    ledger,
    revision,
    row,
    sync,
    vectors,
)
from tests.clouds import Troubled, differences


def test_an_older_revision_never_overwrites_a_newer_one(store: CloudStore) -> None:
    store.upsert(CONTENT, [row(5, platform="new")])
    store.upsert(CONTENT, [row(4, seed=1, platform="old")])
    assert revision(store) == (5, False)
    assert store.held(CONTENT, [row(5)])["x:1"].metadata == {"platform": "new"}
    store.remove(CONTENT, [Removal("x:1", 4)])
    assert [doc_id for doc_id, _ in store.listing(CONTENT)] == ["x:1"]


def test_a_removed_row_comes_back_only_with_a_newer_revision(store: CloudStore) -> None:
    store.upsert(CONTENT, [row(5)])
    store.remove(CONTENT, [Removal("x:1", 6), Removal("x:2", 7)])
    for late in (row(5), row(6), row(7, "x:2")):
        store.upsert(CONTENT, [late])
    store.remove(CONTENT, [Removal("x:1", 5)])
    assert list(store.listing(CONTENT)) == []
    assert (revision(store), revision(store, "x:2")) == ((6, True), (7, True))
    store.upsert(CONTENT, [row(8)])
    assert [doc_id for doc_id, _ in store.listing(CONTENT)] == ["x:1"]


def test_a_repeated_batch_in_any_order_changes_nothing(store: CloudStore) -> None:
    batches: list[Callable[[], None]] = [
        lambda: store.upsert(CONTENT, [row(1), row(2, "x:2")]),
        lambda: store.upsert(CONTENT, [row(3, platform="x")]),
        lambda: store.remove(CONTENT, [Removal("x:2", 4)]),
    ]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 2)):
        for number in order:
            batches[number]()
    assert [(doc_id, held.rev) for doc_id, held in store.listing(CONTENT)] == [("x:1", 3)]
    assert revision(store, "x:2") == (4, True)


def test_metadata_is_replaced_and_not_merged(store: CloudStore) -> None:
    store.upsert(CONTENT, [row(1, platform="x", niche="business")])
    store.upsert(CONTENT, [row(2, platform="x")])
    assert store.held(CONTENT, [row(2)])["x:1"].metadata == {"platform": "x"}


def test_an_altered_vector_is_not_taken_for_the_one_that_was_sent(
    store: CloudStore,
    kind: str,
    cloud_url: str,
    chroma_server: tuple[str, int],
    vector_db: VectorDB,
    database: Database,
) -> None:
    vector_db.upsert_many(CONTENT, documents(3))

    def spoil(name: str, is_over: bool) -> None:
        if name == "upsert" and is_over:
            _spoil_vector(kind, cloud_url, chroma_server, "x:00001")

    report = sync(database, Troubled(store, spoil))
    assert report.results == {"pushed": 2, "failed": 1}
    assert ledger(database, "SELECT doc_id, error_class FROM vector_deliveries WHERE error_class IS NOT NULL") == [
        ("x:00001", "altered")
    ]
    assert sync(database, store).results == {"pushed": 1}
    assert differences(database, store, CONTENT) == []


def _spoil_vector(kind: str, url: str, chroma: tuple[str, int], doc_id: str) -> None:
    if kind == "pgvector":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "UPDATE everreach_vectors SET embedding = (SELECT embedding FROM everreach_vectors WHERE doc_id <> %s"
                " LIMIT 1) WHERE doc_id = %s",
                (doc_id, doc_id),
            )
        return
    client = chromadb.HttpClient(*chroma)
    held = client.get_collection(f"everreach.{CONTENT}.{SPACE.space_id}", embedding_function=None)
    held.update(ids=[doc_id], embeddings=vectors(1, seed=99))
    close_client(client)
