"""`everreach up` and `everreach down` as a person runs them: real processes, the real UI, and none left at the end."""

import ipaddress
import itertools
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from resources.ports import answers_http
from resources.processes import end_processes
from resources.servers import embedded_processes
from resources.settings import PROJECT_FOLDER
from tests.api_server import certificate
from tests.everreach import Everreach, listened_on
from tests.waiting import until

pytestmark = pytest.mark.timeout(500)

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


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Everreach]:
    """`up` with a workspace of one asset, which works for ten minutes."""
    (tmp_path / "trivial_definitions.py").write_text(DEFINITIONS)
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(WORKSPACE.format(folder=tmp_path))
    stack = Everreach(tmp_path, up=[sys.executable, "-c", PROGRAM, str(workspace)])
    yield stack
    end_processes(stack.processes(), grace_seconds=5)


def launch_run(stack: Everreach) -> None:
    """Start the asset that works for ten minutes, and wait until its step runs."""
    stack.launch("__ASSET_JOB")
    until(lambda: "STEP_START" in stack.output(), seconds=90, says=stack.output)


def places(stack: Everreach) -> dict[str, str]:
    """Where everything is, as `up` says when it is ready."""
    rest = itertools.dropwhile(lambda line: line != "Ready.", stack.output().splitlines())
    lines = itertools.takewhile(lambda line: line.startswith("  "), list(rest)[1:])
    return {line[2:12].strip(): line[14:] for line in lines}


@pytest.mark.slow
def test_up_serves_the_ui_and_ctrl_c_leaves_no_process(stack: Everreach) -> None:
    command = stack.up()
    port = stack.settings.everreach_webserver_port
    assert answers_http(port, "/server_info")
    exposition = stack.scrape()
    assert "everreach_exporter_up 1.0" in exposition
    assert 'everreach_dms_sent_total{platform="x"} 0.0' in exposition

    started = time.monotonic()
    second = stack.run("up")
    assert second.returncode == 0
    assert f"Already running at http://localhost:{port}: process {command.pid}, since" in second.stdout
    assert time.monotonic() - started < 20
    assert command.poll() is None

    stack.stop(command)
    assert "none left" in stack.output()
    assert not answers_http(port, "/server_info")
    assert not answers_http(stack.settings.everreach_metrics_port, "/healthz")


@pytest.mark.slow
def test_up_says_where_everything_is_and_it_is_there_and_on_this_machine_alone(stack: Everreach) -> None:
    settings, home = stack.settings, stack.settings.home
    service = f"http://localhost:{settings.everreach_metrics_port}"
    with stack.running():
        said = places(stack)
        database = said.pop("database")
        assert said == {
            "Dagster UI": f"http://localhost:{settings.everreach_webserver_port}",
            "HTTP API": f"{service}/api/v1, described at {service}/openapi.json",
            "metrics": f"{service}/metrics",
            "alerts": "'make monitoring' adds Prometheus and Alertmanager",
            "index": f"Chroma at 127.0.0.1:{settings.chroma_port}",
            "data": str(home),
            "logs": f"{home}/chroma.log, {home}/postgres.log; Dagster's and the service's are here",
        }
        found = re.fullmatch(r"Postgres at (/.+):(\d+)/everreach; 'everreach psql' opens it", database)
        assert found
        assert Path(found[1], f".s.PGSQL.{found[2]}").is_socket()
        assert answers_http(settings.everreach_metrics_port, "/openapi.json")
        assert answers_http(settings.chroma_port, "/api/v2/heartbeat")
        assert (home / "chroma.log").is_file()
        assert (home / "postgres.log").is_file()

        listeners = listened_on(stack.processes())
        assert {settings.everreach_webserver_port, settings.everreach_metrics_port, settings.chroma_port} <= {
            port for _, port in listeners
        }
        assert [each for each in listeners if not ipaddress.ip_address(each[0]).is_loopback] == []


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_of_make_up_ends_everything_in_order(tmp_path: Path) -> None:
    environment = Path(sys.executable).parents[1]  # as it is: nothing is installed
    made = ["make", f"--directory={PROJECT_FOLDER}", f"--old-file={environment}/.locked", f"VENV={environment}", "up"]
    terminal = Everreach(tmp_path, up=made)
    command = terminal.up()
    try:
        running = terminal.processes()
        (up,) = psutil.Process(command.pid).children()
        in_foreground = {each.pid for each in running if os.getpgid(each.pid) == command.pid}
        assert in_foreground == {command.pid, up.pid}  # nobody else hears Ctrl-C: they are ended in their order
        assert len(running) > 6
        terminal.stop(command)
    finally:
        terminal.end()
    said = terminal.output()
    assert said.splitlines()[-1].endswith("none left.")
    assert "ended by itself" not in said
    assert "Traceback" not in said
    log = (terminal.settings.home / "postgres.log").read_text()
    assert log.rstrip().endswith("database system is shut down")


@pytest.mark.slow
def test_up_with_a_certificate_says_https_and_down_stops_it(stack: Everreach) -> None:
    nothing = stack.run("down")
    assert (nothing.returncode, nothing.stdout) == (0, "Nothing is running.\n")
    assert not stack.settings.home.exists()

    files = dict(zip(("everreach_tls_certificate", "everreach_tls_key"), certificate(stack.folder), strict=True))
    stack.settings = stack.settings.model_copy(update=files)
    command = stack.up()
    assert f"https://localhost:{stack.settings.everreach_metrics_port}/metrics" in stack.output()
    stopped = stack.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert f"Stopped everreach up (process {command.pid})." in stopped.stdout
    assert command.wait(timeout=10) == 0
    assert stack.processes() == []
    assert stack.run("down").stdout == "Nothing is running.\n"


@pytest.mark.slow
def test_stopping_ends_a_run_at_work_and_its_failure_is_recorded(stack: Everreach) -> None:
    command = stack.up()
    launch_run(stack)
    stack.stop(command, signal.SIGTERM)
    assert "RUN_FAILURE" in stack.output()


@pytest.mark.slow
def test_down_stops_what_a_killed_up_left(stack: Everreach) -> None:
    command = stack.up()
    launch_run(stack)
    command.kill()
    command.wait()
    assert len(stack.processes()) > 4
    assert set(embedded_processes(stack.settings)) == {"Chroma", "Postgres"}
    stopped = stack.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert "Chroma and Postgres" in stopped.stdout
    assert stack.processes() == []


@pytest.mark.slow
def test_a_run_that_lost_its_process_does_not_hold_its_place(stack: Everreach) -> None:
    command = stack.up()
    launch_run(stack)
    command.kill()
    command.wait()
    end_processes(stack.processes(), grace_seconds=0, signals=())  # a power cut: nothing reports a failure
    again = stack.up()
    assert "had lost its process; it is recorded as failed" in stack.output()
    stack.stop(again)


@pytest.mark.slow
def test_up_starts_again_after_it_was_killed(stack: Everreach) -> None:
    first = stack.up()
    first.kill()
    first.wait()
    second = stack.up()
    assert "that a killed 'everreach up' had left" in stack.output()
    assert answers_http(stack.settings.everreach_webserver_port, "/server_info")
    stack.stop(second, signal.SIGHUP)


@pytest.mark.parametrize("setting", ["EVERREACH_WEBSERVER_PORT", "EVERREACH_METRICS_PORT"])
def test_a_taken_port_is_named_and_nothing_is_left_running(stack: Everreach, setting: str) -> None:
    port = int(stack.environment[setting])
    with socket.create_server(("127.0.0.1", port)):
        refused = stack.run("up")
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
def test_the_end_of_one_process_ends_all_and_is_named(stack: Everreach, part: str, name: str) -> None:
    command = stack.up()
    [victim] = [one for one in stack.processes() if any(word.endswith(f"/{part}") for word in one.cmdline())]
    victim.kill()
    assert command.wait(timeout=90) == 1
    assert f"Error: {name} ended by itself" in stack.output()
    assert stack.processes() == []


@pytest.mark.slow
def test_the_end_of_a_server_ends_all_and_is_named(stack: Everreach) -> None:
    command = stack.up()
    embedded_processes(stack.settings)["Postgres"].kill()
    assert command.wait(timeout=90) == 1
    assert "Error: Postgres ended by itself" in stack.output()
    assert stack.processes() == []


def test_a_wrong_setting_is_named_without_its_value(stack: Everreach) -> None:
    finished = stack.run("down", CHROMA_PORT="not-a-port")
    assert finished.returncode == 2
    assert finished.stderr.startswith("Error: CHROMA_PORT")
    assert "not-a-port" not in finished.stderr
    assert "Traceback" not in finished.stderr
