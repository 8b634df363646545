"""Plans, holds, purges and restores in any order, against a model in memory."""

import datetime as dt
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from everreach_assets.domain.collections import CONTENT, PROSPECTS
from resources import archives
from resources.database import Database
from resources.hnsw_index import HnswIndex
from tests.retention_store import Store

TABLES = (
    "actp_feedback_posts, actp_feedback_strategy, outcome_snapshots, outcome_labels, prospects, vector_embeddings,"
    " vector_deliveries, retention_holds, retention_clock, retention_plans, retention_receipts, retention_tombstones"
)
NUMBERS = st.integers(0, 7)
AGES = st.sampled_from([10, 89, 91, 200, 364, 366, 900])


@dataclass
class Model:
    """A document as it should be."""

    collection: str
    age_days: int
    is_embedded: bool = False
    is_purged: bool = False
    archive: str = ""

    @property
    def is_expired(self) -> bool:
        return self.age_days > (365 if self.collection == CONTENT.name else 90)


@dataclass
class Planned:
    plan_hash: str
    doc_ids: set[str] = field(default_factory=set)


class RetentionMachine(RuleBasedStateMachine):
    """Rules that a person, an embedding run and the clock could follow, in any order."""

    database: Database
    folder: Path
    plans: Bundle[Planned] = Bundle("plans")
    holds: Bundle[tuple[int, str]] = Bundle("holds")
    receipts: Bundle[tuple[str, set[str]]] = Bundle("receipts")

    def __init__(self) -> None:
        super().__init__()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.store = Store(self.database, HnswIndex(self.database), self.folder)
        self.store.run(f"TRUNCATE {TABLES} CASCADE")
        self.documents: dict[str, Model] = {}
        self.held: list[str] = []
        self.cited: set[str] = set()

    def keeps(self, doc_id: str) -> bool:
        return doc_id in self.held or doc_id in self.cited

    def due(self) -> set[str]:
        """What a plan would find now: prospects also where they have no vector yet."""
        return {
            doc_id
            for doc_id, each in self.documents.items()
            if each.is_expired
            and not each.is_purged
            and not self.keeps(doc_id)
            and (each.is_embedded or each.collection == PROSPECTS.name)
        }

    @rule(number=NUMBERS, age=AGES)
    def add_post(self, number: int, age: int) -> None:
        if f"x:p{number}" not in self.documents:
            doc_id = self.store.add_post(f"p{number}", dt.timedelta(days=age))
            self.documents[doc_id] = Model(CONTENT.name, age)

    @rule(number=NUMBERS, age=AGES)
    def add_prospect(self, number: int, age: int) -> None:
        if f"z{number}" not in self.documents:
            self.store.add_prospect(f"z{number}", dt.timedelta(days=age))
            self.documents[f"z{number}"] = Model(PROSPECTS.name, age)

    @rule()
    def embed(self) -> None:
        self.store.embed(CONTENT.name, PROSPECTS.name)
        for each in self.documents.values():
            each.is_embedded = not each.is_purged

    @precondition(lambda self: self.documents)
    @rule(target=holds, data=st.data())
    def hold(self, data: st.DataObject) -> tuple[int, str]:
        doc_id = data.draw(st.sampled_from(sorted(self.documents)))
        self.held.append(doc_id)
        return self.store.hold("document", doc_id=doc_id), doc_id

    @rule(hold=consumes(holds))
    def lift(self, hold: tuple[int, str]) -> None:
        assert self.store.lift(hold[0]) == 1
        self.held.remove(hold[1])

    @precondition(lambda self: self.documents and not self.cited)
    @rule(data=st.data())
    def cite(self, data: st.DataObject) -> None:
        doc_id = data.draw(st.sampled_from(sorted(self.documents)))
        self.store.cite(doc_id)
        self.cited.add(doc_id)

    @precondition(lambda self: self.cited)
    @rule()
    def replace_strategy(self) -> None:
        self.store.run("DELETE FROM actp_feedback_strategy")
        self.cited.clear()

    @rule(target=plans)
    def plan(self) -> Planned:
        plan = self.store.plan()
        assert set(self.store.planned()) == self.due()
        return Planned(plan.plan_hash, self.due())

    @rule(target=receipts, planned=plans)
    def purge(self, planned: Planned) -> tuple[str, set[str]]:
        dry = self.store.purge(planned.plan_hash, dry_run=True)
        already = {doc_id for doc_id in planned.doc_ids if self.documents[doc_id].is_purged}
        live = self.store.purge(planned.plan_hash)
        gone = set(self.store.tombstones()) - {doc_id for doc_id, each in self.documents.items() if each.is_purged}
        assert gone <= planned.doc_ids - already
        assert not any(self.keeps(doc_id) for doc_id in gone)
        assert len(gone) in (0, dry.documents)  # none where this very plan was carried out before
        for doc_id in gone:
            each = self.documents[doc_id]
            each.is_purged, each.is_embedded = True, False
            each.archive = self.store.archive_of(live, each.collection)
        return next(iter(sorted({self.documents[doc_id].archive for doc_id in gone})), ""), gone

    @rule(receipt=receipts)
    def restore(self, receipt: tuple[str, set[str]]) -> None:
        archive, gone = receipt
        if not archive:
            return
        expected = {d for d in gone if self.documents[d].is_purged and self.documents[d].archive == archive}
        restored = self.store.restore(archive).restored
        assert set(restored) == expected
        for doc_id in restored:
            each = self.documents[doc_id]
            stored = doc_id in self.store.stored(each.collection)
            each.is_purged, each.is_embedded = False, stored
            self.held.append(doc_id)

    @invariant()
    def every_document_is_where_the_model_says(self) -> None:
        for collection in (CONTENT.name, PROSPECTS.name):
            expected = {d for d, each in self.documents.items() if each.collection == collection and each.is_embedded}
            assert set(self.store.stored(collection)) == expected
        people = {str(row[0]) for row in self.store.people()}
        assert people == {
            d for d, each in self.documents.items() if each.collection == PROSPECTS.name and not each.is_purged
        }
        assert set(self.store.tombstones()) == {d for d, each in self.documents.items() if each.is_purged}

    @invariant()
    def everything_that_is_gone_is_in_its_archive(self) -> None:
        for doc_id, each in self.documents.items():
            if each.is_purged:
                assert doc_id in archives.verify(self.folder / each.archive).doc_ids


@pytest.mark.slow
def test_retention_does_what_a_model_says_in_any_order(database: Database, tmp_path: Path) -> None:
    class Machine(RetentionMachine):
        pass

    Machine.database, Machine.folder = database, tmp_path / "archives"
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
