"""The `everreach` command on a data folder of its own, as a person runs it: real processes and free ports."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import SecretStr

from resources.ports import answers_http
from resources.processes import end_processes
from resources.settings import Settings
from tests.servers import reserved_port
from tests.waiting import until

EVERREACH = str(Path(sys.executable).with_name("everreach"))
PORTS = (
    "everreach_webserver_port",
    "everreach_metrics_port",
    "chroma_port",
    "prometheus_port",
    "alertmanager_port",
)
START_SECONDS = 300  # half a minute on an idle machine
STOP_SECONDS = 90


def tell(command: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send the signal to whom it goes: Ctrl-C and the end of a terminal to all in the foreground, `kill` to one."""
    if number in (signal.SIGINT, signal.SIGHUP):
        os.killpg(command.pid, number)
    else:
        command.send_signal(number)


def hear_the_terminal() -> None:
    """Take Ctrl-C and the end of the terminal as usual: a session in the background ignores them and hands that on."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def listened_on(processes: Iterable[psutil.Process]) -> list[tuple[str, int]]:
    """The address and port of every TCP socket that one of the processes listens on."""
    return [
        (each.laddr.ip, each.laddr.port)
        for process in processes
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]


class Everreach:
    """The command on a data folder of its own.

    Args:
        folder: holds the data folder `home` and the output of `up`.
        up: the command that stands for `everreach up`.
        settings: fields of `Settings`; ports that are not given are free ones.
    """

    def __init__(self, folder: Path, *, up: Sequence[str] = (EVERREACH, "up"), **settings: Any) -> None:
        self.folder = folder
        ports = {name: reserved_port() for name in PORTS}
        given = ports | {"everreach_home": folder / "home"} | settings
        self.settings = Settings(_env_file=None, **given)
        self._started: list[subprocess.Popen[bytes]] = []
        self._up = up

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with every setting that is not its default."""
        given = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        return os.environ | {
            "NO_PROXY": "*",
            **{
                name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                for name, value in given.items()
            },
        }

    def run(self, *arguments: str | Path, **changes: str) -> "subprocess.CompletedProcess[str]":
        """One command, to its end, whatever that is; `changes` are of its environment."""
        return subprocess.run(
            [EVERREACH, *arguments],
            env=self.environment | changes,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *arguments: str | Path, expect: int = 0) -> str:
        """What a command printed that ended with the expected exit code and without a traceback."""
        finished = self.run(*arguments)
        assert finished.returncode == expect, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout + finished.stderr

    def start(
        self, name: str, *, command: Sequence[str] | None = None, is_ready: Callable[[], bool] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command that lasts, as a terminal does: in a process group of its own. It is ready on return.

        `stop` or the test ends it.

        Args:
            name: of the command and of the file with its output.
            command: what stands for `everreach NAME`.
            is_ready: the default waits until it says so.
        """
        with (self.folder / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                command or [EVERREACH, name],
                env=self.environment,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_the_terminal,  # noqa: PLW1509 - no thread of ours holds a lock that it needs
            )
        self._started.append(process)
        ready = is_ready or (lambda: "Ready" in self.output(name))
        try:
            until(lambda: ready() or process.poll() is not None, seconds=START_SECONDS, says=lambda: self.output(name))
            assert process.poll() is None, self.output(name)
        except AssertionError:
            self.end()
            raise
        return process

    def end(self) -> None:
        """End all that was started and still runs, and what that has started."""
        end_processes(self.processes(), grace_seconds=30)
        for process in self._started:
            process.wait()

    def up(self) -> "subprocess.Popen[bytes]":
        """Start `up`, and wait until it says that it is ready."""
        return self.start("up", command=self._up)

    def stop(self, command: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGINT) -> None:
        """End `up` by a signal, and see that all went with it."""
        tell(command, number)
        # make waits for what it started, and then dies of the signal itself.
        expected = -number if self._up[0] == "make" else 0
        assert command.wait(timeout=STOP_SECONDS) == expected, self.output()
        assert self.processes() == []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """`up`, ready, until the block ends."""
        command = self.up()
        try:
            yield
        finally:
            self.stop(command)

    def start_service(self) -> "subprocess.Popen[bytes]":
        """Start `serve`, and wait until it answers."""
        return self.start("serve", is_ready=lambda: answers_http(self.settings.everreach_metrics_port, "/healthz"))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """`serve`, answering, until the block ends."""
        with self._until_told(self.start_service(), "serve", signal.SIGTERM):
            yield

    @contextlib.contextmanager
    def monitoring(self) -> Iterator[None]:
        """`monitoring`, ready, until the block ends."""
        with self._until_told(self.start("monitoring"), "monitoring", signal.SIGINT):
            yield

    @contextlib.contextmanager
    def _until_told(self, process: "subprocess.Popen[bytes]", name: str, number: signal.Signals) -> Iterator[None]:
        try:
            yield
            tell(process, number)
            assert process.wait(timeout=STOP_SECONDS) == 0, self.output(name)
        finally:
            process.kill()
            process.wait()

    def output(self, name: str = "up") -> str:
        """What a command that lasts has printed until now."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

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

    @property
    def ui(self) -> str:
        """The address of Dagster's pages."""
        return f"http://127.0.0.1:{self.settings.everreach_webserver_port}"

    @property
    def service(self) -> str:
        """The address of the service."""
        return f"http://127.0.0.1:{self.settings.everreach_metrics_port}"

    def scrape(self) -> str:
        """What /metrics answers; nothing while it does not."""
        try:
            return httpx.get(f"{self.service}/metrics", trust_env=False, timeout=30).text
        except httpx.TransportError:
            return ""

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """What the webserver answers; errors of the query fail the test."""
        answer = httpx.post(
            f"{self.ui}/graphql", json={"query": query, "variables": variables}, trust_env=False, timeout=60
        ).json()
        assert "errors" not in answer, json.dumps(answer)
        return dict(answer["data"])

    def launch(self, job: str, run_config: dict[str, Any] | None = None) -> str:
        """Launch a run of the job as the UI does; answers its id."""
        selector = {"repositoryLocationName": "everreach", "repositoryName": "__repository__", "jobName": job}
        launched = self.graphql(
            "mutation($p: ExecutionParams!) { launchRun(executionParams: $p)"
            " { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            p={"selector": selector, "mode": "default", "runConfigData": run_config or {}},
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])
