"""What labelling remembers: the rules and posts it was done with, fingerprints of accounts, and anchors.

What does not belong here: the labels (`resources/outcomes.py`), and what the fingerprints are of
(`domain/label_changes.py`).
"""

from collections.abc import Mapping

from everreach_assets.domain.label_anchors import AnchorKey
from resources.database import Connection
from resources.metric_records import Record, replace_gauges

_POSTS_HASHES = """
    SELECT platform, sum(hashtextextended(concat_ws(chr(31), post_id, account, post_type, niche, published_at IS NULL,
                                                    extract(epoch FROM coalesce(published_at, first_seen_at))), 0))
    FROM actp_feedback_posts GROUP BY platform
"""
"""Of the fields of posts that labels follow from; in any order of the rows, and with each row that is gone."""


def posts_hashes(connection: Connection) -> dict[str, int]:
    """A hash of the posts of each platform."""
    return {platform: int(total) for platform, total in connection.execute(_POSTS_HASHES.encode())}


def labelled_with(connection: Connection) -> dict[str, tuple[str, int]]:
    """The key of the rules, and the hash of the posts, with which each platform was last labelled."""
    rows = connection.execute("SELECT platform, rules_key, posts_hash FROM label_platforms")
    return {platform: (rules_key, int(posts_hash)) for platform, rules_key, posts_hash in rows}


def note_labelled(connection: Connection, platform: str, rules_key: str, posts_hash: int) -> None:
    """Remember with what the platform is labelled now."""
    connection.execute(
        "INSERT INTO label_platforms VALUES (%s, %s, %s) ON CONFLICT (platform) DO UPDATE"
        " SET rules_key = excluded.rules_key, posts_hash = excluded.posts_hash",
        (platform, rules_key, posts_hash),
    )


def fingerprints(connection: Connection, platform: str) -> dict[str, str]:
    """The fingerprints of the accounts whose every observed post has a label."""
    rows = connection.execute(
        """
        SELECT account, fingerprint FROM label_fingerprints
        WHERE platform = %(platform)s AND account NOT IN (
            SELECT posts.account FROM actp_feedback_posts AS posts
            WHERE posts.platform = %(platform)s
                AND EXISTS (SELECT FROM outcome_snapshots AS snapshots
                            WHERE (snapshots.platform, snapshots.post_id) = (posts.platform, posts.post_id))
                AND NOT EXISTS (SELECT FROM outcome_labels AS labels
                                WHERE (labels.platform, labels.post_id) = (posts.platform, posts.post_id)
                                    AND labels.superseded_at IS NULL))
        """,
        {"platform": platform},
    )
    return dict(rows.fetchall())


def replace_fingerprints(connection: Connection, platform: str, current: Mapping[str, str]) -> None:
    """Keep these fingerprints of the platform's accounts, and no others."""
    values = {"platform": platform, "accounts": list(current), "fingerprints": list(current.values())}
    connection.execute(
        "DELETE FROM label_fingerprints WHERE platform = %(platform)s AND account <> ALL(%(accounts)s)", values
    )
    connection.execute(
        """
        INSERT INTO label_fingerprints AS known (platform, account, fingerprint)
        SELECT %(platform)s, * FROM unnest(%(accounts)s::text[], %(fingerprints)s::text[])
        ON CONFLICT (platform, account) DO UPDATE SET fingerprint = excluded.fingerprint, judged_at = now()
        WHERE known.fingerprint <> excluded.fingerprint
        """,
        values,
    )


def anchors(connection: Connection, platform: str) -> dict[AnchorKey, float]:
    """The platform's frozen anchors: medians of ln(1 + metric)."""
    rows = connection.execute(
        "SELECT account, metric, quarter, median_log FROM label_anchors WHERE platform = %s", (platform,)
    )
    return {(account, metric, quarter): median for account, metric, quarter, median in rows}


def freeze_anchors(connection: Connection, platform: str, given: Mapping[AnchorKey, tuple[float, int]]) -> None:
    """Add anchors; one that is there stays as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO label_anchors (platform, account, metric, quarter, median_log, posts)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(platform, *key, median, posts) for key, (median, posts) in sorted(given.items())],
        )


ANCHOR_WINDOW_DAYS = 90
MINIMUM_OF_ANCHOR_WINDOW = 5


def record_anchor_ratios(connection: Connection) -> None:
    """Note how the last 90 days stand to the anchors: the median over a platform's accounts of each one's median."""
    rows = connection.execute(
        """
        SELECT coalesce(known.value, 'other'), percentile_cont(0.5) WITHIN GROUP (ORDER BY accounts.ratio)
        FROM (
            SELECT posts.platform, percentile_cont(0.5) WITHIN GROUP (ORDER BY labels.anchor_multiple) AS ratio
            FROM outcome_labels AS labels JOIN actp_feedback_posts AS posts USING (platform, post_id)
            WHERE labels.superseded_at IS NULL AND labels.is_final AND labels.anchor_multiple IS NOT NULL
                AND posts.published_at >= now() - %s * interval '1 day'
            GROUP BY posts.platform, posts.account HAVING count(*) >= %s
        ) AS accounts
        LEFT JOIN metric_label_values AS known ON known.value_set = 'platform' AND known.value = accounts.platform
        GROUP BY 1
        """,
        (ANCHOR_WINDOW_DAYS, MINIMUM_OF_ANCHOR_WINDOW),
    ).fetchall()
    metric = "everreach_reach_vs_anchor_ratio"
    replace_gauges(connection, metric, [Record(metric, ratio, {"platform": platform}) for platform, ratio in rows])
