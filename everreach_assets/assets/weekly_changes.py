"""What changed this week: `feedback/weekly_changes`."""

import datetime as dt

import dagster as dg

from everreach_assets.domain.weekly_changes import WEEK_VERSION, message, week_name
from everreach_assets.freshness import WEEKLY
from everreach_assets.partitions import weeks
from everreach_assets.reports import week_table
from everreach_assets.retries import retrying_when_unavailable
from resources import alert_messages, prospects
from resources import weekly_changes as week_rows
from resources.alert_messages import News
from resources.database import Database


@dg.asset(
    key=["feedback", "weekly_changes"],
    deps=[
        ["feedback", "outcome_classifications"],
        dg.AssetDep(["feedback", "strategies"], partition_mapping=dg.AllPartitionMapping()),
    ],
    partitions_def=weeks,
    group_name="feedback",
    owners=["team:everreach"],
    code_version=WEEK_VERSION,
    kinds={"python", "postgres"},
    freshness_policy=WEEKLY,
)
def weekly_changes(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], news: dg.ResourceParam[News]
) -> dg.MaterializeResult[None]:
    """One row is a platform's week: outcomes, shares of labels, strategies built, claims that are new or gone.

    Partition: the week that ends on Monday at 06:07 UTC, after the weekly rebuilds. It runs then. Where dispatch is
    configured, the last week becomes a message, once however often it runs; an older week is no news.
    """
    week, now = context.partition_time_window, dt.datetime.now(dt.UTC)
    with retrying_when_unavailable(), database.transaction() as connection:
        found = week_rows.weeks(connection, week.start, week.end)
        text = message(found, week.end, prospects.names(connection))
        is_news = news.is_sent and text is not None and week.end <= now < week.end + (week.end - week.start)
        is_queued = is_news and alert_messages.take_in_news(connection, week_name(week.end), str(text), now)
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": len(found),
            "posts": sum(each.posts for each in found),
            "strategies": sum(len(each.strategies) for each in found),
            "messages_queued": int(is_queued),
            "changes": dg.MarkdownMetadataValue(week_table(found)),
        }
    )
