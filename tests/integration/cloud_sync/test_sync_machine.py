"""Any order of work, and rows that were there before the migration."""

import contextlib
from collections.abc import Callable, Sequence

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.sync import Outgoing, Removal
from everreach_assets.domain.vectors import Document
from resources.cloud_store import CloudStore
from resources.database import SQL_FOLDER, Database
from resources.hnsw_index import HnswIndex
from resources.migrations import migrate, roll_back
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CLOUDS,
    CONTENT,
    PROSPECTS,
    SPACE,
    documents,
    ledger,
    pending,
    sync,
    vectors,
)
from tests.clouds import Troubled, cloud_store, differences, empty_cloud


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
