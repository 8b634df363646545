"""The week's changes from real tables to the queue of messages, through the asset."""

import datetime as dt

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from everreach_assets.build import build_definitions
from everreach_assets.partitions import weeks
from resources.alert_messages import News
from resources.database import Database
from tests.stored_strategies import record

JOB = "weekly_changes_job"


def last_week() -> str:
    key = weeks.get_last_partition_key()
    assert key is not None
    return key


def changes(database: Database, instance: dg.DagsterInstance, week: str, *, is_sent: bool = True) -> dict[str, object]:
    """The metadata of a run of the asset."""
    job = build_definitions({"database": database, "news": News(is_sent)}).resolve_job_def(JOB)
    result = job.execute_in_process(instance=instance, partition_key=week)
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def messages(database: Database) -> list[str]:
    with database.connection() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM alert_messages ORDER BY message_id")]


def strategy(database: Database, table: str, number: int, trait: str, created_at: str, archived_at: str = "") -> None:
    """A strategy with one claim; the times are offsets from the end of the last week."""
    claim = {"trait": trait, "effect": 0.4, "evidence": "rule"}
    term(database, number, created_at, archived_at)
    columns, values = ("", "") if not archived_at else (", archived_at", ", %(end)s + %(archived)s::interval")
    with database.connection() as connection:
        connection.execute(
            f"INSERT INTO {table} (strategy_id, platform, strategy, summary, outcomes, new_outcomes,"
            f" snapshot_watermark, builder_version, created_at{columns})"
            f" VALUES (%(id)s, 'x', %(strategy)s, '', 1, 1, 1, '1', %(end)s + %(created)s::interval{values})".encode(),
            {
                "id": number, "strategy": Jsonb({"claims": [claim]}), "created": created_at, "archived": archived_at,
                "end": weeks.time_window_for_partition_key(last_week()).end,
            },
        )  # fmt: skip


def term(database: Database, number: int, since: str, until: str = "") -> None:
    """A time in which the strategy was in force; the times are offsets from the end of the last week."""
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO strategy_terms (platform, strategy_id, since, until, began_by)"
            " VALUES ('x', %(id)s, %(end)s + %(since)s::interval, %(end)s + %(until)s::interval, 'rebuild')",
            {
                "id": number, "since": since, "until": until or None,
                "end": weeks.time_window_for_partition_key(last_week()).end,
            },
        )  # fmt: skip


@pytest.fixture
def with_a_week(database: Database) -> Database:
    """Outcomes of last week, and three strategies: of long ago, of last week, and the one in force, of this week."""
    record(database, "x", range(3))
    record(database, "tiktok", range(1))
    with database.connection() as connection:
        end = weeks.time_window_for_partition_key(last_week()).end
        connection.execute("UPDATE outcome_snapshots SET recorded_at = %s", (end - dt.timedelta(days=1),))
    strategy(database, "actp_feedback_strategy_archive", 1, "the oldest", "-30 days", "-2 days")
    strategy(database, "actp_feedback_strategy_archive", 2, "last week's", "-2 days", "1 hour")
    strategy(database, "actp_feedback_strategy", 3, "this week's", "1 hour")
    return database


def test_a_week_is_what_came_in_it_and_what_the_strategies_at_its_ends_say(
    with_a_week: Database, instance: dg.DagsterInstance
) -> None:
    said = changes(with_a_week, instance, last_week())
    assert (said["posts"], said["strategies"], said["dagster/partition_row_count"]) == (4, 1, 2)
    assert "| x | 3 |  | 2 came into force | do more: last week's (rule) | do more: the oldest (rule) |" in str(
        said["changes"]
    )
    assert "| tiktok | 1 |  |  |  |  |" in str(said["changes"])
    (text,) = messages(with_a_week)
    assert "new: do more: last week's (rule)" in text
    assert "this week's" not in text


def test_after_a_rollback_the_claims_are_those_of_what_was_in_force(
    database: Database, instance: dg.DagsterInstance
) -> None:
    """The second is older than the week, was gone back from before it, and came again in it."""
    record(database, "x", range(3))
    strategy(database, "actp_feedback_strategy_archive", 1, "the first", "-30 days", "-9 days")
    term(database, 1, "-8 days", "-1 hour")
    strategy(database, "actp_feedback_strategy", 2, "the second", "-9 days", "")
    with database.connection() as connection:
        connection.execute(
            "UPDATE strategy_terms SET until = since + interval '1 day' WHERE strategy_id = 2;"
            "UPDATE actp_feedback_strategy_archive SET archived_at = archived_at + interval '8 days 23 hours'"
        )
    term(database, 2, "-1 hour")
    said = str(changes(database, instance, last_week())["changes"])
    assert "| do more: the second (rule) | do more: the first (rule) |" in said


def test_run_twice_in_a_week_it_is_told_once(with_a_week: Database, instance: dg.DagsterInstance) -> None:
    first = changes(with_a_week, instance, last_week())
    again = changes(with_a_week, instance, last_week())
    assert (first.pop("messages_queued"), again.pop("messages_queued")) == (1, 0)
    assert first == again
    assert len(messages(with_a_week)) == 1


def test_without_dispatch_nothing_is_queued(with_a_week: Database, instance: dg.DagsterInstance) -> None:
    assert changes(with_a_week, instance, last_week(), is_sent=False)["messages_queued"] == 0
    assert messages(with_a_week) == []


def test_a_week_of_before_the_last_is_no_news(with_a_week: Database, instance: dg.DagsterInstance) -> None:
    with with_a_week.connection() as connection:
        connection.execute("UPDATE outcome_snapshots SET recorded_at = recorded_at - interval '7 days'")
    week_before = weeks.get_partition_keys()[-2]
    said = changes(with_a_week, instance, week_before)
    assert (said["posts"], said["messages_queued"]) == (4, 0)


def test_a_week_without_outcomes_and_strategies_is_a_success_with_zeros(
    database: Database, instance: dg.DagsterInstance
) -> None:
    said = changes(database, instance, last_week())
    assert (said["posts"], said["strategies"], said["messages_queued"]) == (0, 0, 0)
    assert messages(database) == []
