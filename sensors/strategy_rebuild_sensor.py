"""Ask for a rebuild once ten new outcomes of a platform are there. The decision is `domain/rebuilds.py`."""

import datetime as dt

import dagster as dg

from everreach_assets.domain.rebuilds import NEW_OUTCOMES, LatestRuns, decide
from resources import outcomes as outcome_rows
from resources import strategies as strategy_rows
from resources.database import Database

JOB_NAME = "strategy_rebuild_job"
PARTITIONS_NAME = "platforms"
RUNS_LOOKED_AT = 20
PARTITION_TAG = "dagster/partition"
ACTIVE = {
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
}


@dg.sensor(
    job_name=JOB_NAME,
    minimum_interval_seconds=4,  # the daemon looks every five seconds: at 5, a tick a millisecond early waits ten
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def strategy_rebuild_sensor(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
) -> dg.SensorResult:
    """Rebuild a platform's strategy when ten posts have outcomes that no strategy took into account.

    No run key: Dagster would remember it for ever, failures too. What was consumed is marked in Postgres by the
    transaction that stores the strategy, so a run too many finds nothing to do.
    """
    with database.connection() as connection:
        new_outcomes = strategy_rows.new_outcomes(connection)
        known = outcome_rows.platforms(connection)
    due = [platform for platform, new in new_outcomes.items() if new >= NEW_OUTCOMES]
    runs = {platform: latest_runs(context.instance, platform) for platform in due}
    decision = decide(new_outcomes, runs, dt.datetime.now(dt.UTC))
    partitions = dg.DynamicPartitionsDefinition(name=PARTITIONS_NAME)
    missing = sorted(set(known) - set(context.instance.get_dynamic_partitions(PARTITIONS_NAME)))
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=platform) for platform in decision.rebuild],
        dynamic_partitions_requests=[partitions.build_add_request(missing)] if missing else [],
        skip_reason=None if decision.rebuild else "; ".join(decision.waiting.values()) or "no new outcomes",
    )


def latest_runs(instance: dg.DagsterInstance, platform: str) -> LatestRuns:
    """What Dagster knows of the platform's last rebuilds."""
    records = instance.get_run_records(
        dg.RunsFilter(job_name=JOB_NAME, tags={PARTITION_TAG: platform}), limit=RUNS_LOOKED_AT
    )
    statuses = [record.dagster_run.status for record in records]
    failures = next(
        (number for number, status in enumerate(statuses) if status != dg.DagsterRunStatus.FAILURE), len(statuses)
    )
    return LatestRuns(
        is_active=any(status in ACTIVE for status in statuses),
        failures=failures,
        failed_at=records[0].update_timestamp if failures else None,
    )
