"""What /metrics says of Dagster while `everreach up` runs: the real daemon, sensor, schedules, runs and checks."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from everreach_assets.build import build_definitions
from resources.database import Database
from resources.servers import running_servers
from tests.everreach import Everreach
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SHOWN_SECONDS = 240
"""A change is shown at the next poll of the service, fifteen seconds at most after the daemon or a run has made it."""

SENSOR = {"sensor_name": "strategy_rebuild_sensor"}
SCHEDULES = {each.name for each in build_definitions().schedules or ()}
CHECK = {"asset_key": "retention/purges", "check_name": "every_purged_document_is_gone"}


@pytest.fixture(scope="module")
def everreach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everreach]:
    everreach = Everreach(tmp_path_factory.mktemp("up"))
    with everreach.running():
        yield everreach


@pytest.fixture(scope="module")
def by_hand(everreach: Everreach) -> None:
    """Stops the schedules whose runs a test would take for its own."""
    for name in ("memory_refresh_schedule", "retention_schedule"):
        stop(everreach, "schedule", selector_of("schedule", name))
        wait_for(everreach, 0, "dagster_schedule_status", schedule_name=name)
    until(lambda: not re.search(r"^dagster_active_runs\{.*\} [1-9]", everreach.scrape(), re.M), seconds=120)


def selector_of(kind: Literal["sensor", "schedule"], name: str) -> dict[str, str]:
    return {"repositoryLocationName": "everreach", "repositoryName": "__repository__", f"{kind}Name": name}


def stop(everreach: Everreach, kind: Literal["sensor", "schedule"], selector: dict[str, str]) -> None:
    """As a person does in the UI."""
    noun = kind.capitalize()
    query = f"{kind}OrError({kind}Selector: $s) {{ ... on {noun} {{ {kind}State {{ id }} }} }}"
    state = everreach.graphql(f"query($s: {noun}Selector!) {{ {query} }}", s=selector)[f"{kind}OrError"][f"{kind}State"]
    mutation, result = {
        "sensor": ("stopSensor", "StopSensorMutationResult"),
        "schedule": ("stopRunningSchedule", "ScheduleStateResult"),
    }[kind]
    answer = everreach.graphql(f"mutation($id: String) {{ {mutation}(id: $id) {{ __typename }} }}", id=state["id"])
    assert answer[mutation]["__typename"] == result


def value(everreach: Everreach, metric: str, **labels: str) -> float | None:
    """The value of the series; None where there is none."""
    for family in text_string_to_metric_families(everreach.scrape()):
        for sample in family.samples:
            if sample.name == metric and sample.labels == labels:
                return float(sample.value)
    return None


def wait_for(everreach: Everreach, expected: float, metric: str, **labels: str) -> None:
    until(
        lambda: value(everreach, metric, **labels) == expected,
        seconds=SHOWN_SECONDS,
        says=lambda: f"{metric}{labels} is {value(everreach, metric, **labels)}, and not {expected}",
    )


def wait_until_above(everreach: Everreach, bound: float, metric: str, **labels: str) -> None:
    until(
        lambda: (value(everreach, metric, **labels) or 0) > bound,
        seconds=SHOWN_SECONDS,
        says=lambda: f"{metric}{labels} is {value(everreach, metric, **labels)}, and not above {bound}",
    )


def test_a_sensor_and_the_daemons_beat_and_schedules_wait(everreach: Everreach) -> None:
    wait_for(everreach, 1, "dagster_sensor_status", **SENSOR)
    wait_for(everreach, 1, "dagster_sensor_last_tick_status", **SENSOR)
    for schedule in SCHEDULES:
        wait_for(everreach, 1, "dagster_schedule_status", schedule_name=schedule)
    beats = (
        ("dagster_sensor_last_tick_timestamp_seconds", SENSOR),
        *(
            ("dagster_daemon_last_heartbeat_timestamp_seconds", {"daemon_type": daemon})
            for daemon in ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR")
        ),
    )
    before = [value(everreach, metric, **labels) for metric, labels in beats]
    for beat, (metric, labels) in zip(before, beats, strict=True):
        assert beat is not None, metric
        assert abs(time.time() - beat) < 120
        wait_until_above(everreach, beat, metric, **labels)


def test_a_sensor_that_a_person_stops_is_shown_as_stopped(everreach: Everreach) -> None:
    wait_for(everreach, 1, "dagster_sensor_status", **SENSOR)
    selector = selector_of("sensor", SENSOR["sensor_name"])
    stop(everreach, "sensor", selector)
    wait_for(everreach, 0, "dagster_sensor_status", **SENSOR)
    stopped_at = value(everreach, "dagster_sensor_last_tick_timestamp_seconds", **SENSOR)
    start = "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"
    assert everreach.graphql(start, s=selector)["startSensor"]["__typename"] == "Sensor"
    wait_for(everreach, 1, "dagster_sensor_status", **SENSOR)
    wait_until_above(everreach, stopped_at or 0, "dagster_sensor_last_tick_timestamp_seconds", **SENSOR)


@pytest.mark.usefixtures("by_hand")
def test_runs_that_succeed_and_fail_are_counted_each_as_what_it_was(everreach: Everreach) -> None:
    runs = "dagster_completed_runs_total"
    done = value(everreach, runs, job_name="retention_job", status="success") or 0
    everreach.launch("retention_job")
    wait_for(everreach, done + 1, runs, job_name="retention_job", status="success")
    # The end of a run is recorded before the rest of the same poll is shown.
    wait_until_above(everreach, 0, "dagster_last_run_duration_seconds", job_name="retention_job")
    made = "dagster_asset_last_materialization_timestamp_seconds"
    wait_until_above(everreach, time.time() - 600, made, asset_key="retention/plans")

    no_such_plan = {"ops": {"retention__purges": {"config": {"approved_plan_hash": "0" * 64}}}}
    everreach.launch("retention_job", no_such_plan)
    wait_for(everreach, 1, runs, job_name="retention_job", status="failure")
    assert value(everreach, runs, job_name="retention_job", status="success") == done + 1
    wait_for(everreach, 0, "dagster_active_runs", job_name="retention_job", status="started")


@pytest.mark.usefixtures("by_hand")
def test_a_check_that_fails_is_shown_until_it_passes_again(everreach: Everreach, tmp_path: Path) -> None:
    posts = tmp_path / "posts.csv"
    posts.write_text("post_id,text,account,published_at\n1,An old post,me,2020-01-01T00:00:00Z\n")
    everreach("ingest", "posts", posts, "--platform", "linkedin")
    done = value(everreach, "dagster_completed_runs_total", job_name="memory_refresh_job", status="success") or 0
    everreach.launch("memory_refresh_job")
    wait_for(everreach, done + 1, "dagster_completed_runs_total", job_name="memory_refresh_job", status="success")
    assert "1 documents purged" in everreach("retention", "purge", "--yes")
    (archive,) = (everreach.settings.home / "archives").glob("*content_embeddings.jsonl.gz")
    everreach("retention", "restore", archive)
    everreach.launch("retention_job")
    wait_for(everreach, 0, "dagster_asset_check_failing", **CHECK)

    with running_servers(everreach.settings) as addresses, Database(addresses.database_url) as database:

        def execute(statement: str) -> None:
            with database.connection() as connection:
                connection.execute(statement.encode())

        execute(  # what must not be: the tombstone of a document that has a vector
            "INSERT INTO retention_tombstones SELECT 'content_embeddings', 'linkedin:1', max(receipt_id)"
            " FROM retention_receipts"
        )
        everreach.launch("retention_job")
        wait_for(everreach, 1, "dagster_asset_check_failing", **CHECK)
        execute("DELETE FROM retention_tombstones")
        everreach.launch("retention_job")
        wait_for(everreach, 0, "dagster_asset_check_failing", **CHECK)
