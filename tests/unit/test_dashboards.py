"""The dashboards of grafana/: made from the source, whole, and right in every expression."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_parser import Expr

from everreach_assets.dashboards.__main__ import FOLDER, files
from everreach_assets.domain.metric_catalogue import CATALOGUE
from tests.dashboard_checks import CHECKS, Board, faults, panels, targets, variables
from tests.promql import declared, parse, result_labels, selectors

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
NAMES = ["everreach-embedding", "everreach-overview", "everreach-pipelines", "everreach-sync"]
EMBEDDING_PANELS = {
    "Quota Remaining": "everreach_embedding_quota_remaining",
    "Daily Embedding Calls": "everreach_embedding_daily_calls",
    "Quota Exceeded (24h)": "everreach_embedding_quota_exhausted_total",
    "Est. Embedding Cost": "everreach_embedding_cost_usd_total",
    "API Call Rate": "everreach_embedding_api_calls_total",
    "API Latency": "everreach_embedding_api_latency_seconds",
    "Embedding Errors": "everreach_embedding_errors_total",
    "Vector Fallbacks": "everreach_vector_fallback_total",
    "Vectors in Index": "everreach_vector_index_size",
    "Rows Without Embeddings": "everreach_vector_index_null_count",
    "Vector Query Latency": "everreach_vector_query_latency_seconds",
    "Backfill Progress": "everreach_backfill_remaining_rows",
    "Backfill Batch Duration": "everreach_backfill_batch_duration_seconds",
}
"""The thirteen panels, with the metric that each shows."""

all_boards = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> Board:
    return dict(json.loads((GRAFANA / f"{name}.json").read_text(encoding="utf-8")))


def test_the_files_are_what_the_source_makes() -> None:
    assert FOLDER == GRAFANA
    assert {path.name: path.read_text(encoding="utf-8") for path in GRAFANA.glob("*.json")} == files()


def test_there_is_no_python_in_the_folder() -> None:
    assert {path.suffix for path in GRAFANA.rglob("*") if path.is_file()} == {".json", ".yml"}


def test_each_file_is_named_after_its_dashboard() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in GRAFANA.glob("*.json"))
    assert [read(name)["uid"] for name in NAMES] == NAMES


@all_boards
def test_reading_a_file_into_the_schema_loses_nothing(name: str) -> None:
    """The library drops keys that it does not know without a word: what comes back must be what went in."""
    register_default_plugins()
    board = read(name)
    assert json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(board)), cls=JSONEncoder)) == board


def test_a_key_outside_the_schema_is_seen() -> None:
    register_default_plugins()
    board = read("everreach-sync") | {"unknown_key": 1}
    assert json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(board)), cls=JSONEncoder)) != board


@all_boards
def test_a_dashboard_keeps_every_rule(name: str) -> None:
    assert faults(read(name)) == []


def test_the_thirteen_panels_of_embedding_show_their_metrics() -> None:
    shown: dict[str, set[str]] = {}
    for target in targets(read("everreach-embedding")):
        shown.setdefault(target.panel["title"], set()).update(names(target.tree))
    assert {title: shown[title] for title in EMBEDDING_PANELS} == {
        title: {metric} for title, metric in EMBEDDING_PANELS.items()
    }


def test_a_panel_of_a_histogram_shows_its_three_quantiles() -> None:
    found: dict[str, list[tuple[str, str]]] = {}
    for target in targets(read("everreach-embedding")):
        if quantile := re.match(r"histogram_quantile\(([\d.]+),", target.expr):
            found.setdefault(target.panel["title"], []).append((quantile[1], target.legend.partition(" ")[0]))
    histograms = {title for title, metric in EMBEDDING_PANELS.items() if CATALOGUE[metric].buckets}
    assert found == {each: [("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99")] for each in histograms}
    assert len(histograms) == 3


def test_data_source_job_instance_and_a_filter_are_variables_and_nothing_else_is() -> None:
    filters = {
        "everreach-embedding": "collection",
        "everreach-overview": "platform",
        "everreach-pipelines": "platform",
        "everreach-sync": "collection",
    }
    assert {name: list(variables(read(name))) for name in NAMES} == {
        name: ["datasource", "job", "instance", each] for name, each in filters.items()
    }


# The rules themselves: each catches what it is for


def expression(expr: str, legend: str = "") -> Callable[[Board], None]:
    """A change that puts the expression into the first panel."""

    def change(board: Board) -> None:
        panels(board)[0]["targets"] = [panels(board)[0]["targets"][0] | {"expr": expr, "legendFormat": legend}]

    return change


def setting(*path: str | int, to: Any) -> Callable[[Board], None]:
    """A change of one value; `to=...` takes it away."""

    def change(board: Board) -> None:
        place: Any = board
        for step in path[:-1]:
            place = place[step]
        if to is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def variable(name: str, key: str, to: Any) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        variables(board)[name][key] = to

    return change


FLOP_LABELS = {"platform", "niche", "job", "instance"}
OURS = 'job=~"$job", instance=~"$instance"'
ERRORS = f"everreach_embedding_errors_total{{{OURS}}}"
LATENCY = "everreach_embedding_api_latency_seconds"
FIRST = ("panels", 1)

BROKEN: list[tuple[str, Callable[[Board], None]]] = [
    ("dashboard-uid-rule", setting("uid", to="x" * 41)),
    ("dashboard-uid-rule", setting("uid", to="a b")),
    ("dashboard-uid-rule", setting("title", to="")),
    ("dashboard-inputs-rule", setting("__inputs", to=[])),
    ("dashboard-inputs-rule", setting("id", to=7)),
    ("dashboard-inputs-rule", setting("dashboard", to={})),
    ("uneditable-dashboard-rule", setting("editable", to=True)),
    ("panel-id-rule", setting("panels", 2, "id", to=1)),
    ("panel-id-rule", setting("panels", 2, "id", to=...)),
    ("panel-id-rule", setting(*FIRST, "targets", 0, "refId", to=...)),
    ("panel-grid-rule", setting(*FIRST, "gridPos", "w", to=25)),
    ("panel-grid-rule", setting(*FIRST, "gridPos", "h", to=9)),
    ("template-datasource-rule", variable("datasource", "query", "loki")),
    ("template-datasource-rule", variable("datasource", "label", "DS")),
    ("template-job-rule", variable("job", "allValue", ".*")),
    ("template-job-rule", variable("job", "multi", False)),
    ("template-instance-rule", variable("instance", "name", "host")),
    ("template-instance-rule", variable("instance", "datasource", {"type": "prometheus", "uid": "prometheus"})),
    ("template-label-promql-rule", variable("job", "query", {"query": "everreach_exporter_up"})),
    (
        "template-label-promql-rule",
        variable("job", "query", {"query": "label_values(everreach_exporter_up, niche)"}),
    ),
    ("template-on-time-change-reload-rule", variable("collection", "refresh", 1)),
    ("template-variable-used-rule", variable("collection", "name", "unused")),
    ("panel-datasource-rule", setting(*FIRST, "datasource", "uid", to="prometheus")),
    ("panel-datasource-rule", setting(*FIRST, "targets", 0, "datasource", to=...)),
    ("panel-title-description-rule", setting(*FIRST, "description", to="")),
    ("panel-title-description-rule", setting(*FIRST, "title", to="API Latency")),
    ("panel-units-rule", setting(*FIRST, "fieldConfig", "defaults", "unit", to="seconds")),
    ("panel-units-rule", setting(*FIRST, "fieldConfig", "defaults", "unit", to=...)),
    ("panel-thresholds-rule", setting(*FIRST, "fieldConfig", "defaults", "thresholds", "steps", 0, "value", to=1)),
    ("panel-no-targets-rule", setting(*FIRST, "targets", to=[])),
    ("panel-window-in-title-rule", setting(*FIRST, "title", to="Calls (24h)")),
    ("target-promql-rule", expression("sum(x")),
    ("target-job-rule", expression('everreach_exporter_up{instance=~"$instance"}')),
    ("target-job-rule", expression('everreach_exporter_up{job="everreach", instance=~"$instance"}')),
    ("target-instance-rule", expression('everreach_exporter_up{job=~"$job"}')),
    ("target-filter-rule", expression(f"everreach_vector_index_size{{{OURS}}}")),
    ("target-catalogue-rule", expression(f"everreach_no_such_metric{{{OURS}}}")),
    ("target-catalogue-rule", expression(f'everreach_exporter_up{{{OURS}, color="red"}}')),
    ("target-catalogue-rule", expression(f'everreach_mrr_usd{{{OURS}, source="total"}}')),
    ("target-catalogue-rule", expression(f"sum by (model) (everreach_exporter_up{{{OURS}}})")),
    ("target-counter-agg-rule", expression(f"sum({ERRORS})")),
    ("target-counter-agg-rule", expression(f"max_over_time({ERRORS}[1h])")),
    ("target-counter-agg-rule", expression(f"rate(sum({ERRORS})[2h:1m])")),
    ("target-counter-agg-rule", expression(f"{LATENCY}_count{{{OURS}}}")),
    ("target-counter-agg-rule", expression(f"rate(everreach_exporter_up{{{OURS}}}[$__rate_interval])")),
    ("target-counter-agg-rule", expression(f"delta(everreach_mrr_usd{{{OURS}}}[24h]) < -0.1")),
    ("target-histogram-rule", expression(f"{LATENCY}{{{OURS}}}")),
    ("target-histogram-rule", expression(f"histogram_quantile(0.9, {LATENCY}_bucket{{{OURS}}})")),
    (
        "target-histogram-rule",
        expression(f"histogram_quantile(0.9, sum by (model) (rate({LATENCY}_bucket{{{OURS}}}[$__rate_interval])))"),
    ),
    (
        "target-histogram-rule",
        expression(f"histogram_quantile(0.9, sum by (le) (rate({LATENCY}_count{{{OURS}}}[$__rate_interval])))"),
    ),
    ("target-rate-interval-rule", expression(f"rate({ERRORS}[5m])")),
    ("target-rate-interval-rule", expression(f"increase({ERRORS}[5m])")),
    ("target-whole-events-rule", expression(f"increase({ERRORS}[24h]) > 2")),
    ("target-limit-rule", expression(f"10000 - everreach_embedding_daily_calls{{{OURS}}}")),
    ("target-guard-rule", expression(f"everreach_flop_rate{{{OURS}}}")),
    ("target-legend-rule", expression(f"sum(everreach_exporter_up{{{OURS}}})", "{{version}}")),
    ("target-legend-rule", setting("panels", 12, "targets", 1, "legendFormat", to="p50 {{provider}}")),
]


@pytest.mark.parametrize(("rule", "change"), BROKEN)
def test_a_broken_dashboard_is_caught_by_the_rule(rule: str, change: Callable[[Board], None]) -> None:
    board = read("everreach-embedding")
    change(board)
    assert rule in {broken for broken, _ in faults(board)}


def test_every_rule_has_a_broken_dashboard() -> None:
    assert {rule for rule, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(
    "naive",
    [
        "everreach_embedding_tokens_total / 1M * $0.02",
        "everreach_embedding_quota_exhausted_total",
        "everreach_embedding_errors_total",
        "everreach_vector_fallback_total",
        "everreach_backfill_progress_total",
        "everreach_embedding_api_latency_seconds",
        "everreach_vector_query_latency_seconds",
        "everreach_backfill_batch_duration_seconds",
        "10000 - everreach_embedding_daily_calls",
        "everreach_cloud_cost_usd > 380",
        "everreach_cloud_cost_usd_total > 380",
        "delta(everreach_mrr_usd[24h]) < -0.1 * everreach_mrr_usd",
        'everreach_mrr_usd{source="total"}',
        "increase(everreach_failover_events_total[24h]) > 2",
        "everreach_flop_rate",
        "ingest_fallback_fraction_gauge",
        "histogram_quantile(0.95, everreach_dispatch_duration_seconds_bucket)",
    ],
)
def test_the_first_sketches_expressions_are_flagged_for_more_than_their_matchers(naive: str) -> None:
    board = read("everreach-embedding")
    expression(naive)(board)
    formal = {"target-job-rule", "target-instance-rule", "target-filter-rule", "template-variable-used-rule"}
    assert {rule for rule, _ in faults(board)} - formal


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        ("sum by (provider) (everreach_embedding_daily_calls)", {"provider"}),
        ("sum without (job, instance) (everreach_embedding_daily_calls)", {"provider"}),
        ("sum(everreach_mrr_usd) or vector(0)", set()),
        ("histogram_quantile(0.9, sum by (le, backend) (everreach_vector_query_latency_seconds_bucket))", {"backend"}),
        ("time() - max by (platform) (everreach_followers)", {"platform"}),
        ("everreach_flop_rate and on (platform) everreach_followers", FLOP_LABELS),
        (
            "everreach_flop_rate * on (platform) group_left () everreach_followers",
            FLOP_LABELS,
        ),
        ("everreach_flop_rate / on (platform) everreach_followers", {"platform"}),
        ("-everreach_exporter_up", {"job", "instance"}),
        ("time()", None),
    ],
)
def test_the_labels_of_a_result_are_known(expr: str, labels: set[str] | None) -> None:
    assert result_labels(parse(expr)) == labels


# What is shown, and what is not

NOT_SHOWN: dict[str, str] = {}
"""Metrics of the catalogue that no panel and no alert uses, each with the reason."""


def names(tree: Expr) -> set[str]:
    found = [declared(selector.name or "") for selector, _ in selectors(tree)]
    return {each.metric.name for each in found if each}


def names_in_rules() -> set[str]:
    """The metrics that alerts and recording rules use."""
    found: set[str] = set()
    for path in (ROOT / "prometheus").glob("*.yml"):
        for group in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("groups", ()):
            for rule in group["rules"]:
                found |= names(parse(rule["expr"]))
    return found


def test_every_metric_of_the_catalogue_is_in_a_panel_or_an_alert() -> None:
    shown = {name for board in NAMES for target in targets(read(board)) for name in names(target.tree)}
    assert set(CATALOGUE) - shown - names_in_rules() == set(NOT_SHOWN)


def test_every_alert_that_a_panel_names_exists() -> None:
    rules = (ROOT / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    known = set(re.findall(r"^\s*- alert: (\w+)$", rules, re.MULTILINE))
    named = {
        name
        for board in NAMES
        for panel in panels(read(board))
        for listed in re.findall(r"Alerts: ([\w, ]+) \(", panel["description"])
        for name in listed.split(", ")
    }
    assert named
    assert named <= known
