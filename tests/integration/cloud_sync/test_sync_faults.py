"""Clouds that fail, refuse, stay silent or hold something newer."""

import contextlib
import time
from collections.abc import Callable

import psycopg
import pytest

from everreach_assets import cloud_sync
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.sync import MAX_ATTEMPTS
from everreach_assets.domain.vectors import Document
from resources import sync_ledger
from resources.cloud_store import CloudStore, RowsRefused
from resources.database import Database
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    documents,
    ledger,
    pending,
    revision,
    row,
    sync,
    vectors,
)
from tests.clouds import Proxy, Troubled, cloud_store, differences, failing
from tests.servers import reserved_port


def test_with_a_third_of_the_calls_failing_it_arrives_whole(
    vector_db: VectorDB, database: Database, store: CloudStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_sync, "BATCH_ROWS", 20)  # more calls to fail
    vector_db.upsert_many(CONTENT, documents(300))
    vector_db.delete_many(CONTENT, [f"x:{i:05}" for i in range(0, 300, 3)])
    runs = 0
    while pending(database) or runs == 0:
        runs += 1
        with contextlib.suppress(Unavailable):
            sync(database, Troubled(store, failing(0.3, seed=runs)))
        assert runs < 30
    assert differences(database, store, CONTENT) == []
    assert ledger(database, "SELECT count(*) FROM vector_deliveries WHERE attempts > 0") == [(0,)]


def test_a_cloud_that_is_down_costs_an_error_and_no_attempt(
    vector_db: VectorDB, database: Database, kind: str, cloud_url: str
) -> None:
    vector_db.upsert_many(CONTENT, documents(2))
    nobody = reserved_port()
    down = cloud_store(kind, f"postgresql://postgres@127.0.0.1:{nobody}/x", ("127.0.0.1", nobody), seconds=2)
    with pytest.raises(Unavailable, match="run the same command again"):
        sync(database, down)
    assert pending(database) == 2
    assert ledger(database, "SELECT max(attempts) FROM vector_deliveries") == [(0,)]


def test_a_row_that_the_cloud_refuses_holds_up_nobody_and_becomes_a_dead_letter(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore, cloud_url: str
) -> None:
    vector_db.upsert_many(CONTENT, documents(1))
    sync(database, postgres_cloud)
    with psycopg.connect(cloud_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE everreach_vectors ADD CHECK (doc_id <> 'x:00007')")
    vector_db.upsert_many(CONTENT, documents(100))
    first = sync(database, postgres_cloud)
    assert first.results == {"pushed": 98, "failed": 1}
    vector_db.upsert_many(CONTENT, [Document("x:later", vectors(1)[0], {})])
    assert sync(database, postgres_cloud).results == {"pushed": 1, "failed": 1}
    for _ in range(MAX_ATTEMPTS - 2):
        assert sync(database, postgres_cloud).results == {"failed": 1}
    assert sync(database, postgres_cloud).results == {}
    assert differences(database, postgres_cloud, CONTENT) == ["x:00007"]
    with database.connection() as connection:
        assert sync_ledger.dead_letters(connection, CONTENT) == {"CheckViolation": 1}
        assert sync_ledger.count_pending(connection, CONTENT) == 0

    with psycopg.connect(cloud_url, autocommit=True) as cloud:
        cloud.execute("ALTER TABLE everreach_vectors DROP CONSTRAINT everreach_vectors_doc_id_check")
    with database.connection() as connection:
        assert sync_ledger.retry_dead_letters(connection, CONTENT) == 1
    assert sync(database, postgres_cloud).results == {"pushed": 1}
    assert differences(database, postgres_cloud, CONTENT) == []


def test_a_dead_letter_is_tried_again_when_the_row_changes(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(1))

    def refuse(name: str, is_over: bool) -> None:
        if name == "upsert" and not is_over:
            raise RowsRefused("TooLarge")

    for _ in range(MAX_ATTEMPTS):
        sync(database, Troubled(postgres_cloud, refuse))
    assert sync(database, postgres_cloud).results == {}
    vector_db.upsert_many(CONTENT, documents(1, seed=1))
    assert sync(database, postgres_cloud).results == {"pushed": 1}


def test_a_newer_revision_in_the_cloud_is_a_conflict_and_stays(
    vector_db: VectorDB, database: Database, store: CloudStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(2))
    store.upsert(CONTENT, [row(10**9, "x:00000", platform="newer")])
    report = sync(database, store)
    assert report.results == {"pushed": 1, "conflict": 1}
    assert revision(store, "x:00000") == (10**9, False)


@pytest.mark.slow
def test_a_silent_cloud_is_unavailable_within_the_deadline(
    vector_db: VectorDB, database: Database, kind: str, proxied: Callable[[str], tuple[Proxy, CloudStore]]
) -> None:
    vector_db.upsert_many(CONTENT, documents(2))
    proxy, store = proxied(kind)
    assert sync(database, store).results == {"pushed": 2}
    vector_db.upsert_many(CONTENT, documents(2, seed=1))
    proxy.is_silent = True
    started = time.monotonic()
    with pytest.raises(Unavailable):
        sync(database, store)
    assert time.monotonic() - started < 20
    assert pending(database) == 2
    proxy.is_silent = False
    assert sync(database, store).results == {"updated": 2}
