"""`/metrics`: what a scrape shows of rows and tables, over restarts, with a part or the whole of the database gone."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.metric_catalogue import CATALOGUE, METRICS, OTHER, VALUE_SETS
from everreach_assets.service.app import create_app
from everreach_assets.service.metrics import Part, next_utc_day
from everreach_assets.service.server import listening
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.metric_queries import PARTS
from resources.metric_records import Record, Sample, allow_value, record
from resources.settings import Settings
from tests.conftest import PostgresServer, program
from tests.space_memory import SpaceMemory

DMS = "everreach_dms_sent_total"
DISPATCH = "everreach_dispatch_duration_seconds"
CREW = {"service": "crm", "action": "dm.send", "env": "production"}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, everreach_database_url=SecretStr(database_url))


@contextmanager
def served(settings: Settings, parts: Sequence[Part] = ()) -> Iterator[str]:
    """The address of the application in a real server, with a pool of its own."""
    with Database(settings.database_url()) as database, listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(settings, database, parts=parts), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def exposition(address: str) -> str:
    answer = httpx.get(f"{address}/metrics", timeout=30, trust_env=False)
    assert answer.status_code == 200
    return answer.text


def series(address: str) -> Series:
    """Every sample, by name and labels; none twice."""
    found: Series = {}
    for family in text_string_to_metric_families(exposition(address)):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found: Series, metric: str, **labels: str) -> float:
    return found[metric, frozenset(labels.items())]


def names(found: Series) -> set[str]:
    return {name for name, _ in found}


# --- totals -------------------------------------------------------------------------------------------------------


def test_counters_survive_a_restart_and_two_processes_agree(settings: Settings, database: Database) -> None:
    with served(settings) as first, served(settings) as second:
        for amount in (2, 3):
            with database.connection() as connection:
                record(connection, [Record(DMS, amount, {"platform": "x"}), Record(DISPATCH, [0.2, 45.0], CREW)])
        before = series(first)
        assert value(before, DMS, platform="x") == 5
        volatile = {"everreach_exporter_scrape_duration_seconds"}
        after = series(second)
        assert {key: each for key, each in after.items() if key[0] not in volatile} == {
            key: each for key, each in before.items() if key[0] not in volatile
        }
    with served(settings) as restarted:
        again = series(restarted)
        assert all(
            again[key] >= each for key, each in before.items() if CATALOGUE.get(key[0], METRICS[0]).type == "counter"
        )
        assert value(again, DMS, platform="x") == 5


def test_a_histogram_is_cumulated_with_its_sum_and_count(settings: Settings, database: Database) -> None:
    with database.connection() as connection:
        record(connection, [Record(DISPATCH, [0.1, 0.2, 45.0, 1000.0], CREW)])
    with served(settings) as address:
        found = series(address)
    buckets = {dict(labels)["le"]: each for (name, labels), each in found.items() if name == f"{DISPATCH}_bucket"}
    assert buckets == {
        "0.1": 1, "0.25": 2, "0.5": 2, "1.0": 2, "2.5": 2, "5.0": 2, "10.0": 2, "30.0": 2, "60.0": 3, "120.0": 3,
        "300.0": 3, "+Inf": 4,
    }  # fmt: skip
    assert value(found, f"{DISPATCH}_count", **CREW) == 4
    assert value(found, f"{DISPATCH}_sum", **CREW) == pytest.approx(1045.3)


def test_a_gauge_that_nobody_set_for_long_is_withheld(settings: Settings, database: Database) -> None:
    with database.connection() as connection:
        record(connection, [Record("everreach_aag_active", 4), Record("everreach_mrr_usd", 9, {"source": "stripe"})])
        connection.execute("UPDATE metric_gauges SET set_at = set_at - interval '16 minutes'")
        with served(settings) as address:
            found = series(address)
            assert "everreach_aag_active" not in names(found)  # a quarter of an hour
            assert value(found, "everreach_mrr_usd", source="stripe") == 9  # two days
            connection.execute("UPDATE metric_gauges SET set_at = set_at - interval '48 hours'")
            assert "everreach_mrr_usd" not in names(series(address))


def test_rows_of_metrics_and_labels_that_are_no_longer_declared_are_not_shown(
    settings: Settings, database: Database
) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO metric_catalogue VALUES ('everreach_gone_total', 'counter', '{}')")
        connection.execute("INSERT INTO metric_counters VALUES ('everreach_gone_total', '{}', 3)")
        connection.execute('INSERT INTO metric_counters VALUES (%s, \'{"once": "x"}\', 3)', (DMS,))
    with served(settings) as address:
        found = series(address)
    assert "everreach_gone_total" not in names(found)
    assert {frozenset(dict(labels)) for name, labels in found if name == DMS} == {frozenset({"platform"})}


# --- from the tables of the work ----------------------------------------------------------------------------------


def test_the_tables_are_shown_with_platforms_outside_the_closed_set_folded(
    settings: Settings, database: Database
) -> None:
    with database.connection() as connection:
        for platform, posts in (("x", 12), ("linkedin", 3), ("orkut", 4), ("myspace", 7)):
            connection.execute(
                "INSERT INTO actp_feedback_posts (platform, post_id, text_sha256)"
                " SELECT %s, n::text, '' FROM generate_series(1, %s) AS n",
                (platform, posts),
            )
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, text_sha256) VALUES ('tiktok', '1', '')"
        )
        connection.execute(
            "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
            " SELECT platform, post_id, at, '{\"views\": 1}' FROM actp_feedback_posts,"
            " (VALUES (now()), (now() - interval '1 hour')) AS times (at) WHERE platform <> 'tiktok'"
        )
        connection.execute(
            "INSERT INTO actp_feedback_strategy (platform, strategy, summary, outcomes, new_outcomes,"
            " snapshot_watermark, builder_version, created_at)"
            " SELECT platform, '{}', '', 1, 1, 1, '1', to_timestamp(seconds)"
            " FROM (VALUES ('x', 1000), ('orkut', 3000), ('myspace', 2000)) AS built (platform, seconds)"
        )
        connection.execute(
            "INSERT INTO ingest_dead_letters (kind, file, line, reason, row, row_sha256)"
            " SELECT 'posts', 'f', n, 'r', '{}', '' FROM generate_series(1, 3) AS n"
        )
        connection.execute(
            "INSERT INTO vector_deliveries (target, collection, doc_id, rev, acked_rev)"
            " SELECT target, 'content_embeddings', target || n, 1, CASE WHEN n > 4 THEN 1 END"
            " FROM generate_series(1, 10) AS n, (VALUES ('chroma'), ('cloud')) AS targets (target)"
        )
        connection.execute(
            "INSERT INTO embedding_call_days VALUES ((now() AT TIME ZONE 'UTC')::date, 'openai', 7),"
            " ((now() AT TIME ZONE 'UTC')::date - 1, 'voyage', 9)"
        )
        record(connection, [Record("everreach_cloud_cost_usd_total", 1.5, {"service": "aws", "action": "compute"})])
        connection.execute("INSERT INTO cloud_cost_months VALUES ('2020-01-01', 'gcp', 99)")
    with served(settings) as address:
        found = series(address)
    with served(settings.model_copy(update={"vector_backend": "pgvector"})) as address:
        on_pgvector = series(address)
    since, until = "everreach_outcomes_since_rebuild", "everreach_outcomes_until_rebuild"
    by_platform = {dict(labels)["platform"]: each for (name, labels), each in found.items() if name == since}
    assert by_platform == {"x": 12, "linkedin": 3, "tiktok": 0, OTHER: 7}
    by_platform = {dict(labels)["platform"]: each for (name, labels), each in found.items() if name == until}
    assert by_platform == {"x": 0, "linkedin": 7, "tiktok": 10, OTHER: 3}
    assert value(found, "everreach_strategy_last_rebuild_timestamp_seconds", platform="x") == 1000
    assert value(found, "everreach_strategy_last_rebuild_timestamp_seconds", platform=OTHER) == 2000
    assert value(found, "everreach_ingest_dead_letters", source="posts") == 3
    assert value(found, "everreach_ingest_dead_letters", source="lessons") == 0
    pending = "everreach_vector_index_pending_rows"
    assert value(found, pending, collection="content_embeddings") == 4
    assert value(found, pending, collection="lesson_embeddings") == 0
    assert value(on_pgvector, pending, collection="content_embeddings") == 0
    assert value(found, "everreach_embedding_daily_calls", provider="openai") == 7
    assert value(found, "everreach_embedding_daily_calls", provider="voyage") == 0
    assert value(found, "everreach_cloud_cost_month_to_date_usd", service="aws") == 1.5
    assert value(found, "everreach_cloud_cost_month_to_date_usd", service="gcp") == 0


def test_the_state_of_embedding_is_shown(settings: Settings, database: Database) -> None:
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO embedding_call_days VALUES ((now() AT TIME ZONE 'UTC')::date, 'openai', 7),"
            " ((now() AT TIME ZONE 'UTC')::date - 1, 'voyage', 9)"
        )
        connection.execute(
            "INSERT INTO embedding_reservations SELECT (now() AT TIME ZONE 'UTC')::date, 'openai', gen_random_uuid(),"
            " calls, now() + seconds * interval '1 second'"
            " FROM (VALUES (5, 60), (20, -60)) AS promised (calls, seconds)"
        )
        connection.execute("INSERT INTO embedding_breakers VALUES ('openai', 5, now(), 1), ('voyage', 2, NULL, 0)")
        connection.execute(
            "INSERT INTO embedding_cache (key, vector)"
            " SELECT sha256(n::text::bytea), decode(repeat('00', 1536 * 4), 'hex') FROM generate_series(1, 3) AS n"
        )
        connection.execute("INSERT INTO embedding_cache_erasures VALUES ('a', now(), NULL), ('b', now(), now())")
        connection.execute(
            "INSERT INTO embedding_dead_letters (collection, space_id, input_sha256, provider, reason)"
            " SELECT 'content_embeddings', 's', sha256(n::text::bytea), 'openai', 'bad_answer'"
            " FROM generate_series(1, 2) AS n"
        )
    changed = settings.model_copy(update={"embedding_daily_quota": 77})
    with served(changed) as address:
        found = series(address)
    with served(changed.model_copy(update={"embedding_cache_url": SecretStr("redis://127.0.0.1:1/0")})) as address:
        with_redis = series(address)
    remaining = "everreach_embedding_quota_remaining"
    by_provider = {dict(labels)["provider"]: each for (name, labels), each in found.items() if name == remaining}
    assert by_provider == {"openai": 77 - 7 - 5, "voyage": 77, "http": 77}
    assert value(found, "everreach_embedding_breaker_open", provider="openai") == 1
    assert value(found, "everreach_embedding_breaker_open", provider="voyage") == 0
    assert value(found, "everreach_embedding_cache_entries") == 3
    assert value(found, "everreach_embedding_cache_pending_erasures") == 0
    assert value(with_redis, "everreach_embedding_cache_pending_erasures") == 1
    assert value(found, "everreach_embedding_dead_letters", collection="content_embeddings") == 2
    assert value(found, "everreach_embedding_dead_letters", collection="lesson_embeddings") == 0


def test_what_a_backup_embedded_is_shown_until_it_is_healed(settings: Settings, database: Database) -> None:
    memory = SpaceMemory(database, HnswIndex(database))
    for number in range(3):
        memory.write(f"p{number}", f"Text number {number}")
    memory.primary.is_up = False
    memory.embed()
    of_content = {"collection": CONTENT.name}
    pending, rows = "everreach_embedding_heal_pending_rows", "everreach_embedding_space_rows"
    with served(settings) as address:
        during = series(address)
        memory.primary.is_up = True
        assert memory.heal() == 0
        healed = series(address)
    by_backup, by_primary = (of_content | {"provider": each, "model": OTHER} for each in ("voyage", "openai"))
    assert (value(during, pending, **of_content), value(healed, pending, **of_content)) == (3, 0)
    assert value(during, rows, **by_backup) == value(healed, rows, **by_primary) == 3
    assert not {(rows, frozenset(by_primary.items()))} & during.keys()
    assert not {(rows, frozenset(by_backup.items()))} & healed.keys()


def test_the_service_says_what_is_set_and_how_it_is(settings: Settings) -> None:
    changed = settings.model_copy(update={"cloud_cost_cap_usd": 250.0, "embedding_daily_quota": 77})
    with served(changed) as address:
        found = series(address)
    assert value(found, "everreach_exporter_up") == 1
    assert value(found, "everreach_cloud_cost_cap_usd") == 250
    assert value(found, "everreach_embedding_daily_quota", provider="openai") == 77
    assert 0 < value(found, "everreach_exporter_scrape_duration_seconds") < 30
    reset = value(found, "everreach_embedding_quota_reset_timestamp_seconds")
    assert time.time() < reset <= time.time() + 86_400
    assert reset % 86_400 == 0


@pytest.mark.parametrize(("now", "expected"), [(0.0, 86_400), (86_399.9, 86_400), (86_400.0, 172_800)])
def test_the_quota_starts_again_at_utc_midnight(now: float, expected: float) -> None:
    assert next_utc_day(now) == expected


# --- what is gone -------------------------------------------------------------------------------------------------

ABOUT_ITSELF = {
    "everreach_exporter_up",
    "everreach_exporter_collector_success",
    "everreach_exporter_scrape_duration_seconds",
    "everreach_exporter_build_info",
}


def test_without_the_database_the_answer_is_200_with_up_0_and_no_data(
    settings: Settings, database_url: str, postgres_server: PostgresServer
) -> None:
    with served(settings) as address:
        assert value(series(address), "everreach_exporter_up") == 1
        name = urlsplit(database_url).path.removeprefix("/")
        with psycopg.connect(postgres_server.get_uri(), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            try:
                start = time.monotonic()
                found = series(address)
                assert time.monotonic() - start < 8  # Prometheus waits for ten
            finally:
                admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
        assert names(found) == ABOUT_ITSELF
        assert value(found, "everreach_exporter_up") == 0
        assert {each for (name, _), each in found.items() if name == "everreach_exporter_collector_success"} == {0}
        again = series(address)  # at once, without waiting for a pool to try again
        assert value(again, "everreach_exporter_up") == 1
        assert value(again, DMS, platform="x") == 0


def test_a_broken_part_does_not_hide_the_others(settings: Settings, database: Database) -> None:
    def broken() -> list[Sample]:
        raise Unavailable("no answer")

    parts = [
        Part("broken", broken),
        Part("whole", lambda: [Sample("dagster_active_runs", {"job_name": "a", "status": "b"}, 3.0)]),
    ]
    with database.connection() as connection:
        connection.execute("ALTER TABLE actp_feedback_strategy RENAME TO elsewhere")
    with served(settings, parts) as address:
        found = series(address)
    success = {
        dict(labels)["collector"]: each
        for (name, labels), each in found.items()
        if name == "everreach_exporter_collector_success"
    }
    assert success == dict.fromkeys((*PARTS, "whole"), 1) | {"feedback": 0, "broken": 0}
    assert value(found, "everreach_exporter_up") == 1
    assert "everreach_outcomes_since_rebuild" not in names(found)
    assert value(found, DMS, platform="x") == 0
    assert value(found, "dagster_active_runs", job_name="a", status="b") == 3


@pytest.mark.slow
def test_a_statement_that_takes_too_long_is_ended_and_the_rest_is_shown(settings: Settings, database: Database) -> None:
    with served(settings) as address, database.transaction() as connection:
        connection.execute("LOCK TABLE ingest_dead_letters IN ACCESS EXCLUSIVE MODE")
        found = series(address)
    assert value(found, "everreach_exporter_collector_success", collector="intake") == 0
    assert value(found, "everreach_exporter_collector_success", collector="vectors") == 1


def test_the_scraper_cannot_write(settings: Settings) -> None:
    from resources.database import read_snapshot

    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        read_snapshot(settings.database_url()) as connection,
    ):
        connection.execute("DELETE FROM metric_counters")


# --- format, values of labels -------------------------------------------------------------------------------------


def test_promtool_has_nothing_to_say_about_the_exposition(settings: Settings, database: Database) -> None:
    with database.connection() as connection:
        record(connection, [Record(DISPATCH, [0.2], CREW), Record("everreach_aag_active", 4)])
    with served(settings) as address:
        text = exposition(address)
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert "_created" not in text


def test_prometheus_is_given_openmetrics_where_it_asks_for_it(settings: Settings) -> None:
    with served(settings) as address:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
        answer = httpx.get(f"{address}/metrics", headers=accept, trust_env=False)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_every_series_has_the_declared_type_and_labels_from_the_closed_sets(settings: Settings) -> None:
    with served(settings) as address:
        text = exposition(address)
    families = list(text_string_to_metric_families(text))
    assert len(families) > 20
    for family in families:
        declared = CATALOGUE[f"{family.name}_total" if family.type == "counter" else family.name]
        assert (family.type, family.documentation) == (declared.type, declared.help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == declared.labels.keys()
            if declared.source != "service":
                for label, given in sample.labels.items():
                    assert given in (*VALUE_SETS[declared.labels[label]], OTHER)


def test_an_allowed_value_has_series_of_its_own_from_zero_and_a_set_has_an_end(
    settings: Settings, database: Database
) -> None:
    with database.connection() as connection:
        assert allow_value(connection, "platform", "snapchat")
        assert not allow_value(connection, "platform", "snapchat")
        for wrong in ("total", OTHER, "", "-x", "a b", "x" * 65, "ä", "a\n", 'a"b'):
            with pytest.raises(InvalidInput):
                allow_value(connection, "platform", wrong)
        with pytest.raises(InvalidInput, match="there is no such set; there are backend"):
            allow_value(connection, "planet", "mars")
        for number in range(50 - len(VALUE_SETS["platform"]) - 1):
            allow_value(connection, "platform", f"network{number}")
        with pytest.raises(InvalidInput, match="platform: it holds 50 values already"):
            allow_value(connection, "platform", "onemore")
        with served(settings) as address:
            assert value(series(address), DMS, platform="snapchat") == 0
            record(connection, [Record(DMS, 2, {"platform": "snapchat"})])
            assert value(series(address), DMS, platform="snapchat") == 2


def test_the_service_needs_its_port_for_itself() -> None:
    with listening("127.0.0.1", 0) as taken, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(taken.getsockname())
