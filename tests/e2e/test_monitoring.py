"""`everreach monitoring` as a person runs it: the real Prometheus and Alertmanager, and none left at the end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from everreach_assets.monitoring import write_configuration
from everreach_assets.processes import marked
from resources.alert_token import token_file
from resources.ports import free_port
from resources.processes import end_processes
from resources.settings import PROJECT_FOLDER, Settings
from tests.conftest import program

EVERREACH = Path(sys.executable).with_name("everreach")
MARK = "EVERREACH_MONITORING_HOME"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(
        _env_file=None,
        everreach_home=tmp_path / "home of its own",
        everreach_metrics_port=free_port(),
        prometheus_port=free_port(),
        alertmanager_port=free_port(),
    )
    yield made
    end_processes(marked(MARK, made.home), grace_seconds=5)


def start(settings: Settings, output: Path, **changes: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "EVERREACH_HOME": str(settings.home),
        "EVERREACH_METRICS_PORT": str(settings.everreach_metrics_port),
        "PROMETHEUS_PORT": str(settings.prometheus_port),
        "ALERTMANAGER_PORT": str(settings.alertmanager_port),
        **changes,
    }
    with output.open("wb") as file:
        return subprocess.Popen(
            [EVERREACH, "monitoring"], env=environment, cwd=output.parent, stdout=file, stderr=subprocess.STDOUT
        )


def wait_until_ready(command: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + 90
    while "Ready" not in output.read_text():
        assert command.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)


@pytest.mark.slow
def test_monitoring_runs_both_on_the_projects_rules_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    program("prometheus")
    output = tmp_path / "output"
    command = start(settings, output)
    try:
        wait_until_ready(command, output)
        prometheus = f"http://127.0.0.1:{settings.prometheus_port}"
        groups = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        assert {group["file"] for group in groups} == {
            str(PROJECT_FOLDER / "prometheus" / name) for name in ("recording.yml", "alerts.yml")
        }
        assert httpx.post(f"{prometheus}/-/reload", trust_env=False).status_code == 200
        loaded = httpx.get(f"http://127.0.0.1:{settings.alertmanager_port}/api/v2/status", trust_env=False).json()
        assert f"http://127.0.0.1:{settings.everreach_metrics_port}/api/v1/alerts" in loaded["config"]["original"]
        second = start(settings, tmp_path / "second")
        assert second.wait(timeout=60) == 1
        assert "runs already" in (tmp_path / "second").read_text()
        assert len(marked(MARK, settings.home)) == 2
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=60) == 0, output.read_text()
    finally:
        command.kill()
    assert "no process left" in output.read_text()
    assert marked(MARK, settings.home) == []


@pytest.mark.slow
def test_the_end_of_one_ends_both_and_a_killed_command_is_cleared_up(settings: Settings, tmp_path: Path) -> None:
    program("prometheus")
    command = start(settings, tmp_path / "first")
    wait_until_ready(command, tmp_path / "first")
    command.kill()
    command.wait()
    assert len(marked(MARK, settings.home)) == 2
    command = start(settings, tmp_path / "second")
    try:
        wait_until_ready(command, tmp_path / "second")
        (found,) = [one for one in marked(MARK, settings.home) if "alertmanager" in one.name()]
        found.kill()
        assert command.wait(timeout=60) == 1
        assert "alertmanager ended by itself with exit code -9" in (tmp_path / "second").read_text()
    finally:
        command.kill()
    assert marked(MARK, settings.home) == []


def test_where_they_are_not_installed_it_says_how_to_install_them(settings: Settings, tmp_path: Path) -> None:
    command = start(settings, tmp_path / "output", PATH=str(tmp_path))
    assert command.wait(timeout=60) == 1
    assert (
        "prometheus is not installed: 'apt-get install prometheus prometheus-alertmanager'"
        in (tmp_path / "output").read_text()
    )
    assert not settings.home.exists()


def test_what_they_run_on_has_the_ports_and_the_token_of_the_settings(settings: Settings, tmp_path: Path) -> None:
    write_configuration(settings, PROJECT_FOLDER / "prometheus", tmp_path)
    prometheus = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert targets == {
        "everreach": [f"127.0.0.1:{settings.everreach_metrics_port}"],
        "prometheus": [f"127.0.0.1:{settings.prometheus_port}"],
        "alertmanager": [f"127.0.0.1:{settings.alertmanager_port}"],
    }
    assert prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == targets["alertmanager"]
    for receiver in yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["receivers"]:
        (hook,) = receiver["webhook_configs"]
        assert hook["url"] == f"http://127.0.0.1:{settings.everreach_metrics_port}/api/v1/alerts"
        assert hook["http_config"]["authorization"]["credentials_file"] == str(token_file(settings))
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=False)
        assert checked.returncode == 0
