"""What runs by the clock, in UTC: hourly what is new, every quarter of an hour the copy in the cloud and what an outage
left, hourly what a migration left, daily what has expired, weekly the strategies of platforms too quiet for the
sensor, and then what changed in the week."""

from collections.abc import Iterator

import dagster as dg

from everreach_assets import migration
from everreach_assets.jobs import (
    cloud_parity_job,
    cloud_sync_job,
    embedding_migration_job,
    heal_embeddings_job,
    memory_refresh_job,
    retention_job,
    strategy_rebuild_job,
    weekly_changes_job,
)
from everreach_assets.partitions import platforms, shards
from resources import spaces
from resources.cloud_store import Cloud
from resources.database import Database
from resources.embedder import Embedder

NO_CLOUD = dg.SkipReason("no cloud is configured (CLOUD_VECTOR_BACKEND)")

memory_refresh_schedule = dg.ScheduleDefinition(
    name="memory_refresh_schedule",
    job=memory_refresh_job,
    cron_schedule="7 * * * *",  # not on the hour, when everybody's schedules run
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention_job,
    cron_schedule="23 4 * * *",
    run_config={"ops": {"retention__purges": {"config": {"dry_run": False}}}},  # by hand it is a dry run
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.schedule(
    job=strategy_rebuild_job,
    cron_schedule="37 3 * * 1",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def strategy_refresh_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """Mondays: rebuild each platform that has any new outcome, though fewer than ten."""
    for platform in context.instance.get_dynamic_partitions(platforms.name or ""):
        yield dg.RunRequest(
            partition_key=platform,
            run_config={"ops": {"feedback__strategies": {"config": {"minimum_new_outcomes": 1}}}},
        )


weekly_changes_schedule = dg.build_schedule_from_partitioned_job(
    weekly_changes_job,
    name="weekly_changes_schedule",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.schedule(job=cloud_sync_job, cron_schedule="*/15 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def cloud_sync_schedule(cloud: dg.ResourceParam[Cloud]) -> dg.RunRequest | dg.SkipReason:
    """Every quarter of an hour, where a cloud is configured."""
    return dg.RunRequest() if cloud.is_configured else NO_CLOUD


@dg.schedule(job=cloud_parity_job, cron_schedule="52 4 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def cloud_parity_schedule(cloud: dg.ResourceParam[Cloud]) -> dg.RunRequest | dg.SkipReason:
    """Daily, where a cloud is configured: it reads every row."""
    return dg.RunRequest() if cloud.is_configured else NO_CLOUD


@dg.schedule(job=heal_embeddings_job, cron_schedule="11-59/15 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def heal_embeddings_schedule(database: dg.ResourceParam[Database]) -> dg.RunRequest | dg.SkipReason:
    """Every quarter of an hour, where a vector waits to be healed or a kept space may go."""
    with database.connection() as connection:
        is_due = spaces.any_waiting(connection) or spaces.expired(connection)
    return dg.RunRequest() if is_due else dg.SkipReason("no vector waits to be healed")


@dg.schedule(job=embedding_migration_job, cron_schedule="41 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def embedding_migration_schedule(
    database: dg.ResourceParam[Database], embedder: dg.ResourceParam[Embedder]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Hourly, where a migration has documents left: a run for each shard."""
    with database.connection() as connection:
        names = spaces.migrating(connection)
    left = sum(migration.remaining(name, database=database, embedder=embedder) for name in names)
    if not left:
        return dg.SkipReason("no migration has documents left")
    return [dg.RunRequest(partition_key=shard) for shard in shards.get_partition_keys()]
