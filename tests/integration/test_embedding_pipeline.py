"""Bringing collections up to their documents, on a real Postgres, on both backends where that matters."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pytest

from everreach_assets.checks import index_checks
from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.collections import COLLECTIONS, CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Document
from everreach_assets.embedding import EmbeddingReport, embed_collection
from resources import documents
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.providers import LocalHashingProvider, Purpose
from resources.vector_db import VectorDB
from resources.vector_index import VectorIndex
from tests.indexes import emptied_chroma

POSTS = 40


class CountingProvider(LocalHashingProvider):
    """Vectors by hashing, in a space of its own; fails at the calls that it is told to."""

    space = Space("counting", "hashing", WIDTH, "1")

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self._fails_at = fails_at
        self.calls = 0
        self.texts: list[str] = []

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        self.calls += 1
        if self.calls - 1 == self._fails_at:
            raise Unavailable("counting/hashing: no answer")
        self.texts += [each.text for each in inputs]
        return super().ask(inputs, purpose, timeout_seconds)


class Memory:
    """The parts that an asset works on."""

    def __init__(self, database: Database, index: VectorIndex, provider: CountingProvider | None = None) -> None:
        self.database = database
        self.provider = provider or CountingProvider()
        self.embedder = Embedder(self.provider)
        self.vector_db = VectorDB(database, index, self.embedder.space_of)

    def embed(self, collection: str = CONTENT.name) -> EmbeddingReport:
        return embed_collection(collection, database=self.database, embedder=self.embedder, vector_db=self.vector_db)

    def run(self, statement: str) -> None:
        with self.database.connection() as connection:
            connection.execute(statement.encode())

    def stored(self, collection: str = CONTENT.name) -> dict[str, tuple[bytes, object]]:
        """What is stored of each document, but for revisions and times."""
        with self.database.connection() as connection:
            rows = connection.execute(
                "SELECT doc_id, embedding::text, metadata, text_sha256, scrubber_version, space_id"
                " FROM vector_embeddings WHERE collection = %s ORDER BY doc_id",
                (collection,),
            ).fetchall()
        return {row[0]: row[1:] for row in rows}

    def revisions(self, collection: str = CONTENT.name) -> dict[str, int]:
        with self.database.connection() as connection:
            return dict(
                connection.execute(
                    "SELECT doc_id, rev FROM vector_embeddings WHERE collection = %s", (collection,)
                ).fetchall()
            )

    def is_whole(self, collection: str = CONTENT.name) -> bool:
        return self.vector_db.check_index(collection).is_whole


IndexMaker = Callable[[Database], VectorIndex]


@pytest.fixture
def chroma(chroma_server: tuple[str, int]) -> IndexMaker:
    """Makes an empty index on the session's Chroma server."""
    return lambda database: emptied_chroma(database, chroma_server)


@pytest.fixture(params=["chroma", "pgvector"])
def memory(request: pytest.FixtureRequest, database: Database) -> Memory:
    """A memory with posts, on either backend."""
    make: IndexMaker = request.getfixturevalue("chroma") if request.param == "chroma" else HnswIndex
    made = Memory(database, make(database))
    add_posts(made, POSTS)
    return made


@pytest.fixture
def in_postgres(database: Database) -> Memory:
    made = Memory(database, HnswIndex(database))
    add_posts(made, POSTS)
    return made


def add_posts(memory: Memory, posts: int, *, first: int = 0) -> None:
    """Posts with a text of their own, and an outcome of each."""
    memory.run(
        "INSERT INTO actp_feedback_posts (platform, post_id, account, post_type, text, text_sha256, published_at)"
        " SELECT 'x', 'p' || repeat('0', 3 - length(n::text)) || n, 'ann', 'thread', text, sha256(text::bytea),"
        " timestamptz '2026-01-01 UTC' + n * interval '1 day'"
        f" FROM generate_series({first}, {first + posts - 1}) AS n,"
        " LATERAL (SELECT 'Post ' || n || ' about ' || md5(n::text)) AS t (text)"
    )
    memory.run(
        "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
        " SELECT platform, post_id, published_at + interval '7 days', "
        " jsonb_build_object('views', 100 + length(post_id))"
        " FROM actp_feedback_posts AS posts"
        " WHERE NOT EXISTS (SELECT FROM outcome_snapshots AS s WHERE s.post_id = posts.post_id)"
    )


def change_text(memory: Memory, post_id: str, text: str) -> None:
    with memory.database.connection() as connection:
        connection.execute(
            "UPDATE actp_feedback_posts SET text = %(text)s, text_sha256 = sha256(convert_to(%(text)s, 'UTF8'))"
            " WHERE post_id = %(post_id)s",
            {"text": text, "post_id": post_id},
        )


# --- incremental ------------------------------------------------------------------------------------------------


def test_the_first_run_embeds_all_and_the_second_embeds_nothing_and_says_so(memory: Memory) -> None:
    first = memory.embed()
    assert (first.embedded, first.vectors, first.unchanged) == (POSTS, POSTS, 0)
    assert str(first) == f"{POSTS} embedded by counting/hashing, 0 unchanged"
    before, revisions, calls = memory.stored(), memory.revisions(), memory.provider.calls
    second = memory.embed()
    assert (second.embedded, second.vectors, second.unchanged, second.mended_in_index) == (0, POSTS, POSTS, 0)
    assert str(second) == f"nothing to embed: {POSTS} documents are unchanged"
    assert memory.provider.calls == calls
    assert (memory.stored(), memory.revisions()) == (before, revisions)
    assert memory.is_whole()


@pytest.mark.parametrize("collection", [CONTENT.name, OUTCOMES.name])
def test_what_arrives_after_it_was_counted_is_embedded_too(
    in_postgres: Memory, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    in_postgres.embed()
    if collection == OUTCOMES.name:
        classify_new_outcomes(in_postgres.database)
    else:
        change_text(in_postgres, "p001", "\x1f")  # nothing of it is left to embed
        change_text(in_postgres, "p002", "Another text")
    count = documents.count

    def count_and_go_on(*arguments: Any) -> tuple[int, int]:
        counted = count(*arguments)
        add_posts(in_postgres, 3, first=POSTS)
        if collection == OUTCOMES.name:
            with monkeypatch.context() as as_before:
                as_before.setattr(documents, "count", count)
                in_postgres.embed()
            classify_new_outcomes(in_postgres.database)
        return counted

    with monkeypatch.context() as patched:
        patched.setattr(documents, "count", count_and_go_on)
        report = in_postgres.embed(collection)
    if collection == OUTCOMES.name:
        assert (report.embedded, report.unchanged, report.not_embedded) == (POSTS + 3, 0, 0)
        assert len(in_postgres.stored(collection)) == POSTS + 3
    else:
        assert (report.embedded, report.unchanged, report.not_embedded) == (1 + 3, POSTS - 2, 1)
        assert in_postgres.stored().keys() == {f"x:p{post:03d}" for post in range(POSTS + 3)} - {"x:p001"}


def test_only_a_changed_text_is_embedded_again(memory: Memory) -> None:
    memory.embed()
    before = memory.stored()
    memory.provider.texts.clear()
    change_text(memory, "p007", "Quite another text")
    report = memory.embed()
    assert (report.embedded, report.unchanged) == (1, POSTS - 1)
    assert memory.provider.texts == ["Quite another text"]
    changed = {doc_id for doc_id, row in memory.stored().items() if row != before[doc_id]}
    assert changed == {"x:p007"}
    assert memory.is_whole()


def test_a_change_of_metadata_embeds_nothing_and_reaches_the_index(memory: Memory) -> None:
    memory.embed()
    calls = memory.provider.calls
    memory.run("UPDATE actp_feedback_posts SET niche = 'cooking' WHERE post_id IN ('p001', 'p002')")
    report = memory.embed()
    assert (report.embedded, report.metadata_changed) == (0, 2)
    assert memory.provider.calls == calls
    query = memory.vector_db.get_many(CONTENT.name, ["x:p001"])["x:p001"]["embedding"]
    found = memory.vector_db.search(CONTENT.name, query, 10, where={"niche": "cooking"})
    assert {match.doc_id for match in found} == {"x:p001", "x:p002"}
    assert memory.is_whole()
    assert memory.embed().metadata_changed == 0


def test_the_vector_of_a_post_that_is_gone_is_deleted(memory: Memory) -> None:
    memory.embed()
    memory.run("DELETE FROM outcome_snapshots WHERE post_id = 'p003'")
    memory.run("DELETE FROM actp_feedback_posts WHERE post_id = 'p003'")
    report = memory.embed()
    assert (report.deleted, report.vectors, report.embedded) == (1, POSTS - 1, 0)
    assert "x:p003" not in memory.stored()
    assert memory.is_whole()


def test_empty_texts_are_no_documents_and_texts_without_characters_are_counted(in_postgres: Memory) -> None:
    change_text(in_postgres, "p001", "")
    change_text(in_postgres, "p002", " \n ")
    change_text(in_postgres, "p003", "\u00a0")
    report = in_postgres.embed()
    assert report.vectors == report.embedded == POSTS - 3
    assert report.not_embedded in (0, 1)  # whether a no-break space is blank for Postgres depends on its locale
    again = in_postgres.embed()
    assert (again.embedded, again.vectors) == (0, POSTS - 3)


@pytest.mark.parametrize("blank", ["", " \n", "\u00a0", "\u2003", "\u3000"])
def test_a_text_that_became_blank_leaves_no_vector_of_what_it_was(in_postgres: Memory, blank: str) -> None:
    in_postgres.embed()
    classify_new_outcomes(in_postgres.database)
    in_postgres.embed(OUTCOMES.name)
    change_text(in_postgres, "p001", blank)
    for collection in (CONTENT.name, OUTCOMES.name):
        report = in_postgres.embed(collection)
        assert (report.vectors, report.deleted) == (POSTS - 1, 1)
        assert "x:p001" not in in_postgres.stored(collection)


def test_a_vector_that_a_caller_brought_stays(in_postgres: Memory) -> None:
    in_postgres.embed()
    brought = np.ones(WIDTH, np.float32)
    in_postgres.vector_db.upsert_many(CONTENT.name, [Document("other:1", brought, {})])
    assert in_postgres.embed().deleted == 0
    assert "other:1" in in_postgres.stored()


def test_personal_data_is_counted_and_not_embedded(in_postgres: Memory) -> None:
    change_text(in_postgres, "p001", "Write to ann@example.com or call +1 (415) 555-2671 today")
    report = in_postgres.embed()
    assert report.redactions == {"email": 1, "phone": 1}
    assert "Write to [EMAIL] or call [PHONE] today" in in_postgres.provider.texts


def test_prospects_and_lessons_are_embedded_too(in_postgres: Memory) -> None:
    in_postgres.run(
        "INSERT INTO prospects (prospect_id, name, email, job_title, notes, text_sha256) VALUES"
        " ('a', 'Ann Lee', 'ann@example.com', 'Founder', 'Wants a demo', sha256('1')),"
        " ('b', 'Bob Ray', 'bob@example.com', '', '', sha256('2'))"
    )
    in_postgres.run("INSERT INTO lessons (lesson_id, text, text_sha256) VALUES ('l1', 'Wait for ten', sha256('3'))")
    prospects = in_postgres.embed(PROSPECTS.name)
    assert (prospects.embedded, prospects.space) == (1, str(LocalHashingProvider.space))
    lessons = in_postgres.embed(LESSONS.name)
    assert (lessons.embedded, lessons.space) == (1, "counting/hashing")
    assert in_postgres.provider.texts == ["Wait for ten"]
    assert in_postgres.stored(PROSPECTS.name)["a"][1] == {}


# --- outcomes ---------------------------------------------------------------------------------------------------


def test_an_outcome_has_the_vector_of_its_post_bit_by_bit_and_its_label_as_metadata(memory: Memory) -> None:
    memory.embed()
    classify_new_outcomes(memory.database)
    calls = memory.provider.calls
    report = memory.embed(OUTCOMES.name)
    assert (report.embedded, report.vectors, memory.provider.calls) == (POSTS, POSTS, calls)
    content, outcomes = memory.stored(CONTENT.name), memory.stored(OUTCOMES.name)
    assert {doc_id: row[0] for doc_id, row in outcomes.items()} == {doc_id: row[0] for doc_id, row in content.items()}
    metadata = outcomes["x:p030"][1]
    assert isinstance(metadata, dict)
    assert (metadata["label"], metadata["metric"], metadata["value"]) == ("average", "views", 104.0)
    assert metadata["score"] == 0.0
    assert metadata["platform"] == "x"
    assert memory.is_whole(OUTCOMES.name)
    assert str(memory.embed(OUTCOMES.name)).startswith("nothing to embed")


def test_a_new_label_changes_the_metadata_of_an_outcome_and_nothing_else(memory: Memory) -> None:
    memory.embed()
    classify_new_outcomes(memory.database)
    memory.embed(OUTCOMES.name)
    before = memory.stored(OUTCOMES.name)
    memory.run(
        "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
        " VALUES ('x', 'p030', '2026-06-01 UTC', '{\"views\": 9000}')"
    )
    classify_new_outcomes(memory.database)
    report = memory.embed(OUTCOMES.name)
    assert (report.embedded, report.metadata_changed) == (0, 1)
    after = memory.stored(OUTCOMES.name)
    assert {doc_id for doc_id in after if after[doc_id] != before[doc_id]} == {"x:p030"}
    assert after["x:p030"][0] == before["x:p030"][0]
    found = memory.vector_db.search(OUTCOMES.name, np.ones(WIDTH, np.float32), 5, where={"label": "viral"})
    assert [match.doc_id for match in found] == ["x:p030"]


def test_an_outcome_whose_post_has_no_vector_yet_waits_for_it(in_postgres: Memory) -> None:
    classify_new_outcomes(in_postgres.database)
    assert (in_postgres.embed(OUTCOMES.name).embedded, in_postgres.stored(OUTCOMES.name)) == (0, {})
    in_postgres.embed()
    assert in_postgres.embed(OUTCOMES.name).embedded == POSTS


def test_an_outcome_of_a_changed_text_gets_the_new_vector(in_postgres: Memory) -> None:
    in_postgres.embed()
    classify_new_outcomes(in_postgres.database)
    in_postgres.embed(OUTCOMES.name)
    change_text(in_postgres, "p007", "Quite another text")
    in_postgres.embed()
    assert in_postgres.embed(OUTCOMES.name).embedded == 1
    assert in_postgres.stored(OUTCOMES.name)["x:p007"][0] == in_postgres.stored()["x:p007"][0]


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails_at", range(4))
def test_after_a_failure_at_any_call_one_clean_run_gives_the_whole_store(
    database: Database, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", 10)  # four calls for forty posts
    failing = Memory(database, HnswIndex(database), CountingProvider(fails_at))
    add_posts(failing, POSTS)
    with pytest.raises(Unavailable):
        failing.embed()
    assert len(failing.stored()) == 10 * fails_at  # what was paid for is kept
    report = failing.embed()
    assert (report.embedded, report.vectors) == (POSTS - 10 * fails_at, POSTS)
    assert len(failing.provider.texts) == POSTS  # and nothing was paid for twice
    mended = failing.stored()
    failing.run("DELETE FROM vector_embeddings")
    clean = Memory(database, HnswIndex(database))
    clean.embed()
    assert mended == clean.stored()


def test_a_failure_of_the_provider_leaves_chroma_to_be_caught_up(
    database: Database, chroma: IndexMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", 100)
    failing = Memory(database, chroma(database), CountingProvider(fails_at=1))
    add_posts(failing, 101)  # two batches
    with pytest.raises(Unavailable):
        failing.embed()
    assert len(failing.stored()) == 100
    assert failing.embed().vectors == 101
    assert failing.is_whole()


def test_rows_that_chroma_lost_are_restored_by_the_next_run_and_missed_by_the_check_until_then(
    database: Database, chroma: IndexMaker
) -> None:
    memory = Memory(database, chroma(database))
    add_posts(memory, POSTS)
    memory.embed()
    index = memory.vector_db._index
    assert isinstance(index, ChromaIndex)
    lost = [f"x:p{number:03d}" for number in range(0, POSTS, 3)]
    index._client.get_collection(CONTENT.name, embedding_function=None).delete(ids=lost)

    def check() -> dg.AssetCheckResult:
        result = index_checks[list(COLLECTIONS).index(CONTENT.name)](vector_db=memory.vector_db)
        assert isinstance(result, dg.AssetCheckResult)
        return result

    failed = check()
    assert not failed.passed
    assert failed.metadata["missing"].value == len(lost)
    calls = memory.provider.calls
    report = memory.embed()
    assert (report.mended_in_index, report.embedded, memory.provider.calls) == (len(lost), 0, calls)
    assert check().passed


@pytest.mark.slow
def test_fifty_thousand_outcomes_are_labelled_in_the_database(database: Database) -> None:
    memory = Memory(database, HnswIndex(database))
    add_posts(memory, 50_000)
    report = classify_new_outcomes(database)
    assert (report.new_snapshots, report.changed, report.labelled_posts) == (50_000, 50_000, 50_000)
    assert classify_new_outcomes(database).changed == 0
