"""Who paid what: the ledger, an asset's account, a quota that runs out midway, a purge that reaches the cache."""

import datetime as dt
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner

from everreach_assets.assets.embeddings import content_embeddings
from everreach_assets.cli import main
from everreach_assets.domain.cache_keys import cache_key
from everreach_assets.domain.collections import CONTENT, LESSONS
from everreach_assets.domain.embedding_inputs import Limits
from everreach_assets.domain.vectors import WIDTH
from everreach_assets.embedding import EmbeddingReport, embed_collection
from resources import provider_calls
from resources.database import Database
from resources.embedder import Embedder
from resources.embedding_cache import PostgresCache
from resources.embedding_pipeline import EmbeddingPipeline
from resources.embedding_quota import EmbeddingQuota
from resources.hnsw_index import HnswIndex
from resources.provider_calls import CostRow, ProviderCalls
from resources.provider_requests import ProviderRequests
from resources.providers import OpenAIProvider, ProviderCall
from resources.spending import Spender, Spent, spending
from resources.vector_db import VectorDB
from tests.embedding_operations import Operations
from tests.openai_server import OpenAIServer
from tests.retention_store import DAY, Store

SMALL = ("openai", "text-embedding-3-small")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer().running() as running:
        yield running


def ledger(database: Database) -> list[CostRow]:
    with database.connection() as connection:
        return provider_calls.costs(connection, 7)


def unlimited(database: Database) -> EmbeddingQuota:
    return EmbeddingQuota(database, 1_000_000, lifetime_seconds=60)


def call(tokens: int, model: str = "text-embedding-3-small", provider: str = "openai") -> ProviderCall:
    return ProviderCall(provider, model, 0.01, tokens=tokens, texts=1)


# --- the ledger ---


def test_each_call_is_booked_for_its_run_asset_provider_and_model(database: Database) -> None:
    calls = ProviderCalls(database, unlimited(database), spender=Spender("service"))
    calls(call(5))
    with spending(Spender("run-1", "vectors/a")) as account:
        calls(call(10))
        calls(call(20))
        calls(call(7, "of-somebody-else"))
        threads = [threading.Thread(target=calls, args=(call(1),)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    today = dt.datetime.now(dt.UTC).date()
    assert ledger(database) == [
        CostRow(today, Spender("run-1", "vectors/a"), "openai", "of-somebody-else", Spent(1, 1, 7, 7, 0)),
        CostRow(today, Spender("run-1", "vectors/a"), *SMALL, Spent(10, 10, 38, 0, 38 * 20_000)),
        CostRow(today, Spender("service", ""), *SMALL, Spent(1, 1, 5, 0, 5 * 20_000)),
    ]
    assert account.total == Spent(11, 11, 45, 7, 38 * 20_000)


def test_ten_thousand_calls_of_a_token_cost_what_their_sum_does_and_the_metric_agrees(database: Database) -> None:
    calls = ProviderCalls(database, unlimited(database))
    calls._write([(call(1), Spender(), Spent(1, 1, 1, 0, 20_000))] * 10_000)
    with database.connection() as connection:
        row = connection.execute("SELECT cost_micro_usd, calls FROM embedding_costs").fetchone()
        metric = connection.execute(
            "SELECT sum(value) FROM metric_counters WHERE metric = 'everreach_embedding_cost_usd_total'"
        ).fetchone()
    assert row == (200, 10_000)
    assert metric is not None
    assert float(metric[0]) == 0.0002


def test_what_one_process_does_outside_of_an_account_is_on_none(database: Database) -> None:
    calls = ProviderCalls(database, unlimited(database))
    with spending(Spender("run-1", "a")) as account:
        pass
    calls(call(5))
    assert account.total == Spent()
    assert [each.spender for each in ledger(database)] == [Spender("command", "")]


# --- an asset ---


def embed(database: Database, server: OpenAIServer, daily_quota: int) -> EmbeddingReport:
    quota = EmbeddingQuota(database, daily_quota, lifetime_seconds=60)
    calls = ProviderCalls(database, quota)
    provider = OpenAIProvider(api_key="sk-test", base_url=server.base_url, model="text-embedding-3-small", width=WIDTH)
    provider.limits = Limits(inputs=1, input_tokens=8_191, request_tokens=300_000)  # a call for each text
    embedder = Embedder(
        provider,
        pipeline=EmbeddingPipeline(concurrency=1),
        requests_of=lambda each, _: ProviderRequests(each, on_call=calls, quota=quota),
    )
    vector_db = VectorDB(database, HnswIndex(database), embedder.space_of)
    return embed_collection(LESSONS.name, database=database, embedder=embedder, vector_db=vector_db, run_id="run-1")


def test_a_quota_that_runs_out_is_no_failure_and_the_next_day_goes_on(
    database: Database, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.embedding.BATCH_DOCUMENTS", 2)
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO lessons (lesson_id, text, text_sha256)"
            " SELECT n::text, 'Lesson ' || n, sha256(n::text::bytea) FROM generate_series(1, 7) AS n"
        )
    first = embed(database, server, 4)
    assert (first.embedded, first.waiting, first.not_embedded, first.vectors) == (4, 3, 0, 4)
    assert "4 embedded" in str(first)
    assert "3 wait: the day's quota of calls is used up until" in str(first)
    assert first.account.total.calls == len(server.requests) == 4
    with database.connection() as connection:  # a text that waits keeps the vector of what it was
        connection.execute("UPDATE lessons SET text = 'Another', text_sha256 = sha256('x') WHERE lesson_id = '1'")
    again = embed(database, server, 4)
    assert (again.embedded, again.waiting, again.vectors, again.account.total.calls) == (0, 4, 4, 0)
    with database.connection() as connection:
        connection.execute("UPDATE embedding_call_days SET day = day - 1")
    next_day = embed(database, server, 4)
    assert (next_day.embedded, next_day.waiting, next_day.vectors) == (4, 0, 7)
    assert len(server.requests) == 8
    (row,) = ledger(database)
    assert row.spender == Spender("run-1", "vectors/lesson_embeddings")
    assert (row.spent.calls, row.spent.texts) == (8, 8)
    assert row.spent.cost_pico_usd == row.spent.tokens * 20_000


def test_an_asset_shows_what_it_cost_and_what_waits(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.providers.openai_compatible.MAX_INPUTS", 2)
    operations.add_posts(10)
    operations.run("UPDATE actp_feedback_posts SET text = text || repeat(' hooks', 997)")  # a token is a word here

    def metadata() -> Mapping[str, object]:
        with operations.memory(embedding_daily_quota=3, embedding_concurrency=1) as parts:
            result = dg.materialize([content_embeddings], resources=parts)
        (made,) = result.asset_materializations_for_node("vectors__content_embeddings")
        return {name: value.value for name, value in made.metadata.items()}

    first = metadata()
    counts = ("dagster/row_count", "inserted", "waiting_for_quota", "provider_calls", "tokens", "tokens_without_price")
    assert [first[name] for name in counts] == [6, 6, 4, 3, 6_000, 0]
    assert first["cost_usd"] == 0.00012  # at 0.02 USD for a million
    assert str(first["costs"]).splitlines()[2:] == ["| openai | text-embedding-3-small | 3 | 6 | 6,000 | 0.000120 |"]
    assert (first["cache_hits"], first["cache_misses"]) == (0, 10)
    assert "4 wait: the day's quota of calls is used up until " in str(first["summary"])

    operations.run("UPDATE embedding_call_days SET day = day - 1")
    next_day = metadata()
    assert [next_day[name] for name in counts] == [10, 4, 0, 2, 4_000, 0]
    assert next_day["cost_usd"] == 0.00008
    unchanged = metadata()
    assert (unchanged["cost_usd"], unchanged["costs"], unchanged["provider_calls"]) == (0, "no calls", 0)


# --- the cache ---


def test_a_purge_and_a_deletion_at_the_source_erase_from_the_cache_and_a_dry_run_does_not(
    database: Database, tmp_path: Path
) -> None:
    store = Store(database, HnswIndex(database), tmp_path)
    store.add_post("old", 400 * DAY)
    store.add_post("new", DAY)
    store.embed(CONTENT.name)
    cache = PostgresCache(database, ttl_seconds=604_800, max_entries=100)
    space = store.embedder.space_of(CONTENT.name)
    with database.connection() as connection:
        hashes: dict[str, bytes] = dict(
            connection.execute("SELECT doc_id, text_sha256 FROM vector_embeddings").fetchall()
        )
    keys = {doc_id: cache_key(space, "1", doc_id) for doc_id in hashes}
    cache.put_many(
        {key: np.ones(WIDTH, np.float32) for key in keys.values()},
        {keys[doc_id]: [text_sha256] for doc_id, text_sha256 in hashes.items()},
    )
    store.plan()
    store.purge(dry_run=True)
    assert len(cache.get_many(list(keys.values()))) == 2
    store.purge()
    assert cache.get_many(list(keys.values())).keys() == {keys["x:new"]}
    store.run("DELETE FROM actp_feedback_posts WHERE post_id = 'new'")  # and what its source deletes goes too
    store.embed(CONTENT.name)
    assert cache.get_many(list(keys.values())) == {}


# --- commands ---


def test_the_commands_show_costs_quota_and_cache(database: Database, database_url: str) -> None:
    def everreach(*arguments: str) -> str:
        environment = {"EVERREACH_DATABASE_URL": database_url, "VECTOR_BACKEND": "pgvector"}
        done = CliRunner().invoke(main, ["embedding", *arguments], env=environment)
        assert done.exit_code == 0, done.output
        return done.output

    assert everreach("costs") == "no calls in these days\n"
    assert "nothing was asked for yet" in everreach("cache")
    calls = ProviderCalls(database, unlimited(database))
    calls(call(1_000_000))
    calls(call(3, "of-somebody-else"))
    shown = everreach("costs", "--days", "1")
    assert "| command |  | openai | text-embedding-3-small | 1 | 1 | 1,000,000 | 0.020000 |" in shown
    assert "| all |  |  |  |  | 2 | 2 | 1,000,003 | 0.020000 and 3 tokens of unknown price |" in shown
    assert "openai: 2 of 10,000 calls used, 9,998 remain until " in everreach("quota")
    assert "local: 0 calls today, without a limit" in everreach("quota")
    cache = PostgresCache(database, ttl_seconds=604_800, max_entries=100)
    key = cache_key(Embedder().space_of(CONTENT.name), "1", "a")
    cache.put_many({key: np.ones(WIDTH, np.float32)})
    cache.get_many([key])
    cache.close()
    assert "postgres: 1 of 100,000 entries, 0.0 MB, the oldest of " in everreach("cache")
    assert "kept for 7.0 days; 1 hits, 0 misses: 100.0% of what was asked for" in everreach("cache")
    assert everreach("cache", "--clear").startswith("1 entries removed.\npostgres: 0 of 100,000 entries")
