"""From money spent to a message: the real service, Prometheus, Alertmanager and Postgres, with a dispatch on loopback.

Only the waiting is shortened: scrapes, evaluations, groups and the `for` of the alerts on cost take seconds here.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from resources.database import Database
from resources.metric_records import Record, record
from resources.ports import free_port
from resources.processes import end_processes
from resources.settings import PROJECT_FOLDER
from tests.conftest import program
from tests.dispatch_server import Answer, DispatchServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

SERVE = [str(Path(sys.executable).with_name("everreach")), "serve"]
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

    folder: Path
    database: Database
    dispatch: DispatchServer
    ports: dict[str, int] = field(default_factory=dict)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def rules(self) -> Path:
        return self.folder / "prometheus"

    def start(self, name: str, command: list[str]) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "EVERREACH_HOME": str(self.folder / "home"),
            "EVERREACH_DATABASE_URL": self.database.url,
            "EVERREACH_DAGSTER_DATABASE_URL": self.database.url,
            "CHROMA_HOST": "127.0.0.1",  # none is asked, and so none is started
            "CLOUD_COST_CAP_USD": "400",
            "DISPATCH_URL": self.dispatch.url,
            **{variable: str(port) for variable, port in self.ports.items()},
        }
        with (self.folder / name).open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def start_service(self) -> "subprocess.Popen[bytes]":
        process = self.start("service.log", SERVE)
        self.wait("the service", lambda: self.get("EVERREACH_METRICS_PORT", "/healthz") is not None)
        return process

    def start_monitoring(self) -> None:
        self.start("monitoring.log", [sys.executable, "-c", MONITORING, str(self.rules)])
        for port in ("PROMETHEUS_PORT", "ALERTMANAGER_PORT"):
            self.wait(port, lambda port=port: self.get(port, "/-/ready") is not None)  # type: ignore[misc]

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def get(self, port: str, path: str, **parameters: str) -> httpx.Response | None:
        """The answer; None where it is none of success."""
        try:
            answer = httpx.get(self.url(port, path), params=parameters, trust_env=False, timeout=5)
        except httpx.HTTPError:
            return None
        return answer if answer.is_success else None

    def query(self, expression: str) -> float | None:
        """The value of an expression in Prometheus; None where it has none."""
        answer = self.get("PROMETHEUS_PORT", "/api/v1/query", query=expression)
        found: list[Any] = answer.json()["data"]["result"] if answer else []
        return float(found[0]["value"][1]) if found else None

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.dispatch.texts}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))

    def spend(self, usd: float) -> None:
        with self.database.connection() as connection:
            record(connection, [Record("everreach_cloud_cost_usd_total", usd, {"service": "openai", "action": "llm"})])

    def told(self, word: str = "CloudCost") -> list[str]:
        """The messages that hold the word."""
        return [text for text in self.dispatch.texts if word in text]


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    program("prometheus")
    program("prometheus-alertmanager")
    shutil.copytree(PROJECT_FOLDER / "prometheus", tmp_path / "prometheus")
    with ExitStack() as exits:
        dispatch = exits.enter_context(DispatchServer().running())
        names = ("EVERREACH_METRICS_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT")
        made = Stack(tmp_path, database, dispatch, {name: free_port() for name in names})
        hurry(made.rules)
        yield made
        own = [psutil.Process(process.pid) for process in made.processes if process.poll() is None]
        children = [child for process in own for child in process.children(recursive=True)]
        end_processes([*own, *children], grace_seconds=20)
        for process in made.processes:
            process.wait()


def hurry(folder: Path) -> None:
    """Let what takes minutes take seconds."""

    def change(name: str, edit: Callable[[Any], None]) -> None:
        loaded = yaml.safe_load((folder / name).read_text())
        edit(loaded)
        (folder / name).write_text(yaml.safe_dump(loaded, sort_keys=False))

    def scrape(loaded: Any) -> None:
        loaded["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for job in loaded["scrape_configs"]:
            job.pop("scrape_timeout", None)

    def evaluate(loaded: Any) -> None:
        for group in loaded["groups"]:
            for rule in group["rules"]:
                if rule["alert"] in COST_ALERTS:
                    rule["for"] = f"{int(rule['for'].removesuffix('m')) * 2}s"

    def notify(loaded: Any) -> None:
        for route in [loaded["route"], *loaded["route"]["routes"]]:
            route |= {"group_wait": "1s", "group_interval": "2s"}

    change("prometheus.yml", scrape)
    change("alerts.yml", evaluate)
    change("alertmanager.yml", notify)


def test_spending_over_the_cap_is_one_message_and_its_end_another(stack: Stack) -> None:
    stack.start_service()
    stack.start_monitoring()

    stack.spend(370)
    stack.wait("370 USD in Prometheus", lambda: stack.query("everreach:cloud_cost_month_to_date_usd:sum") == 370)
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
    stack.wait("both", lambda: stack.query('count(ALERTS{alertname=~".*Cap.*", alertstate="firing"})') == 2)
    time.sleep(5)
    assert [text for text in stack.told("FIRING") if text != message and "EverReachCloudCost" in text] == []

    with stack.database.connection() as connection:  # as a new month begins
        connection.execute("UPDATE cloud_cost_months SET month = month - interval '1 month'")
    stack.wait("a message of the end", lambda: bool(stack.told("RESOLVED")))
    time.sleep(5)
    (end,) = stack.told("RESOLVED")
    assert end.startswith("<b>EverReach: 1 resolved</b>\n\nRESOLVED critical: <b>EverReachCloudCostCapExceeded</b>")
    assert stack.told("EverReachCloudCostCapExceeded") == [message, end]

    # What else was said is that alerting works, once; and Alertmanager counts no failure.
    # (It takes a minute: Prometheus evaluates before it has found Alertmanager, and then waits as long to send again.)
    stack.wait("the heartbeat", lambda: stack.get("EVERREACH_METRICS_PORT", "/api/v1/alerts/heartbeat") is not None, 90)
    stack.wait("its message", lambda: bool(stack.told("alerting works")))
    assert len(stack.told("alerting works")) == 1
    metrics = stack.get("ALERTMANAGER_PORT", "/metrics")
    assert metrics is not None
    assert 'alertmanager_notifications_failed_total{integration="webhook"} 0' in metrics.text
    assert "hunter2" not in stack.logs()


def test_a_changed_rule_takes_effect_with_a_reload_and_not_before(stack: Stack) -> None:
    stack.start_service()
    stack.start_monitoring()
    stack.spend(50)
    stack.wait("50 USD in Prometheus", lambda: stack.query("everreach:cloud_cost_month_to_date_usd:sum") == 50)
    alerts = stack.rules / "alerts.yml"
    changed = alerts.read_text().replace(
        "everreach:cloud_cost_month_to_date_usd:sum >= everreach:cloud_cost_cap_usd:max",
        "everreach:cloud_cost_month_to_date_usd:sum >= 0.1 * everreach:cloud_cost_cap_usd:max",
    )
    alerts.write_text(changed)
    time.sleep(5)
    assert stack.told("EverReachCloudCostCapExceeded") == []
    assert httpx.post(stack.url("PROMETHEUS_PORT", "/-/reload"), trust_env=False).status_code == 200
    stack.wait("a message", lambda: bool(stack.told("EverReachCloudCostCapExceeded")))
    assert "This month's spending is 50.00 USD." in stack.told("EverReachCloudCostCapExceeded")[0]

    alerts.write_text(f"{changed}\nnonsense: true\n")
    assert httpx.post(stack.url("PROMETHEUS_PORT", "/-/reload"), trust_env=False).status_code == 500
    stack.wait("the refusal", lambda: stack.query("prometheus_config_last_reload_successful") == 0)
    assert stack.query('count(ALERTS{alertname="EverReachCloudCostCapExceeded"})') == 1  # the old rules go on


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
    stack.wait("it again", lambda: len(stack.told("EverReachCloudCostCapExceeded")) > attempts, seconds=120)
    stack.wait("its mark as accepted", lambda: results_of_alert(stack) == ["accepted"])  # which follows the delivery
    ids = [message["id"] for message in stack.dispatch.messages if "FIRING critical: <b>EverReachCloudCost" in
           message["text"]]  # fmt: skip
    assert len(set(ids)) == 1
