"""Spaces in operation: failing over, healing, searching two at once, changing the model; on both backends."""

from collections.abc import Callable

import pytest

from everreach_assets import migration
from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.spaces import Space
from resources import spaces
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.vector_index import VectorIndex
from tests.indexes import emptied_chroma
from tests.space_memory import NARROW, NEXT, PRIMARY, SAME_WIDTH, SpaceMemory

POSTS = 12
TOPICS = ("bread and butter", "running in the rain", "pricing a small product", "growing tomatoes at home")

IndexMaker = Callable[[Database], VectorIndex]


@pytest.fixture
def chroma(chroma_server: tuple[str, int]) -> IndexMaker:
    """Makes an empty index on the session's Chroma server."""
    return lambda database: emptied_chroma(database, chroma_server)


@pytest.fixture(params=["chroma", "pgvector"])
def make_index(request: pytest.FixtureRequest) -> IndexMaker:
    made: IndexMaker = request.getfixturevalue("chroma") if request.param == "chroma" else HnswIndex
    return made


@pytest.fixture
def memory(database: Database, make_index: IndexMaker) -> SpaceMemory:
    """Twelve posts with outcomes, none embedded, on either backend."""
    return with_posts(SpaceMemory(database, make_index(database)))


@pytest.fixture
def in_postgres(database: Database) -> SpaceMemory:
    return with_posts(SpaceMemory(database, HnswIndex(database)))


def with_posts(memory: SpaceMemory, posts: int = POSTS) -> SpaceMemory:
    for number in range(posts):
        label = "viral" if number % len(TOPICS) == 0 else "flop"
        memory.write(f"p{number:03d}", f"{TOPICS[number % len(TOPICS)]}, part {number}", label)
    return memory


# --- failing over and healing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backup", [SAME_WIDTH, NARROW], ids=["same width", "another width"])
def test_failover_and_healing_never_put_two_models_in_a_space(
    database: Database, make_index: IndexMaker, backup: Space
) -> None:
    memory = with_posts(SpaceMemory(database, make_index(database), backup))
    memory.embed()
    memory.primary.is_up = False
    for number in range(POSTS, POSTS + 5):
        memory.write(f"p{number:03d}", f"quite new, part {number}")
    memory.write("p000", "another text than before")
    content, outcomes = memory.embed()
    assert (content.embedded, content.waiting_to_heal, outcomes.waiting_to_heal) == (6, 6, 6)
    made_by_backup = {"x:p000", *(f"x:p{number:03d}" for number in range(POSTS, POSTS + 5))}
    for collection in (CONTENT.name, OUTCOMES.name):
        assert {doc_id for doc_id, space in memory.space_of(collection).items() if space == backup} == made_by_backup
    memory.assert_sound()
    assert memory.heal() == 12  # the provider is still down: nothing changes
    memory.assert_sound()

    memory.primary.is_up = True
    assert memory.heal() == 0
    assert set(memory.space_of().values()) == set(memory.space_of(OUTCOMES.name).values()) == {PRIMARY}
    memory.assert_sound()
    paid = len(memory.primary.texts)
    content, outcomes = memory.embed()
    assert (content.embedded, outcomes.embedded, memory.heal(), len(memory.primary.texts)) == (0, 0, 0, paid)


def test_what_the_backup_embedded_is_not_paid_for_again_while_the_provider_is_down(memory: SpaceMemory) -> None:
    memory.primary.is_up = False
    assert memory.embed()[0].embedded == POSTS
    assert memory.backup is not None
    paid = len(memory.backup.texts)
    content, outcomes = memory.embed()
    assert (content.embedded, content.unchanged, outcomes.embedded) == (0, POSTS, 0)
    assert len(memory.backup.texts) == paid == POSTS
    memory.run("UPDATE actp_feedback_posts SET niche = 'cooking' WHERE post_id = 'p001'")
    assert memory.embed()[0].metadata_changed == 1  # of a row of the backup, like any other
    assert len(memory.backup.texts) == paid
    memory.assert_sound()


def test_a_first_run_during_an_outage_leaves_the_providers_space_in_force(memory: SpaceMemory) -> None:
    memory.primary.is_up = False
    memory.embed()
    assert memory.vector_db.space(CONTENT.name) == PRIMARY
    memory.primary.is_up = True
    assert memory.heal() == 0
    if isinstance(memory.index, ChromaIndex):
        plain = memory.index._client.get_collection(CONTENT.name, embedding_function=None)
        assert (plain.metadata or {})["space_id"] == PRIMARY.space_id
    memory.assert_sound()


def test_healing_that_breaks_off_goes_on_where_it_was(
    in_postgres: SpaceMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.healing.BATCH_DOCUMENTS", 5)
    in_postgres.primary.is_up = False
    in_postgres.embed()
    in_postgres.primary.is_up, in_postgres.primary.calls_left = True, 1
    assert in_postgres.heal() == 2 * (POSTS - 5)
    in_postgres.primary.calls_left = None
    assert in_postgres.heal() == 0
    assert len(in_postgres.primary.texts) == POSTS  # none twice, though each is a post's and an outcome's
    in_postgres.assert_sound()


def test_an_outcome_of_a_purged_post_is_healed_by_itself(in_postgres: SpaceMemory) -> None:
    in_postgres.primary.is_up = False
    in_postgres.embed()
    in_postgres.run("DELETE FROM vector_embeddings WHERE collection = %s AND doc_id = 'x:p000'", CONTENT.name)
    in_postgres.primary.is_up = True
    assert in_postgres.heal() == 0
    assert in_postgres.space_of(OUTCOMES.name)["x:p000"] == PRIMARY


def test_a_vector_that_a_caller_brought_does_not_wait(in_postgres: SpaceMemory) -> None:
    in_postgres.embed()
    in_postgres.run(
        "UPDATE vector_embeddings SET text_sha256 = NULL, space_id = %s WHERE doc_id = 'x:p000' AND collection = %s",
        *(_registered(in_postgres, NARROW), CONTENT.name),
    )
    with in_postgres.database.connection() as connection:
        assert spaces.waiting(connection, CONTENT.name) == 0


def _registered(memory: SpaceMemory, space: Space) -> str:
    with memory.database.connection() as connection:
        spaces.register(connection, space)
    return space.space_id


# --- search during an outage ------------------------------------------------------------------------------------


def test_a_search_finds_the_rows_of_both_spaces(memory: SpaceMemory) -> None:
    memory.embed()
    memory.primary.is_up = False
    memory.write("new", "bread without butter")
    memory.embed()
    memory.primary.is_up = True
    result = memory.search("bread and butter, part 0", n=5)
    assert result.by_vector == [str(PRIMARY), str(SAME_WIDTH)]
    assert not result.is_degraded
    assert len(result.found) == 5
    by_space = {str(PRIMARY): "x:p000", str(SAME_WIDTH): "x:new"}
    assert {each.space: each.doc_id for each in result.found[:2]} == by_space  # the best of each space comes first
    assert {each.matched_by for each in result.found} == {"vector"}


def test_with_its_provider_down_the_rows_of_a_space_are_ranked_by_their_words_and_say_so(memory: SpaceMemory) -> None:
    memory.embed()
    memory.primary.is_up = False
    memory.write("new", "bread without butter")
    memory.embed()
    result = memory.search("tomatoes at home", n=4)
    assert (result.by_vector, result.by_text, result.is_degraded) == ([str(SAME_WIDTH)], [str(PRIMARY)], True)
    by_text = [each.doc_id for each in result.found if each.matched_by == "text"]
    assert by_text == ["x:p003", "x:p007", "x:p011"]
    assert [each.doc_id for each in result.found if each.matched_by == "vector"] == ["x:new"]
    assert all((each.similarity is None) == (each.matched_by == "text") for each in result.found)
    counted = memory.run(
        "SELECT labels ->> 'reason', value::int FROM metric_counters"
        " WHERE metric = 'everreach_vector_fallback_total' AND value > 0"
    )
    assert counted == [("query_not_embedded", 1)]


@pytest.mark.parametrize("is_up", [True, False])
def test_a_search_answers_n_rows_or_all_that_match_whatever_is_down(memory: SpaceMemory, is_up: bool) -> None:
    memory.embed()
    memory.primary.is_up = False
    for number in range(3):
        memory.write(f"n{number}", f"words about nothing, {number}")
    memory.embed()
    memory.primary.is_up = is_up
    assert len(memory.search("bread", n=7).found) == 7
    everything = memory.search("bread", n=100).found
    assert {each.doc_id for each in everything} == memory.space_of().keys()
    assert len(everything) == POSTS + 3
    viral = memory.search("bread", n=100, collection=OUTCOMES.name, label="viral").found
    assert {each.doc_id for each in viral} == {"x:p000", "x:p004", "x:p008"}
    assert memory.search("bread", n=3, label="none").found == []


def test_a_query_without_words_is_refused_and_hostile_ones_are_words(in_postgres: SpaceMemory) -> None:
    in_postgres.embed()
    with pytest.raises(InvalidInput):
        in_postgres.search(" ")
    in_postgres.primary.is_up = False
    for hostile in ("a & b | !c <-> :*", "'; DROP TABLE prospects; --", "tomatoes' | 'bread", "\\", "the"):
        assert len(in_postgres.search(hostile, n=5).found) == 5


def test_no_name_or_address_is_searched_for_by_words(in_postgres: SpaceMemory) -> None:
    in_postgres.write("secret", "Write to ann.lee@example.com about it")
    in_postgres.write("a", "nothing of the kind")
    in_postgres.embed()
    in_postgres.primary.is_up = False
    found = in_postgres.search("ann.lee@example.com", n=1).found
    assert found[0].doc_id != "x:secret"


def test_the_merged_search_finds_what_each_space_alone_would(memory: SpaceMemory) -> None:
    """Recall: half of the rows in each space; the ten best of both hold the five best of each."""
    memory.primary.is_up = False
    memory.embed()
    memory.primary.is_up = True
    for number in range(POSTS):
        memory.write(f"q{number:03d}", f"{TOPICS[number % len(TOPICS)]}, chapter {number}")
    memory.embed()
    result = memory.search("pricing a product", n=10)
    (hashed,) = Embedder().embed_many(CONTENT.name, ["pricing a product"]).vectors
    assert hashed is not None
    for space in (PRIMARY, SAME_WIDTH):
        query = memory.models[space].own(hashed)
        alone = memory.vector_db.search(CONTENT.name, query, 5, space_id=space.space_id)
        found = [each.similarity for each in result.found if each.space == str(space)]
        assert found == pytest.approx(
            [1 - each.distance for each in alone], abs=1e-5
        )  # by value: some are equally near


# --- changing the model -----------------------------------------------------------------------------------------


def test_another_model_in_the_settings_pays_nothing_and_says_what_to_do(memory: SpaceMemory) -> None:
    memory.embed()
    before = memory.store()
    memory.with_settings(NEXT)
    report, _ = memory.embed()
    assert memory.models[NEXT].texts == []
    assert memory.store() == before
    assert "everreach embedding migrate content_embeddings --to openai/next" in str(report)
    memory.write("new", "written in between")
    memory.embed()
    assert memory.space_of()["x:new"] == PRIMARY  # new texts go where searches look
    assert memory.search("written in between", n=1).found[0].doc_id == "x:new"


def test_an_empty_collection_takes_the_space_of_the_settings_at_once(memory: SpaceMemory) -> None:
    memory.vector_db.space(CONTENT.name)
    memory.with_settings(NEXT)
    memory.embed()
    assert set(memory.space_of().values()) == {NEXT}
    memory.assert_sound()


def test_a_migration_fills_while_searches_go_on_and_switches_in_one_step(memory: SpaceMemory) -> None:
    memory.embed()
    before = {each.doc_id for each in memory.search("bread", n=100).found}
    memory.begin()
    filling = memory.fill()
    assert (filling.filled, filling.remaining) == (2 * POSTS, 0)
    assert len(memory.models[NEXT].texts) == POSTS  # an outcome's vector is copied
    assert set(memory.space_of().values()) == {PRIMARY}
    assert {each.doc_id for each in memory.search("bread", n=100).found} == before
    memory.assert_sound()

    assert memory.switch() == 2 * POSTS
    assert set(memory.space_of().values()) == set(memory.space_of(OUTCOMES.name).values()) == {NEXT}
    result = memory.search("bread", n=100)
    assert ({each.doc_id for each in result.found}, result.by_vector) == (before, [str(NEXT)])
    memory.assert_sound()
    assert memory.heal() == 0
    assert memory.embed()[0].embedded == 0

    paid = len(memory.primary.texts)
    assert memory.switch_back() == 2 * POSTS
    assert set(memory.space_of().values()) == {PRIMARY}
    assert len(memory.primary.texts) == paid
    memory.assert_sound()


def test_what_comes_changes_and_goes_during_the_filling_is_caught_up(memory: SpaceMemory) -> None:
    memory.embed()
    memory.begin()
    memory.fill()
    memory.write("new", "written in between")
    memory.write("p001", "changed in between")
    memory.run("UPDATE actp_feedback_posts SET niche = 'cooking' WHERE post_id = 'p002'")
    memory.remove("p003")
    memory.embed()
    assert memory.switch() == 2 * POSTS
    assert len(memory.models[NEXT].texts) == POSTS + 2
    assert set(memory.space_of().values()) == {NEXT}
    assert "x:p003" not in memory.space_of()
    assert memory.search("changed in between", n=1).found[0].doc_id == "x:p001"
    assert [each.doc_id for each in memory.search("running", n=9, niche="cooking").found] == ["x:p002"]
    memory.assert_sound()


def test_what_is_written_after_the_switch_waits_to_be_healed_after_switching_back(memory: SpaceMemory) -> None:
    memory.embed()
    memory.begin()
    memory.switch()
    memory.write("new", "written after the switch")
    memory.embed()
    memory.switch_back()
    assert memory.space_of()["x:new"] == NEXT
    assert "x:new" in [each.doc_id for each in memory.search("written after the switch", n=2).found]
    memory.assert_sound()
    assert memory.heal() == 0
    memory.assert_sound()


def test_the_shards_fill_everything_once(in_postgres: SpaceMemory) -> None:
    with_posts(in_postgres, 100)
    in_postgres.embed()
    in_postgres.begin()
    filled = [in_postgres.fill(shard) for shard in range(16)]
    assert sum(each.filled for each in filled) + 0 == 200 - _copied_later(in_postgres)
    in_postgres.fill()
    assert len(in_postgres.models[NEXT].texts) == 100
    assert migration.remaining(CONTENT.name, database=in_postgres.database, embedder=in_postgres.embedder) == 0


def _copied_later(memory: SpaceMemory) -> int:
    """Outcomes whose post was filled by a later shard than the last copy; the next filling copies them."""
    return migration.remaining(CONTENT.name, database=memory.database, embedder=memory.embedder)


def test_a_filling_that_breaks_off_pays_for_no_text_twice(
    in_postgres: SpaceMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.migration.BATCH_DOCUMENTS", 5)
    in_postgres.embed()
    in_postgres.begin()
    in_postgres.models[NEXT].calls_left = 1
    with pytest.raises(Unavailable):
        in_postgres.switch()
    assert set(in_postgres.space_of().values()) == {PRIMARY}
    in_postgres.models[NEXT].calls_left = None
    assert in_postgres.switch() == 2 * POSTS
    assert len(in_postgres.models[NEXT].texts) == POSTS


def test_the_spaces_are_compared_before_the_switch(in_postgres: SpaceMemory) -> None:
    with_posts(in_postgres, 40)
    in_postgres.embed()
    in_postgres.begin()
    in_postgres.fill()
    content, outcomes = migration.compare(CONTENT.name, database=in_postgres.database)
    assert content.documents == 40
    assert content.overlap == pytest.approx(1.0)  # the next model turns the primary's vectors
    assert content.label_agreement is None
    assert outcomes.label_agreement is not None
    in_postgres.run(
        "UPDATE vectors_aside SET embedding = other.embedding FROM vectors_aside AS other WHERE other.doc_id = 'x:p000'"
    )
    worse, _ = migration.compare(CONTENT.name, database=in_postgres.database)
    assert worse.overlap is not None
    assert worse.overlap < 0.6


def test_a_kept_space_is_removed_when_its_time_has_come(memory: SpaceMemory) -> None:
    memory.embed()
    memory.begin()
    memory.switch()
    remove = {"database": memory.database, "vector_db": memory.vector_db}
    assert migration.remove_expired(**remove) == 0  # type: ignore[arg-type]
    memory.run("UPDATE collection_spaces SET kept_until = now() - interval '1 second'")
    assert migration.remove_expired(**remove) == 2 * POSTS  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no space is kept"):
        memory.switch_back()
    if isinstance(memory.index, ChromaIndex):
        assert sorted(each.name for each in memory.index._client.list_collections()) == [CONTENT.name, OUTCOMES.name]
    memory.assert_sound()


def test_an_abandoned_migration_leaves_nothing(memory: SpaceMemory) -> None:
    memory.embed()
    before = memory.store()
    memory.begin()
    memory.fill()
    with pytest.raises(InvalidInput, match="abandon"):
        memory.begin(NARROW)
    assert migration.abandon(CONTENT.name, database=memory.database, vector_db=memory.vector_db) == 2 * POSTS
    assert memory.store() == before
    with pytest.raises(InvalidInput, match="no migration"):
        memory.fill()


def test_a_deleted_document_leaves_no_vector_aside(in_postgres: SpaceMemory) -> None:
    in_postgres.embed()
    in_postgres.begin()
    in_postgres.fill()
    in_postgres.vector_db.delete_many(CONTENT.name, ["x:p000"])
    assert in_postgres.run("SELECT collection FROM vectors_aside WHERE doc_id = 'x:p000'") == [(OUTCOMES.name,)]


def test_the_cloud_is_told_of_switched_rows_and_of_no_local_only_one(in_postgres: SpaceMemory) -> None:
    in_postgres.embed()
    acknowledge = "UPDATE vector_deliveries SET acked_rev = rev"
    pending = "SELECT count(*) FROM vector_deliveries WHERE target = 'cloud' AND acked_rev IS DISTINCT FROM rev"
    in_postgres.run(acknowledge)
    in_postgres.begin()
    in_postgres.fill()
    assert in_postgres.run(pending) == [(0,)]  # what is aside is nobody's business
    in_postgres.switch()
    assert in_postgres.run(pending) == [(2 * POSTS,)]
    assert in_postgres.run("SELECT count(*) FROM vector_deliveries WHERE collection = %s", PROSPECTS.name) == [(0,)]


def test_a_local_only_collection_moves_to_no_remote_model(in_postgres: SpaceMemory) -> None:
    with pytest.raises(InvalidInput, match="local-only"):
        migration.begin(PROSPECTS.name, NEXT, database=in_postgres.database, vector_db=in_postgres.vector_db)
    assert PROSPECTS.name not in migration.chosen(None, NEXT)
