"""What a sync costs, and what leaves the machine."""

import contextlib
import time
from collections.abc import Callable

import psycopg
import pytest

from everreach_assets import cloud_sync
from everreach_assets.cloud_parity import compare
from everreach_assets.cloud_sync import plan_collection
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.vectors import Document
from resources import metric_queries
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.settings import Settings
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CONTENT,
    LESSONS,
    OUTCOMES,
    PROSPECTS,
    SPACE,
    OpenStore,
    documents,
    ledger,
    sync,
    vectors,
)
from tests.clouds import Proxy


def test_no_change_costs_no_request_and_reads_no_row(
    database_url: str, kind: str, proxied: Callable[[str], tuple[Proxy, CloudStore]]
) -> None:
    proxy, store = proxied(kind)
    with Database(database_url) as database:
        VectorDB(database, HnswIndex(database), lambda _: SPACE).upsert_many(CONTENT, documents(400))
        sync(database, store)
        store.close()
        with database.connection() as connection:
            connection.execute("VACUUM ANALYZE vector_deliveries")
    sent, connections = len(proxy.sent), proxy.connections
    rows_read, scans = _rows_read(database_url)
    with Database(database_url) as database:
        report = sync(database, store)
    assert (report.results, report.requests, report.sent_bytes, report.rows_held) == ({}, 0, 0, 400)
    assert (len(proxy.sent), proxy.connections) == (sent, connections)
    rows_after, scans_after = _rows_read(database_url)
    assert (rows_after - rows_read, scans_after - scans) == (0, 0)


def _rows_read(database_url: str) -> tuple[int, int]:
    """Rows of the ledger and of vectors that closed sessions have read, and how often they scanned a whole table."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        while connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            time.sleep(0.01)  # a session counts what it read when it ends
        row = connection.execute(
            "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0), coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables"
            " WHERE relname IN ('vector_deliveries', 'vector_embeddings', 'everreach_vectors')"
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


@pytest.mark.slow
def test_a_first_sync_reads_each_row_as_often_however_many_there_are(
    database_url: str, cloud_url: str, open_store: OpenStore
) -> None:
    def rows_read(collection: str, rows: int) -> float:
        """Of both databases, for each row that is sent."""
        with Database(database_url) as database:
            VectorDB(database, HnswIndex(database), lambda _: SPACE).upsert_many(collection, documents(rows))
        before = _rows_read(database_url)[0] + _rows_read(cloud_url)[0]
        with Database(database_url) as database, contextlib.closing(open_store("pgvector")) as store:
            assert sync(database, store, collection).results == {"pushed": rows}
        return (_rows_read(database_url)[0] + _rows_read(cloud_url)[0] - before) / rows

    rows_read(OUTCOMES, 10)  # both sides meet
    few, many = rows_read(CONTENT, 600), rows_read(LESSONS, 3_000)
    print(f"rows read for each that is sent: {few:.1f} of 600, {many:.1f} of 3,000")
    assert many <= 1.2 * few


def test_a_hundredth_changed_sends_a_hundredth(
    vector_db: VectorDB, database: Database, kind: str, proxied: Callable[[str], tuple[Proxy, CloudStore]]
) -> None:
    vector_db.upsert_many(CONTENT, documents(1_000))
    proxy, store = proxied(kind)
    first = sync(database, store)
    first_wire = len(proxy.sent)
    vector_db.upsert_many(CONTENT, documents(10, seed=1))
    second = sync(database, store)
    assert second.results == {"updated": 10}
    assert second.sent_bytes <= first.sent_bytes / 95
    assert len(proxy.sent) - first_wire <= first_wire / 50  # the frame of the requests counts too
    assert second.requests <= first.requests / 3


CANARY_TEXT = "the heron waits beside the cold canal at dawn"


def test_no_text_no_prospect_and_no_address_is_in_what_leaves(
    database: Database, kind: str, proxied: Callable[[str], tuple[Proxy, CloudStore]]
) -> None:
    vector_db = VectorDB(database, HnswIndex(database), lambda _: SPACE)
    prospect = vectors(1, seed=77)
    vector_db.upsert_many(PROSPECTS, [Document("prospect-canary", prospect[0], {"platform": "x"})])
    vector_db.upsert_many("client_data", [Document("client-canary", prospect[0], {"platform": "x"})])
    vector_db.upsert_many("conversations", [Document("conversation-canary", prospect[0], {"platform": "x"})])
    for name in (CONTENT, OUTCOMES, LESSONS):
        vector_db.upsert_many(
            name,
            [
                Document("x:1", vectors(1)[0], {"platform": "x", "text": CANARY_TEXT, "email": "canary@example.org"}),
                Document("x:2", vectors(2)[1], {"platform": CANARY_TEXT * 3, "niche": "write canary@example.org"}),
                Document("canary@example.org", vectors(3)[2], {"platform": "x"}),
                Document("x:4", vectors(4)[3], {"account": "call +1 415 555 2671", "note": "canary note"}),
            ],
        )
    proxy, store = proxied(kind)
    for name in cloud_sync.SYNCED:
        report = sync(database, store, name)
        assert (report.results, report.kept_rows) == ({"pushed": 3}, 1)
        assert report.dropped_keys >= 5
    vector_db.delete_many(CONTENT, ["canary@example.org", "x:1"])
    sync(database, store)

    sent = bytes(proxy.sent)
    assert b"x:4" in sent  # the proxy does see what passes
    for canary in (b"canary", b"heron", b"415 555", prospect.tobytes(), prospect.astype(">f4").tobytes()):
        assert canary not in sent
    assert b"prospect" not in sent.replace(b"everreach", b"")
    assert all(compare(name, database=database, cloud=Cloud(store)).is_equal for name in cloud_sync.SYNCED)
    assert ledger(
        database,
        "SELECT labels ->> 'reason', sum(value)::int FROM metric_counters WHERE metric = 'everreach_sync_blocked_total'"
        " AND value > 0 GROUP BY 1 ORDER BY 1",
    ) == [("local_only", 4), ("metadata", 18)]


def test_the_second_gate_stops_what_the_first_let_through(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector_db.upsert_many(CONTENT, [Document("someone@example.org", vectors(1)[0], {"secret": "x"})])
    monkeypatch.setattr(cloud_sync, "should_sync", lambda *_: True)
    with pytest.raises(Refused, match="nothing was sent"):
        sync(database, postgres_cloud)
    assert list(postgres_cloud.listing(CONTENT)) == []


def test_writes_note_the_cloud_for_what_may_leave_only(vector_db: VectorDB, database: Database) -> None:
    for name in (CONTENT, OUTCOMES, LESSONS, PROSPECTS, "client_data", "conversations"):
        vector_db.upsert_many(name, documents(2))
        vector_db.delete_many(name, ["x:00001"])
    noted = ledger(
        database, "SELECT collection, is_deleted, count(*) FROM vector_deliveries WHERE target = 'cloud' GROUP BY 1, 2"
    )
    assert sorted(noted) == [
        (name, is_deleted, 1) for name in sorted((CONTENT, OUTCOMES, LESSONS)) for is_deleted in (False, True)
    ]


def test_a_row_that_keeps_changing_is_as_old_as_its_first_pending_change(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore
) -> None:
    def since() -> object:
        return ledger(database, "SELECT pending_since FROM vector_deliveries WHERE target = 'cloud'")[0][0]

    vector_db.upsert_many(CONTENT, documents(1))
    first = since()
    vector_db.upsert_many(CONTENT, documents(1, seed=1))
    vector_db.delete_many(CONTENT, ["x:00000"])
    assert since() == first
    sync(database, postgres_cloud)
    vector_db.upsert_many(CONTENT, documents(1))
    assert str(since()) > str(first)


def test_the_plan_counts_what_the_sync_then_does_and_sends_nothing(
    vector_db: VectorDB, database: Database, kind: str, proxied: Callable[[str], tuple[Proxy, CloudStore]]
) -> None:
    stored = documents(8, secret="x")
    vector_db.upsert_many(CONTENT, stored)
    proxy, store = proxied(kind)
    cloud = Cloud(store)
    plan = plan_collection(CONTENT, database=database, cloud=cloud)
    assert (plan.rows, plan.dropped_keys, len(proxy.sent)) == ({"send": 8}, 8, 0)
    assert sync(database, store).sent_bytes == plan.sent_bytes["send"]
    vector_db.upsert_many(CONTENT, [Document(stored[0].doc_id, stored[0].embedding, {})])
    vector_db.delete_many(CONTENT, [stored[1].doc_id])
    sent = len(proxy.sent)
    plan = plan_collection(CONTENT, database=database, cloud=cloud)
    assert plan.rows == {"send metadata": 1, "remove": 1}
    assert "remove 1" in str(plan)
    assert len(proxy.sent) == sent
    assert sync(database, store).sent_bytes == plan.sent_bytes.total()


def test_what_waits_is_a_gauge_once_a_cloud_was_met(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore
) -> None:
    def read() -> dict[str, dict[str, float]]:
        with database.connection() as connection:
            reading = metric_queries.read_all(connection, Settings(_env_file=None))
        assert not reading.failed
        found: dict[str, dict[str, float]] = {}
        for sample in reading.samples:
            if sample.metric.startswith("everreach_sync_") and isinstance(sample.value, float | int):
                found.setdefault(sample.metric, {})[sample.labels["collection"]] = sample.value
        return found

    vector_db.upsert_many(CONTENT, documents(3))
    assert "everreach_sync_pending_docs" not in read()
    sync(database, postgres_cloud)
    assert read()["everreach_sync_pending_docs"] == {CONTENT: 0, OUTCOMES: 0, LESSONS: 0}
    assert "everreach_sync_oldest_pending_timestamp_seconds" not in read()
    assert read()["everreach_sync_last_success_timestamp_seconds"][CONTENT] == pytest.approx(time.time(), abs=60)

    vector_db.upsert_many(CONTENT, documents(3, seed=1))
    ledger(database, "UPDATE vector_deliveries SET dead_since = now() WHERE doc_id = 'x:00000' RETURNING 1")
    assert read()["everreach_sync_pending_docs"][CONTENT] == 2
    assert read()["everreach_sync_oldest_pending_timestamp_seconds"][CONTENT] == pytest.approx(time.time(), abs=60)
    assert read()["everreach_sync_dead_letters"] == {CONTENT: 1, OUTCOMES: 0, LESSONS: 0}
