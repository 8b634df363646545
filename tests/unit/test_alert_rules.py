"""The rules of Prometheus and the routes of Alertmanager: valid, declared, documented, and firing when they should.

Whether the cases would notice a mistake is what `tests/integration/test_alert_mutants.py` asks.
"""

import itertools
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from everreach_assets.domain.metric_catalogue import CATALOGUE
from tests.alert_cases import PROMETHEUS, Case, alerts, all_cases, files
from tests.alert_mutants import judging, rules
from tests.conftest import program
from tests.integration.test_alert_mutants import promtool
from tests.unit.test_docs import anchors

ROOT = PROMETHEUS.parent
CONFIGURATIONS = ("alertmanager.yml", "alertmanager-telegram.yml")

OWN_METRICS = {
    "up": {"job", "instance"},
    "prometheus_config_last_reload_successful": set(),
    "prometheus_notifications_alertmanagers_discovered": set(),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
    "alertmanager_config_last_reload_successful": set(),
    "alertmanager_notifications_failed_total": {"integration"},
}
"""What Prometheus and Alertmanager say of themselves, with their labels."""

TARGET_LABELS = {"job", "instance"}

every_alert = pytest.mark.parametrize("name", alerts())
every_rule = pytest.mark.parametrize("name", rules())


def run(name: str, *arguments: str, folder: Path = PROMETHEUS) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program(name), *arguments], cwd=folder, capture_output=True, text=True, check=False)


def configuration(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))
    return loaded


def nodes(expression: str) -> list[promql_parser.Expr]:
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), pre_visit=found.append)
    return found


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    for node in nodes(expression):
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        elif isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector


def base_of(name: str) -> str:
    """The metric that a histogram's series belongs to."""
    bucket = re.sub(r"_(bucket|sum|count)$", "", name)
    return bucket if bucket in CATALOGUE and CATALOGUE[bucket].buckets else name


def labels_of(name: str) -> set[str]:
    """The labels of a metric's, or a recorded, series.

    Raises:
        KeyError: nobody declares it.
    """
    if name in OWN_METRICS:
        return OWN_METRICS[name] | TARGET_LABELS
    recorded = rules()
    if name in recorded:
        return set().union(*(labels_of(str(each.name)) for each in selectors(recorded[name]["expr"])))
    metric = CATALOGUE[base_of(name)]
    return {*metric.labels, *(["le"] if metric.buckets else [])} | TARGET_LABELS


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    checked = run("promtool", "check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rule files found" in checked.stdout
    linted = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", "recording.yml", "alerts.yml")
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_alertmanager_takes_the_configuration(name: str) -> None:
    checked = run("amtool", "check-config", name)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # Alertmanager does not replace variables: it would send their names.
    assert "${" not in (PROMETHEUS / name).read_text(encoding="utf-8")


@every_alert
def test_an_alert_fires_where_its_cases_say_and_nowhere_else(name: str) -> None:
    cases = [case for case in all_cases() if case.alert == name]
    assert promtool(cases, None) == [""]


@every_alert
def test_an_alert_has_cases_that_fire_and_cases_that_do_not(name: str) -> None:
    cases = [case for case in all_cases() if case.alert == name]
    expected = [bool(firing) for case in cases for firing in case.firing.values()]
    assert any(expected)
    assert not all(expected) or name == "Watchdog"
    if "for" in alerts()[name]:
        assert any(fires_after_silence(case) for case in cases)


def fires_after_silence(case: Case) -> bool:
    expected = [bool(firing) for _, firing in sorted(case.firing.items())]
    return (False, True) in itertools.pairwise(expected)


def test_the_files_of_promtool_are_those_that_the_cases_give() -> None:
    written = files()
    assert set(written) == set((PROMETHEUS / "tests").iterdir())
    stale = [path.name for path, text in written.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"run 'python -m tests.alert_cases': {stale}"


@pytest.mark.slow
def test_promtool_passes_the_files_as_they_are() -> None:
    paths = sorted((PROMETHEUS / "tests").iterdir())
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda path: run("promtool", "test", "rules", path.name, folder=path.parent), paths))
    for verdict in verdicts:
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@every_rule
def test_a_rule_rests_on_declared_metrics_and_labels_alone(name: str) -> None:
    expression = rules()[name]["expr"]
    used: set[str] = set()
    for selector in selectors(expression):
        known = labels_of(str(selector.name))
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= known, f"{selector.name} has no label {matched - known}"
        used |= known
    for node in nodes(expression):
        modifier = getattr(node, "modifier", None)
        grouped = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None)
        assert set(grouped or ()) <= used, f"{name} groups by {grouped}"


@pytest.mark.parametrize("metric", ["everreach_cloud_cost_usd", "everreach_mrr", "up_total"])
def test_a_metric_that_is_not_declared_is_noticed(metric: str) -> None:
    with pytest.raises(KeyError):
        labels_of(metric)


@every_rule
def test_counters_are_rated_and_gauges_are_not(name: str) -> None:
    for node in nodes(rules()[name]["expr"]):
        if isinstance(node, promql_parser.Call) and node.func.name in {"increase", "rate"}:
            (window,) = node.args
            metric = str(window.vector_selector.name)
            assert metric.endswith(("_total", "_bucket", "_count", "_sum")), f"{node.func.name} of the gauge {metric}"


@every_rule
def test_a_recorded_series_is_used(name: str) -> None:
    assert judging(name, all_cases()) or "alert" in rules()[name]


@every_alert
def test_an_alert_says_what_how_grave_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert "for" in rule or name in {"Watchdog", "EverReachLocalOnlyDataInCloud"}
    assert set(rule["labels"]) == {"severity"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{" not in rule["annotations"]["summary"]  # Alertmanager compares summaries as if they were labels
    assert rule["annotations"]["summary"].endswith(".")
    assert not re.search(r"\$value\s*}}", rule["annotations"]["description"])  # a bare float has 17 digits
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert anchor == name.lower()
    assert anchor in anchors(ROOT / page)


def test_each_runbook_belongs_to_an_alert_and_says_the_same_five_things() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert sorted(section.split("\n")[0] for section in sections) == sorted(alerts())
    for section in sections:
        for part in ("**Meaning.**", "**Impact.**", "**Look.**", "**Fix.**", "**Silence.**"):
            assert section.count(part) == 1, (section.split("\n")[0], part)


def test_the_table_of_alerts_has_each_with_its_severity_its_time_and_its_runbook() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\((\S+)\) \| (\w+) \| \S.* \| (.+) \|$", text, re.MULTILINE)
    assert rows == [
        (
            name,
            rule["annotations"]["runbook_url"].removeprefix("docs/"),
            rule["labels"]["severity"],
            rule.get("for", "at once"),
        )
        for name, rule in alerts().items()
    ]


def test_somebody_is_woken_for_these_alone() -> None:
    assert {name for name, rule in alerts().items() if rule["labels"]["severity"] == "critical"} == {
        "AlertmanagerDown", "AlertmanagerNotificationsFailing", "DagsterDaemonHeartbeatStale",
        "EverReachAlertDispatchFailing", "EverReachAlertHeartbeatMissing", "EverReachCloudCostCapExceeded",
        "EverReachExporterDown", "EverReachLocalOnlyDataInCloud", "EverReachMetricStoreDown", "EverReachPurgeSpike",
        "EverReachVectorIndexShrank", "MRRDropAlert", "PrometheusRuleFailures", "PrometheusWithoutAlertmanager",
    }  # fmt: skip
    assert {rule["labels"]["severity"] for rule in alerts().values()} == {"critical", "warning", "info", "none"}


def test_no_label_of_a_target_is_a_label_of_a_metric() -> None:
    given = TARGET_LABELS | set(configuration("prometheus.yml")["global"].get("external_labels", {}))
    for job in configuration("prometheus.yml")["scrape_configs"]:
        assert job.keys() <= {"job_name", "scrape_timeout", "static_configs"}
        for group in job["static_configs"]:
            given |= set(group.get("labels", {}))
    assert not given & {label for metric in CATALOGUE.values() for label in metric.labels}


def test_each_port_has_one_owner() -> None:
    prometheus = configuration("prometheus.yml")
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert targets == {
        "everreach": ["127.0.0.1:9090"], "prometheus": ["127.0.0.1:9095"], "alertmanager": ["127.0.0.1:9093"]
    }  # fmt: skip
    (managers,) = prometheus["alerting"]["alertmanagers"]
    assert managers["static_configs"][0]["targets"] == targets["alertmanager"]
    for receiver in configuration("alertmanager.yml")["receivers"]:
        (hook,) = receiver["webhook_configs"]
        assert hook["url"] == "http://127.0.0.1:9090/api/v1/alerts"
        assert hook["send_resolved"] is True
        assert "credentials" not in hook["http_config"]["authorization"]


@pytest.mark.parametrize(
    ("name", "receiver", "labels"),
    [
        ("alertmanager.yml", "heartbeat", ["alertname=Watchdog", "severity=none"]),
        ("alertmanager.yml", "relay", ["alertname=MRRDropAlert", "severity=critical"]),
        ("alertmanager.yml", "relay", ["alertname=EverReachStrategyStale", "severity=info"]),
        ("alertmanager.yml", "relay", ["alertname=Anything"]),
        ("alertmanager-telegram.yml", "telegram", ["alertname=Watchdog", "severity=none"]),
        ("alertmanager-telegram.yml", "telegram", ["alertname=MRRDropAlert", "severity=critical"]),
    ],
)
def test_an_alert_goes_to_its_receiver(name: str, receiver: str, labels: list[str]) -> None:
    command = ["amtool", "config", "routes", "test", f"--config.file={name}"]
    assert run(*command, f"--verify.receivers={receiver}", *labels).returncode == 0
    assert run(*command, "--verify.receivers=another", *labels).returncode == 1


def test_both_configurations_hold_back_the_same() -> None:
    first, second = (configuration(name) for name in CONFIGURATIONS)
    assert first["inhibit_rules"] == second["inhibit_rules"]
    matchers = [[route["matchers"] for route in each["route"]["routes"]] for each in (first, second)]
    assert matchers[0] == matchers[1]


def test_inhibition_names_alerts_and_labels_that_there_are() -> None:
    for rule in configuration("alertmanager.yml")["inhibit_rules"]:
        named = [re.findall(r"\w+", re.sub(r"^alertname =~? ", "", each)) for key in ("source", "target")
                 for each in rule[f"{key}_matchers"]]  # fmt: skip
        for name in itertools.chain.from_iterable(named):
            assert name in alerts(), name
            for label in rule.get("equal", ()):
                assert any(label in firing.labels for case in all_cases() if case.alert == name
                           for each in case.firing.values() for firing in each), (name, label)  # fmt: skip
