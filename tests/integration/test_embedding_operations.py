"""The embedder as it is wired, with cache, quota, breakers and dead letters, on a real Postgres.

The providers' real clients talk to servers that speak their protocols.
"""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from everreach_assets.domain.collections import CONTENT, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from resources.embedder import REASONS, Embedded, EmbeddedText, Embedder, NotEmbedded
from resources.providers import LocalHashingProvider
from tests.embedding_operations import POSTS, Operations
from tests.killed import run_until_killed
from tests.openai_server import Answer, Rows, error, vector_of

FALLBACK = {"embedding_fallback_enabled": True}


# --- every text its own vector, and no text paid for twice ------------------------------------------------------


WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "é", "ü")
OTHER_SPELLINGS = {"  two\r\n": "two", "nine ": "nine", "e\u0301": "é", "u\u0308": "ü"}
SPELLINGS = (*WORDS, *OTHER_SPELLINGS, "", " \n")


def test_any_mix_of_hits_misses_repeats_and_order_gives_each_text_its_own_vector(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 2)
    operations.openai.always = Answer(change=lambda rows: rows[::-1])  # each vector with the number of its text

    def inputs_after_a_while(body: dict[str, list[str]]) -> list[str]:
        time.sleep(len(body["input"][0]) % 4 / 800)  # so that answers come in another order than requests
        return body["input"]

    monkeypatch.setattr(operations.openai, "inputs_of", inputs_after_a_while)
    with (
        operations.embedder(embedding_concurrency=1) as one_at_a_time,
        operations.embedder(embedding_concurrency=3) as three_at_once,
    ):

        @given(
            cached=st.sets(st.sampled_from(WORDS), max_size=8),
            batches=st.lists(st.lists(st.sampled_from(SPELLINGS), max_size=20), max_size=3),
            embedder=st.sampled_from([one_at_a_time, three_at_once]),
        )
        @hypothesis_settings(max_examples=15)
        @example(cached={"four"}, batches=[[*WORDS, *reversed(SPELLINGS)]], embedder=three_at_once)
        def check(cached: set[str], batches: list[list[str]], embedder: Embedder) -> None:
            operations.run("TRUNCATE embedding_cache CASCADE")
            embedder.embed_many(CONTENT.name, sorted(cached))
            operations.openai.requests.clear()
            for batch in batches:
                results = embedder.embed_many(CONTENT.name, batch).results
                for text, result in zip(batch, results, strict=True):
                    if not text.strip():
                        assert result == NotEmbedded("empty")
                        continue
                    assert isinstance(result, EmbeddedText)
                    np.testing.assert_allclose(result.vector, vector_of(spelled(text)), atol=1e-6)
            given_texts = {spelled(text) for batch in batches for text in batch if text.strip()}
            assert Counter(operations.openai.inputs) == Counter(given_texts - cached)

        check()
    assert operations.openai.most_at_once > 1


def spelled(text: str) -> str:
    """The text as a provider is sent it."""
    return OTHER_SPELLINGS.get(text, text)


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_a_second_run_over_the_same_posts_makes_no_call(
    operations: Operations, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", batch)
    operations.add_posts()
    operations.embed()
    calls = len(operations.openai.requests)
    assert Counter(operations.openai.inputs) == Counter(f"Text number {n}" for n in range(1, POSTS + 1))
    assert operations.embed().embedded == 0
    assert len(operations.openai.requests) == calls


def test_vectors_that_were_lost_come_back_from_the_cache_without_a_call(operations: Operations) -> None:
    operations.add_posts()
    operations.embed()
    stored, calls = operations.stored(), len(operations.openai.requests)
    operations.run("DELETE FROM vector_embeddings")
    assert operations.embed().embedded == POSTS
    assert operations.stored() == stored
    assert len(operations.openai.requests) == calls


def test_other_metadata_costs_no_token(operations: Operations) -> None:
    operations.add_posts()
    operations.embed()
    tokens = operations.metric("everreach_embedding_tokens_total")
    operations.run("UPDATE actp_feedback_posts SET niche = 'cooking', post_type = 'video'")
    report = operations.embed()
    assert (report.embedded, report.metadata_changed) == (0, POSTS)
    assert operations.metric("everreach_embedding_tokens_total") == tokens


def test_sixty_four_callers_at_once_each_get_their_own_vectors(operations: Operations) -> None:
    with operations.embedder(embedding_concurrency=2) as embedder, ThreadPoolExecutor(64) as pool:
        given_texts = [[f"text {caller % 8}-{number}" for number in range(5)] for caller in range(64)]
        for texts, vectors in zip(
            given_texts,
            pool.map(lambda each: embedder.embed_many(CONTENT.name, each).vectors, given_texts),
            strict=True,
        ):
            for text, vector in zip(texts, vectors, strict=True):
                assert vector is not None
                np.testing.assert_allclose(vector, vector_of(text), atol=1e-6)


# --- failures and crashes ---------------------------------------------------------------------------------------

FAILURES = {"401": error(401), "503 beyond the deadline": error(503, retry_after="60"), "reset": Answer(drop="reset")}


@pytest.mark.parametrize(
    "failure", [pytest.param(each, marks=pytest.mark.slow if each == "reset" else ()) for each in FAILURES]
)
@pytest.mark.parametrize("fails_at", range(4))
def test_after_a_failure_at_any_call_one_clean_run_gives_exactly_the_expected_store(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, fails_at: int, failure: str
) -> None:
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 6)  # four calls for 23 posts
    operations.add_posts()
    answers = [Answer()] * fails_at + [FAILURES[failure]] * 9
    operations.openai.script.extend(answers)
    with pytest.raises((Refused, Unavailable)):
        operations.embed(embedding_concurrency=1, embedding_deadline_seconds=3.0)
    operations.openai.script.clear()
    failed = operations.openai.requests[fails_at:]
    operations.run("DELETE FROM embedding_breakers")  # the outage is over
    assert operations.embed(embedding_concurrency=1).vectors == POSTS
    expected = {f"Text number {n}" for n in range(1, POSTS + 1)}
    answered = Counter(operations.openai.inputs) - Counter(text for request in failed for text in request.inputs)
    assert answered == Counter(expected)  # each was paid for once
    for doc_id, vector in operations.stored().items():
        found = np.array(str(vector).strip("[]").split(","), dtype=np.float32)
        np.testing.assert_allclose(found, vector_of(f"Text number {int(str(doc_id)[-3:])}"), atol=1e-6)


def test_a_first_load_has_as_many_requests_under_way_as_the_setting_says(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.domain.embedding_inputs.FEWEST_SHARED", 2)
    operations.add_posts()
    all_are_there = threading.Barrier(4)

    def inputs_when_all_are_there(body: dict[str, list[str]]) -> list[str]:
        all_are_there.wait(timeout=30)
        return body["input"]

    monkeypatch.setattr(operations.openai, "inputs_of", inputs_when_all_are_there)
    assert operations.embed(embedding_concurrency=4).vectors == POSTS
    assert sorted(len(request.inputs) for request in operations.openai.requests) == [5, 6, 6, 6]


STEPS = {
    "before the cache is read": ("resources.embedding_cache.PostgresCache.get_many", 0, 0),
    "before the quota is reserved": ("resources.embedding_quota.EmbeddingQuota.reserve", 1, 0),
    "before the call": ("resources.providers.openai_compatible.OpenAIProvider.ask", 1, 0),
    "before the answer is verified": ("resources.provider_requests.verified", 1, 1),
    "before the call is counted": ("resources.provider_calls.ProviderCalls.__call__", 1, 1),
    "before the cache is written": ("resources.embedding_cache.PostgresCache.put_many", 1, 1),
    "before the quota is settled": ("resources.embedding_quota.EmbeddingQuota.settle", 1, 1),
    "before the breaker is told": ("resources.circuit_breakers.CircuitBreakers.note_success", 1, 1),
    "before the batch is put in order": ("resources.embedding_pipeline.pooled", 0, 0),
    "before the vectors are stored": ("resources.vector_store.upsert", 0, 0),
    "before the next batch": ("resources.embedding_cache.PostgresCache.get_many", 1, 0),
    "before the run ends": ("everreach_assets.embedding.record_index_size", 0, 0),
}
"""At whose call the process is killed, how many calls of it go before, and how many requests may be paid for twice."""

IMPORTS = """
import json, sys
import everreach_assets.embedding
from everreach_assets.memory import open_embedder
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.providers import openai_compatible
from resources.settings import Settings
from resources.vector_db import VectorDB
"""
EMBEDDING = """
url, environment = sys.argv[1:]
openai_compatible.MAX_INPUTS = 6
everreach_assets.embedding.BATCH_DOCUMENTS = 12
with Database(url) as database:
    embedder = open_embedder(Settings(_env_file=None, **json.loads(environment)), database)
    vector_db = VectorDB(database, HnswIndex(database), embedder.space_of)
    parts = {"database": database, "embedder": embedder, "vector_db": vector_db}
    everreach_assets.embedding.embed_collection("content_embeddings", **parts)
"""


@pytest.mark.slow  # each case starts a process
@pytest.mark.parametrize(("step", "concurrency"), [*((step, 1) for step in STEPS), ("before the cache is written", 2)])
def test_killed_at_any_step_and_run_again_no_text_is_paid_for_twice_and_none_is_missing(
    operations: Operations, step: str, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the requests under way, whose answers had not reached the cache when the process died."""
    operations.add_posts()
    name, calls, unstored = STEPS[step]
    environment = json.dumps(operations.environment(embedding_concurrency=concurrency))
    run_until_killed(EMBEDDING, operations.database.url, environment, step=name, calls=calls, imports=IMPORTS)
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 6)
    assert operations.embed(embedding_concurrency=1).vectors == POSTS
    times = Counter(operations.openai.inputs)
    assert set(times) == {f"Text number {n}" for n in range(1, POSTS + 1)}
    twice = [text for text, paid in times.items() if paid > 1]
    assert max(times.values()) <= 1 + (unstored > 0)
    assert len(twice) <= 6 * unstored * concurrency


# --- dead letters -----------------------------------------------------------------------------------------------


def with_nan_for(*texts: str) -> "Answer":
    wanted = [vector_of(text)[0] for text in texts]

    def change(rows: Rows) -> Rows:
        return [(n, np.full_like(vector, np.nan) if vector[0] in wanted else vector) for n, vector in rows]

    return Answer(change=change)


def test_a_bad_text_is_a_dead_letter_and_is_not_paid_for_again_until_somebody_asks(operations: Operations) -> None:
    operations.add_posts()
    operations.openai.always = with_nan_for("Text number 5")
    report = operations.embed()
    assert (report.embedded, report.not_embedded) == (POSTS - 1, 1)
    assert Counter(operations.openai.inputs)["Text number 5"] == 2  # asked for alone once more
    (listed,) = operations.everreach("embedding", "dead-letters").splitlines()
    assert listed.split("  ")[1:] == [CONTENT.name, "x:p005", "openai", REASONS["bad_answer"]]
    assert "Text number" not in listed
    operations.openai.always = Answer()
    calls = len(operations.openai.requests)
    assert operations.embed().vectors == POSTS - 1
    assert len(operations.openai.requests) == calls
    asked = operations.everreach("embedding", "dead-letters", "--collection", CONTENT.name, "--retry")
    assert asked.endswith("The next run asks for 1 of them again.\n")
    assert operations.everreach("embedding", "dead-letters") == "There are none.\n"
    assert operations.embed().vectors == POSTS


def test_a_refused_text_is_sent_again_when_it_changes(operations: Operations) -> None:
    operations.add_posts(3)
    operations.openai.rule = lambda inputs: error(400) if "Text number 2" in inputs else None
    assert operations.embed().vectors == 2
    operations.run(
        "UPDATE actp_feedback_posts SET text = 'Harmless now', text_sha256 = sha256('Harmless now')"
        " WHERE post_id = 'p002'"
    )
    assert operations.embed().vectors == 3


# --- breaker and failover ---------------------------------------------------------------------------------------


def spaces_of(results: Sequence[object]) -> Counter[str]:
    return Counter(result.space.provider for result in results if isinstance(result, EmbeddedText))


def test_a_provider_that_fails_half_way_leaves_the_rest_of_the_batch_to_the_backup_in_its_own_space(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 6)
    texts = [f"Text number {n}" for n in range(1, POSTS + 1)]
    operations.openai.script.extend([Answer(), Answer(), *[Answer(drop="reset")] * 20])
    with operations.embedder(embedding_concurrency=1, **FALLBACK) as embedder:
        results = embedder.embed_many(CONTENT.name, texts).results
        assert spaces_of(results) == {"openai": 12, "voyage": 11}
        for text, result in zip(texts, results, strict=True):
            assert isinstance(result, EmbeddedText)
            width = result.space.width
            np.testing.assert_allclose(result.vector[:width], vector_of(text, width), atol=1e-6)
        assert not embedder.can_ask(embedder.spaces_of(CONTENT.name)[0])
        assert embedder.can_ask(embedder.spaces_of(CONTENT.name)[1])
        calls = len(operations.openai.requests)
        again = embedder.embed_many(CONTENT.name, [*texts, "another"]).results
        assert spaces_of(again) == {"openai": 12, "voyage": 12}  # what the provider answered before is still its
        assert len(operations.openai.requests) == calls  # its breaker is open: it is not asked
    assert operations.metric("everreach_failover_events_total") == 1
    assert operations.metric("everreach_embedding_breaker_openings_total") == 1
    assert operations.metric("everreach_embedding_failover_texts_total") == 11 + 12


def test_another_process_sees_the_open_breaker_and_one_tries_for_all_when_it_is_time(operations: Operations) -> None:
    operations.open_breaker(seconds_ago=10)
    with operations.embedder(**FALLBACK) as embedder:
        space = embedder.space_of(CONTENT.name)
        assert spaces_of(embedder.embed_many(CONTENT.name, ["one"]).results) == {"voyage": 1}
        with pytest.raises(Unavailable, match="tried again"):
            embedder.embed_in(CONTENT.name, ["two"], space)
        operations.open_breaker(seconds_ago=31)
        assert embedder.can_ask(space)
        assert spaces_of(embedder.embed_many(CONTENT.name, ["three"]).results) == {"openai": 1}
    assert operations.breaker() == (0, False, 0)
    assert len(operations.openai.requests) == 1


def test_only_one_of_many_tries_a_provider_that_may_be_back(operations: Operations) -> None:
    operations.open_breaker(seconds_ago=31)
    operations.openai.latency_seconds = 1.0
    operations.openai.always = error(503)
    start = threading.Barrier(8)

    def embed(caller: int) -> Counter[str]:
        with operations.embedder(**FALLBACK) as embedder:
            start.wait()
            return spaces_of(embedder.embed_many(CONTENT.name, [f"text {caller}"]).results)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(embed, range(8))) == [Counter(voyage=1)] * 8
    assert len(operations.openai.requests) == 1
    assert operations.breaker() == (6, True, 2)


def test_without_a_backup_a_request_waits_for_the_breaker_as_long_as_its_deadline_allows(
    operations: Operations,
) -> None:
    operations.open_breaker(seconds_ago=29)
    with operations.embedder() as embedder:
        assert spaces_of(embedder.embed_many(CONTENT.name, ["one"]).results) == {"openai": 1}
        operations.open_breaker(seconds_ago=1)
        with pytest.raises(Unavailable, match="tried again in"):
            embedder.embed_many(CONTENT.name, ["two"])


def test_searches_that_cannot_wait_open_a_breaker_of_their_own_and_stop_no_batch(operations: Operations) -> None:
    operations.openai.latency_seconds = 2.0
    queries = "openai/queries"
    with operations.embedder(embedding_timeout_seconds=1.0, embedding_deadline_seconds=1.0) as searching:
        space = searching.space_of(CONTENT.name)
        with pytest.raises(Unavailable, match="no answer within the deadline"):
            searching.embed_query_in(CONTENT.name, "one", space)
        assert (operations.breaker(queries), operations.breaker()) == ((1, True, 1), (0, False, 0))
        with pytest.raises(Unavailable, match="tried again"):
            searching.embed_query_in(CONTENT.name, "one", space)
        with operations.embedder(**FALLBACK) as embedding:
            assert spaces_of(embedding.embed_many(CONTENT.name, ["two"]).results) == {"openai": 1}
        assert operations.breaker(queries) == (0, False, 0)  # the provider is there
        operations.openai.latency_seconds = 0
        assert searching.embed_query_in(CONTENT.name, "one", space) is not None
        operations.open_breaker()
        with pytest.raises(Unavailable, match="tried again"):
            searching.embed_query_in(CONTENT.name, "three", space)
        operations.open_breaker(seconds_ago=31)
        assert searching.embed_query_in(CONTENT.name, "three", space) is not None
        assert operations.breaker() == (0, False, 0)


def test_a_rate_limit_does_not_open_the_breaker_unless_it_outlasts_the_deadline(operations: Operations) -> None:
    with operations.embedder(embedding_deadline_seconds=20) as embedder:
        operations.openai.script.extend([error(429, retry_after="0.05")] * 8)
        embedder.embed_many(CONTENT.name, ["one"])
        assert operations.breaker()[1] is False
        operations.openai.script.append(error(429, retry_after="3600"))
        with pytest.raises(Unavailable):
            embedder.embed_many(CONTENT.name, ["two"])
    assert operations.breaker()[1] is True


@pytest.mark.parametrize("answer", [error(401), error(429, code="insufficient_quota"), error(404)], ids=str)
def test_what_a_person_must_mend_moves_nothing_to_the_backup(operations: Operations, answer: Answer) -> None:
    operations.openai.always = answer
    with operations.embedder(**FALLBACK) as embedder, pytest.raises((Refused, InvalidInput)):
        embedder.embed_many(CONTENT.name, ["one"])
    assert operations.voyage.requests == []
    assert operations.breaker()[1] is False


def test_a_local_only_collection_reaches_neither_provider_nor_backup(operations: Operations) -> None:
    operations.open_breaker()
    with operations.embedder(**FALLBACK) as embedder:
        result = embedder.embed_many(PROSPECTS.name, ["Founder. Wants a demo."]).results
        assert spaces_of(result) == {"local": 1}
        assert embedder.spaces_of(PROSPECTS.name) == [LocalHashingProvider.space]
    assert operations.openai.requests == operations.voyage.requests == []
    assert operations.run("SELECT count(*) FROM embedding_cache") == [(0,)]
    with (
        operations.embedder(embedding_local_provider="none", **FALLBACK) as embedder,
        pytest.raises(InvalidInput, match="EMBEDDING_LOCAL_PROVIDER"),
    ):
        embedder.embed_many(PROSPECTS.name, ["Founder. Wants a demo."])
    assert operations.openai.requests == operations.voyage.requests == []


# --- quota ------------------------------------------------------------------------------------------------------


def test_sixty_four_callers_at_once_never_pass_the_quota_by_one_call(operations: Operations) -> None:
    quota, callers = 20, 64
    operations.openai.latency_seconds = 0.05  # so that calls are under way while others ask for theirs
    start = threading.Barrier(callers)

    def embed(number: int) -> Embedded:
        start.wait()
        return embedders[number % len(embedders)].embed_many(CONTENT.name, [f"text {number}"])

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(callers) as pool:
        # Each has a quota of its own to promise from, as a process has.
        embedders = [stack.enter_context(operations.embedder(embedding_daily_quota=quota)) for _ in range(4)]
        answers = list(pool.map(embed, range(callers)))  # nobody raises: to wait for the next day is no error
    assert len(operations.openai.requests) == len(set(operations.openai.inputs)) == quota
    waiting = [each for each in answers if each.exhausted]
    assert len(waiting) == callers - quota
    assert all(each.results == [NotEmbedded("quota")] for each in waiting)
    for number, answer in enumerate(answers):
        if not answer.exhausted:
            (vector,) = answer.vectors
            assert vector is not None
            np.testing.assert_allclose(vector, vector_of(f"text {number}"), atol=1e-6)
    assert operations.run("SELECT calls FROM embedding_call_days WHERE provider = 'openai'") == [(quota,)]
    assert operations.run("SELECT coalesce(sum(calls_left), 0) FROM embedding_reservations") == [(0,)]


def test_an_exhausted_quota_is_no_failure_and_the_next_day_goes_on(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 6)
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", 12)
    operations.add_posts()
    report = operations.embed(embedding_daily_quota=3, embedding_concurrency=1, **FALLBACK)
    assert (report.embedded, report.waiting, report.not_embedded) == (18, 5, 0)
    assert report.quota_reset_at is not None
    assert len(operations.openai.requests) == 3
    assert operations.voyage.requests == []
    operations.run("UPDATE embedding_call_days SET day = day - 1")
    assert operations.embed(embedding_daily_quota=3, embedding_concurrency=1, **FALLBACK).vectors == POSTS
    assert len(operations.openai.requests) == 4


def test_a_text_that_waits_for_the_quota_keeps_its_old_vector(operations: Operations) -> None:
    operations.add_posts(3)
    operations.embed(embedding_daily_quota=1)
    operations.run("UPDATE actp_feedback_posts SET text = 'New', text_sha256 = sha256('New') WHERE post_id = 'p002'")
    report = operations.embed(embedding_daily_quota=1)
    assert (report.vectors, report.waiting, report.deleted) == (3, 1, 0)
