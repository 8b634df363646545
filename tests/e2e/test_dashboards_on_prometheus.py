"""Every expression of every dashboard on a real Prometheus, which scraped the real service after real runs."""

import csv
import datetime as dt
import itertools
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from everreach_assets.domain.metric_catalogue import CATALOGUE, VALUE_SETS, Metric
from tests.dashboard_checks import panels, targets
from tests.dispatch_server import DispatchServer
from tests.everreach import Everreach
from tests.openai_server import OpenAIServer
from tests.prometheus_server import Prometheus, back_filled, running_prometheus
from tests.unit.test_alert_messages import alert, body
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "grafana").glob("*.json"))
RULES = [ROOT / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
TOKEN = "token-of-the-test"
RELAY_TOKEN = "token-of-the-relay"
DAY_SECONDS = 86_400
SECONDS_OF_SCRAPES = 20
SECONDS_SHOWN = 300
"""The last minutes are asked for, in which Prometheus scraped the runs of this test."""

TICKS = """# TYPE dagster_schedule_last_tick_status gauge
dagster_schedule_last_tick_status{schedule_name="cloud_sync_schedule"} 1
# TYPE dagster_schedule_last_tick_timestamp_seconds gauge
dagster_schedule_last_tick_timestamp_seconds{schedule_name="cloud_sync_schedule"} 1767225600
"""
"""What Prometheus is given as if it had been scraped: the next tick of a schedule may be a quarter of an hour away."""

FIRES = "AlertmanagerDown"
"""There is none here; the alert does not wait to say so."""

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
    records = [{"metric": metric.name, "labels": first_labels(metric), "value": 2} for metric in outside]
    assert post(everreach, "/api/v1/metrics", TOKEN, {"records": records}) == {"recorded": True}


def first_labels(metric: Metric) -> dict[str, str]:
    return {label: VALUE_SETS[values][0] for label, values in metric.labels.items()}


def post(everreach: Everreach, path: str, token: str, content: object) -> object:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{everreach.service}{path}", json=content, headers=headers, trust_env=False, timeout=30).json()


@pytest.fixture(scope="module")
def everreach(tmp_path_factory: pytest.TempPathFactory, chroma_server: tuple[str, int]) -> Iterator[Everreach]:
    """What `everreach up` runs (service, daemon, webserver), after the main job on the sample."""
    with OpenAIServer().running() as openai, DispatchServer().running() as dispatch:
        everreach = Everreach(
            tmp_path_factory.mktemp("evaluation"),
            everreach_api_tokens=TOKEN,
            everreach_alert_token=RELAY_TOKEN,
            dispatch_url=dispatch.url,
            openai_api_key="sk-none",  # vectors of the local provider are not cached
            openai_base_url=openai.base_url,
            cloud_vector_backend="chroma",  # a second Chroma, for its cloud
            cloud_chroma_host="127.0.0.1",
            cloud_chroma_port=chroma_server[1],
            cloud_chroma_ssl=False,
        )
        work(everreach)
        with everreach.running():
            yield everreach


def write_posts(path: Path, account: str) -> None:
    """Posts of one's own, so that there is something to embed; one row cannot be read.

    Of each day of the last two months one, half of the last 30 days: the flop rate is theirs. Of the year and a half
    before one a week: what the account's reach is compared with.
    """
    fields = ["post_id", "text", "account", "niche", "published_at", "observed_at", "views", "likes"]
    now = dt.datetime.now(dt.UTC)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(fields)
        for age in [*range(60), *range(60, 600, 7)]:
            day = now - dt.timedelta(days=age)
            seen = min(now, day + dt.timedelta(days=40))
            text = f"Post of {account}, {age} days old, by ann@example.com"
            views = 100 + 37 * age % 50
            writer.writerow([f"{account}-{age}", text, account, "careers", f"{day}", f"{seen}", views, 5])
        writer.writerow(["x", "No such day", account, "careers", "yesterday", f"{now}", 1, 1])


def rules_in(folder: Path) -> list[Path]:
    """The rules, but for the alert that is to fire at once."""
    for path in RULES:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        for rule in itertools.chain.from_iterable(group["rules"] for group in loaded["groups"]):
            if rule.get("alert") == FIRES:
                del rule["for"]
        (folder / path.name).write_text(yaml.safe_dump(loaded, sort_keys=False), encoding="utf-8")
    return [folder / path.name for path in RULES]


def leave_something_to_do(everreach: Everreach, posts: Path) -> None:
    """A change that no sync has taken, and a run that waits in the queue, until the service has seen it."""
    everreach("run", "--posts", posts, "--platform", "linkedin")
    (daemon,) = [each for each in everreach.processes() if "dagster-daemon" in " ".join(each.cmdline())]
    daemon.suspend()
    try:
        everreach.launch("retention_job")
        until(lambda: "dagster_oldest_queued_run_timestamp_seconds " in everreach.scrape(), seconds=120)
        time.sleep(SECONDS_OF_SCRAPES)
    finally:
        daemon.resume()


@pytest.fixture(scope="module")
def prometheus(everreach: Everreach, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scraped the service before, during and after a second run, and has the first scrape as of a day ago too."""
    folder = tmp_path_factory.mktemp("prometheus")
    record(everreach)
    target = f"127.0.0.1:{everreach.settings.everreach_metrics_port}"
    labels = {"job": "everreach", "instance": target}
    start = time.time()
    back_filled(folder, everreach.scrape(), labels, [start - DAY_SECONDS + minute * 60 for minute in range(-5, 15)])
    back_filled(folder, TICKS, labels, [start - 60, start - 1])
    with running_prometheus(folder, target, rules_in(folder)) as prometheus:
        until(lambda: prometheus.value('count_over_time(up{job="everreach"}[1h])') >= 3, seconds=60)
        for number in (1, 2):
            write_posts(folder / f"posts-{number}.csv", f"account {number}")
        work(everreach, "--posts", folder / "posts-1.csv", "--platform", "linkedin")
        record(everreach)
        assert post(everreach, "/api/v1/alerts", RELAY_TOKEN, body(alert())) == {"queued": True}
        leave_something_to_do(everreach, folder / "posts-2.csv")
        yield prometheus


def substituted(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_expression_has_a_result(path: Path, prometheus: Prometheus) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    wrong = []
    for target in targets(board):
        expr = substituted(target.expr)
        now = time.time()
        answer = prometheus.get("query_range", query=expr, start=f"{now - SECONDS_SHOWN}", end=f"{now}", step="5")
        if answer["status"] != "success" or answer.get("warnings"):
            wrong.append(f"{target}: {answer}")
            continue
        result = answer["data"]["result"]
        values = [float(value) for series in result for _, value in series["values"]]
        if not any(map(math.isfinite, values)):
            wrong.append(f"{target}: no result")
        labels = set(re.findall(r"{{(\w+)}}", target.legend))
        wrong += [f"{target}: {each['metric']} lacks {labels}" for each in result if not labels <= set(each["metric"])]
    assert sum(len(panel["targets"]) for panel in panels(board)) == len(list(targets(board)))
    assert not wrong, "\n".join(wrong)


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    assert len(groups) > 3
