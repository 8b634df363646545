"""A real Alertmanager (Debian's) on a free port, on the project's own configuration with other addresses."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import program
from tests.servers import reserved_port, running_server

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Alertmanager:
    """Its API, on a connection that is kept open."""

    client: httpx.Client

    def fire(self, *alerts: Labels, annotations: Labels | None = None) -> None:
        """Say that these alerts fire, as Prometheus says it."""
        self._post([{"labels": labels, "annotations": annotations or {}} for labels in alerts])

    def resolve(self, *alerts: Labels) -> None:
        """Say that they no longer do."""
        now = dt.datetime.now(dt.UTC).isoformat()
        self._post([{"labels": labels, "endsAt": now} for labels in alerts])

    def _post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        answer = self.client.post("/api/v2/alerts", json=alerts)
        assert answer.status_code == 200, answer.text

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire, each with its labels and its status."""
        return list(self.client.get("/api/v2/alerts").json())


@contextlib.contextmanager
def running_alertmanager(folder: Path, configuration: Path, edit: Callable[[Any], None]) -> Iterator[Alertmanager]:
    """An Alertmanager on a copy of the configuration, until the block ends. Its groups wait a second at most.

    Args:
        edit: puts the addresses of the test in the place of the real ones.
    """
    loaded = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    hurry_groups(loaded)
    edit(loaded)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(loaded, sort_keys=False), encoding="utf-8")
    port = reserved_port()
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (
        running_server(command, port=port, ready="/-/ready", log=folder / "alertmanager.log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        yield Alertmanager(client)


def hurry_groups(loaded: dict[str, Any]) -> None:
    """Let the groups of every route wait seconds instead of minutes."""
    for route in [loaded["route"], *loaded["route"]["routes"]]:
        route |= {"group_wait": "1s", "group_interval": "2s"}
