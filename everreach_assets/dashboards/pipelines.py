"""The pipelines: Dagster's daemons, runs, ticks and assets; the feedback loop; intake."""

from grafana_foundation_sdk.models import dashboard

from everreach_assets.dashboards.panels import (
    ABOVE_ZERO,
    DAY,
    HOUR,
    Panel,
    Query,
    above,
    age,
    bars,
    below,
    board,
    events,
    graph,
    increase,
    number,
    quantiles,
    series,
    table,
    total,
)

RUNS = "dagster_completed_runs_total"
MATERIALISED = "dagster_asset_last_materialization_timestamp_seconds"
SLA = "dagster_asset_freshness_sla_seconds"
PROCESSED = "everreach_ingest_processed_total"
REJECTED = "everreach_ingest_rejected_total"


def pipelines() -> dashboard.Dashboard:
    """The dashboard of what Dagster runs, the feedback loop and intake."""
    return board(
        "everreach-pipelines",
        "EverReach: pipelines",
        "Runs, ticks and assets of Dagster, the feedback loop, and intake.",
        {
            "Now": _now(),
            "Runs": _runs(),
            "Sensors, schedules, assets": _instigators(),
            "Feedback": _feedback(),
            "Intake": _intake(),
        },
        filters=["platform"],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Runs that succeeded (24h)",
            "In the 24 hours before.",
            "short",
            events(RUNS, DAY, status="success"),
        ),
        number("Runs under way or queued", "Of all jobs.", "short", f"{total('dagster_active_runs')} or vector(0)"),
        number(
            "Oldest queued run",
            "How long the oldest queued run has waited.",
            "s",
            f"time() - min({series('dagster_oldest_queued_run_timestamp_seconds')})",
            steps=above(300, 900),
            empty="none queued",
            alerts=["DagsterQueuedRunStuck"],
        ),
        number(
            "Runs that failed (24h)",
            "In the 24 hours before.",
            "short",
            events(RUNS, DAY, status="failure"),
            steps=ABOVE_ZERO,
        ),
        number(
            "Failing checks",
            "Asset checks whose last evaluation failed.",
            "short",
            f"{total('dagster_asset_check_failing')} or vector(0)",
            steps=ABOVE_ZERO,
            alerts=["DagsterAssetCheckFailing"],
        ),
        number(
            "Dead letters",
            "Rows of files that could not be taken in and wait for a person.",
            "short",
            total("everreach_ingest_dead_letters"),
            steps=above(1, 100),
        ),
    ]


def _runs() -> list[Panel]:
    return [
        bars(
            "Runs that ended (24h)",
            "In the 24 hours before, by job and end.",
            "short",
            Query(events(RUNS, DAY, "job_name", "status"), "{{job_name}} {{status}}"),
        ),
        graph(
            "Share of runs that succeeded (24h)",
            "Of the runs that ended in the 24 hours before.",
            "percentunit",
            Query(
                f"{increase(RUNS, DAY, 'job_name', status='success')} / ({increase(RUNS, DAY, 'job_name')} > 0)",
                "{{job_name}}",
            ),
            steps=below(0.9, 0.6),
            maximum=1,
            alerts=["DagsterRunFailureRate"],
        ),
        graph(
            "Duration of the last run",
            "By job.",
            "s",
            Query(f"max by (job_name) ({series('dagster_last_run_duration_seconds')})", "{{job_name}}"),
        ),
        graph(
            "Runs under way or queued, by status",
            "Runs that wait for long say that the limit of runs at once is reached.",
            "short",
            Query(total("dagster_active_runs", "status"), "{{status}}"),
            width=12,
        ),
        graph(
            "Age of the daemons' heartbeats",
            "Each daemon reports every half minute.",
            "s",
            Query(age("dagster_daemon_last_heartbeat_timestamp_seconds", "daemon_type"), "{{daemon_type}}"),
            width=12,
            steps=above(120, 600),
            alerts=["DagsterDaemonHeartbeatStale"],
        ),
    ]


def _instigators() -> list[Panel]:
    return [
        table(
            "Sensors",
            "Whether a sensor is on, whether its last tick went well, and how long ago that was.",
            Query(f"max by (sensor_name) ({series('dagster_sensor_status')})", column="on", unit="bool_yes_no"),
            Query(
                f"min by (sensor_name) ({series('dagster_sensor_last_tick_status')})", column="ok", unit="bool_yes_no"
            ),
            Query(age("dagster_sensor_last_tick_timestamp_seconds", "sensor_name"), column="last tick", unit="s"),
            names={"sensor_name": "sensor"},
            alerts=["DagsterSensorTickStale"],
        ),
        table(
            "Schedules",
            "Whether a schedule is on, whether its last tick went well, and how long ago that was.",
            Query(f"max by (schedule_name) ({series('dagster_schedule_status')})", column="on", unit="bool_yes_no"),
            Query(
                f"min by (schedule_name) ({series('dagster_schedule_last_tick_status')})",
                column="ok",
                unit="bool_yes_no",
            ),
            Query(age("dagster_schedule_last_tick_timestamp_seconds", "schedule_name"), column="last tick", unit="s"),
            names={"schedule_name": "schedule"},
        ),
        table(
            "Assets",
            "Age of each asset, how old it may become, and the one as a share of the other.",
            Query(age(MATERIALISED, "asset_key"), column="age", unit="s"),
            Query(f"max by (asset_key) ({series(SLA)})", column="may be", unit="s"),
            Query(
                f"({age(MATERIALISED, 'asset_key')}) / max by (asset_key) ({series(SLA)})",
                column="share",
                unit="percentunit",
            ),
            names={"asset_key": "asset"},
            alerts=["DagsterAssetStale"],
        ),
        table(
            "Checks",
            "1 where the last evaluation of the check failed.",
            Query(
                f"max by (asset_key, check_name) ({series('dagster_asset_check_failing')})",
                column="failing",
                unit="bool_yes_no",
            ),
            names={"asset_key": "asset", "check_name": "check"},
            steps=ABOVE_ZERO,
        ),
    ]


def _feedback() -> list[Panel]:
    return [
        graph(
            "Posts with new outcomes",
            "Posts with outcomes that no strategy took into account yet; ten of a platform start a rebuild.",
            "short",
            Query(total("everreach_outcomes_since_rebuild", "platform"), "{{platform}}"),
            alerts=["EverReachStrategyRebuildOverdue", "EverReachStrategyRebuildFailing"],
        ),
        graph(
            "Posts until the next rebuild",
            "Further posts with new outcomes that a rebuild waits for.",
            "short",
            Query(total("everreach_outcomes_until_rebuild", "platform"), "{{platform}}"),
        ),
        bars(
            "Rebuilds (24h)",
            "Rebuilds of strategies in the 24 hours before, by what came of them.",
            "short",
            Query(events("everreach_strategy_rebuilds_total", DAY, "platform", "result"), "{{platform}} {{result}}"),
        ),
        bars(
            "Claims phrased (24h)",
            "Claims that a language model was to phrase in the 24 hours before, by what came of it.",
            "short",
            Query(events("everreach_strategy_wordings_total", DAY, "result"), "{{result}}"),
        ),
    ]


def _intake() -> list[Panel]:
    return [
        bars(
            "Rows read",
            "Rows taken from files and calls in the hour before, those that were rejected included.",
            "short",
            Query(increase(PROCESSED, HOUR, "source"), "{{source}}"),
        ),
        graph(
            "Share accepted",
            "Of the rows of the 24 hours before; nothing where none came.",
            "percentunit",
            Query(
                f"1 - {increase(REJECTED, DAY, 'source')} / ({increase(PROCESSED, DAY, 'source')} > 0)", "{{source}}"
            ),
            steps=below(0.99, 0.9),
            maximum=1,
        ),
        bars(
            "Rows rejected",
            "Rows that went to the dead letters in the hour before.",
            "short",
            Query(increase(REJECTED, HOUR, "source"), "{{source}}"),
        ),
        graph(
            "Time of an intake",
            "Of a whole file, over the 24 hours before.",
            "s",
            *quantiles("everreach_ingest_batch_duration_seconds", DAY),
        ),
        graph(
            "Dead letters by kind",
            "Rows that wait for a person.",
            "short",
            Query(total("everreach_ingest_dead_letters", "source"), "{{source}}"),
        ),
        graph(
            "Time since the last intake",
            "Since a file of that kind, or one outcome, was taken in.",
            "s",
            Query(age("everreach_ingest_last_success_timestamp_seconds", "source"), "{{source}}"),
        ),
    ]
