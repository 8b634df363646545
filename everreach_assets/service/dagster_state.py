"""What Dagster is doing, for `/metrics`: read in the background, shown at the scrape.

Dagster opens a connection for every question, so a scrape that asked would take a quarter of a second; here a thread
asks every few seconds, and a scrape shows the last answer unless it is too old. Runs that ended are recorded by their
run id: they count once, whoever watches, and a watcher that was away catches up.

Only the public interface of the instance is used: Dagster's tables are no contract.
"""

import contextlib
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.metric_catalogue import OTHER, VALUE_SETS
from resources import metric_records
from resources.database import Database
from resources.metric_records import Record, Sample

POLL_SECONDS = 15.0
STALE_SECONDS = 90.0
OVERLAP = dt.timedelta(minutes=10)
"""Runs are looked at again for so long after the last one that was seen: another's end may become visible later."""
CURSOR = "dagster_runs"
PAGE = 200
ACTIVE_RUNS = 1_000
JOBS = VALUE_SETS["job"]

ACTIVE = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declared:
    """What the code declares: what the instance remembers besides is of the past, and makes no series."""

    max_age_seconds: Mapping[dg.AssetKey, float | None]
    checks: Sequence[dg.AssetCheckKey]
    instigators: frozenset[str]


def declared_by(definitions: dg.Definitions) -> Declared:
    """The assets with how old they may become, the checks, the sensors and schedules of the definitions."""
    return Declared(
        max_age_seconds={
            spec.key: _fail_window_seconds(spec.freshness_policy) for spec in definitions.resolve_all_asset_specs()
        },
        checks=sorted(definitions.resolve_asset_graph().asset_check_keys),
        instigators=frozenset(each.name for each in (*(definitions.sensors or ()), *(definitions.schedules or ()))),
    )


def _fail_window_seconds(policy: dg.FreshnessPolicy | None) -> float | None:
    """Of a time window; a policy by cron states a deadline, which is no age."""
    window = getattr(policy, "fail_window", None)
    return window.to_timedelta().total_seconds() if window is not None else None


class DagsterState:
    """The last answers of Dagster.

    Args:
        open_instance: called once an instance is needed, and again after it failed.
        load_declared: called once; it may take seconds.
        database: where ended runs are recorded.
    """

    def __init__(
        self,
        open_instance: Callable[[], dg.DagsterInstance],
        load_declared: Callable[[], Declared],
        database: Database,
    ) -> None:
        self._open_instance = open_instance
        self._load_declared = load_declared
        self._database = database
        self._instance: dg.DagsterInstance | None = None
        self._declared: Declared | None = None
        self._known_runs: set[str] = set()
        self._latest: tuple[float, list[Sample]] | None = None

    def samples(self) -> list[Sample]:
        """What the last poll found.

        Raises:
            Unavailable: there was none in the last minute and a half.
        """
        latest = self._latest
        if latest is None or time.monotonic() - latest[0] > STALE_SECONDS:
            raise Unavailable(
                "Dagster has not answered for a while: check its database; the log of the service says more"
            )
        return latest[1]

    def poll(self) -> None:
        """Record the runs that have ended, and ask for everything else.

        Raises:
            Exception: whatever Dagster raises where its database does not answer.
        """
        instance = self._instance = self._instance or self._open_instance()
        declared = self._declared = self._declared or self._load_declared()
        self._record_ended_runs(instance)
        self._latest = time.monotonic(), list(_samples(instance, declared))

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """Poll in a thread for as long as the block lasts."""
        stop = threading.Event()
        thread = threading.Thread(target=self._poll_until, args=(stop,), name="dagster-state", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=POLL_SECONDS)
            if self._instance is not None:
                self._instance.dispose()

    def _poll_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.poll()
            except Exception as error:  # it is shown as the part that failed, and the next poll may succeed
                logger.warning("Dagster could not be read: %s: %s", type(error).__name__, str(error).splitlines()[:1])
            stop.wait(POLL_SECONDS)

    def _record_ended_runs(self, instance: dg.DagsterInstance) -> None:
        with self._database.connection() as connection:
            position = metric_records.cursor_position(connection, CURSOR)
        since = position - OVERLAP if position else None
        seen: set[str] = set()
        newest = position
        for record in _ended_runs(instance, since):
            run = record.dagster_run
            seen.add(run.run_id)
            newest = max(newest, record.update_timestamp) if newest else record.update_timestamp
            if run.run_id not in self._known_runs:
                labels = {"job_name": run.job_name, "status": run.status.value.lower()}
                with self._database.transaction() as connection:
                    metric_records.record(
                        connection,
                        [Record("dagster_completed_runs_total", 1, labels)],
                        record_id=f"dagster-run:{run.run_id}",
                    )
        if newest is not None and newest != position:
            with self._database.connection() as connection:
                metric_records.move_cursor(connection, CURSOR, newest)
        self._known_runs = seen


def _ended_runs(instance: dg.DagsterInstance, since: dt.datetime | None) -> "Iterator[dg.RunRecord]":
    """Newest first; page by page, each going on after the last run of the one before."""
    filters = dg.RunsFilter(statuses=list(ENDED), updated_after=since)
    page = instance.get_run_records(filters, limit=PAGE)
    while page:
        yield from page
        page = instance.get_run_records(filters, limit=PAGE, cursor=page[-1].dagster_run.run_id)


def _samples(instance: dg.DagsterInstance, declared: Declared) -> Iterator[Sample]:
    yield from _runs(instance)
    for daemon, heartbeat in instance.get_daemon_heartbeats().items():
        yield Sample("dagster_daemon_last_heartbeat_timestamp_seconds", {"daemon_type": daemon}, heartbeat.timestamp)
    yield from _instigators(instance, declared)
    yield from _assets(instance, declared)
    for check in declared.checks:
        evaluation = instance.get_latest_asset_check_evaluation_record(check)
        if evaluation is not None and evaluation.status.name in ("SUCCEEDED", "FAILED"):
            labels = {"asset_key": check.asset_key.to_user_string(), "check_name": check.name}
            yield Sample("dagster_asset_check_failing", labels, float(evaluation.status.name == "FAILED"))


def _runs(instance: dg.DagsterInstance) -> Iterator[Sample]:
    records = instance.get_run_records(dg.RunsFilter(statuses=list(ACTIVE)), limit=ACTIVE_RUNS)
    active = Counter((_job(record.dagster_run.job_name), record.dagster_run.status) for record in records)
    for job in (*JOBS, OTHER):
        for status in ACTIVE:
            labels = {"job_name": job, "status": status.value.lower()}
            yield Sample("dagster_active_runs", labels, float(active[job, status]))
    queued = [
        record.create_timestamp.timestamp()
        for record in records
        if record.dagster_run.status == dg.DagsterRunStatus.QUEUED
    ]
    if queued:
        yield Sample("dagster_oldest_queued_run_timestamp_seconds", {}, min(queued))
    for job in JOBS:
        for last in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=list(ENDED)), limit=1):
            if last.start_time is not None and last.end_time is not None:
                yield Sample("dagster_last_run_duration_seconds", {"job_name": job}, last.end_time - last.start_time)


def _job(name: str) -> str:
    return name if name in JOBS else OTHER


def _instigators(instance: dg.DagsterInstance, declared: Declared) -> Iterator[Sample]:
    # Of a location that was renamed the instance remembers a second sensor of the same name: the last to tick counts.
    latest: dict[str, tuple[float, list[Sample]]] = {}
    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        ticked_at = ticks[0].timestamp if ticks else 0.0
        if state.name not in declared.instigators or ticked_at < latest.get(state.name, (0.0, []))[0]:
            continue
        kind = "sensor" if state.instigator_type.name == "SENSOR" else "schedule"
        labels = {f"{kind}_name": state.name}
        samples = [Sample(f"dagster_{kind}_status", labels, float(state.is_running))]
        if ticks:
            samples.append(Sample(f"dagster_{kind}_last_tick_timestamp_seconds", labels, ticked_at))
            has_failed = ticks[0].status.name == "FAILURE"
            samples.append(Sample(f"dagster_{kind}_last_tick_status", labels, float(not has_failed)))
        latest[state.name] = ticked_at, samples
    for _, samples in latest.values():
        yield from samples


def _assets(instance: dg.DagsterInstance, declared: Declared) -> Iterator[Sample]:
    events = instance.get_latest_materialization_events(declared.max_age_seconds)
    for key, max_age_seconds in declared.max_age_seconds.items():
        labels = {"asset_key": key.to_user_string()}
        if max_age_seconds is not None:
            yield Sample("dagster_asset_freshness_sla_seconds", labels, max_age_seconds)
        event = events.get(key)
        if event is not None:
            yield Sample("dagster_asset_last_materialization_timestamp_seconds", labels, event.timestamp)
