"""Other addresses, other rules, an empty database before a full cloud."""

import pytest

from everreach_assets import cloud_sync
from everreach_assets.cloud_parity import compare, mend
from everreach_assets.cloud_sync import plan_collection
from everreach_assets.domain.errors import Refused
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    LESSONS,
    OUTCOMES,
    OpenStore,
    documents,
    row,
    sync,
)
from tests.clouds import differences


def test_at_another_address_nothing_is_acknowledged_and_back_again_nothing_is_left_over(
    vector_db: VectorDB, database: Database, open_store: OpenStore
) -> None:
    one, other = open_store("pgvector"), open_store("chroma")
    vector_db.upsert_many(CONTENT, documents(5))
    assert sync(database, one).results == {"pushed": 5}
    assert plan_collection(CONTENT, database=database, cloud=Cloud(other)).rows == {"send": 5}
    vector_db.delete_many(CONTENT, ["x:00000"])
    report = sync(database, other)
    assert report.results == {"pushed": 4, "deleted": 1}
    assert (report.rows_held, differences(database, other, CONTENT)) == (4, [])
    assert sync(database, one).results == {"pushed": 4, "deleted": 1}
    assert differences(database, one, CONTENT) == []


def test_other_rules_judge_every_row_again_and_send_no_vector(
    vector_db: VectorDB, database: Database, store: CloudStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector_db.upsert_many(CONTENT, documents(5, niche="business"))
    vector_db.upsert_many(LESSONS, documents(5))
    for name in (CONTENT, LESSONS):
        sync(database, store, name)
    from everreach_assets.domain import sync as rules

    monkeypatch.setattr(
        rules, "ALLOWED_METADATA", {CONTENT: frozenset({"platform"}), OUTCOMES: rules.ALLOWED_METADATA[OUTCOMES]}
    )
    monkeypatch.setattr(cloud_sync, "SYNCED", (CONTENT, OUTCOMES))
    report = sync(database, store)
    assert report.results == {"updated": 5}
    assert report.sent_bytes < 5 * 200
    assert report.dropped_keys == 10
    assert differences(database, store, CONTENT) == []
    assert store.holdings() == {CONTENT: 5}  # lessons may not be there any longer
    monkeypatch.undo()
    assert sync(database, store, LESSONS).results == {"pushed": 5}
    assert sync(database, store).results == {"updated": 5}
    assert differences(database, store, CONTENT) + differences(database, store, LESSONS) == []


def test_an_empty_database_before_a_full_cloud_removes_nothing(
    vector_db: VectorDB, database: Database, store: CloudStore
) -> None:
    store.upsert(CONTENT, [row(1, f"x:{i}") for i in range(10)])
    assert sync(database, store).results == {}
    report = compare(CONTENT, database=database, cloud=Cloud(store))
    assert (len(report.extra), report.is_equal) == (10, False)
    with pytest.raises(Refused, match="another database's copy"):
        mend(report, database=database, cloud=Cloud(store))
    assert store.holdings() == {CONTENT: 10}
