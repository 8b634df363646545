"""The contract of a sync, local Chroma or pgvector by cloud Chroma or Postgres."""

import numpy as np
import pytest

from everreach_assets import cloud_sync
from everreach_assets.cloud_parity import compare
from everreach_assets.cloud_sync import sync_collection
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.vectors import Document, Metadata
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    LESSONS,
    OTHER_SPACE,
    OUTCOMES,
    PROSPECTS,
    SPACE,
    counted,
    documents,
    sync,
    vectors,
)
from tests.clouds import differences


def test_the_cloud_follows_every_kind_of_change(any_local: VectorDB, database: Database, store: CloudStore) -> None:
    everything = documents(20)
    for name in (CONTENT, OUTCOMES, LESSONS, PROSPECTS):
        any_local.upsert_many(name, everything)
    first = sync(database, store)
    assert first.results == {"pushed": 20}
    assert (first.rows_held, first.dropped_keys, first.unsettled) == (20, 0, 0)
    assert counted(database) == first.results
    assert differences(database, store, CONTENT) == []

    any_local.upsert_many(CONTENT, [Document(everything[0].doc_id, vectors(1, seed=9)[0], {"platform": "reddit"})])
    any_local.upsert_many(CONTENT, [Document(everything[1].doc_id, everything[1].embedding, {"niche": "business"})])
    any_local.delete_many(CONTENT, [everything[2].doc_id, everything[3].doc_id])
    any_local.upsert_many(CONTENT, [Document("x:new", vectors(1, seed=7)[0], {})])
    second = sync(database, store)
    assert second.results == {"pushed": 1, "updated": 2, "deleted": 2}
    assert second.rows_held == 19
    assert counted(database) == first.results + second.results
    assert differences(database, store, CONTENT) == []

    any_local.upsert_many(CONTENT, [everything[2]])  # back again: a newer revision than its removal
    assert sync(database, store).results == {"pushed": 1}
    assert differences(database, store, CONTENT) == []

    for name in (OUTCOMES, LESSONS):
        sync(database, store, name)
    assert dict(store.holdings()).keys() == {CONTENT, OUTCOMES, LESSONS}
    assert all(compare(name, database=database, cloud=Cloud(store)).is_equal for name in cloud_sync.SYNCED)
    with pytest.raises(Refused, match="must stay on this machine"):
        sync(database, store, PROSPECTS)


def test_a_change_of_metadata_alone_sends_no_vector(vector_db: VectorDB, database: Database, store: CloudStore) -> None:
    stored = documents(50)
    vector_db.upsert_many(CONTENT, stored)
    whole = sync(database, store)
    vector_db.upsert_many(CONTENT, [Document(each.doc_id, each.embedding, {"platform": "reddit"}) for each in stored])
    report = sync(database, store)
    assert report.results == {"updated": 50}
    assert report.sent_bytes < whole.sent_bytes / 40
    assert differences(database, store, CONTENT) == []


def test_a_row_of_another_space_replaces_the_one_before(database: Database, store: CloudStore) -> None:
    before = VectorDB(database, HnswIndex(database), lambda _: SPACE)
    after = VectorDB(database, HnswIndex(database), lambda _: OTHER_SPACE)
    before.upsert_many(CONTENT, documents(5))
    sync(database, store)
    after.upsert_many(CONTENT, documents(2))  # the same vectors, made by another model
    assert sync(database, store).results == {"updated": 2}
    assert differences(database, store, CONTENT) == []
    assert store.holdings() == {CONTENT: 5}
    before.delete_many(CONTENT, ["x:00000", "x:00004"])
    sync(database, store)
    assert differences(database, store, CONTENT) == []


def test_vectors_arrive_to_the_bit_and_awkward_metadata_unchanged(
    vector_db: VectorDB, database: Database, store: CloudStore
) -> None:
    awkward = vectors(3)
    awkward[0] *= 1e6
    awkward[1, :2] = np.float32(1e-38), np.float32(-0.0)
    metadata: Metadata = {
        "platform": "x",
        "account": "naïve 😀 'quoted' \\",
        "value": 2.5,
        "score": -0.1,
        "metric": "views",
    }
    vector_db.upsert_many(OUTCOMES, [Document(f"x:{i}", each, metadata) for i, each in enumerate(awkward)])
    assert sync(database, store, OUTCOMES).results == {"pushed": 3}
    assert differences(database, store, OUTCOMES) == []


def test_more_rows_than_a_batch_go_in_several(vector_db: VectorDB, database: Database, store: CloudStore) -> None:
    vector_db.upsert_many(CONTENT, documents(650))
    seen: list[tuple[int, int]] = []
    report = sync_collection(
        CONTENT, database=database, cloud=Cloud(store), on_progress=lambda done, total: seen.append((done, total))
    )
    assert report.results == {"pushed": 650}
    assert seen == [(300, 650), (600, 650), (650, 650)]
    assert differences(database, store, CONTENT) == []
