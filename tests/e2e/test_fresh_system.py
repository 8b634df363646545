"""A system without any data at default settings, minutes after `make up` and `make monitoring`: nothing is wrong."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.alert_cases import alerts
from tests.alert_mutants import rules
from tests.browser import open_page
from tests.conftest import program
from tests.dispatch_server import DispatchServer
from tests.everreach import Everreach
from tests.prometheus_server import PROMTOOL_MAY_SAY, Prometheus, promtool_findings
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("fresh_system")]

SETTLING_SECONDS = 60
"""Until Dagster's daemons have beaten, been read by the service and been scraped, their metrics are missing."""

WATCHED_SECONDS = 150
"""Ten evaluations of every rule."""


@pytest.fixture(scope="module")
def everreach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everreach]:
    """`everreach up` and `everreach monitoring`, and a dispatch that takes messages: all else as it comes."""
    program("prometheus")
    with DispatchServer().running() as dispatch:
        everreach = Everreach(tmp_path_factory.mktemp("fresh"), dispatch_url=dispatch.url)
        with everreach.running(), everreach.monitoring():
            yield everreach


@pytest.fixture(scope="module")
def prometheus(everreach: Everreach) -> Prometheus:
    return Prometheus(f"http://127.0.0.1:{everreach.settings.prometheus_port}")


def test_no_alert_is_pending_or_firing_but_the_one_that_always_is(everreach: Everreach, prometheus: Prometheus) -> None:
    time.sleep(SETTLING_SECONDS)
    until(
        lambda: prometheus.value("count(dagster_daemon_last_heartbeat_timestamp_seconds)") > 0,
        seconds=240,
        says=everreach.output,
    )
    time.sleep(WATCHED_SECONDS)
    seen = prometheus.get("query", query=f"count_over_time(ALERTS[{WATCHED_SECONDS - 30}s])")["data"]["result"]
    assert {(each["metric"]["alertname"], each["metric"]["alertstate"]) for each in seen} == {("Watchdog", "firing")}
    groups = prometheus.get("rules", type="alert")["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    assert rules["EverReachKeyMetricMissing"]["state"] == "inactive"


def test_a_person_sees_metrics_targets_rules_and_alerts_in_a_browser(
    everreach: Everreach, prometheus: Prometheus
) -> None:
    classic = f"{prometheus.url}/classic"  # Debian builds Prometheus without its newer pages
    with open_page() as page:
        page.goto(f"{everreach.service}/metrics")
        expect(page.get_by_text("everreach_exporter_up 1.0")).to_be_visible()
        page.goto(f"{classic}/targets")
        for job in ("everreach", "prometheus", "alertmanager"):
            expect(page.get_by_text(f"{job} (1/1 up)")).to_be_visible()
        page.goto(f"{classic}/rules")
        ok = page.get_by_text("ok", exact=True)
        expect(ok).to_have_count(len(rules()))
        expect(page.get_by_text("err", exact=True)).to_have_count(0)
        page.goto(f"{classic}/alerts")
        for name in alerts():
            expect(page.get_by_text(re.compile(rf"^\s*{name} \(\d+ active\)")).first).to_be_attached()
        expect(page.get_by_text(re.compile(r"^\s*Watchdog \(1 active\)")).first).to_be_visible()


def test_a_metric_that_alerts_rest_on_and_that_goes_missing_is_pending(
    everreach: Everreach, prometheus: Prometheus
) -> None:
    (service,) = [one for one in everreach.processes() if one.cmdline()[-1:] == ["serve"]]
    missing = 'ALERTS{alertname="EverReachKeyMetricMissing", alertstate="pending"}'
    assert prometheus.value(f"count({missing})") == 0
    service.suspend()  # its series go stale after the scrapes that it does not answer
    try:
        until(lambda: prometheus.value(f"count({missing})") > 0, seconds=180)
    finally:
        service.resume()
    until(lambda: prometheus.value(f"count({missing})") == 0, seconds=180)


def test_promtool_has_nothing_else_to_say_about_what_is_scraped(everreach: Everreach) -> None:
    exposition = httpx.get(f"{everreach.service}/metrics", trust_env=False, timeout=30).text
    assert "dagster_sensor_status" in exposition
    findings = promtool_findings(exposition)
    assert set(findings) <= {PROMTOOL_MAY_SAY}  # the metric is there once the hourly refresh has run
