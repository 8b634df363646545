"""Ask for a rebuild once ten new outcomes of a platform are there. The decision is `domain/rebuilds.py`."""

import dagster as dg

from everreach_assets.domain.rebuilds import decide
from resources import outcomes as outcome_rows
from resources import rebuilds
from resources.database import Database

JOB_NAME = "strategy_rebuild_job"
PARTITIONS_NAME = "platforms"
PARTITION_TAG = "dagster/partition"
ACTIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job_name=JOB_NAME,
    minimum_interval_seconds=4,  # the daemon looks every five seconds: at 5, a tick a millisecond early waits ten
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def strategy_rebuild_sensor(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
) -> dg.SensorResult:
    """Rebuild a platform's strategy when ten posts have outcomes that no strategy took into account.

    No run key and no cursor: Dagster would remember the one for ever, failures too, and forget the other. What was
    consumed is marked in Postgres by the transaction that stores the strategy, so a run too many finds nothing to do;
    what was asked for is noted before the run exists, so a tick that is killed is made up for after the back-off.
    """
    with database.transaction() as connection:
        rebuilds.lock(connection)
        progress = rebuilds.progress(connection)
        due = [platform for platform, known in progress.items() if known.is_due]
        decision = decide(progress, {platform for platform in due if is_under_way(context.instance, platform)})
        rebuilds.note_requests(connection, decision.rebuild)
        known = outcome_rows.platforms(connection)
    partitions = dg.DynamicPartitionsDefinition(name=PARTITIONS_NAME)
    missing = sorted(set(known) - set(context.instance.get_dynamic_partitions(PARTITIONS_NAME)))
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=platform) for platform in decision.rebuild],
        dynamic_partitions_requests=[partitions.build_add_request(missing)] if missing else [],
        skip_reason=None if decision.rebuild else "; ".join(decision.waiting.values()) or "no new outcomes",
    )


def is_under_way(instance: dg.DagsterInstance, platform: str) -> bool:
    """Whether Dagster has a rebuild of the platform that has not ended."""
    filters = dg.RunsFilter(job_name=JOB_NAME, tags={PARTITION_TAG: platform}, statuses=ACTIVE)
    return bool(instance.get_run_records(filters, limit=1))
