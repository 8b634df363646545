"""A real Prometheus (Debian's) on a free port, and data of another day for it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import program
from tests.servers import reserved_port, running_server

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: {rules}
scrape_configs:
  - job_name: everreach
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The answer of the API, errors included."""
        return dict(httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json())

    def value(self, expr: str) -> float:
        """The one value of the expression now; 0 where there is none."""
        result = self.get("query", query=expr)["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0


@contextlib.contextmanager
def running_prometheus(folder: Path, target: str, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the target each second, until the block ends. Its data are in `folder`/data."""
    (folder / "prometheus.yml").write_text(CONFIG.format(target=target, rules=json.dumps([*map(str, rules)])))
    port = reserved_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running_server(command, port=port, ready="/-/ready", log=folder / "prometheus.log"):
        yield Prometheus(f"http://127.0.0.1:{port}")


def back_filled(folder: Path, exposition: str, labels: dict[str, str], instants: Sequence[float]) -> None:
    """Write what a scrape showed into `folder`/data as if it had been scraped at those instants too."""
    source = folder / "backfill.om"
    source.write_text("\n".join([*_open_metrics(exposition, labels, instants), "# EOF", ""]))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)


def _open_metrics(exposition: str, labels: dict[str, str], instants: Sequence[float]) -> Iterator[str]:
    for family in text_string_to_metric_families(exposition):
        yield f"# TYPE {family.name} {family.type}"
        for sample in family.samples:
            given = ",".join(f"{name}={json.dumps(value)}" for name, value in (sample.labels | labels).items())
            for instant in instants:
                yield f"{sample.name}{{{given}}} {sample.value} {instant:.0f}"


PROMTOOL_MAY_SAY = (
    'everreach_vector_index_null_count non-histogram and non-summary metrics should not have "_count" suffix'
)
"""The one finding that is allowed: the name is the contract's (docs/monitoring.md), and its dashboards ask for it."""


def promtool_findings(exposition: str) -> list[str]:
    """What `promtool check metrics` says about the answer of a scrape, line by line."""
    command = [program("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=exposition, capture_output=True, text=True, check=False)
    return (checked.stdout + checked.stderr).splitlines()
