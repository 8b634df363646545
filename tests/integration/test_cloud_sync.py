"""The sync on real servers: four combinations of stores, one contract; then faults, kills, leases and what leaves."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import chromadb
import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from everreach_assets import cloud_sync
from everreach_assets.cloud_parity import compare, mend
from everreach_assets.cloud_sync import SyncReport, plan_collection, sync_collection
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.sync import MAX_ATTEMPTS, Outgoing, Removal
from everreach_assets.domain.vectors import WIDTH, Document, Metadata, Vector
from resources import metric_queries, sync_ledger
from resources.chroma_index import ChromaIndex, close_client
from resources.cloud_store import Cloud, CloudStore, RowsRefused
from resources.database import SQL_FOLDER, Database
from resources.hnsw_index import HnswIndex
from resources.migrations import migrate, roll_back
from resources.settings import Settings
from resources.vector_db import VectorDB
from tests.clouds import Proxy, Troubled, cloud_store, differences, empty_cloud, failing, proxy_to
from tests.conftest import CLOUD_DATABASE

CONTENT, OUTCOMES, LESSONS, PROSPECTS = (
    "content_embeddings",
    "outcome_embeddings",
    "lesson_embeddings",
    "prospect_embeddings",
)
SPACE = Space("local", "test", WIDTH, "1")
OTHER_SPACE = Space("local", "other", WIDTH, "1")
CLOUDS = ("chroma", "pgvector")


def vectors(rows: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH), dtype=np.float32)


def documents(rows: int, seed: int = 0, **metadata: object) -> list[Document]:
    given: Metadata = {"platform": "x", "published_at": 1_700_000_000} | metadata  # type: ignore[assignment]
    return [Document(f"x:{i:05}", row, given) for i, row in enumerate(vectors(rows, seed))]


# --- the servers ------------------------------------------------------------------------------------------------


OpenStore = Callable[[str], CloudStore]


@pytest.fixture
def open_store(cloud_url: str, chroma_server: tuple[str, int]) -> Iterator[OpenStore]:
    """Opens an emptied cloud of a kind, as another process would."""
    with contextlib.ExitStack() as stack:
        emptied: set[str] = set()

        def opened(kind: str) -> CloudStore:
            if kind not in emptied:
                empty_cloud(kind, cloud_url, chroma_server)
                emptied.add(kind)
            return stack.enter_context(contextlib.closing(cloud_store(kind, cloud_url, chroma_server)))

        yield opened


@pytest.fixture(params=CLOUDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, open_store: OpenStore) -> CloudStore:
    return open_store(kind)


@pytest.fixture
def postgres_cloud(open_store: OpenStore) -> CloudStore:
    return open_store("pgvector")


@pytest.fixture
def vector_db(database: Database) -> VectorDB:
    """The local side without a Chroma, where it does not matter."""
    return VectorDB(database, HnswIndex(database), lambda _: SPACE)


@pytest.fixture(params=CLOUDS)
def any_local(
    request: pytest.FixtureRequest, database: Database, chroma_server: tuple[str, int], open_store: OpenStore
) -> Iterator[VectorDB]:
    if request.param == "pgvector":
        yield VectorDB(database, HnswIndex(database), lambda _: SPACE)
        return
    open_store("chroma")  # empties it
    with contextlib.closing(VectorDB(database, ChromaIndex(database, *chroma_server), lambda _: SPACE)) as opened:
        yield opened


def sync(database: Database, store: CloudStore, collection: str = CONTENT) -> SyncReport:
    return sync_collection(collection, database=database, cloud=Cloud(store))


def ledger(database: Database, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def pending(database: Database, collection: str = CONTENT) -> int:
    with database.connection() as connection:
        return sync_ledger.count_pending(connection, collection)


# --- the contract, local Chroma or pgvector by cloud Chroma or Postgres ---------------------------------------------


def test_the_cloud_follows_every_kind_of_change(any_local: VectorDB, database: Database, store: CloudStore) -> None:
    everything = documents(20)
    for name in (CONTENT, OUTCOMES, LESSONS, PROSPECTS):
        any_local.upsert_many(name, everything)
    first = sync(database, store)
    assert first.results == {"pushed": 20}
    assert (first.rows_held, first.dropped_keys, first.unsettled) == (20, 0, 0)
    assert differences(database, store, CONTENT) == []

    any_local.upsert_many(CONTENT, [Document(everything[0].doc_id, vectors(1, seed=9)[0], {"platform": "reddit"})])
    any_local.upsert_many(CONTENT, [Document(everything[1].doc_id, everything[1].embedding, {"niche": "business"})])
    any_local.delete_many(CONTENT, [everything[2].doc_id, everything[3].doc_id])
    any_local.upsert_many(CONTENT, [Document("x:new", vectors(1, seed=7)[0], {})])
    second = sync(database, store)
    assert second.results == {"pushed": 1, "updated": 2, "deleted": 2}
    assert second.rows_held == 19
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


# --- the stores themselves ----------------------------------------------------------------------------------------


def row(rev: int, doc_id: str = "x:1", seed: int = 0, **metadata: str) -> Outgoing:
    return Outgoing(doc_id, rev, SPACE.space_id, metadata, bytes(32), vectors(1, seed)[0])


def revision(store: CloudStore, doc_id: str = "x:1") -> tuple[int, bool] | None:
    held = store.held(CONTENT, [Removal(doc_id, 0)]).get(doc_id)
    return None if held is None else (held.rev, held.is_deleted)


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


# --- faults -------------------------------------------------------------------------------------------------------


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
    vector_db: VectorDB, database: Database, kind: str, cloud_url: str, free: int
) -> None:
    vector_db.upsert_many(CONTENT, documents(2))
    down = cloud_store(kind, f"postgresql://postgres@127.0.0.1:{free}/x", ("127.0.0.1", free), seconds=2)
    with pytest.raises(Unavailable, match="run the same command again"):
        sync(database, down)
    assert pending(database) == 2
    assert ledger(database, "SELECT max(attempts) FROM vector_deliveries") == [(0,)]


@pytest.fixture
def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


# --- what it costs, and what leaves -------------------------------------------------------------------------------


@pytest.fixture
def proxied(
    cloud_url: str, chroma_server: tuple[str, int], open_store: OpenStore
) -> Iterator[Callable[[str], tuple[Proxy, CloudStore]]]:
    """A cloud behind a proxy that keeps every byte that is sent to it."""
    with contextlib.ExitStack() as stack:

        def opened(kind: str) -> tuple[Proxy, CloudStore]:
            open_store(kind)
            if kind == "chroma":
                proxy = stack.enter_context(proxy_to(socket.AF_INET, chroma_server))
                return proxy, stack.enter_context(
                    contextlib.closing(cloud_store(kind, "", ("127.0.0.1", proxy.port), seconds=3))
                )
            folder = unquote(parse_qs(urlsplit(cloud_url).query)["host"][0])
            proxy = stack.enter_context(proxy_to(socket.AF_UNIX, f"{folder}/.s.PGSQL.5432"))
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{CLOUD_DATABASE}"
            return proxy, stack.enter_context(contextlib.closing(cloud_store(kind, url, chroma_server, seconds=3)))

        yield opened


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
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone():
            time.sleep(0.01)  # a session counts what it read when it ends
        row = connection.execute(
            "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0), coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables"
            " WHERE relname IN ('vector_deliveries', 'vector_embeddings', 'everreach_vectors')"
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


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


# --- whose cloud it is --------------------------------------------------------------------------------------------


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


# --- parity -------------------------------------------------------------------------------------------------------


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


# --- two at once, frozen, killed ----------------------------------------------------------------------------------


def test_of_two_syncs_at_once_one_works_and_the_other_says_so(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore, open_store: OpenStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(10))
    at_work, go_on = threading.Event(), threading.Event()

    def wait(name: str, is_over: bool) -> None:
        if name == "upsert" and not is_over:
            at_work.set()
            assert go_on.wait(20)

    reports: list[SyncReport] = []
    thread = threading.Thread(target=lambda: reports.append(sync(database, Troubled(open_store("pgvector"), wait))))
    thread.start()
    assert at_work.wait(20)
    second = sync(database, postgres_cloud)
    go_on.set()
    thread.join(20)
    assert (second.is_busy, second.requests) == (True, 0)
    assert "another sync is under way" in str(second)
    assert reports[0].results == {"pushed": 10}
    assert not sync(database, postgres_cloud).is_busy


def test_a_sync_that_was_frozen_and_overtaken_acknowledges_nothing(
    vector_db: VectorDB, database: Database, store: CloudStore, kind: str, open_store: OpenStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(3))

    def overtake(name: str, is_over: bool) -> None:
        """The first sync stands still before its write, with its lease expired: another one does the work."""
        if name == "upsert" and not is_over and not overtaken:
            overtaken.append(True)
            with database.connection() as connection:
                connection.execute("UPDATE cloud_collections SET expires_at = now() - interval '1 second'")
            vector_db.upsert_many(CONTENT, documents(2, seed=1))
            vector_db.delete_many(CONTENT, ["x:00002"])
            sync(database, open_store(kind))

    overtaken: list[bool] = []
    with pytest.raises(Refused, match="another one has taken over"):
        sync(database, Troubled(store, overtake))
    assert pending(database) > 0  # what the first one may have spoiled is sent once more
    sync(database, store)
    assert differences(database, store, CONTENT) == []
    assert store.holdings() == {CONTENT: 2}


WORKER = """
import os, signal, sys, time
from everreach_assets.cloud_sync import sync_collection
from resources.cloud_store import Cloud
from resources.database import Database
from tests.clouds import Troubled, cloud_store

kind, point, local, cloud, host, port = sys.argv[1:]
steps = 0

def step(*_):
    global steps
    steps += 1
    if steps == int(point):
        os.kill(os.getpid(), signal.SIGKILL)

class Stepping(Database):
    def transaction(self):
        step()
        return super().transaction()

with Stepping(local) as database:
    store = cloud_store(kind, cloud, (host, int(port)))
    cloud = Cloud(Troubled(store, step))
    while sync_collection("content_embeddings", database=database, cloud=cloud).is_busy:
        time.sleep(0.05)  # until the server sees that the one before is gone
print(steps)
"""


def work(kind: str, point: int, local: str, cloud: str, chroma: tuple[str, int]) -> "subprocess.CompletedProcess[str]":
    """A sync in a process of its own that is killed at a step: before or after a call of the cloud, or before a
    transaction that settles a batch."""
    arguments = [kind, str(point), local, cloud, chroma[0], str(chroma[1])]
    return subprocess.run(
        [sys.executable, "-c", WORKER, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )


def kill_at_every_step(
    kind: str, vector_db: VectorDB, database: Database, url: str, chroma: tuple[str, int], store: CloudStore
) -> int:
    for point in range(1, 60):
        vector_db.upsert_many(CONTENT, documents(320, seed=point))
        vector_db.delete_many(CONTENT, [f"x:{point:05}", f"x:{point + 1:05}"])
        done = work(kind, point, database.url, url, chroma)
        if done.returncode == 0:
            return int(done.stdout)
        assert done.returncode == -signal.SIGKILL, done.stderr
        if point % 2:  # every other time the next sync is one that is killed, too
            deadline = time.monotonic() + 20  # the server takes a moment to see that the connection is gone
            while sync(database, store).is_busy:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert differences(database, store, CONTENT) == []
    pytest.fail("it never got through")


@pytest.mark.slow
@pytest.mark.parametrize("killed", CLOUDS)
def test_killed_at_each_single_step_and_run_again_the_cloud_equals_what_may_leave(
    killed: str,
    vector_db: VectorDB,
    database: Database,
    open_store: OpenStore,
    cloud_url: str,
    chroma_server: tuple[str, int],
) -> None:
    store = open_store(killed)
    steps = kill_at_every_step(killed, vector_db, database, cloud_url, chroma_server, store)
    assert steps >= 10
    assert differences(database, store, CONTENT) == []


# --- the migration ------------------------------------------------------------------------------------------------


def test_rows_that_were_there_before_the_migration_are_pending_after_it(database_url: str) -> None:
    with Database(database_url) as database:
        vector_db = VectorDB(database, HnswIndex(database), lambda _: SPACE)
        for name in (CONTENT, PROSPECTS):
            vector_db.upsert_many(name, documents(3))
    names = [path.stem for path in (SQL_FOLDER / "migrations").glob("*.sql") if ".rollback" not in path.name]
    undone = roll_back(database_url, steps=sum(name >= "0009_cloud_sync" for name in names))
    assert undone[-1] == "0009_cloud_sync"
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM vector_deliveries").fetchone() == (0,)
    migrate(database_url)
    with Database(database_url) as database:
        assert ledger(database, "SELECT collection, count(*) FROM vector_deliveries GROUP BY 1") == [(CONTENT, 3)]


# --- any order of work --------------------------------------------------------------------------------------------

IDS = st.sampled_from([f"x:{i}" for i in range(5)])
POOL = vectors(4, seed=11)


class CloudFollowsTruth(RuleBasedStateMachine):
    """Whatever is written, sent, broken off and replayed in whatever order: after a sync the cloud equals the truth.

    Nothing that was removed ever comes back by itself.
    """

    database: Database
    open_store: Callable[[], CloudStore]
    reset: Callable[[], None]

    @initialize()
    def start(self) -> None:
        self.reset()
        self.store = self.open_store()
        self.vector_db = VectorDB(self.database, HnswIndex(self.database), lambda _: SPACE)
        self.sent: list[tuple[list[Outgoing], list[Removal]]] = []

    @rule(doc_id=IDS, number=st.integers(0, 3), niche=st.sampled_from(["a", "b"]))
    def upsert(self, doc_id: str, number: int, niche: str) -> None:
        self.vector_db.upsert_many(CONTENT, [Document(doc_id, POOL[number], {"niche": niche, "secret": "x"})])

    @rule(doc_ids=st.sets(IDS, min_size=1, max_size=2))
    def delete(self, doc_ids: set[str]) -> None:
        self.vector_db.delete_many(CONTENT, sorted(doc_ids))

    @rule(call=st.integers(1, 5), is_over=st.booleans())
    def sync_that_breaks_off(self, call: int, is_over: bool) -> None:
        calls = 0

        def break_off(_: str, over: bool) -> None:
            nonlocal calls
            calls += over == is_over
            if calls >= call:
                raise InvalidInput("killed")  # unlike a call without an answer, nobody tries again

        with contextlib.suppress(InvalidInput):
            sync(self.database, Recording(Troubled(self.store, break_off), self.sent))

    @rule()
    def sync_whole(self) -> None:
        report = sync(self.database, Recording(self.store, self.sent))
        assert not report.unsettled
        self.agree()

    @rule(data=st.data())
    def replay_something_old(self, data: st.DataObject) -> None:
        if not self.sent or pending(self.database):
            return
        rows, removals = data.draw(st.sampled_from(self.sent))
        if rows:
            self.store.upsert(CONTENT, rows)
        if removals:
            self.store.remove(CONTENT, removals)
        self.agree()

    def agree(self) -> None:
        assert differences(self.database, self.store, CONTENT) == []
        assert ledger(
            self.database, "SELECT rows_held FROM cloud_collections WHERE collection = %s", CONTENT
        ) == ledger(self.database, "SELECT count(*) FROM vector_embeddings")

    @invariant()
    def nothing_unknown_is_there(self) -> None:
        known = {each for (each,) in ledger(self.database, "SELECT doc_id FROM vector_embeddings")}
        leaving = {each for (each,) in ledger(self.database, "SELECT doc_id FROM vector_deliveries WHERE is_deleted")}
        assert {doc_id for doc_id, _ in self.store.listing(CONTENT)} <= known | leaving

    def teardown(self) -> None:
        self.sync_whole()
        self.store.close()


class Recording(Troubled):
    """Keeps what was sent, to send it once more at the wrong time."""

    def __init__(self, store: CloudStore, sent: list[tuple[list[Outgoing], list[Removal]]]) -> None:
        super().__init__(store, lambda name, is_over: None)
        self._sent = sent

    def upsert(self, collection: str, rows: Sequence[Outgoing]) -> None:
        self._sent.append((list(rows), []))
        super().upsert(collection, rows)

    def remove(self, collection: str, removals: Sequence[Removal]) -> None:
        self._sent.append(([], list(removals)))
        super().remove(collection, removals)


def run_machine(database: Database, kind: str, url: str, chroma: tuple[str, int], examples: int) -> None:
    def reset() -> None:
        with database.connection() as connection:
            connection.execute(
                "TRUNCATE vector_embeddings, vectors_aside, vector_deliveries, clouds, cloud_collections"
            )
        empty_cloud(kind, url, chroma)

    class Machine(CloudFollowsTruth):
        pass

    Machine.database = database
    Machine.reset = staticmethod(reset)
    Machine.open_store = staticmethod(lambda: cloud_store(kind, url, chroma))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_cloud_and_truth_agree_after_any_order_of_work(
    database: Database, cloud_url: str, chroma_server: tuple[str, int]
) -> None:
    run_machine(database, "pgvector", cloud_url, chroma_server, examples=15)


@pytest.mark.slow
@pytest.mark.parametrize("machine", CLOUDS)
def test_cloud_and_truth_agree_after_many_orders_of_work(
    machine: str, database: Database, cloud_url: str, chroma_server: tuple[str, int]
) -> None:
    run_machine(database, machine, cloud_url, chroma_server, examples=100 if machine == "pgvector" else 25)
