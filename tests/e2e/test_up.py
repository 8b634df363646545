"""`everreach up` and `everreach down` as a person runs them: real processes, the real UI, and none left at the end."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from resources.servers import answers_http, embedded_processes, end_processes
from resources.settings import Settings
from tests.conftest import free_port

pytestmark = pytest.mark.timeout(240)

PROGRAM = """
import sys
from pathlib import Path
from everreach_assets import supervisor
from resources.settings import Settings
sys.exit(supervisor.up(Settings(_env_file=None), workspace=Path(sys.argv[1])))
"""
DEFINITIONS = """
import time
import dagster as dg

@dg.asset
def long_work() -> None:
    time.sleep(600)

defs = dg.Definitions(assets=[long_work])
"""
WORKSPACE = """
load_from:
  - python_module: {{module_name: trivial_definitions, working_directory: {folder}, location_name: everreach}}
"""


@dataclass
class Stack:
    """A data folder, and the `up` commands started on it."""

    folder: Path
    settings: Settings
    commands: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "EVERREACH_HOME": str(self.settings.home),
            "EVERREACH_WEBSERVER_PORT": str(self.settings.everreach_webserver_port),
            "EVERREACH_METRICS_PORT": str(self.settings.everreach_metrics_port),
            "CHROMA_PORT": str(self.settings.chroma_port),
            "NO_PROXY": "*",
        }

    def up(self) -> "subprocess.Popen[bytes]":
        """Start `up` and wait for the UI."""
        command = self.start()
        deadline = time.monotonic() + 120
        while "Ready" not in self.output():
            assert command.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.2)
        return command

    def start(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "output").open("wb") as output:
            command = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.folder / "workspace.yaml")],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.commands.append(command)
        return command

    def down(self) -> "subprocess.CompletedProcess[str]":
        everreach = Path(sys.executable).with_name("everreach")
        return subprocess.run(
            [everreach, "down"], env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Every live process that names this data folder in its environment or its command line."""
        found = []
        for process in psutil.process_iter():
            try:
                values = [*process.cmdline(), process.environ().get("EVERREACH_HOME", "")]
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(str(self.settings.home) in value for value in values):
                found.append(process)
        return found


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "trivial_definitions.py").write_text(DEFINITIONS)
    (tmp_path / "workspace.yaml").write_text(WORKSPACE.format(folder=tmp_path))
    settings = Settings(
        _env_file=None,
        everreach_home=tmp_path / "home",
        everreach_webserver_port=free_port(),
        everreach_metrics_port=free_port(),
        chroma_port=free_port(),
    )
    stack = Stack(tmp_path, settings)
    yield stack
    end_processes(stack.processes(), grace_seconds=5)


def launch_run(stack: Stack) -> None:
    """Start the asset that works for ten minutes, and wait until its step runs."""
    query = "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename } }"
    selector = {"repositoryLocationName": "everreach", "repositoryName": "__repository__", "jobName": "__ASSET_JOB"}
    body = json.dumps({"query": query, "variables": {"p": {"selector": selector, "mode": "default"}}})
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.everreach_webserver_port, timeout=60)
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    answer = connection.getresponse().read().decode()
    connection.close()
    assert "LaunchRunSuccess" in answer, answer
    deadline = time.monotonic() + 90
    while "STEP_START" not in stack.output():
        assert time.monotonic() < deadline, stack.output()
        time.sleep(0.2)


@pytest.mark.slow
def test_up_serves_the_ui_and_ctrl_c_leaves_no_process(stack: Stack) -> None:
    command = stack.up()
    port = stack.settings.everreach_webserver_port
    assert answers_http(port, "/server_info")
    assert f"http://localhost:{port}" in stack.output()
    metrics = f"http://localhost:{stack.settings.everreach_metrics_port}/metrics"
    assert metrics in stack.output()
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        exposition = answer.read().decode()
    assert "everreach_exporter_up 1.0" in exposition
    assert 'everreach_dms_sent_total{platform="x"} 0.0' in exposition

    started = time.monotonic()
    second = run_up(stack)
    assert second.returncode == 0
    assert f"Already running at http://localhost:{port}: process {command.pid}, since" in second.stdout
    assert time.monotonic() - started < 20
    assert command.poll() is None

    command.send_signal(signal.SIGINT)
    assert command.wait(timeout=90) == 0, stack.output()
    assert stack.processes() == []
    assert "none left" in stack.output()
    assert not answers_http(port, "/server_info")
    assert not answers_http(stack.settings.everreach_metrics_port, "/healthz")


def run_up(stack: Stack) -> "subprocess.CompletedProcess[str]":
    everreach = Path(sys.executable).with_name("everreach")
    return subprocess.run(
        [everreach, "up"], env=stack.environment, cwd=stack.folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_down_stops_up_and_says_when_nothing_runs(stack: Stack) -> None:
    nothing = stack.down()
    assert (nothing.returncode, nothing.stdout) == (0, "Nothing is running.\n")
    assert not stack.settings.home.exists()

    command = stack.up()
    stopped = stack.down()
    assert stopped.returncode == 0, stopped.stderr
    assert f"Stopped everreach up (process {command.pid})." in stopped.stdout
    assert command.wait(timeout=10) == 0
    assert stack.processes() == []
    assert stack.down().stdout == "Nothing is running.\n"


@pytest.mark.slow
def test_stopping_ends_a_run_at_work_and_its_failure_is_recorded(stack: Stack) -> None:
    command = stack.up()
    launch_run(stack)
    command.send_signal(signal.SIGTERM)
    assert command.wait(timeout=90) == 0
    assert stack.processes() == []
    assert "RUN_FAILURE" in stack.output()


@pytest.mark.slow
def test_down_stops_what_a_killed_up_left(stack: Stack) -> None:
    command = stack.up()
    launch_run(stack)
    command.kill()
    command.wait()
    assert len(stack.processes()) > 4
    assert set(embedded_processes(stack.settings)) == {"Chroma", "Postgres"}
    stopped = stack.down()
    assert stopped.returncode == 0, stopped.stderr
    assert "Chroma and Postgres" in stopped.stdout
    assert stack.processes() == []


@pytest.mark.slow
def test_a_run_that_lost_its_process_does_not_hold_its_place(stack: Stack) -> None:
    command = stack.up()
    launch_run(stack)
    command.kill()
    command.wait()
    end_processes(stack.processes(), grace_seconds=0, signals=())  # a power cut: nothing reports a failure
    again = stack.up()
    assert "had lost its process; it is recorded as failed" in stack.output()
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=90) == 0


@pytest.mark.slow
def test_up_starts_again_after_it_was_killed(stack: Stack) -> None:
    first = stack.up()
    first.kill()
    first.wait()
    second = stack.up()
    assert "that a killed 'everreach up' had left" in stack.output()
    assert answers_http(stack.settings.everreach_webserver_port, "/server_info")
    second.send_signal(signal.SIGHUP)
    assert second.wait(timeout=90) == 0
    assert stack.processes() == []


@pytest.mark.parametrize("setting", ["EVERREACH_WEBSERVER_PORT", "EVERREACH_METRICS_PORT"])
def test_a_taken_port_is_named_and_nothing_is_left_running(stack: Stack, setting: str) -> None:
    port = int(stack.environment[setting])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        refused = run_up(stack)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: port")
    assert str(port) in refused.stderr
    assert setting in refused.stderr
    assert stack.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("dagster-daemon", "the Dagster daemon"),
        ("dagster-webserver", "the Dagster webserver"),
        ("everreach", "the service"),
    ],
)
def test_the_end_of_one_process_ends_all_and_is_named(stack: Stack, part: str, name: str) -> None:
    command = stack.up()
    [victim] = [one for one in stack.processes() if any(word.endswith(f"/{part}") for word in one.cmdline())]
    victim.kill()
    assert command.wait(timeout=90) == 1
    assert f"Error: {name} ended by itself" in stack.output()
    assert stack.processes() == []


@pytest.mark.slow
def test_the_end_of_a_server_ends_all_and_is_named(stack: Stack) -> None:
    command = stack.up()
    embedded_processes(stack.settings)["Postgres"].kill()
    assert command.wait(timeout=90) == 1
    assert "Error: Postgres ended by itself" in stack.output()
    assert stack.processes() == []


def test_a_wrong_setting_is_named_without_its_value(stack: Stack) -> None:
    everreach = Path(sys.executable).with_name("everreach")
    finished = subprocess.run(
        [everreach, "down"],
        env=stack.environment | {"CHROMA_PORT": "not-a-port"},
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("Error: CHROMA_PORT")
    assert "not-a-port" not in finished.stderr
    assert "Traceback" not in finished.stderr
