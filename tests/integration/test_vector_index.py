"""The indexes beside the truth: what happens when one lags, breaks, loses rows or is gone, and how it is mended.

What both backends must do alike is in `tests/test_vector_db.py`.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.api import ClientAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Document, Metadata, Vector
from resources import vector_store
from resources.chroma_index import ChromaIndex, close_client
from resources.database import Database
from resources.hnsw_index import INDEXED_FROM_ROWS, HnswIndex
from resources.vector_db import VectorDB
from tests.servers import reserved_port

pytestmark = pytest.mark.slow  # servers are started, frozen and killed

COLLECTION = "content_embeddings"
SPACE = Space("local", "test", WIDTH, "1")


def vectors(rows: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH), dtype=np.float32)


def documents(rows: int, seed: int = 0, **metadata: Any) -> list[Document]:
    return [Document(f"d{i:05}", row, {"i": i, **metadata}) for i, row in enumerate(vectors(rows, seed))]


class ChromaProcess:
    """A Chroma server that a test may kill, freeze and start again on the same port and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        self.port = reserved_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(self.folder)]
        self._process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port)],
            cwd=self.folder.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        pytest.fail("chroma did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture
def own_chroma(tmp_path: Path) -> Iterator[ChromaProcess]:
    server = ChromaProcess(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def vector_db(database: Database, own_chroma: ChromaProcess) -> Iterator[VectorDB]:
    index = ChromaIndex(database, "127.0.0.1", own_chroma.port, request_seconds=10)
    with contextlib.closing(VectorDB(database, index, lambda _: SPACE)) as opened:
        yield opened


@pytest.fixture
def hnsw_db(database: Database) -> VectorDB:
    return VectorDB(database, HnswIndex(database), lambda _: SPACE)


@pytest.fixture
def chroma(own_chroma: ChromaProcess) -> Iterator[ClientAPI]:
    """The server behind our back."""
    client = chromadb.HttpClient("127.0.0.1", own_chroma.port)
    yield client
    close_client(client)


def found(vector_db: VectorDB, query: Vector, n: int = 10, where: Metadata | None = None) -> set[str]:
    return {match.doc_id for match in vector_db.search(COLLECTION, query, n, where)}


# Truth first


def test_a_vector_written_while_the_index_is_down_is_stored_and_delivered_later(
    vector_db: VectorDB, hnsw_db: VectorDB, own_chroma: ChromaProcess
) -> None:
    before, during = documents(2)
    vector_db.upsert_many(COLLECTION, [before])
    own_chroma.kill()

    with pytest.raises(Unavailable, match="run the same command again"):
        vector_db.upsert_many(COLLECTION, [during])
    with pytest.raises(Unavailable):
        vector_db.delete_many(COLLECTION, [before.doc_id])
    with pytest.raises(Unavailable):
        vector_db.search(COLLECTION, during.embedding)
    assert vector_db.get_many(COLLECTION, [before.doc_id, during.doc_id]).keys() == {during.doc_id}
    assert found(hnsw_db, during.embedding) == {during.doc_id}

    own_chroma.start()
    assert vector_db.deliver(COLLECTION) == 2
    assert vector_db.deliver(COLLECTION) == 0
    assert vector_db.check_index(COLLECTION).is_whole
    assert found(vector_db, during.embedding) == {during.doc_id}


def test_a_server_killed_amid_upserts_costs_no_acknowledged_vector(
    vector_db: VectorDB, own_chroma: ChromaProcess
) -> None:
    written: list[str] = []

    def write() -> None:
        for start in range(0, 1_000, 20):
            batch = everything[start : start + 20]
            with contextlib.suppress(Unavailable):
                vector_db.upsert_many(COLLECTION, batch)
            written.extend(each.doc_id for each in batch)

    everything = documents(1_000)
    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.7)
    own_chroma.kill()
    writer.join(timeout=60)
    assert not writer.is_alive()
    assert vector_db.get_many(COLLECTION, written).keys() == set(written)

    own_chroma.start()
    vector_db.mend_index(COLLECTION)  # what Chroma acknowledged and then lost is found only by comparing
    assert vector_db.check_index(COLLECTION).is_whole
    assert vector_db.count(COLLECTION) == 1_000


def test_a_frozen_server_is_unavailable_within_the_deadline(database: Database, own_chroma: ChromaProcess) -> None:
    index = ChromaIndex(database, "127.0.0.1", own_chroma.port, request_seconds=1)
    with contextlib.closing(VectorDB(database, index, lambda _: SPACE)) as used:
        used.upsert_many(COLLECTION, documents(1))
        fresh_index = ChromaIndex(database, "127.0.0.1", own_chroma.port, request_seconds=1)
        with contextlib.closing(VectorDB(database, fresh_index, lambda _: SPACE)) as fresh:
            own_chroma.send(signal.SIGSTOP)
            for vector_db in (used, fresh):
                started = time.monotonic()
                with pytest.raises(Unavailable):
                    vector_db.search(COLLECTION, documents(1)[0].embedding)
                assert time.monotonic() - started < 5
            own_chroma.send(signal.SIGCONT)
            for vector_db in (used, fresh):
                assert found(vector_db, documents(1)[0].embedding) == {"d00000"}


@contextlib.contextmanager
def busy_proxy(port: int) -> Iterator[None]:
    """Something on the port that answers every request with 503, and not in Chroma's form."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def test_an_answer_that_is_not_chromas_own_is_unavailable(
    vector_db: VectorDB, database: Database, own_chroma: ChromaProcess
) -> None:
    stored = documents(2)
    vector_db.upsert_many(COLLECTION, stored[:1])
    own_chroma.kill()
    index = ChromaIndex(database, "127.0.0.1", own_chroma.port, request_seconds=2)
    with busy_proxy(own_chroma.port), contextlib.closing(VectorDB(database, index, lambda _: SPACE)) as fresh:
        for each in (vector_db, fresh):
            with pytest.raises(Unavailable, match=r"busy|503"):
                each.upsert_many(COLLECTION, stored)
    assert vector_db.count(COLLECTION) == 2


def test_a_wiped_server_heals_by_itself(vector_db: VectorDB, own_chroma: ChromaProcess) -> None:
    stored = documents(30)
    vector_db.upsert_many(COLLECTION, stored[:29])
    own_chroma.kill()
    shutil.rmtree(own_chroma.folder)
    own_chroma.start()
    assert len(found(vector_db, stored[0].embedding, 20)) == 20
    vector_db.upsert_many(COLLECTION, stored[29:])
    assert vector_db.check_index(COLLECTION).is_whole
    assert vector_db.check_index(COLLECTION).rows == 30


def test_a_row_changed_under_the_other_backend_reaches_chroma_with_the_next_catch_up(
    vector_db: VectorDB, hnsw_db: VectorDB
) -> None:
    vector_db.upsert_many(COLLECTION, documents(3))
    hnsw_db.upsert_many(COLLECTION, documents(3, seed=1))  # as many rows as before, all of them others
    assert len(vector_db.check_index(COLLECTION).stale) == 3
    vector_db.catch_up(COLLECTION)
    assert vector_db.check_index(COLLECTION).is_whole


def test_rows_written_under_the_other_backend_reach_chroma(vector_db: VectorDB, hnsw_db: VectorDB) -> None:
    hnsw_db.upsert_many(COLLECTION, documents(3))
    assert vector_db.check_index(COLLECTION).missing == ["d00000", "d00001", "d00002"]
    assert len(found(vector_db, vectors(1)[0])) == 3
    assert vector_db.mend_index(COLLECTION) == 3
    vector_db.upsert_many(COLLECTION, documents(3, seed=1)[:1])
    hnsw_db.upsert_many(COLLECTION, documents(3, seed=2)[1:2])
    hnsw_db.delete_many(COLLECTION, ["d00002"])
    report = vector_db.check_index(COLLECTION)
    assert (report.missing, report.stale, report.extra) == ([], ["d00001"], ["d00002"])
    assert vector_db.mend_index(COLLECTION) == 2
    assert vector_db.check_index(COLLECTION).is_whole


# Check, mend, rebuild


def test_the_check_tells_exactly_what_was_changed_behind_our_back_and_mending_mends_it(
    vector_db: VectorDB, chroma: ClientAPI
) -> None:
    vector_db.upsert_many(COLLECTION, documents(20))
    assert vector_db.check_index(COLLECTION).is_whole

    held = chroma.get_collection(COLLECTION, embedding_function=None)
    held.delete(ids=["d00001", "d00002"])
    held.update(ids=["d00003"], metadatas=[{"_rev": 0}])
    held.upsert(ids=["stranger"], embeddings=vectors(1), metadatas=[{"_rev": 1}])

    report = vector_db.check_index(COLLECTION)
    assert not report.is_whole
    assert (report.rows, report.missing, report.stale, report.extra) == (
        20,
        ["d00001", "d00002"],
        ["d00003"],
        ["stranger"],
    )
    assert "2 missing, 1 stale, 1 extra" in str(report)
    assert "stranger" not in found(vector_db, vectors(1)[0], 20)

    assert vector_db.mend_index(COLLECTION) == 4
    assert vector_db.check_index(COLLECTION).is_whole
    assert vector_db.mend_index(COLLECTION) == 0


def test_an_index_is_made_whole_from_postgres_alone(vector_db: VectorDB, chroma: ClientAPI) -> None:
    stored = documents(700)
    vector_db.upsert_many(COLLECTION, stored)
    held = chroma.get_collection(COLLECTION, embedding_function=None)
    held.upsert(ids=["stranger"], embeddings=vectors(1), metadatas=[{"_rev": 1}])
    held.update(ids=[stored[0].doc_id], embeddings=vectors(1, seed=5))  # an altered vector that kept its revision
    assert vector_db.rebuild_index(COLLECTION) == 700
    assert vector_db.check_index(COLLECTION).is_whole
    held = chroma.get_collection(COLLECTION, embedding_function=None)
    embeddings = held.get(ids=[stored[0].doc_id], include=["embeddings"])["embeddings"]
    assert embeddings is not None
    assert np.asarray(embeddings[0], dtype=np.float32) == pytest.approx(stored[0].embedding)


def test_a_row_that_matches_no_longer_is_not_found_through_a_lagging_index(
    vector_db: VectorDB, database: Database
) -> None:
    rows = 1_100  # beyond 1,000 matches the index answers
    stored = documents(rows, label="hit")
    vector_db.upsert_many(COLLECTION, stored)
    changed = Document(stored[0].doc_id, stored[0].embedding, {"label": "flop"})
    with database.connection() as connection:
        vector_store.upsert(connection, COLLECTION, SPACE.space_id, [changed], vector_db.targets)
    matches = vector_db.search(COLLECTION, stored[0].embedding, 10, {"label": "hit"})
    assert len(matches) == 10
    assert {match.metadata["label"] for match in matches} == {"hit"}


# Writers at once


@pytest.mark.parametrize("backend", ["chroma", "pgvector"])
def test_writers_in_opposite_orders_neither_block_each_other_nor_part_the_index_from_the_truth(
    vector_db: VectorDB, hnsw_db: VectorDB, backend: str
) -> None:
    chosen = vector_db if backend == "chroma" else hnsw_db
    forward = documents(100)

    def upsert(seed: int) -> None:
        for repeat in range(5):
            batch = [Document(each.doc_id, each.embedding, {"by": seed * 100 + repeat}) for each in forward]
            chosen.upsert_many(COLLECTION, batch[:: 1 if seed % 2 else -1])

    def delete(_: int) -> None:
        for _ in range(5):
            chosen.delete_where(COLLECTION, {"by": {"$gte": 0}})
            chosen.deliver(COLLECTION)

    with ThreadPoolExecutor(4) as threads:
        work = [threads.submit(task, number) for number, task in enumerate((upsert, upsert, delete, upsert))]
        for each in work:
            each.result(timeout=120)
    chosen.upsert_many(COLLECTION, forward)
    assert chosen.check_index(COLLECTION).is_whole
    assert chosen.count(COLLECTION) == 100


def test_more_writers_than_connections_all_get_through(own_chroma: ChromaProcess, database_url: str) -> None:
    with Database(database_url, max_connections=2) as database:
        index = ChromaIndex(database, "127.0.0.1", own_chroma.port)
        with contextlib.closing(VectorDB(database, index, lambda _: SPACE)) as vector_db:
            with ThreadPoolExecutor(6) as threads:
                work = [threads.submit(vector_db.upsert_many, COLLECTION, [each]) for each in documents(12)]
                assert [each.result(timeout=60) for each in work] == [1] * 12
            assert vector_db.check_index(COLLECTION).is_whole


# HNSW


def hnsw_index(database: Database) -> tuple[str, bool] | None:
    """Name of the only HNSW index, and whether it is valid."""
    with database.connection() as connection:
        return connection.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " JOIN pg_am ON pg_am.oid = relam WHERE amname = 'hnsw'"
        ).fetchone()


def test_an_index_is_made_when_there_are_rows_enough_and_the_planner_uses_it(
    hnsw_db: VectorDB, database: Database
) -> None:
    hnsw_db.upsert_many("lesson_embeddings", documents(50))
    hnsw_db.upsert_many(COLLECTION, documents(INDEXED_FROM_ROWS - 1))
    assert hnsw_index(database) is None
    assert hnsw_db.check_index(COLLECTION).is_whole
    hnsw_db.upsert_many(COLLECTION, documents(INDEXED_FROM_ROWS)[-1:])
    assert hnsw_index(database) == (f"hnsw_{COLLECTION}_{SPACE.space_id}", True)

    def times_used() -> int:
        with database.connection() as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            row = connection.execute("SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE 'hnsw%'")
            return int((row.fetchone() or (0,))[0])

    before = times_used()
    for times in range(1, 13):  # beyond the fifth time, the driver prepares the statement and the plan may change
        assert len(hnsw_db.search(COLLECTION, vectors(1)[0])) == 10
        assert times_used() == before + times
    hnsw_db.search("lesson_embeddings", vectors(1)[0])
    assert times_used() == before + 12


def test_a_half_built_index_is_seen_and_built_again(hnsw_db: VectorDB, database: Database) -> None:
    hnsw_db.upsert_many(COLLECTION, documents(INDEXED_FROM_ROWS))

    def break_index() -> None:
        with database.connection() as connection:  # as a killed CREATE INDEX CONCURRENTLY leaves it
            connection.execute(
                "UPDATE pg_index SET indisvalid = false"
                " WHERE indexrelid = (SELECT oid FROM pg_class WHERE relname LIKE 'hnsw%')"
            )

    repairs: list[Callable[[str], object]] = [hnsw_db.deliver, hnsw_db.mend_index, hnsw_db.rebuild_index]
    for repair in repairs:
        break_index()
        report = hnsw_db.check_index(COLLECTION)
        assert "half-built" in report.fault
        assert "half-built" in str(report)
        assert not report.is_whole
        assert repair(COLLECTION) == INDEXED_FROM_ROWS
        assert hnsw_db.check_index(COLLECTION).is_whole


def test_an_index_that_somebody_dropped_is_seen_and_built_again(hnsw_db: VectorDB, database: Database) -> None:
    hnsw_db.upsert_many(COLLECTION, documents(INDEXED_FROM_ROWS))
    with database.connection() as connection:
        connection.execute(f"DROP INDEX hnsw_{COLLECTION}_{SPACE.space_id}")
    assert not hnsw_db.check_index(COLLECTION).is_whole
    assert hnsw_db.mend_index(COLLECTION) == INDEXED_FROM_ROWS
    assert hnsw_db.check_index(COLLECTION).is_whole
    assert hnsw_db.mend_index(COLLECTION) == 0


def test_a_search_after_most_rows_were_deleted_still_answers_n_rows(hnsw_db: VectorDB) -> None:
    stored = documents(1_200)
    hnsw_db.upsert_many(COLLECTION, stored)
    assert hnsw_db.delete_where(COLLECTION, {"i": {"$gte": 15}}) == 1_185
    assert found(hnsw_db, stored[1_000].embedding, 15) == {each.doc_id for each in stored[:15]}


def test_a_filter_that_left_many_rows_and_now_leaves_few_still_answers_all_of_them(hnsw_db: VectorDB) -> None:
    stored = documents(1_200, broad=True)
    hnsw_db.upsert_many(COLLECTION, stored)
    assert len(found(hnsw_db, stored[0].embedding, 10, {"broad": True})) == 10  # from now on known to leave many
    assert found(hnsw_db, stored[0].embedding, 10, {"broad": 1}) == set()  # and the number 1 is another filter
    hnsw_db.delete_where(COLLECTION, {"i": {"$gte": 15}})
    assert found(hnsw_db, stored[1_000].embedding, 20, {"broad": True}) == {each.doc_id for each in stored[:15]}


# Any order of work

IDS = st.sampled_from([f"d{i}" for i in range(6)])
METADATA = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([1, 2.5, "x", True]), max_size=2)
POOL = vectors(5, seed=11)


class IndexFollowsTruth(RuleBasedStateMachine):
    """Whatever is done in whatever order, on both backends the index, Postgres and a plain dict agree."""

    open_db: Callable[[str], VectorDB]
    reset: Callable[[], None]
    chroma_collection: Callable[[], Any]

    @initialize()
    def start(self) -> None:
        self.reset()
        self.model: dict[str, tuple[int, Metadata]] = {}
        self.vector_db = self.open_db("chroma")
        self.other = self.open_db("pgvector")

    @rule(batch=st.dictionaries(IDS, st.tuples(st.integers(0, 4), METADATA), min_size=1, max_size=4))
    def upsert(self, batch: dict[str, tuple[int, Metadata]]) -> None:
        changed = self.vector_db.upsert_many(
            COLLECTION, [Document(doc_id, POOL[number], metadata) for doc_id, (number, metadata) in batch.items()]
        )
        assert changed >= sum(doc_id not in self.model for doc_id in batch)
        self.model |= batch

    @rule(doc_ids=st.sets(IDS, min_size=1, max_size=3))
    def delete(self, doc_ids: set[str]) -> None:
        assert self.vector_db.delete_many(COLLECTION, sorted(doc_ids)) == len(doc_ids & self.model.keys())
        for doc_id in doc_ids:
            self.model.pop(doc_id, None)

    @rule(value=st.sampled_from([1, "x"]))
    def delete_where(self, value: int | str) -> None:
        gone = [
            doc_id
            for doc_id, (_, metadata) in self.model.items()
            if type(metadata.get("a")) is type(value) and metadata["a"] == value
        ]
        assert self.vector_db.delete_where(COLLECTION, {"a": value}) == len(gone)
        for doc_id in gone:
            del self.model[doc_id]

    @rule(doc_id=IDS, number=st.integers(0, 4))
    def write_through_the_other_backend_and_mend(self, doc_id: str, number: int) -> None:
        self.other.upsert_many(COLLECTION, [Document(doc_id, POOL[number], {})])
        self.model[doc_id] = (number, {})
        self.vector_db.mend_index(COLLECTION)

    @rule(doc_id=IDS)
    def lose_a_row_in_the_index_and_mend(self, doc_id: str) -> None:
        self.vector_db.deliver(COLLECTION)
        self.chroma_collection().delete(ids=[doc_id])
        assert self.vector_db.mend_index(COLLECTION) == (doc_id in self.model)

    @rule()
    def rebuild(self) -> None:
        assert self.vector_db.rebuild_index(COLLECTION) == len(self.model)

    @rule()
    def restart_the_client(self) -> None:
        self.vector_db.close()
        self.vector_db = self.open_db("chroma")

    @invariant()
    def index_truth_and_model_agree(self) -> None:
        for vector_db in (self.vector_db, self.other):
            stored = vector_db.get_many(COLLECTION, [f"d{i}" for i in range(6)])
            assert stored.keys() == self.model.keys()
            for doc_id, (number, metadata) in self.model.items():
                assert stored[doc_id]["embedding"].tobytes() == POOL[number].tobytes()
                assert stored[doc_id]["metadata"] == metadata
            assert vector_db.check_index(COLLECTION).is_whole
            matches = vector_db._index.nearest(COLLECTION, SPACE.space_id, POOL[0], 10, None)
            assert {match.doc_id: match.metadata for match in matches} == {
                doc_id: metadata for doc_id, (_, metadata) in self.model.items()
            }
            nearest = {match.doc_id for match in matches if match.distance < 1e-5}
            assert nearest == {doc_id for doc_id, (number, _) in self.model.items() if number == 0}

    def teardown(self) -> None:
        self.vector_db.close()


def test_index_truth_and_model_agree_after_any_order_of_work(
    database: Database, own_chroma: ChromaProcess, chroma: ClientAPI
) -> None:
    def open_db(backend: str) -> VectorDB:
        chosen = HnswIndex(database) if backend == "pgvector" else ChromaIndex(database, "127.0.0.1", own_chroma.port)
        return VectorDB(database, chosen, lambda _: SPACE)

    def reset() -> None:
        with database.connection() as connection:
            connection.execute("TRUNCATE vector_embeddings, vectors_aside, vector_deliveries")
        for each in chroma.list_collections():
            chroma.delete_collection(each.name)

    class Machine(IndexFollowsTruth):
        pass

    Machine.open_db = staticmethod(open_db)
    Machine.reset = staticmethod(reset)
    Machine.chroma_collection = staticmethod(lambda: chroma.get_collection(COLLECTION, embedding_function=None))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
