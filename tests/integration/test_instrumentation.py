"""What the work counts of itself: results with the work, spending whatever becomes of it, searches without waiting."""

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import psycopg
import pytest

from everreach_assets.checks import index_checks
from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.collections import CONTENT, LESSONS
from everreach_assets.domain.embedding_answers import Answer as ProviderAnswer
from everreach_assets.domain.embedding_inputs import EmbeddingInput
from everreach_assets.domain.errors import EverReachError, InvalidInput, Unavailable
from everreach_assets.domain.filters import Filter
from everreach_assets.domain.vectors import WIDTH, Document, Match, Vector
from everreach_assets.embedding import embed_collection
from everreach_assets.feedback import FeedbackSyncEngine
from everreach_assets.strategy_builder import rebuild_strategy
from resources import metric_records
from resources.database import Database
from resources.embedder import Embedder
from resources.embedding_quota import EmbeddingQuota
from resources.hnsw_index import HnswIndex
from resources.intake import ingest_file
from resources.metric_records import Buckets
from resources.provider_calls import ProviderCalls
from resources.provider_requests import ProviderRequests
from resources.providers import LocalHashingProvider, OpenAIProvider, Purpose
from resources.vector_db import VectorDB
from tests.indexes import emptied_chroma
from tests.openai_server import Answer, OpenAIServer, Rows, error

Counts = dict[tuple[str, ...], float]


def counts(database: Database, *metrics: str) -> Counts:
    """What is recorded and not 0, by metric (where several are asked for) and label values; of histograms how many."""
    found: Counts = {}
    with database.connection() as connection:
        for each in metric_records.stored(connection):
            value = sum(each.value.counts) if isinstance(each.value, Buckets) else each.value
            if each.metric in metrics and value:
                prefix = (each.metric,) if len(metrics) > 1 else ()
                found[*prefix, *(each.labels[name] for name in sorted(each.labels))] = value
    return found


# --- intake and feedback ------------------------------------------------------------------------------------------


def test_a_file_is_counted_when_it_lands_and_not_when_it_does_not(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text("post_id,platform,text\n1,x,One\n2,x,Two\n,x,without an id\n")
    for _ in range(2):
        ingest_file(database, "posts", file)
    assert counts(database, "everreach_ingest_processed_total") == {("posts",): 6}
    assert counts(database, "everreach_ingest_rejected_total") == {("posts",): 2}
    assert counts(database, "everreach_ingest_batch_duration_seconds") == {("posts",): 2}
    last = counts(database, "everreach_ingest_last_success_timestamp_seconds")[("posts",)]
    assert abs(last - dt.datetime.now(dt.UTC).timestamp()) < 60

    def fails(done: int, total: int) -> None:
        raise Unavailable("the cable was pulled")

    with pytest.raises(Unavailable):
        ingest_file(database, "posts", file, on_progress=fails)
    assert counts(database, "everreach_ingest_processed_total") == {("posts",): 6}


def test_outcomes_recorded_at_once_by_many_callers_are_all_counted(database: Database) -> None:
    engine = FeedbackSyncEngine(database)

    async def record_all() -> None:
        await asyncio.gather(*(engine.record_outcome(str(each % 20), "x", {"views": each}) for each in range(60)))

    asyncio.run(record_all())
    assert counts(database, "everreach_ingest_processed_total") == {("api",): 60}


def add_posts(database: Database, posts: int, *, niche: str = "cooking", age_days: int = 5, first: int = 0) -> None:
    """Posts of one account; every twentieth has a hundredth of the views of the others."""
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, account, niche, text, text_sha256, published_at)"
            " SELECT 'x', n::text, 'a', %(niche)s, 'Text number ' || n, sha256(n::text::bytea),"
            " now() - make_interval(days => %(age)s) - n * interval '1 minute'"
            " FROM generate_series(%(first)s::int, %(last)s::int) AS n",
            {"niche": niche, "age": age_days, "first": first, "last": first + posts - 1},
        )
        connection.execute(
            "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
            " SELECT platform, post_id, now(), jsonb_build_object('views', CASE WHEN post_id::int %% 20 = 0 THEN 10"
            " ELSE 1000 + 37 * (post_id::int %% 7) END) FROM actp_feedback_posts WHERE post_id::int >= %s",
            (first,),
        )


def test_labels_are_counted_once_and_the_flop_rate_is_of_the_last_thirty_days(database: Database) -> None:
    add_posts(database, 100)
    add_posts(database, 60, niche="My Own Niche", age_days=10, first=1_000)
    add_posts(database, 40, niche="cooking", age_days=45, first=2_000)
    for _ in range(2):
        report = classify_new_outcomes(database)
    labels = {label: float(posts) for label, posts in report.labels["x"].items()}
    assert counts(database, "everreach_posts_classified_total") == {
        (label, "x"): posts for label, posts in labels.items()
    }
    rates = counts(database, "everreach_flop_rate")
    posts = counts(database, "everreach_flop_window_posts")
    assert posts.keys() == {("cooking", "x"), ("other", "x")}
    assert posts["cooking", "x"] == 95  # of the first five no post is known at their age
    assert rates["cooking", "x"] == pytest.approx(5 / 95)
    with database.connection() as connection:  # the niche that is older than the window is no longer shown
        connection.execute(
            "UPDATE actp_feedback_posts SET published_at = now() - interval '31 days' WHERE niche <> 'cooking'"
        )
    classify_new_outcomes(database)
    assert counts(database, "everreach_flop_window_posts").keys() == {("cooking", "x")}


def test_a_rebuild_is_counted_by_what_came_of_it(database: Database) -> None:
    add_posts(database, 40)
    classify_new_outcomes(database)
    embedder = Embedder()
    vector_db = VectorDB(database, HnswIndex(database), embedder.space_of)
    for _ in range(3):
        rebuild_strategy("x", database=database, vector_db=vector_db, embedder=embedder)
    assert counts(database, "everreach_strategy_rebuilds_total") == {("x", "rebuilt"): 1, ("x", "unchanged"): 2}


# --- embedding runs -----------------------------------------------------------------------------------------------


class FailingAt(LocalHashingProvider):
    """Vectors by hashing; gives up at one call."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self._calls_left = call

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> ProviderAnswer:
        self._calls_left -= 1
        if self._calls_left < 0:
            raise Unavailable("no answer")
        return super().ask(inputs, purpose, timeout_seconds)


def embed(database: Database, provider: FailingAt | None = None) -> None:
    embedder = Embedder(provider)
    vector_db = VectorDB(database, HnswIndex(database), embedder.space_of)
    embed_collection(CONTENT.name, database=database, embedder=embedder, vector_db=vector_db)


def test_an_embedding_run_counts_what_became_of_each_document(database: Database) -> None:
    add_posts(database, 30)
    with database.connection() as connection:
        connection.execute("UPDATE actp_feedback_posts SET text = 'Write to me@example.org' WHERE post_id = '7'")
        connection.execute(
            "UPDATE actp_feedback_posts SET text = chr(28) WHERE post_id = '8'"
        )  # a blank to Python alone
    embed(database)
    content, rows = CONTENT.name, "everreach_backfill_rows_total"
    assert counts(database, rows) == {(content, "embedded"): 29, (content, "not_embedded"): 1}
    assert counts(database, "everreach_pii_redactions_total") == {("email",): 1}
    assert counts(database, "everreach_vector_index_size") == {("pgvector", content): 29}
    assert counts(database, "everreach_vector_index_null_count") == {(content,): 1}
    assert counts(database, "everreach_backfill_batch_duration_seconds") == {(content,): 1}
    assert counts(database, "everreach_backfill_remaining_rows") == {}
    with database.connection() as connection:
        connection.execute("DELETE FROM outcome_snapshots WHERE post_id = '9'")
        connection.execute("DELETE FROM actp_feedback_posts WHERE post_id = '9'")
    embed(database)
    assert counts(database, rows) == {
        (content, "embedded"): 29,
        (content, "not_embedded"): 2,
        (content, "unchanged"): 28,
        (content, "deleted"): 1,
    }
    assert counts(database, "everreach_vector_index_size") == {("pgvector", content): 28}


def test_a_run_that_fails_has_counted_what_it_stored(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", 10)
    add_posts(database, 35)
    with pytest.raises(Unavailable):
        embed(database, FailingAt(2))
    content, rows = CONTENT.name, "everreach_backfill_rows_total"
    assert counts(database, rows) == {(content, "embedded"): 20}
    assert counts(database, "everreach_backfill_remaining_rows") == {(content,): 15}
    embed(database)
    assert counts(database, rows) == {(content, "embedded"): 35, (content, "unchanged"): 20}
    assert counts(database, "everreach_backfill_remaining_rows") == {}


def test_the_size_of_an_index_that_no_longer_answers_is_not_shown(
    database: Database, chroma_server: tuple[str, int]
) -> None:
    add_posts(database, 5)
    embedder = Embedder()
    index = emptied_chroma(database, chroma_server)
    vector_db = VectorDB(database, index, embedder.space_of)
    embed_collection(CONTENT.name, database=database, embedder=embedder, vector_db=vector_db)
    assert counts(database, "everreach_vector_index_size") == {("chroma", CONTENT.name): 5}
    embed(database)
    assert counts(database, "everreach_vector_index_size") == {("pgvector", CONTENT.name): 5}


# --- provider calls -----------------------------------------------------------------------------------------------

MODEL = ("text-embedding-3-small", "openai")
SPENDING = (
    "everreach_embedding_api_calls_total",
    "everreach_embedding_tokens_total",
    "everreach_embedding_errors_total",
    "everreach_embedding_quota_exhausted_total",
)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer().running() as running:
        yield running


def openai_embedder(database: Database, server: OpenAIServer, quota: int = 10_000) -> Embedder:
    provider = OpenAIProvider(
        api_key="sk-test",
        base_url=server.base_url,
        model="text-embedding-3-small",
        width=WIDTH,
    )
    calls = ProviderCalls(database, EmbeddingQuota(database, quota, lifetime_seconds=60))
    return Embedder(provider, requests_of=lambda each, _: ProviderRequests(each, timeout_seconds=3, on_call=calls))


def daily_calls(database: Database) -> list[tuple[str, int]]:
    with database.connection() as connection:
        return connection.execute("SELECT provider, calls FROM embedding_call_days").fetchall()


def test_every_attempt_is_counted_with_its_tokens_and_price_and_those_over_the_quota(
    database: Database, server: OpenAIServer
) -> None:
    embedder = openai_embedder(database, server, quota=2)
    server.script.extend([error(429, retry_after="0.05"), error(500)])
    embedder.embed_many(LESSONS.name, ["Ask one question at a time."])
    (tokens,) = counts(database, "everreach_embedding_tokens_total").values()
    assert tokens > 0
    assert counts(database, *SPENDING) == {
        ("everreach_embedding_api_calls_total", *MODEL): 3,
        ("everreach_embedding_tokens_total", *MODEL): tokens,
        ("everreach_embedding_errors_total", "rate_limited", "openai"): 1,
        ("everreach_embedding_errors_total", "server", "openai"): 1,
        ("everreach_embedding_quota_exhausted_total", "openai"): 1,
    }
    assert counts(database, "everreach_embedding_api_latency_seconds") == {MODEL: 3}
    cost = tokens * 0.02 / 1e6
    assert counts(database, "everreach_embedding_cost_usd_total")[MODEL] == pytest.approx(cost)
    assert counts(database, "everreach_cloud_cost_usd_total")["embed", "openai"] == pytest.approx(cost)
    assert daily_calls(database) == [("openai", 3)]


def cut(rows: Rows) -> Rows:
    return [(index, vector[:100]) for index, vector in rows]


def test_a_call_whose_work_fails_has_been_counted_by_its_class_of_error(
    database: Database, server: OpenAIServer
) -> None:
    embedder = openai_embedder(database, server)
    answers = [
        (error(401), "auth"),
        (error(400), "bad_request"),
        (error(429, code="insufficient_quota"), "rate_limited"),
        (Answer(change=cut), "dimension"),
        (Answer(body="a web page"), "other"),
    ]
    for answer, error_class in answers:
        calls = len(server.requests)
        server.script += [answer, answer]  # where a text may be to blame, a harmless one is tried too
        with pytest.raises(EverReachError):
            embedder.embed_many(LESSONS.name, ["one"])
        server.script.clear()
        made = len(server.requests) - calls
        assert counts(database, "everreach_embedding_errors_total")[error_class, "openai"] == made
        assert daily_calls(database) == [("openai", len(server.requests))]
    server.script.append(Answer(drop="hang"))
    embedder.embed_many(LESSONS.name, ["one"])  # the second attempt succeeds
    assert counts(database, "everreach_embedding_errors_total")["timeout", "openai"] == 1


def test_spending_is_counted_also_where_the_work_is_rolled_back(database: Database, server: OpenAIServer) -> None:
    embedder = openai_embedder(database, server)
    with database.transaction():
        embedder.embed_many(LESSONS.name, ["one"])
        raise psycopg.Rollback
    assert counts(database, "everreach_embedding_api_calls_total") == {MODEL: 1}


def test_a_call_of_the_local_provider_is_written_at_the_close_and_has_no_quota(database: Database) -> None:
    calls = ProviderCalls(database, EmbeddingQuota(database, 0, lifetime_seconds=60))
    embedder = Embedder(requests_of=lambda each, _: ProviderRequests(each, on_call=calls), on_close=calls.close)
    embedder.embed_many(LESSONS.name, ["one"])
    assert counts(database, *SPENDING) == {}
    embedder.close()
    assert counts(database, *SPENDING) == {("everreach_embedding_api_calls_total", "hashing-char-3-5", "local"): 1}
    assert daily_calls(database) == [("local", 1)]


# --- searches -----------------------------------------------------------------------------------------------------


def unit_vectors(number: int) -> list[Vector]:
    drawn = np.random.default_rng(7).standard_normal((number, WIDTH)).astype(np.float32)
    return list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


class Forgetful(HnswIndex):
    """An index that has lost all but one of its rows."""

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        return super().nearest(collection, space_id, query, n, where)[:1]


def test_searches_are_counted_at_the_close_and_a_fallback_where_the_index_fell_short(database: Database) -> None:
    vectors = unit_vectors(3)
    for index in (HnswIndex(database), Forgetful(database)):
        vector_db = VectorDB(database, index, Embedder().space_of)
        vector_db.upsert_many(CONTENT.name, [Document(f"d{n}", vector, {}) for n, vector in enumerate(vectors)])
        for n in (1, 2, 10):  # 10: there are no more than three, and none is missing
            assert len(vector_db.search(CONTENT.name, vectors[0], n)) == min(n, 3)
        before = counts(database, "everreach_vector_query_latency_seconds").get(("pgvector", CONTENT.name), 0)
        vector_db.close()
        after = counts(database, "everreach_vector_query_latency_seconds")["pgvector", CONTENT.name]
        assert after - before == 3
    assert counts(database, "everreach_vector_fallback_total") == {("index_short",): 2}


def test_a_search_with_a_wrong_query_is_not_counted(database: Database) -> None:
    vector_db = VectorDB(database, HnswIndex(database), Embedder().space_of)
    with pytest.raises(InvalidInput):
        vector_db.search(CONTENT.name, [0.0], 3)
    vector_db.close()
    assert counts(database, "everreach_vector_query_latency_seconds") == {}


class WithoutOne(HnswIndex):
    """An index that has lost a document."""

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        return [each for each in super().nearest(collection, space_id, query, n, where) if each.doc_id != "d7"]


def test_self_recall_sees_what_an_index_lost_and_not_that_two_texts_are_alike(database: Database) -> None:
    space_of = Embedder().space_of
    whole = VectorDB(database, HnswIndex(database), space_of)
    assert whole.self_recall(CONTENT.name, 50) == (0, 0)
    assert counts(database, "everreach_vector_self_recall_ratio") == {}
    vectors = unit_vectors(20)
    documents = [Document(f"d{n}", vector, {}) for n, vector in enumerate(vectors)]
    twins = [Document(f"twin{n}", vectors[0], {}) for n in range(15)]
    whole.upsert_many(CONTENT.name, documents + twins)
    assert whole.self_recall(CONTENT.name, 50) == (35, 35)
    assert counts(database, "everreach_vector_self_recall_ratio") == {(CONTENT.name,): 1.0}
    assert whole.self_recall(CONTENT.name, 5) == (5, 5)

    found, asked = VectorDB(database, WithoutOne(database), space_of).self_recall(CONTENT.name, 50)
    assert (found, asked) == (34, 35)
    assert counts(database, "everreach_vector_self_recall_ratio")[CONTENT.name,] == pytest.approx(34 / 35)


def self_recall_check(vector_db: VectorDB) -> tuple[bool, dict[str, object]]:
    """What the asset check says of the posts: whether it passed, and its counts."""
    key = dg.AssetCheckKey(dg.AssetKey(["vectors", CONTENT.name]), "every_sampled_vector_finds_itself")
    (check,) = [each for each in index_checks if each.check_key == key]
    result = check(vector_db=vector_db)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed, {name: each.value for name, each in result.metadata.items()}


def test_the_check_of_self_recall_fails_for_one_vector_in_twenty_that_is_lost(database: Database) -> None:
    space_of = Embedder().space_of
    whole = VectorDB(database, HnswIndex(database), space_of)
    assert self_recall_check(whole) == (True, {"found": 0, "asked": 0})
    whole.upsert_many(CONTENT.name, [Document(f"d{n}", vector, {}) for n, vector in enumerate(unit_vectors(20))])
    assert self_recall_check(whole) == (True, {"found": 20, "asked": 20})
    lossy = VectorDB(database, WithoutOne(database), space_of)
    assert self_recall_check(lossy) == (False, {"found": 19, "asked": 20})
