"""The contract of the metrics: after the main job on the sample, a real scrape shows what the catalogue declares."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from everreach_assets.domain.metric_catalogue import CATALOGUE, METRICS
from tests.everreach import Everreach
from tests.prometheus_server import PROMTOOL_MAY_SAY, promtool_findings
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700), pytest.mark.xdist_group("metrics_contract")]

WITHOUT_A_SOURCE = {
    "no post of the sample is of the last thirty days": {
        "everreach_flop_rate",
        "everreach_flop_window_posts",
    },
    "no account of the sample has a year before": {"everreach_reach_vs_anchor_ratio"},
    "no cloud is configured": {
        "everreach_sync_last_success_timestamp_seconds",
        "everreach_sync_pending_docs",
        "everreach_sync_oldest_pending_timestamp_seconds",
        "everreach_sync_dead_letters",
        "everreach_sync_drift_docs",
        "everreach_cloud_local_only_docs",
    },
    "no alert was sent": {
        "everreach_alert_dispatch_last_success_timestamp_seconds",
        "everreach_alert_heartbeat_timestamp_seconds",
    },
    "no run is queued": {"dagster_oldest_queued_run_timestamp_seconds"},
    "no daemon has run": {
        "dagster_daemon_last_heartbeat_timestamp_seconds",
        "dagster_sensor_status",
        "dagster_sensor_last_tick_status",
        "dagster_sensor_last_tick_timestamp_seconds",
        "dagster_schedule_status",
        "dagster_schedule_last_tick_status",
        "dagster_schedule_last_tick_timestamp_seconds",
    },
}
"""What may be missing after `everreach run`, and why; the gauges of the outside are left out by their source."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    everreach = Everreach(tmp_path_factory.mktemp("contract"))
    everreach("run")
    with everreach.serving():
        until(
            lambda: 'everreach_exporter_collector_success{collector="dagster"} 1.0' in everreach.scrape(), seconds=120
        )
        yield everreach.scrape()


def test_every_metric_with_a_source_is_shown_as_it_is_declared(scraped: str) -> None:
    shown = {}
    for family in text_string_to_metric_families(scraped):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        declared = CATALOGUE[name]
        shown[name] = family.type
        assert family.type == declared.type, name
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == declared.labels.keys(), name
    excused = set().union(*WITHOUT_A_SOURCE.values())
    expected = {metric.name for metric in METRICS if metric.source != "outside" or metric.type == "counter"}
    assert expected - excused - shown.keys() == set()
    assert excused & shown.keys() == set()  # an excuse that is no longer needed


def test_what_the_main_job_did_is_in_the_numbers(scraped: str) -> None:
    for line in (
        'everreach_ingest_processed_total{source="posts"} 1200.0',
        'everreach_backfill_rows_total{collection="content_embeddings",status="embedded"} 1200.0',
        'everreach_vector_index_size{backend="chroma",collection="content_embeddings"} 1200.0',
        'dagster_completed_runs_total{job_name="memory_refresh_job",status="success"} 1.0',
        'dagster_completed_runs_total{job_name="strategy_rebuild_job",status="success"} 5.0',
        'everreach_outcomes_since_rebuild{platform="linkedin"} 0.0',
        'everreach_vector_self_recall_ratio{collection="content_embeddings"} 1.0',
    ):
        assert line in scraped, line


def test_promtool_has_one_thing_to_say_about_it(scraped: str) -> None:
    assert promtool_findings(scraped) == [PROMTOOL_MAY_SAY]
