"""Ten outcomes give one strategy though everything is killed: the real daemon at each stage of its tick, run workers
at each stage of a rebuild; then with two daemons, a cursor that is garbage and no memory of any run. So they do after a
day without a daemon, and where a decision hangs.

A code server outlives the daemons, so that each costs seconds only; each life of a daemon has a platform of its own.
"""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorTick, TickData, TickStatus  # Dagster exports them nowhere

from everreach_assets.lost_runs import fail_lost_runs
from resources import rebuilds
from resources.addresses import child_environment, prepare_dagster_home
from resources.database import Database
from resources.processes import end_processes
from resources.servers import running_servers
from tests.everreach import Everreach
from tests.rebuild_crashes import STAGES
from tests.servers import reserved_port
from tests.stored_strategies import record, stored_strategies
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TICK_STAGES = {
    "youtube": "TICK_CREATED",  # before the evaluation
    "x": "TICK_HELD",
    "tiktok": "RUN_IDS_RESERVED",  # noted in ledger and tick
    "reddit": "RUN_CREATED",  # and nobody launched the run
    "linkedin": "RUN_LAUNCHED",  # and it is in the queue
}
"""Every stage of a tick at which Dagster's own tests end the daemon."""

REBUILDS = dg.RunsFilter(job_name="strategy_rebuild_job")
"""The hour's own job may come in between."""

QUIET_SECONDS = 15
"""Three ticks."""

OUTAGE = dt.timedelta(hours=25)
"""Longer than the day after which Dagster resumes no tick."""

WORKSPACE = "load_from: [{{grpc_server: {{host: 127.0.0.1, port: {port}, location_name: everreach}}}}]"


class Dagster:
    """A code server, and daemons that come and go."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment
        self.workspace = folder / "workspace.yaml"
        self.started: list[subprocess.Popen[bytes]] = []
        port = reserved_port()
        self.workspace.write_text(WORKSPACE.format(port=port))
        self.start(
            "code-server", "-m", "dagster", "api", "grpc", "-m", "tests.rebuild_crash_definitions", "-p", str(port)
        )

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=Path(__file__).parents[2],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End every process that was started here; run workers are found by their environment."""
        for process in self.started:
            process.kill()
            process.wait()

    def daemon(
        self, stage: str = "never", name: str = "daemon", patience_seconds: int = 60
    ) -> "subprocess.Popen[bytes]":
        """A daemon that is killed at the stage, and gives an evaluation up after so many seconds."""
        self.environment["DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS"] = str(patience_seconds)
        return self.start(name, "-m", "tests.rebuild_crashes", stage, str(self.workspace))

    def spare_the_workers(self) -> None:
        """Let every rebuild that is asked for come to its end: as if each stage had had its kill."""
        for stage in STAGES:
            (self.folder / "home" / f"killed-{stage}").touch()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log"))


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Dagster, Database, dg.DagsterInstance]]:
    everreach = Everreach(tmp_path, vector_backend="pgvector")
    try:
        with running_servers(everreach.settings) as addresses, Database(addresses.database_url) as database:
            environment = child_environment(everreach.settings, addresses)
            monkeypatch.setenv("EVERREACH_DAGSTER_DATABASE_URL", environment["EVERREACH_DAGSTER_DATABASE_URL"])
            home = prepare_dagster_home(everreach.settings)
            with dg.DagsterInstance.from_config(str(home)) as instance:
                dagster = Dagster(tmp_path, environment)
                try:
                    yield dagster, database, instance
                finally:
                    dagster.end()
    finally:
        end_processes(everreach.processes(), grace_seconds=2)


def test_whatever_is_killed_ten_outcomes_of_a_platform_give_one_strategy(
    stack: tuple[Dagster, Database, dg.DagsterInstance],
) -> None:
    dagster, database, instance = stack
    for platform, stage in TICK_STAGES.items():
        record(database, platform, range(10))
        assert dagster.daemon(stage).wait(timeout=300) == -signal.SIGKILL, dagster.log()
    assert stored_strategies(database) == []

    daemons = [dagster.daemon(name="first"), dagster.daemon(name="second")]
    until(lambda: all_rebuilt(database, instance), seconds=600, says=dagster.log)
    assert all((dagster.folder / "home" / f"killed-{stage}").exists() for stage in STAGES)

    for record_of_run in instance.get_run_records(REBUILDS):
        instance.delete_run(record_of_run.dagster_run.run_id)
    (sensor,) = (each for each in instance.all_instigator_state() if each.name == "strategy_rebuild_sensor")
    data: Any = sensor.instigator_data
    instance.update_instigator_state(sensor.with_data(data._replace(cursor="garbage")))
    time.sleep(QUIET_SECONDS)
    assert sorted(stored_strategies(database)) == [(platform, 10, False) for platform in sorted(TICK_STAGES)]
    assert instance.get_run_records(REBUILDS) == []
    assert any(process.poll() is None for process in daemons), dagster.log()


def test_a_tick_that_was_interrupted_more_than_a_day_ago_is_not_resumed_and_costs_no_strategy(
    stack: tuple[Dagster, Database, dg.DagsterInstance],
) -> None:
    dagster, database, instance = stack
    dagster.spare_the_workers()
    record(database, "x", range(10))
    assert dagster.daemon("RUN_IDS_RESERVED").wait(timeout=300) == -signal.SIGKILL, dagster.log()
    interrupted = ticks(instance)[-1]
    assert interrupted.status == TickStatus.STARTED
    instance.update_tick(interrupted._replace(tick_data=aged(interrupted.tick_data)))
    with database.connection() as connection:  # asked for then, too
        connection.execute("UPDATE strategy_rebuild_requests SET requested_at = requested_at - %s", (OUTAGE,))

    dagster.daemon(name="after-the-outage")
    until(lambda: stored_strategies(database) != [], seconds=300, says=dagster.log)
    time.sleep(QUIET_SECONDS)
    assert ticks(instance)[0].status == TickStatus.SKIPPED
    assert ticks(instance)[0].tick_id == interrupted.tick_id
    assert stored_strategies(database) == [("x", 10, False)]


def test_a_decision_that_hangs_for_longer_than_dagster_waits_costs_no_strategy_and_makes_no_second(
    stack: tuple[Dagster, Database, dg.DagsterInstance],
) -> None:
    dagster, database, instance = stack
    dagster.spare_the_workers()
    record(database, "x", range(10))
    with database.transaction() as connection:
        rebuilds.lock(connection)
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        impatient = dagster.daemon(patience_seconds=3)
        until(lambda: has_failed(instance), seconds=300, says=dagster.log)
        assert instance.get_run_records(REBUILDS) == []
        impatient.kill()  # on a busy machine it would give up others, too
        impatient.wait()
    dagster.daemon(name="patient")
    until(lambda: stored_strategies(database) != [], seconds=300, says=dagster.log)
    time.sleep(QUIET_SECONDS)
    assert stored_strategies(database) == [("x", 10, False)]


def has_failed(instance: dg.DagsterInstance) -> bool:
    return any(tick.status == TickStatus.FAILURE for tick in ticks(instance))


def ticks(instance: dg.DagsterInstance) -> list[InstigatorTick]:
    """Those of the sensor, oldest first."""
    states = [each for each in instance.all_instigator_state() if each.name == "strategy_rebuild_sensor"]
    found = [tick for each in states for tick in instance.get_ticks(each.instigator_origin_id, each.selector_id)]
    return sorted(found, key=lambda tick: tick.tick_id)


def aged(tick: TickData) -> TickData:
    """The tick as if it had begun before the outage."""
    return tick._replace(timestamp=tick.timestamp - OUTAGE.total_seconds())


def all_rebuilt(database: Database, instance: dg.DagsterInstance) -> bool:
    """Whether each platform has a strategy and no run is under way; lost runs are looked for, as `up` does."""
    fail_lost_runs(instance, launcher_is_gone=False)
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    under_way = [each for each in instance.get_runs(REBUILDS) if each.status not in ended]
    return not under_way and len(stored_strategies(database)) >= len(TICK_STAGES)
