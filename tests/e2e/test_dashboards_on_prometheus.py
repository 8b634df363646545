"""Every expression of every dashboard on a real Prometheus, which scraped the real service after real runs."""

import csv
import datetime as dt
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from everreach_assets.domain.metric_catalogue import CATALOGUE, VALUE_SETS
from tests.dashboard_checks import panels, targets
from tests.everreach import Everreach
from tests.prometheus_server import Prometheus, back_filled, running_prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "grafana").glob("*.json"))
RULES = [ROOT / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
TOKEN = "token-of-the-test"
DAY_SECONDS = 86_400
SECONDS_OF_SCRAPES = 20
VARIABLES = {
    "$__rate_interval": "10s",
    "$__range": "1h",
    "$job": ".+",
    "$instance": ".+",
    "$platform": ".+",
    "$collection": ".+",
}


def work(everreach: Everreach, *options: str | Path) -> None:
    """The main job, a search, a sync, a purge."""
    everreach("run", *options)
    everreach("search", "a question for you")
    everreach("sync")
    everreach("sync", "--check")
    everreach("retention", "purge", "--yes")


def record(everreach: Everreach) -> None:
    """What other services record, by the API: each metric of theirs, with the first value of each label's set."""
    outside = [metric for metric in CATALOGUE.values() if metric.source == "outside"]
    records = [
        {
            "metric": metric.name,
            "labels": {label: VALUE_SETS[values][0] for label, values in metric.labels.items()},
            "value": 2,
        }
        for metric in outside
    ]
    answer = httpx.post(
        f"{everreach.service}/api/v1/metrics",
        json={"records": records},
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )
    assert answer.json() == {"recorded": True}


@pytest.fixture(scope="module")
def everreach(tmp_path_factory: pytest.TempPathFactory, chroma_server: tuple[str, int]) -> Iterator[Everreach]:
    """What `everreach up` runs (service, daemon, webserver), after the main job on the sample."""
    everreach = Everreach(
        tmp_path_factory.mktemp("evaluation"),
        everreach_api_tokens=TOKEN,
        cloud_vector_backend="chroma",  # a second Chroma, for its cloud
        cloud_chroma_host="127.0.0.1",
        cloud_chroma_port=chroma_server[1],
        cloud_chroma_ssl=False,
    )
    work(everreach)
    with everreach.running():
        yield everreach


def write_posts(path: Path) -> None:
    """Posts of one's own, so that there is something to embed; one row cannot be read."""
    fields = ["post_id", "text", "account", "niche", "published_at", "views", "likes"]
    now = dt.datetime.now(dt.UTC)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(fields)
        for number in range(60):  # half of them of the last 30 days: the flop rate is theirs
            day = (now - dt.timedelta(days=60 - number)).isoformat()
            text = f"Post number {number} by ann@example.com"
            writer.writerow([number, text, "me", "careers", day, 100 + 37 * number % 50, 5])
        writer.writerow(["x", "No such day", "me", "careers", "yesterday", 1, 1])


@pytest.fixture(scope="module")
def prometheus(everreach: Everreach, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scraped the service before, during and after a second run, and has the first scrape as of a day ago too."""
    folder = tmp_path_factory.mktemp("prometheus")
    record(everreach)
    target = f"127.0.0.1:{everreach.settings.everreach_metrics_port}"
    start = time.time() - DAY_SECONDS
    instants = [start + minute * 60 for minute in range(-5, 15)]
    back_filled(folder, everreach.scrape(), {"job": "everreach", "instance": target}, instants)
    with running_prometheus(folder, target, [path for path in RULES if path.exists()]) as prometheus:
        deadline = time.monotonic() + 60
        while prometheus.value('count_over_time(up{job="everreach"}[1h])') < 3:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        write_posts(folder / "posts.csv")
        work(everreach, "--posts", folder / "posts.csv", "--platform", "linkedin")
        record(everreach)
        time.sleep(SECONDS_OF_SCRAPES)
        yield prometheus


def substituted(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


EMPTY_IS_RIGHT = {
    'ALERTS{alertname!="Watchdog", alertstate="firing"}': "nothing is wrong for long enough",
    "dagster_oldest_queued_run_timestamp_seconds": "no run waits",
    "everreach_alert_dispatch_last_success_timestamp_seconds": "there is no dispatch here that could accept a message",
    "everreach_sync_oldest_pending_timestamp_seconds": "the sync left nothing behind",
}
"""Series that a run without trouble does not have, with the reason."""

EMPTY_PANELS = {
    ("everreach-embedding", "Cache Hit Ratio"),
    ("everreach-overview", "Alerts that fire"),
    ("everreach-overview", "Last alert accepted"),
    ("everreach-overview", "Reach against the year before"),
    ("everreach-pipelines", "Oldest queued run"),
    ("everreach-pipelines", "Schedules"),
    ("everreach-sync", "Oldest pending change"),
}
"""Panels whose expressions rest on them, or on what these minutes do not have: a schedule's tick, an account with a
year before, texts that the cache was asked for (those of the local provider are not cached)."""


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_expression_has_a_result(path: Path, prometheus: Prometheus) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    wrong = []
    for target in targets(board):
        expr = substituted(target.expr)
        now = time.time()
        answer = prometheus.get("query_range", query=expr, start=f"{now - 120}", end=f"{now}", step="5")
        if answer["status"] != "success" or answer.get("warnings"):
            wrong.append(f"{target}: {answer}")
            continue
        result = answer["data"]["result"]
        values = [float(value) for series in result for _, value in series["values"]]
        if not any(map(math.isfinite, values)) and (path.stem, target.panel["title"]) not in EMPTY_PANELS:
            wrong.append(f"{target}: no result")
        labels = set(re.findall(r"{{(\w+)}}", target.legend))
        wrong += [f"{target}: {each['metric']} lacks {labels}" for each in result if not labels <= set(each["metric"])]
    assert sum(len(panel["targets"]) for panel in panels(board)) == len(list(targets(board)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("series", EMPTY_IS_RIGHT)
def test_what_may_be_empty_is_empty(series: str, prometheus: Prometheus) -> None:
    assert prometheus.get("query", query=series)["data"]["result"] == []


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    assert len(groups) > 3
