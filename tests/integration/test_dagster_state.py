"""What `/metrics` says about Dagster: a real instance, runs of a small project, ended runs counted once."""

import datetime as dt
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from everreach_assets.build import build_definitions
from everreach_assets.domain.errors import Unavailable
from everreach_assets.service import dagster_state
from everreach_assets.service.dagster_state import DagsterState, declared_by
from everreach_assets.service.server import load_declared
from resources import metric_records
from resources.database import Database

JOB = "memory_refresh_job"


class Config(dg.Config):
    fails: bool = False


@dg.asset(freshness_policy=dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=3)))
def notes(config: Config) -> None:
    if config.fails:
        raise ValueError


@dg.asset
def drawings() -> None: ...


@dg.asset_check(asset=notes)
def notes_are_right() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=notes)
def notes_are_short() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@dg.sensor(job_name=JOB)
def letters_sensor() -> dg.SkipReason:
    return dg.SkipReason("none")


PROJECT = dg.Definitions(
    assets=[notes, drawings],
    asset_checks=[notes_are_right, notes_are_short],
    jobs=[dg.define_asset_job(JOB), dg.define_asset_job("somebodys_job", selection=[drawings])],
    sensors=[letters_sensor],
    executor=dg.in_process_executor,
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def state(instance: dg.DagsterInstance, database: Database) -> DagsterState:
    return watcher(instance, database)


def watcher(instance: dg.DagsterInstance, database: Database) -> DagsterState:
    return DagsterState(lambda: instance, lambda: declared_by(PROJECT), database)


def run(instance: dg.DagsterInstance, job: str = JOB, *, fails: bool = False) -> None:
    config = {"ops": {"notes": {"config": {"fails": fails}}}} if job == JOB else {}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    result = PROJECT.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=config | quiet, raise_on_error=False
    )
    assert result.success is not fails


def samples(state: DagsterState) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    state.poll()
    found = {}
    for each in state.samples():
        assert isinstance(each.value, float)
        found[each.metric, *each.labels.values()] = each.value
    assert len(found) == len(state.samples())
    return found


def ended(database: Database) -> dict[tuple[str, str], float]:
    with database.connection() as connection:
        return {
            (each.labels["job_name"], each.labels["status"]): each.value
            for each in metric_records.stored(connection)
            if each.metric == "dagster_completed_runs_total" and isinstance(each.value, float) and each.value
        }


def test_ended_runs_count_once_whoever_watches_and_also_after_a_pause(
    state: DagsterState, instance: dg.DagsterInstance, database: Database
) -> None:
    run(instance)
    run(instance, fails=True)
    state.poll()
    assert ended(database) == {(JOB, "success"): 1, (JOB, "failure"): 1}
    state.poll()
    watcher(instance, database).poll()
    assert ended(database) == {(JOB, "success"): 1, (JOB, "failure"): 1}
    run(instance)  # while nobody watches
    run(instance, "somebodys_job")
    watcher(instance, database).poll()
    assert ended(database) == {(JOB, "success"): 2, (JOB, "failure"): 1, ("other", "success"): 1}


def test_more_ended_runs_than_a_page_are_all_counted(
    state: DagsterState, instance: dg.DagsterInstance, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_state, "PAGE", 2)
    for _ in range(5):
        run(instance, "somebodys_job")
    state.poll()
    assert ended(database) == {("other", "success"): 5}


def test_runs_under_way_are_counted_by_job_and_status(state: DagsterState, instance: dg.DagsterInstance) -> None:
    for job, status in ((JOB, "NOT_STARTED"), (JOB, "NOT_STARTED"), ("somebodys_job", "STARTED")):
        instance.create_run_for_job(PROJECT.resolve_job_def(job), status=dg.DagsterRunStatus[status])
    found = samples(state)
    active = {key[1:]: value for key, value in found.items() if key[0] == "dagster_active_runs" and value}
    assert active == {(JOB, "not_started"): 2, ("other", "started"): 1}
    assert found["dagster_active_runs", "strategy_rebuild_job", "queued"] == 0
    assert ("dagster_oldest_queued_run_timestamp_seconds",) not in found


def test_assets_checks_and_the_last_run_are_shown(state: DagsterState, instance: dg.DagsterInstance) -> None:
    before = time.time()
    nothing_yet = samples(state)
    assert ("dagster_asset_last_materialization_timestamp_seconds", "notes") not in nothing_yet
    assert ("dagster_asset_check_failing", "notes", "notes_are_right") not in nothing_yet
    assert nothing_yet["dagster_asset_freshness_sla_seconds", "notes"] == 3 * 3600
    assert ("dagster_asset_freshness_sla_seconds", "drawings") not in nothing_yet
    run(instance)
    found = samples(state)
    assert before < found["dagster_asset_last_materialization_timestamp_seconds", "notes"] < time.time()
    assert found["dagster_asset_check_failing", "notes", "notes_are_right"] == 0
    assert found["dagster_asset_check_failing", "notes", "notes_are_short"] == 1
    assert 0 < found["dagster_last_run_duration_seconds", JOB] < 60


def test_what_was_read_too_long_ago_is_not_shown(state: DagsterState, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable):
        state.samples()
    state.poll()
    assert state.samples()
    monkeypatch.setattr(dagster_state, "STALE_SECONDS", -1.0)
    with pytest.raises(Unavailable, match="has not answered for a while"):
        state.samples()


def test_polling_survives_an_instance_that_cannot_be_opened_yet(
    instance: dg.DagsterInstance, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_state, "POLL_SECONDS", 0.05)
    failures = iter(range(2))

    def open_instance() -> dg.DagsterInstance:
        if next(failures, None) is not None:
            raise ConnectionError("no server")
        return instance

    state = DagsterState(open_instance, lambda: declared_by(PROJECT), database)
    with state.polling():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert state.samples()
                break
            except Unavailable:
                time.sleep(0.05)
        else:
            pytest.fail("it never recovered")


def test_every_asset_with_a_cadence_says_how_old_it_may_become() -> None:
    declared = declared_by(build_definitions())
    hours = {
        key.to_user_string(): seconds / 3600 for key, seconds in declared.max_age_seconds.items() if seconds is not None
    }
    assert hours["feedback/outcome_classifications"] == 3
    assert hours["vectors/content_embeddings"] == 3
    assert hours["feedback/strategies"] == 8 * 24
    assert not any(key.startswith("sources/") for key in hours)  # they are observed, not made
    assert {"strategy_rebuild_sensor", "memory_refresh_schedule"} <= declared.instigators


def test_what_dagster_loads_is_not_looked_through_by_the_garbage_collector() -> None:
    try:
        declared = load_declared()
        assert gc.get_freeze_count() > 100_000
        assert len(gc.get_objects(generation=2)) < 1_000  # what a scrape may have to wait for
    finally:
        gc.unfreeze()
    assert declared.instigators
