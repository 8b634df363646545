"""Writing, outages, healing and migrations in any order: index and truth agree, and no space holds two models."""

import contextlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from everreach_assets import migration
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.spaces import Space
from resources.database import Database
from resources.hnsw_index import HnswIndex
from tests.indexes import emptied_chroma
from tests.space_memory import NARROW, NEXT, PRIMARY, SAME_WIDTH, SpaceMemory

TABLES = (
    "actp_feedback_posts, outcome_snapshots, outcome_labels, vector_embeddings, vector_deliveries, collection_spaces"
)
NAMES = st.sampled_from(["a", "b", "c", "d"])
WORDS = st.sampled_from(["bread and butter", "running in the rain", "a small price", "tomatoes at home"])


class Spaces(RuleBasedStateMachine):
    """What people and outages do to a memory."""

    database: Database
    chroma: tuple[str, int] | None

    def __init__(self) -> None:
        super().__init__()
        with self.database.connection() as connection:
            connection.execute(f"TRUNCATE {TABLES}, vectors_aside CASCADE".encode())
        index = emptied_chroma(self.database, self.chroma) if self.chroma else HnswIndex(self.database)
        self.memory = SpaceMemory(self.database, index)

    @rule(name=NAMES, text=WORDS)
    def write(self, name: str, text: str) -> None:
        self.memory.write(name, text)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.memory.remove(name)

    @rule(space=st.sampled_from([PRIMARY, SAME_WIDTH, NARROW, NEXT]), is_up=st.booleans())
    def fail_or_recover(self, space: Space, is_up: bool) -> None:
        self.memory.models[space].is_up = is_up

    @rule()
    def embed(self) -> None:
        with contextlib.suppress(Unavailable):  # nobody is up who could
            self.memory.embed()
            posts = {f"x:{name}" for (name,) in self.memory.run("SELECT post_id FROM actp_feedback_posts")}
            assert self.memory.space_of().keys() == self.memory.space_of(OUTCOMES.name).keys() == posts

    @rule()
    def heal(self) -> None:
        self.memory.heal()
        if self.memory.models[self.memory.vector_db.space(CONTENT.name)].is_up:
            self.embed()  # what changed, or went, since it was embedded is not healed but embedded anew, or deleted
            assert self.memory.heal() == 0

    @rule(space=st.sampled_from([PRIMARY, SAME_WIDTH, NARROW, NEXT]))
    def begin(self, space: Space) -> None:
        with contextlib.suppress(InvalidInput):  # it is in force, or another one is being filled
            self.memory.begin(space)

    @rule()
    def fill(self) -> None:
        with contextlib.suppress(InvalidInput, Unavailable):
            self.memory.fill()

    @rule()
    def switch(self) -> None:
        with contextlib.suppress(InvalidInput, Unavailable):
            target = migration.target_of(CONTENT.name, database=self.database)
            self.memory.switch()
            assert self.memory.vector_db.space(CONTENT.name) == target or not self.memory.space_of()

    @rule()
    def switch_back(self) -> None:
        with contextlib.suppress(InvalidInput):
            self.memory.switch_back()

    @precondition(lambda self: self.memory.space_of())
    @rule()
    def abandon(self) -> None:
        with contextlib.suppress(InvalidInput):
            migration.abandon(CONTENT.name, database=self.database, vector_db=self.memory.vector_db)

    @invariant()
    def is_sound_and_finds_everything(self) -> None:
        self.memory.assert_sound()
        found = self.memory.search("bread in the rain", n=50).found
        assert sorted(each.doc_id for each in found) == sorted(self.memory.space_of())


@pytest.fixture(params=["pgvector", "chroma"])
def machine(request: pytest.FixtureRequest, database: Database) -> type[Spaces]:
    class Machine(Spaces):
        pass

    Machine.database = database
    Machine.chroma = request.getfixturevalue("chroma_server") if request.param == "chroma" else None
    return Machine


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_happens_index_and_truth_agree_and_no_space_holds_two_models(machine: type[Spaces]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8 if machine.chroma is None else 3,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
