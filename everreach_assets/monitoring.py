"""What `everreach monitoring` does: Prometheus and Alertmanager beside `everreach up`, on the project's own rules.

They are programs of the system (Debian: prometheus, prometheus-alertmanager). What they run on is prometheus/ with the
ports and the token of these settings; rules are read where they are, so that a reload takes a change.

What does not belong here: the relay that they call (`everreach_assets/service/relay.py`).
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from everreach_assets.domain.errors import Unavailable
from everreach_assets.processes import Child, Command, marked, start, stop_requests
from resources.alert_token import keep_alert_token
from resources.ports import LOOPBACK, answers_http, is_port_free
from resources.processes import end_processes
from resources.settings import PROJECT_FOLDER, Settings, bracketed

MARK = "EVERREACH_MONITORING_HOME"
GRACE_SECONDS = 15
KEPT_FOR = "30d"
"""A month of samples: costs and strategies are compared over weeks."""

INSTALLATION = "'apt-get install prometheus prometheus-alertmanager' on Debian, or https://prometheus.io/download/"


def run(settings: Settings, *, folder: Path = PROJECT_FOLDER / "prometheus") -> int:
    """Run both until Ctrl-C, SIGTERM or the end of one; answers the exit code.

    Args:
        folder: of the configuration and the rules.

    Raises:
        Unavailable: they are not installed, run already, or a port is taken. Nothing is left running.
    """
    prometheus = _program("prometheus")
    alertmanager = _program("prometheus-alertmanager", "alertmanager")
    data = settings.home / "monitoring"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"'everreach monitoring' runs already on {settings.home}: end that one first") from None
        end_processes(marked(MARK, settings.home), grace_seconds=GRACE_SECONDS)  # what a killed one left
        for port, setting in (
            (settings.prometheus_port, "PROMETHEUS_PORT"),
            (settings.alertmanager_port, "ALERTMANAGER_PORT"),
        ):
            if not is_port_free(port):
                raise Unavailable(f"port {port} is taken by another program: end it, or set {setting} to a free port")
        write_configuration(settings, folder, data)
        return _run(settings, data, prometheus, alertmanager, stop_requests())


def write_configuration(settings: Settings, folder: Path, data: Path) -> None:
    """Write what the two run on: the files of the folder with the ports and the token of these settings."""
    service = bracketed(settings.service_host_here)
    ports = {
        "127.0.0.1:9090": f"{service}:{settings.everreach_metrics_port}",
        "127.0.0.1:9093": f"{LOOPBACK}:{settings.alertmanager_port}",
        "127.0.0.1:9095": f"{LOOPBACK}:{settings.prometheus_port}",
        "../.everreach/alert-token": str(keep_alert_token(settings)),
    }
    for name in ("prometheus.yml", "alertmanager.yml"):
        loaded = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        if "rule_files" in loaded:
            loaded["rule_files"] = [str(folder / rules) for rules in loaded["rule_files"]]
        text = yaml.safe_dump(_replaced(loaded, ports), sort_keys=False, allow_unicode=True)
        (data / name).write_text(f"# Written anew by every 'everreach monitoring' from {folder / name}.\n{text}")


def _replaced(value: Any, replacements: Mapping[str, str]) -> Any:
    """The value with each of these texts, where it stands in a string, replaced."""
    if isinstance(value, dict):
        return {key: _replaced(each, replacements) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, replacements) for each in value]
    if isinstance(value, str):
        for old, new in replacements.items():
            if old in value:
                return value.replace(old, new)  # one only: a new text may hold another's old one
    return value


def _run(settings: Settings, data: Path, prometheus: Path, alertmanager: Path, stop_requested: threading.Event) -> int:
    commands: dict[str, Command] = {
        "prometheus": [
            prometheus,
            f"--config.file={data / 'prometheus.yml'}",
            f"--storage.tsdb.path={data / 'prometheus'}",
            f"--storage.tsdb.retention.time={KEPT_FOR}",
            f"--web.listen-address={LOOPBACK}:{settings.prometheus_port}",
            "--web.enable-lifecycle",  # POST /-/reload, from this machine only
            "--log.level=warn",
        ],
        "alertmanager": [
            alertmanager,
            f"--config.file={data / 'alertmanager.yml'}",
            f"--storage.path={data / 'alertmanager'}",
            f"--web.listen-address={LOOPBACK}:{settings.alertmanager_port}",
            "--cluster.listen-address=",  # it is alone
            "--log.level=warn",
        ],
    }
    environment = os.environ | {MARK: str(settings.home)}
    children: dict[str, Child] = {}
    try:
        if not stop_requested.is_set():
            children = {name: start(name, command, environment) for name, command in commands.items()}
        failure = _watch(settings, children, stop_requested)
    finally:
        click.echo("Stopping ...")
        end_processes(marked(MARK, settings.home), grace_seconds=GRACE_SECONDS)
        for child in children.values():
            child.process.wait(timeout=GRACE_SECONDS)
            child.printer.join(timeout=5)  # its last lines say why it ended
    left = len(marked(MARK, settings.home))
    if failure:
        click.echo(f"Error: {failure}; its last lines are above.", err=True)
    click.echo(f"Stopped Prometheus and Alertmanager, {left or 'no'} process left.")
    return 1 if failure or left else 0


def _watch(settings: Settings, children: dict[str, Child], stop_requested: threading.Event) -> str | None:
    is_announced = False
    while not stop_requested.wait(0.2):
        for name, child in children.items():
            if child.process.poll() is not None:
                return f"{name} ended by itself with exit code {child.process.returncode}"
        if not is_announced and all(
            answers_http(port, "/-/ready") for port in (settings.prometheus_port, settings.alertmanager_port)
        ):
            click.echo(
                f"\nReady: Prometheus is at http://{LOOPBACK}:{settings.prometheus_port}\n"
                f"       Alertmanager is at http://{LOOPBACK}:{settings.alertmanager_port}\n"
                "They read and call the service of 'everreach up'. Ctrl-C stops them.\n"
            )
            is_announced = True
    return None


def _program(*names: str) -> Path:
    """The first of these programs that is installed.

    Raises:
        Unavailable: none is.
    """
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise Unavailable(f"{names[0]} is not installed: {INSTALLATION}")
