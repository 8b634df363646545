"""`everreach monitoring` as a person runs it: the real Prometheus and Alertmanager, and none left at the end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from everreach_assets.monitoring import write_configuration
from everreach_assets.processes import marked
from resources.alert_token import token_file
from resources.processes import end_processes
from resources.settings import PROJECT_FOLDER
from tests.conftest import program
from tests.everreach import Everreach, listened_on

MARK = "EVERREACH_MONITORING_HOME"


@pytest.fixture
def everreach(tmp_path: Path) -> Iterator[Everreach]:
    made = Everreach(tmp_path, everreach_home=tmp_path / "home of its own")
    yield made
    end_processes(marked(MARK, made.settings.home), grace_seconds=5)


@pytest.mark.slow
def test_monitoring_runs_both_on_the_projects_rules_and_leaves_nothing(everreach: Everreach) -> None:
    program("prometheus")
    with everreach.monitoring():
        prometheus = f"http://127.0.0.1:{everreach.settings.prometheus_port}"
        groups = httpx.get(f"{prometheus}/api/v1/rules", trust_env=False).json()["data"]["groups"]
        assert {group["file"] for group in groups} == {
            str(PROJECT_FOLDER / "prometheus" / name) for name in ("recording.yml", "alerts.yml")
        }
        assert httpx.post(f"{prometheus}/-/reload", trust_env=False).status_code == 200
        alertmanager = f"http://127.0.0.1:{everreach.settings.alertmanager_port}"
        loaded = httpx.get(f"{alertmanager}/api/v2/status", trust_env=False).json()
        assert f"{everreach.service}/api/v1/alerts" in loaded["config"]["original"]
        assert "runs already" in everreach("monitoring", expect=1)
        assert len(marked(MARK, everreach.settings.home)) == 2
        ports = (everreach.settings.prometheus_port, everreach.settings.alertmanager_port)
        assert sorted(listened_on(everreach.processes())) == sorted(("127.0.0.1", port) for port in ports)
    assert "no process left" in everreach.output("monitoring")
    assert marked(MARK, everreach.settings.home) == []


@pytest.mark.slow
def test_the_end_of_one_ends_both_and_a_killed_command_is_cleared_up(everreach: Everreach) -> None:
    program("prometheus")
    killed = everreach.start("monitoring")
    killed.kill()
    killed.wait()
    assert len(marked(MARK, everreach.settings.home)) == 2
    command = everreach.start("monitoring")
    try:
        (found,) = [one for one in marked(MARK, everreach.settings.home) if "alertmanager" in one.name()]
        found.kill()
        assert command.wait(timeout=60) == 1
        assert "alertmanager ended by itself with exit code -9" in everreach.output("monitoring")
    finally:
        command.kill()
    assert marked(MARK, everreach.settings.home) == []


def test_where_they_are_not_installed_it_says_how_to_install_them(everreach: Everreach, tmp_path: Path) -> None:
    refused = everreach.run("monitoring", PATH=str(tmp_path))
    assert refused.returncode == 1
    assert "prometheus is not installed: 'apt-get install prometheus prometheus-alertmanager'" in refused.stderr
    assert not everreach.settings.home.exists()


def test_what_they_run_on_has_the_ports_and_the_token_of_the_settings(everreach: Everreach, tmp_path: Path) -> None:
    settings = everreach.settings
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
    subprocess.run([program("promtool"), "check", "config", tmp_path / "prometheus.yml"], check=True)
