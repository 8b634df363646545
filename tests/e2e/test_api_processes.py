"""`everreach serve`, twice, on one database: what two processes record at once, and what their logs say of it."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api_server import BEARER, TOKEN
from tests.everreach import Everreach

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def service(database_url: str, folder: Path) -> Iterator[str]:
    """The address of a process of its own; its output is in the folder."""
    folder.mkdir()
    everreach = Everreach(
        folder,
        everreach_database_url=database_url,
        everreach_dagster_database_url=database_url,
        vector_backend="pgvector",
        everreach_api_tokens=TOKEN,
    )
    with everreach.serving():
        yield everreach.service


def counters(address: str) -> dict[tuple[object, ...], float]:
    """Every counter that the process shows, by name and labels, but for runs: each process asks Dagster in its turn."""
    text = httpx.get(f"{address}/metrics", timeout=60, trust_env=False).text
    return {
        (sample.name, *sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        if family.type == "counter" and family.name != "dagster_completed_runs"
        for sample in family.samples
    }


def test_two_processes_that_record_the_same_outcomes_at_once_end_with_one_row_each(
    database_url: str, tmp_path: Path
) -> None:
    outcomes = [
        {
            "platform": "x",
            "post_id": f"canary-{number}",
            "metrics": {"likes": number},
            "observed_at": "2026-03-01T12:00:00Z",
            "text": f"canary text {number}",
        }
        for number in range(200)
    ]
    batches = [{"outcomes": outcomes}, {"outcomes": outcomes[::-1]}, *outcomes[:40]] * 3
    with ExitStack() as stack:
        addresses = [stack.enter_context(service(database_url, tmp_path / name)) for name in ("one", "two")]
        callers = stack.enter_context(ThreadPoolExecutor(12))

        def record(call: tuple[str, object]) -> list[str]:
            for _ in range(100):
                answer = httpx.post(
                    f"{call[0]}/api/v1/outcomes", json=call[1], headers=BEARER, timeout=60, trust_env=False
                )
                if answer.status_code != 503:
                    break
                time.sleep(0.1)  # too many at a time: sent again, as the answer says
            assert answer.status_code == 200, answer.text
            return [f"{each['post_id']} {each['status']}" for each in answer.json()["results"]]

        calls = [(address, batch) for batch in batches for address in addresses]
        statuses = Counter(status for answered in callers.map(record, calls) for status in answered)
        one, two = (counters(address) for address in addresses)
    assert one == two
    assert one["everreach_ingest_processed_total", ("source", "api")] == sum(statuses.values())
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT post_id, metrics ->> 'likes' FROM outcome_snapshots").fetchall()
        posts = connection.execute("SELECT count(*) FROM actp_feedback_posts").fetchone()
    assert sorted(rows) == sorted((f"canary-{number}", str(number)) for number in range(200))
    assert posts == (200,)
    assert {name: times for name, times in statuses.items() if name.endswith(" recorded")} == {
        f"canary-{number} recorded": 1 for number in range(200)
    }
    for name in ("one", "two"):
        lines = (tmp_path / name / "serve.log").read_text().splitlines()
        requests = [json.loads(line) for line in lines if line.startswith("{")]
        assert sum(line.get("route") == "/api/v1/outcomes" for line in requests) >= len(batches)
        assert not [line for line in lines if "canary" in line or TOKEN in line]
