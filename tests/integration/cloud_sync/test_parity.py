"""Parity: what differs is found, and mended."""

import dagster as dg
import psycopg

from everreach_assets.checks import parity_checks
from everreach_assets.cloud_parity import compare, mend
from everreach_assets.cloud_sync import SYNCED
from everreach_assets.domain.sync import Outgoing, Removal
from everreach_assets.domain.vectors import Document
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    PROSPECTS,
    SPACE,
    documents,
    ledger,
    row,
    sync,
    vectors,
)
from tests.clouds import differences


def test_parity_tells_exactly_what_differs_and_mending_mends_it(
    vector_db: VectorDB, database: Database, store: CloudStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(20))
    cloud = Cloud(store)
    sync(database, store)
    held = dict(store.listing(CONTENT))
    store.erase(CONTENT)
    kept = [each for each in documents(20) if each.doc_id not in {"x:00001", "x:00002"}]
    store.upsert(
        CONTENT,
        [
            Outgoing(
                each.doc_id,
                held[each.doc_id].rev - (each.doc_id == "x:00003"),
                SPACE.space_id,
                {} if each.doc_id == "x:00004" else each.metadata,
                held[each.doc_id].vector_sha256,
                each.embedding,
            )
            for each in kept
        ],
    )
    store.upsert(CONTENT, [row(10**6, "stranger")])
    store.upsert(PROSPECTS, [row(1, "prospect")])
    vector_db.upsert_many(CONTENT, [Document("x:pending", vectors(1)[0], {})])

    report = compare(CONTENT, database=database, cloud=cloud)
    assert (report.missing, report.stale, list(report.extra)) == (
        ["x:00001", "x:00002"],
        ["x:00003", "x:00004"],
        ["stranger"],
    )
    assert (report.rows, report.forbidden, report.pending, report.is_equal) == (19, {PROSPECTS: 1}, 1, False)
    assert gauges(database)["everreach_cloud_local_only_docs", PROSPECTS] == 1
    assert gauges(database)["everreach_sync_drift_docs", CONTENT] == 5

    assert mend(report, database=database, cloud=cloud) == 6
    sync(database, store)
    assert compare(CONTENT, database=database, cloud=cloud).is_equal
    assert differences(database, store, CONTENT) == []
    assert store.holdings() == {CONTENT: 21}
    assert gauges(database)["everreach_cloud_local_only_docs", PROSPECTS] == 0


def gauges(database: Database) -> dict[tuple[str, str], float]:
    rows = ledger(database, "SELECT metric, labels ->> 'collection', value FROM metric_gauges")
    return {(str(metric), str(collection)): float(str(value)) for metric, collection, value in rows}


def test_thirty_percent_lost_behind_our_back_are_found_and_only_they_are_sent(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore, cloud_url: str
) -> None:
    vector_db.upsert_many(CONTENT, documents(200))
    sync(database, postgres_cloud)
    with psycopg.connect(cloud_url, autocommit=True) as connection:
        connection.execute("DELETE FROM everreach_vectors WHERE right(doc_id, 1) IN ('1', '2', '3')")
    report = compare(CONTENT, database=database, cloud=Cloud(postgres_cloud))
    assert len(report.missing) == 60
    mend(report, database=database, cloud=Cloud(postgres_cloud))
    assert sum(sync(database, postgres_cloud).results.values()) == 60
    assert compare(CONTENT, database=database, cloud=Cloud(postgres_cloud)).is_equal


def checked(database: Database, cloud: Cloud) -> tuple[bool, dict[str, object]]:
    """What the asset check says of the posts: whether it passed, and its counts."""
    result = parity_checks[SYNCED.index(CONTENT)](database=database, cloud=cloud)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed, {name: each.value for name, each in result.metadata.items()}


def test_the_check_fails_for_a_row_that_must_not_be_there_and_for_one_that_is_missing(
    vector_db: VectorDB, database: Database, store: CloudStore
) -> None:
    cloud = Cloud(store)
    vector_db.upsert_many(CONTENT, documents(5))
    sync(database, store)
    vector_db.upsert_many(CONTENT, [Document("x:pending", vectors(1)[0], {})])
    counts = {"rows": 5, "missing": 0, "stale": 0, "extra": 0, "forbidden": 0, "pending": 1}
    assert checked(database, cloud) == (True, counts)
    store.upsert(PROSPECTS, [row(1, "prospect")])
    assert checked(database, cloud) == (False, counts | {"forbidden": 1})
    cloud.erase_forbidden()
    store.remove(CONTENT, [Removal("x:00001", 10**6)])
    assert checked(database, cloud) == (False, counts | {"rows": 4, "missing": 1})
