"""What runs by the clock, in UTC: hourly what is new, daily what has expired, weekly the strategies of platforms too
quiet for the sensor."""

from collections.abc import Iterator

import dagster as dg

from everreach_assets.jobs import memory_refresh_job, retention_job, strategy_rebuild_job
from everreach_assets.partitions import platforms

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
