"""The commands, variables and health checks of docker-compose.yml, as processes of this machine.

There is no container engine here: what stays unproven is the image, the mounts and the network. Names and ports of the
file are replaced by this machine's; all else is run as it stands there.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from resources.processes import end_processes
from tests.compose_file import ROOT, interpolated, ours, services
from tests.conftest import PostgresServer, database_named
from tests.servers import reserved_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAMS = Path(sys.executable).parent
SECRETS = {
    "POSTGRES_PASSWORD": "secret",
    "GRAFANA_ADMIN_PASSWORD": "secret",
    "EVERREACH_API_TOKENS": "token",
    "EVERREACH_ALERT_TOKEN": "token-of-the-alerts",
}
STARTED = ["chroma", "code-server", "webserver", "daemon", "service"]
PORTS = {"chroma": "8000", "code-server": "4000", "webserver": "3000", "service": "9090"}
HEALTHY_SECONDS = 180


@dataclass
class Host:
    """This machine in the place of the containers."""

    folder: Path
    server: PostgresServer
    ports: dict[str, int] = field(default_factory=lambda: {name: reserved_port() for name in PORTS})
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def here(self, name: str, value: str) -> str:
        """A value of the service `name` with this machine's names, ports and folders."""
        value = interpolated(value, SECRETS)
        for database in ("everreach", "dagster"):
            there = f"postgresql://everreach:{SECRETS['POSTGRES_PASSWORD']}@postgres:5432/{database}"
            value = value.replace(there, database_named(self.server, f"compose_{database}"))
        value = value.replace("deploy/workspace.yaml", str(self.folder / "workspace.yaml"))
        value = value.replace("/data", str(self.folder / "data")).replace("/chroma", str(self.folder / "chroma"))
        if name in PORTS and value in (PORTS[name], "0.0.0.0"):  # noqa: S104 - what stands there
            return str(self.ports[name]) if value == PORTS[name] else "127.0.0.1"
        return value.replace(f"127.0.0.1:{PORTS.get(name)}/", f"127.0.0.1:{self.ports.get(name)}/")

    def environment(self, name: str) -> dict[str, str]:
        given = {key: self.here(name, str(value)) for key, value in ours()[name].get("environment", {}).items()}
        if "CHROMA_HOST" in given:
            given |= {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(self.ports["chroma"])}
        path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "NO_PROXY": "*"} | given

    def command(self, name: str, words: list[str]) -> list[str]:
        return [self.here(name, word) for word in words]

    def run(self, name: str, words: list[str], seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(name, words),
            env=self.environment(name),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                self.command(name, ours()[name]["command"]),
                env=self.environment(name),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, name: str) -> None:
        """Until the health check of the file passes."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        check = services()[name]["healthcheck"]["test"][1:]
        while (answer := self.run(name, check)).returncode:
            log = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
            assert self.running[name].poll() is None, log
            assert time.monotonic() < deadline, f"{answer.stdout}{answer.stderr}{log}"
            time.sleep(1)


@pytest.fixture(scope="module")
def host(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """All of ours, started in the file's order, each when the health checks that it waits for have passed."""
    folder = tmp_path_factory.mktemp("compose")
    (folder / "data").mkdir()
    host = Host(folder, postgres_server)
    workspace = (ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8")
    workspace = workspace.replace("host: code-server", "host: 127.0.0.1")
    (folder / "workspace.yaml").write_text(workspace.replace("port: 4000", f"port: {host.ports['code-server']}"))
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE compose_everreach")
    try:
        host.start("chroma")
        host.wait("chroma")
        migrated = host.run("migrate", ours()["migrate"]["command"])
        assert migrated.returncode == 0, migrated.stderr
        with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
            # `migrate` makes `dagster` beside the other; the tests' server may have one already, so it is renamed.
            connection.execute("ALTER DATABASE dagster RENAME TO compose_dagster")
        for name in STARTED[1:]:
            host.start(name)
            if name in ("code-server", "service"):
                host.wait(name)
        yield host
    finally:
        for process in host.running.values():
            if psutil.pid_exists(process.pid):
                found = psutil.Process(process.pid)
                end_processes([found, *found.children(recursive=True)], grace_seconds=15)
            process.wait(timeout=30)


@pytest.mark.parametrize("name", STARTED)
def test_a_service_becomes_healthy(host: Host, name: str) -> None:
    host.wait(name)


def test_the_webserver_shows_the_code_location_and_its_assets(host: Host) -> None:
    query = (
        "{ assetNodes { assetKey { path } }"
        " workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
    )
    host.wait("webserver")
    answer = graphql(host, query)
    assert answer["workspaceOrError"]["locationEntries"] == [{"name": "everreach", "loadStatus": "LOADED"}]
    assert ["feedback", "strategies"] in [node["assetKey"]["path"] for node in answer["assetNodes"]]


def test_a_run_is_launched_through_the_code_server_and_succeeds(host: Host) -> None:
    host.wait("daemon")
    selector = {
        "repositoryLocationName": "everreach",
        "repositoryName": "__repository__",
        "jobName": "memory_refresh_job",
    }
    mutation = (
        "mutation($p: ExecutionParams!) { launchRun(executionParams: $p)"
        " { ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
    )
    launched = graphql(host, mutation, {"p": {"selector": selector, "mode": "default"}})
    run_id = launched["launchRun"]["run"]["runId"]
    deadline, status = time.monotonic() + 300, ""
    while status not in ("SUCCESS", "FAILURE", "CANCELED"):
        assert time.monotonic() < deadline, status
        time.sleep(2)
        query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        status = graphql(host, query, {"id": run_id})["runOrError"]["status"]
    assert status == "SUCCESS"


def test_the_service_sees_the_database(host: Host) -> None:
    text = httpx.get(f"http://127.0.0.1:{host.ports['service']}/metrics", timeout=30).text
    assert "everreach_exporter_up 1.0" in text.splitlines()


def graphql(host: Host, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = httpx.post(
        f"http://127.0.0.1:{host.ports['webserver']}/graphql",
        content=json.dumps({"query": query, "variables": variables or {}}),
        headers={"Content-Type": "application/json"},
        timeout=120,
    ).json()
    assert "errors" not in answer, answer
    return dict(answer["data"])
