"""The service and the commands on one data folder, each one's output and each HTTP answer kept, for a search.

What belongs here: starting, asking and ending them. What does not: what is pushed and what is searched
(`tests/e2e/test_canaries.py`).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from resources.addresses import child_environment
from resources.ports import answers_http
from resources.servers import running_servers
from resources.settings import Settings
from tests.dispatch_server import DispatchServer
from tests.everreach import EVERREACH, START_SECONDS
from tests.openai_server import OpenAIServer
from tests.redis_server import RedisServer
from tests.servers import reserved_port
from tests.waiting import until

API_TOKEN = "a-token-of-the-test"

JOBS = """
import json, sys
import dagster as dg
from everreach_assets.build import build_definitions

given = json.load(sys.stdin)
definitions = build_definitions()
with dg.DagsterInstance.get() as instance:
    for name in given["names"]:
        job = definitions.resolve_job_def(name)
        result = job.execute_in_process(instance=instance, raise_on_error=False, tags={"asked_by": "a person"})
        assert result.success == given["is_success"], name
"""


@dataclass
class Stack:
    """`everreach serve` and commands beside it, against an embedding provider, its backup and others on loopback.

    Attributes:
        cached: what Redis held at one time.
    """

    folder: Path
    provider: OpenAIServer
    backup: OpenAIServer
    redis: RedisServer
    dispatch: DispatchServer
    cloud: Mapping[str, str]
    policy: Path
    settings: Settings = field(init=False)
    answers: list[bytes] = field(default_factory=list)
    cached: dict[str, bytes] = field(default_factory=dict)
    _service: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.outputs.mkdir()
        self.settings = Settings(
            _env_file=None,
            everreach_home=self.folder / "home",
            everreach_webserver_port=reserved_port(),
            everreach_metrics_port=reserved_port(),
            chroma_port=reserved_port(),
        )

    @property
    def outputs(self) -> Path:
        """A file for each process that was started, with all that it printed."""
        return self.folder / "outputs"

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def alert_token(self) -> str:
        """What the service made for Alertmanager."""
        return (self.home / "alert-token").read_text(encoding="utf-8").strip()

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "EVERREACH_HOME": str(self.home),
            "EVERREACH_WEBSERVER_PORT": str(self.settings.everreach_webserver_port),
            "EVERREACH_METRICS_PORT": str(self.settings.everreach_metrics_port),
            "EVERREACH_API_TOKENS": API_TOKEN,
            "CHROMA_PORT": str(self.settings.chroma_port),
            "OPENAI_API_KEY": "a-key",
            "OPENAI_BASE_URL": self.provider.base_url,
            "EMBEDDING_PROVIDER": "openai",
            "EMBEDDING_FALLBACK_ENABLED": "true",
            "EMBEDDING_BACKUP_PROVIDER": "http",
            "EMBEDDING_HTTP_URL": self.backup.base_url,
            "EMBEDDING_HTTP_WIDTH": str(self.backup.width),
            "EMBEDDING_CACHE_URL": self.redis.url,
            "STRATEGY_WORDING_URL": self.provider.base_url,
            "STRATEGY_WORDING_MODEL": "a-model",
            "DISPATCH_URL": self.dispatch.url,
            "RETENTION_POLICY_FILE": str(self.policy),
            "NO_PROXY": "*",
            **self.cloud,
        }

    def command(self, *arguments: object, may_fail: bool = False, environment: dict[str, str] | None = None) -> str:
        """Run a command of ours to its end; its output is kept and answered."""
        return self._run([EVERREACH, *map(str, arguments)], may_fail, environment or {}, "")

    def python(self, program: str, given: str, environment: dict[str, str]) -> str:
        """Run a program of another service that uses this project."""
        return self._run([sys.executable, "-c", program], False, environment, given)

    def _run(self, command: list[Any], may_fail: bool, environment: dict[str, str], given: str) -> str:
        done = subprocess.run(
            command,
            env=self.environment | environment,
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        number = len(list(self.outputs.iterdir()))
        printed: str = done.stdout + done.stderr
        (self.outputs / f"{number:02d}.log").write_text(printed, encoding="utf-8")
        assert done.returncode == 0 or may_fail, printed
        return printed

    def run_jobs(self, *names: str, is_success: bool = True) -> None:
        """Have Dagster run jobs in a process of its own, on the instance that the UI reads."""
        with running_servers(self.settings) as addresses:
            environment = child_environment(self.settings, addresses) | self.environment
            url, dagster_url = addresses.database_url, addresses.dagster_database_url
        environment |= {"EVERREACH_DATABASE_URL": url, "EVERREACH_DAGSTER_DATABASE_URL": dagster_url}
        self.python(JOBS, json.dumps({"names": names, "is_success": is_success}), environment)

    def start_service(self) -> None:
        """`everreach serve`, which keeps the servers of the data folder running, until it answers."""
        output = self.outputs / "serve.log"
        with output.open("wb") as file:
            self._service = subprocess.Popen(
                [EVERREACH, "serve"], env=self.environment, cwd=self.folder, stdout=file, stderr=subprocess.STDOUT
            )
        port, service = self.settings.everreach_metrics_port, self._service
        until(
            lambda: answers_http(port, "/healthz") or service.poll() is not None,
            seconds=START_SECONDS,
            says=output.read_text,
        )
        assert service.poll() is None, output.read_text(errors="replace")

    def stop_service(self) -> None:
        if self._service is not None and self._service.poll() is None:
            self._service.send_signal(signal.SIGTERM)
            self._service.wait(timeout=90)

    def http(self, method: str, path: str, *, token: str = API_TOKEN, **arguments: Any) -> httpx.Response:
        """Ask the service; the whole answer is kept."""
        address = f"http://127.0.0.1:{self.settings.everreach_metrics_port}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.request(method, address, headers=headers, trust_env=False, timeout=60, **arguments)
        self.answers.append(f"{answer.status_code} {answer.headers}\n".encode() + answer.content)
        return answer
