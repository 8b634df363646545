"""What the tables say of a week: outcomes, labels, strategies built, and the claims in force at an instant."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from everreach_assets.domain.weekly_changes import BuiltStrategy, PlatformWeek
from resources.database import Connection
from resources.outcomes import platforms

STRATEGIES = """
    SELECT platform::text AS platform, strategy_id, strategy, created_at, status = 'held' AS is_held, reason
    FROM (
        SELECT platform, strategy_id, strategy, created_at, status, reason FROM actp_feedback_strategy
        UNION ALL
        SELECT platform, strategy_id, strategy, created_at, status, reason FROM actp_feedback_strategy_archive
    ) AS stored
"""


def weeks(connection: Connection, begins_at: dt.datetime, ends_at: dt.datetime) -> list[PlatformWeek]:
    """The week of every platform that has a post, `ends_at` excluded."""
    posts: dict[str, int] = dict(
        connection.execute(
            "SELECT platform::text, count(DISTINCT post_id) FROM outcome_snapshots"
            " WHERE recorded_at >= %s AND recorded_at < %s GROUP BY platform",
            (begins_at, ends_at),
        ).fetchall()
    )
    labels = _labels(connection, begins_at, ends_at)
    labels_before = _labels(connection, begins_at - (ends_at - begins_at), begins_at)
    claims, claims_before = _claims_in_force(connection, ends_at), _claims_in_force(connection, begins_at)
    built = defaultdict(list)
    for platform, *said in connection.execute(
        f"SELECT platform, strategy_id, is_held, reason FROM ({STRATEGIES}) AS strategies"  # noqa: S608 - a constant
        " WHERE created_at >= %s AND created_at < %s ORDER BY strategy_id",
        (begins_at, ends_at),
    ):
        built[platform].append(BuiltStrategy(*said))
    return [
        PlatformWeek(
            platform,
            posts.get(platform, 0),
            labels.get(platform, {}),
            labels_before.get(platform, {}),
            built[platform],
            claims.get(platform, []),
            claims_before.get(platform, []),
        )
        for platform in platforms(connection)
    ]


def _labels(connection: Connection, begins_at: dt.datetime, ends_at: dt.datetime) -> Mapping[str, Mapping[str, int]]:
    """Posts that got a label, by platform and by the last that they got."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for platform, label, count in connection.execute(
        """
        SELECT platform::text, label, count(*) FROM (
            SELECT DISTINCT ON (platform, post_id) platform, label FROM outcome_labels
            WHERE labelled_at >= %s AND labelled_at < %s ORDER BY platform, post_id, seq DESC
        ) AS latest GROUP BY platform, label
        """,
        (begins_at, ends_at),
    ):
        found[platform][label] = count
    return found


def _claims_in_force(connection: Connection, instant: dt.datetime) -> Mapping[str, list[Mapping[str, Any]]]:
    """The claims of each platform's strategy in force just before the instant: by its terms, for it may come again."""
    rows = connection.execute(
        f"""
        SELECT strategies.platform, strategies.strategy -> 'claims'
        FROM strategy_terms AS terms JOIN ({STRATEGIES}) AS strategies USING (strategy_id)
        WHERE terms.since < %(at)s AND (terms.until IS NULL OR terms.until >= %(at)s)
        """,  # noqa: S608 - a constant
        {"at": instant},
    )
    return dict(rows.fetchall())
