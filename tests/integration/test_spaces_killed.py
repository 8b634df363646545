"""Healing, filling and switching, killed at a step and run again: exactly the store of a run that nothing befell."""

import pytest

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.errors import InvalidInput
from resources.chroma_index import ChromaIndex
from resources.database import Database
from tests.indexes import emptied_index
from tests.killed import run_until_killed
from tests.space_memory import NEXT, PRIMARY, SpaceMemory

POSTS = 12
BATCH = 5

STEPS = {
    "chroma": [
        ("heal", "resources.vector_store.upsert", 1),
        ("heal", "resources.chroma_index._replace", 0),
        ("heal", "resources.chroma_index.ChromaIndex._remove", 0),
        ("heal", "resources.vector_store.acknowledge", 0),
        ("heal", "resources.space_documents.heal_by_copy", 0),
        ("heal", "everreach_assets.healing.record_space_rows", 1),
        ("fill", "resources.vectors_aside.store", 1),
        ("fill", "resources.space_documents.fill_by_copy", 0),
        ("switch", "resources.chroma_index._replace", 1),
        ("switch", "resources.vectors_aside.swap", 0),
        ("switch", "resources.vectors_aside.swap", 1),
        ("switch", "resources.spaces.record_switch", 0),
        ("switch", "resources.chroma_index.ChromaIndex._take_name", 0),
        ("switch", "resources.chroma_index.ChromaIndex._take_name", 1),
        ("switch", "everreach_assets.migration.record_space_rows", 0),
    ],
    "pgvector": [
        ("heal", "resources.vector_store.upsert", 1),
        ("fill", "resources.vectors_aside.store", 1),
        ("switch", "resources.vectors_aside.swap", 1),
        ("switch", "resources.spaces.record_switch", 0),
        ("switch", "everreach_assets.migration.record_space_rows", 0),
    ],
}
"""What is done, the function at whose call the process is killed, and how many calls of it go before."""

IMPORTS = """
import sys
from everreach_assets import healing, migration
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.hnsw_index import HnswIndex
from tests.space_memory import SpaceMemory
"""
PROGRAM = """
url, chroma, action = sys.argv[1:]
healing.BATCH_DOCUMENTS = migration.BATCH_DOCUMENTS = 5
with Database(url) as database:
    host, _, port = chroma.partition(":")
    index = ChromaIndex(database, host, int(port)) if chroma else HnswIndex(database)
    getattr(SpaceMemory(database, index), action)()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backend", "action", "step", "calls"), [(backend, *step) for backend, steps in STEPS.items() for step in steps]
)
def test_killed_at_any_step_and_run_again_the_store_is_as_if_nothing_had_befallen(
    database: Database, chroma_server: tuple[str, int], backend: str, action: str, step: str, calls: int
) -> None:
    memory = SpaceMemory(database, emptied_index(backend, database, chroma_server))
    for number in range(POSTS):
        memory.write(f"p{number:03d}", f"words of part {number}")
    memory.primary.is_up = action != "heal"
    memory.embed()
    memory.primary.is_up = True
    if action != "heal":
        memory.begin()
    if action == "switch":
        memory.fill()
    address = f"{chroma_server[0]}:{chroma_server[1]}" if backend == "chroma" else ""
    run_until_killed(PROGRAM, database.url, address, action, step=step, calls=calls, imports=IMPORTS)

    memory.index.close()  # as another process would, that knows nothing of before
    memory.assert_unmixed()
    everything = {f"x:p{number:03d}" for number in range(POSTS)}
    assert {each.doc_id for each in memory.search("words", n=POSTS).found} == everything
    run_again(memory, action)
    assert set(memory.space_of().values()) == {PRIMARY if action == "heal" else NEXT}
    assert memory.run("SELECT DISTINCT space_id, count(*) FROM vectors_aside GROUP BY 1") == (
        [] if action == "heal" else [(PRIMARY.space_id, 2 * POSTS)]
    )
    assert {each.doc_id for each in memory.search("words", n=POSTS).found} == everything
    memory.assert_sound()
    if isinstance(memory.index, ChromaIndex):
        plain = memory.index._client.get_collection(CONTENT.name, embedding_function=None)
        assert (plain.metadata or {})["space_id"] == memory.vector_db.space_id(CONTENT.name)


def run_again(memory: SpaceMemory, action: str) -> None:
    """The same again, and the hourly run, which delivers what is pending."""
    if action == "heal":
        assert memory.heal() == 0
    else:
        try:
            memory.switch()
        except InvalidInput:  # it was switched before it was killed
            assert memory.vector_db.space(CONTENT.name) == NEXT
    memory.embed()
