"""From money spent to a message: the real service, Prometheus, Alertmanager and Postgres, with a dispatch on loopback.

Only the waiting is shortened: scrapes, evaluations, groups and the `for` of the alerts on cost take seconds here.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from resources.database import Database
from resources.metric_records import Record, record
from resources.ports import answers_http
from resources.settings import PROJECT_FOLDER
from tests.alertmanager_server import hurry_groups
from tests.conftest import program
from tests.dispatch_server import Answer, DispatchServer
from tests.everreach import Everreach
from tests.prometheus_server import Prometheus
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MONITORING = """
import sys
from pathlib import Path
from everreach_assets import monitoring
from resources.settings import Settings
sys.exit(monitoring.run(Settings(_env_file=None), folder=Path(sys.argv[1])))
"""
COST_ALERTS = {"CloudCostApproachingCap", "EverReachCloudCostCapExceeded"}


@dataclass
class Stack:
    """The service and the monitoring on one database, started as a person starts them."""

    everreach: Everreach
    database: Database
    dispatch: DispatchServer

    @property
    def rules(self) -> Path:
        return self.everreach.folder / "prometheus"

    def start_service(self) -> "subprocess.Popen[bytes]":
        return self.everreach.start_service()

    def start_monitoring(self) -> None:
        self.everreach.start("monitoring", command=[sys.executable, "-c", MONITORING, str(self.rules)])

    @property
    def prometheus(self) -> Prometheus:
        return Prometheus(f"http://127.0.0.1:{self.everreach.settings.prometheus_port}")

    def month_to_date(self) -> float:
        """What Prometheus knows of the month's spending."""
        return self.prometheus.value("everreach:cloud_cost_month_to_date_usd:sum")

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 180) -> None:
        until(condition, seconds=seconds, says=lambda: f"{what}: {self.dispatch.texts}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.everreach.folder.glob("*.log"))

    def spend(self, usd: float) -> None:
        with self.database.connection() as connection:
            record(connection, [Record("everreach_cloud_cost_usd_total", usd, {"service": "openai", "action": "llm"})])

    def told(self, word: str) -> list[str]:
        """The messages that hold the word."""
        return [text for text in self.dispatch.texts if word in text]


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    program("prometheus")
    program("prometheus-alertmanager")
    shutil.copytree(PROJECT_FOLDER / "prometheus", tmp_path / "prometheus")
    with DispatchServer().running() as dispatch:
        everreach = Everreach(
            tmp_path,
            everreach_database_url=database.url,
            everreach_dagster_database_url=database.url,
            chroma_host="127.0.0.1",  # none is asked, and so none is started
            cloud_cost_cap_usd=400,
            dispatch_url=dispatch.url,
        )
        made = Stack(everreach, database, dispatch)
        hurry(made.rules)
        yield made
        everreach.end()


def hurry(folder: Path) -> None:
    """Let what takes minutes take seconds."""

    def change(name: str, edit: Callable[[Any], None]) -> None:
        loaded = yaml.safe_load((folder / name).read_text())
        edit(loaded)
        (folder / name).write_text(yaml.safe_dump(loaded, sort_keys=False))

    def scrape(loaded: Any) -> None:
        loaded["global"] = {"scrape_interval": "3s", "evaluation_interval": "1s"}  # a scrape may last as long
        for job in loaded["scrape_configs"]:
            job.pop("scrape_timeout", None)

    def evaluate(loaded: Any) -> None:
        for group in loaded["groups"]:
            for rule in group["rules"]:
                if rule["alert"] in COST_ALERTS:
                    rule["for"] = f"{int(rule['for'].removesuffix('m')) * 2}s"

    change("prometheus.yml", scrape)
    change("alerts.yml", evaluate)
    change("alertmanager.yml", hurry_groups)


def test_spending_over_the_cap_is_one_message_and_its_end_another(stack: Stack) -> None:
    stack.start_service()
    stack.start_monitoring()

    stack.spend(370)
    stack.wait("370 USD in Prometheus", lambda: stack.month_to_date() == 370)
    stack.spend(31)
    stack.wait("a message", lambda: bool(stack.told("EverReachCloudCostCapExceeded")))
    (message,) = stack.told("EverReachCloudCostCapExceeded")
    assert re.fullmatch(
        r"<b>EverReach: 1 firing</b>\n\n"
        r"FIRING critical: <b>EverReachCloudCostCapExceeded</b>\n"
        r"Cloud cost has reached the month's cap\.\n"
        r"This month's spending is 401\.00 USD\.\n"
        r"Since \d{4}-\d\d-\d\d \d\d:\d\d UTC\n"
        r"docs/runbooks\.md#everreachcloudcostcapexceeded",
        message,
    )
    # 401 USD are above 95 % too: that it comes close is not told while the cap is exceeded.
    stack.wait("both", lambda: stack.prometheus.value('count(ALERTS{alertname=~".*Cap.*", alertstate="firing"})') == 2)
    time.sleep(5)
    assert [text for text in stack.told("FIRING") if text != message and "EverReachCloudCost" in text] == []

    with stack.database.connection() as connection:  # as a new month begins
        connection.execute("UPDATE cloud_cost_months SET month = month - interval '1 month'")
    stack.wait("a message of the end", lambda: len(stack.told("EverReachCloudCostCapExceeded")) > 1)
    time.sleep(5)
    (end,) = [text for text in stack.told("CloudCost") if "RESOLVED" in text]
    assert end.startswith("<b>EverReach: 1 resolved</b>\n\nRESOLVED critical: <b>EverReachCloudCostCapExceeded</b>")
    assert stack.told("EverReachCloudCostCapExceeded") == [message, end]

    # What else was said is that alerting works, once; and Alertmanager counts no failure.
    # (It takes a minute: Prometheus evaluates before it has found Alertmanager, and then waits as long to send again.)
    settings = stack.everreach.settings
    stack.wait("the heartbeat", lambda: answers_http(settings.everreach_metrics_port, "/api/v1/alerts/heartbeat"))
    stack.wait("its message", lambda: bool(stack.told("alerting works")))
    assert len(stack.told("alerting works")) == 1
    metrics = httpx.get(f"http://127.0.0.1:{settings.alertmanager_port}/metrics", trust_env=False)
    assert 'alertmanager_notifications_failed_total{integration="webhook"} 0' in metrics.text
    assert "hunter2" not in stack.logs()


def test_a_changed_rule_takes_effect_with_a_reload_and_not_before(stack: Stack) -> None:
    stack.start_service()
    stack.start_monitoring()
    stack.spend(50)
    stack.wait("50 USD in Prometheus", lambda: stack.month_to_date() == 50)
    alerts = stack.rules / "alerts.yml"
    changed = alerts.read_text().replace(
        "everreach:cloud_cost_month_to_date_usd:sum >= everreach:cloud_cost_cap_usd:max",
        "everreach:cloud_cost_month_to_date_usd:sum >= 0.1 * everreach:cloud_cost_cap_usd:max",
    )
    alerts.write_text(changed)
    time.sleep(5)
    assert stack.told("EverReachCloudCostCapExceeded") == []
    assert httpx.post(f"{stack.prometheus.url}/-/reload", trust_env=False).status_code == 200
    stack.wait("a message", lambda: bool(stack.told("EverReachCloudCostCapExceeded")))
    assert "This month's spending is 50.00 USD." in stack.told("EverReachCloudCostCapExceeded")[0]

    alerts.write_text(f"{changed}\nnonsense: true\n")
    assert httpx.post(f"{stack.prometheus.url}/-/reload", trust_env=False).status_code == 500
    stack.wait(
        "the refusal", lambda: stack.prometheus.value("count(prometheus_config_last_reload_successful == 0)") == 1
    )
    assert (
        stack.prometheus.value('count(ALERTS{alertname="EverReachCloudCostCapExceeded"})') == 1
    )  # the old rules go on


def results_of_alert(stack: Stack) -> list[str | None]:
    with stack.database.connection() as connection:
        rows = connection.execute(
            "SELECT result FROM alert_messages WHERE text LIKE '%FIRING critical: <b>EverReachCloudCost%'"
        ).fetchall()
    return [result for (result,) in rows]


def test_a_message_outlives_a_dispatch_that_is_down_and_a_service_that_is_killed(stack: Stack) -> None:
    stack.dispatch.always = Answer(503)
    service = stack.start_service()
    stack.start_monitoring()
    stack.spend(500)
    stack.wait("an attempt", lambda: bool(stack.told("EverReachCloudCostCapExceeded")))
    service.kill()
    service.wait()
    attempts = len(stack.told("EverReachCloudCostCapExceeded"))
    stack.dispatch.always = Answer()
    stack.start_service()
    stack.wait("it again", lambda: len(stack.told("EverReachCloudCostCapExceeded")) > attempts)
    stack.wait("its mark as accepted", lambda: results_of_alert(stack) == ["accepted"])  # which follows the delivery
    ids = [message["id"] for message in stack.dispatch.messages if "FIRING critical: <b>EverReachCloudCost" in
           message["text"]]  # fmt: skip
    assert len(set(ids)) == 1
