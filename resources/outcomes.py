"""Snapshots to label, and the history of labels. How a label is found does not belong here (`domain/outcomes.py`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everreach_assets.domain.outcomes import Classification, ObservedPost
from resources.database import Connection
from resources.metric_records import Record, record, replace_gauges


@dataclass(frozen=True)
class LabelChanges:
    """What writing labels did.

    Attributes:
        changed: posts with a new row in their history, by their new label.
        unchanged: posts that keep the row they had.
    """

    changed: Mapping[str, int]
    unchanged: int


PLATFORMS = """
    WITH RECURSIVE platforms AS (
        SELECT min(platform)::text AS platform FROM actp_feedback_posts
        UNION ALL
        SELECT (SELECT min(posts.platform) FROM actp_feedback_posts AS posts WHERE posts.platform > known.platform)
        FROM platforms AS known WHERE known.platform IS NOT NULL
    )
"""
"""Each platform by one step in the index of the posts, however many posts there are; the last row is empty."""


def platforms(connection: Connection) -> list[str]:
    """Every platform that has a post, in the order of their names."""
    rows = connection.execute(f"{PLATFORMS} SELECT platform FROM platforms WHERE platform IS NOT NULL")  # noqa: S608
    return [name for (name,) in rows]


def unlabelled(connection: Connection, classifier_version: str) -> dict[str, int]:
    """Snapshots that no label took into account, by platform; all of them where the classifier has changed."""
    return dict(
        connection.execute(
            """
            SELECT platform, count(*) FROM outcome_snapshots WHERE label_seq IS NULL GROUP BY platform
            UNION ALL
            SELECT platform, count(*) FROM outcome_labels
            WHERE superseded_at IS NULL AND classifier_version <> %(version)s
                AND platform NOT IN (SELECT platform FROM outcome_snapshots WHERE label_seq IS NULL)
            GROUP BY platform ORDER BY platform
            """,
            {"version": classifier_version},
        ).fetchall()
    )


def lock_labels(connection: Connection, platform: str) -> None:
    """Let one transaction at a time label a platform."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"labels:{platform}",))


def unlabelled_snapshots(connection: Connection, platform: str) -> list[int]:
    """The snapshots of the platform that no label took into account, by their numbers."""
    rows = connection.execute(
        "SELECT seq FROM outcome_snapshots WHERE platform = %s AND label_seq IS NULL", (platform,), binary=True
    )
    return [seq for (seq,) in rows]


def observed_posts(connection: Connection, platform: str) -> list[ObservedPost]:
    """Every post of the platform with its latest snapshot: observed last, and of those recorded last."""
    rows = connection.execute(
        """
        SELECT latest.post_id, posts.account, posts.post_type,
               extract(epoch FROM coalesce(posts.published_at, posts.first_seen_at))::float8, latest.seq, latest.metrics
        FROM (
            SELECT DISTINCT ON (post_id) post_id, seq, metrics FROM outcome_snapshots
            WHERE platform = %(platform)s ORDER BY post_id, observed_at DESC, seq DESC
        ) AS latest
        JOIN actp_feedback_posts AS posts ON posts.platform = %(platform)s AND posts.post_id = latest.post_id
        """,
        {"platform": platform},
        binary=True,
    )
    return [ObservedPost(*row) for row in rows]


def write_labels(
    connection: Connection,
    platform: str,
    classifications: Sequence[Classification],
    snapshots: Sequence[int],
    classifier_version: str,
) -> LabelChanges:
    """Add what changed to the history of labels, and mark the snapshots as taken into account.

    A post gets a new row where its label, its snapshot or the classifier is another one; the old row is superseded.
    """
    superseded = _supersede(connection, _columns(platform, classifications, classifier_version))
    changed = [each for each in classifications if each.post_id in superseded]
    # A second statement: within one, the new row and the superseded one would be current at the same time.
    connection.execute(
        """
        INSERT INTO outcome_labels (platform, post_id, snapshot_seq, label, reason, metric, value, score, multiple,
                                    reference_posts, classifier_version)
        SELECT %(platform)s, t.*, %(version)s FROM unnest(
            %(post_ids)s::text[], %(seqs)s::bigint[], %(labels)s::text[], %(reasons)s::text[], %(metrics)s::text[],
            %(values)s::float8[], %(scores)s::float8[], %(multiples)s::float8[], %(references)s::int[]) AS t
        """,
        _columns(platform, changed, classifier_version),
    )
    connection.execute(
        """
        UPDATE outcome_snapshots AS snapshots SET label_seq = labels.seq FROM outcome_labels AS labels
        WHERE snapshots.seq = ANY(%(snapshots)s) AND labels.platform = %(platform)s
            AND labels.post_id = snapshots.post_id AND labels.superseded_at IS NULL
        """,
        {"platform": platform, "snapshots": list(snapshots)},
    )
    labels: Counter[str] = Counter(each.label for each in changed)
    record(
        connection,
        [
            Record("everreach_posts_classified_total", posts, {"platform": platform, "classification": label})
            for label, posts in labels.items()
        ],
    )
    return LabelChanges(labels, len(classifications) - len(changed))


def _supersede(connection: Connection, given: dict[str, object]) -> set[str]:
    """End the current rows of the posts for which something else is given; answers these posts, new ones too."""
    row = connection.execute(
        """
        WITH given AS (
            SELECT * FROM unnest(
                %(post_ids)s::text[], %(seqs)s::bigint[], %(labels)s::text[], %(reasons)s::text[], %(metrics)s::text[],
                %(values)s::float8[], %(scores)s::float8[], %(multiples)s::float8[], %(references)s::int[])
            AS t (post_id, snapshot_seq, label, reason, metric, value, score, multiple, reference_posts)
        ), changed AS (
            SELECT given.* FROM given
            LEFT JOIN outcome_labels AS current
                ON current.platform = %(platform)s AND current.post_id = given.post_id AND current.superseded_at IS NULL
            WHERE (current.label, current.snapshot_seq, current.classifier_version)
                IS DISTINCT FROM (given.label, given.snapshot_seq, %(version)s)
        ), superseded AS (
            UPDATE outcome_labels AS old SET superseded_at = now() FROM changed
            WHERE old.platform = %(platform)s AND old.post_id = changed.post_id AND old.superseded_at IS NULL
            RETURNING old.seq
        )
        SELECT array_agg(post_id), (SELECT count(*) FROM superseded) FROM changed
        """,
        given,
    ).fetchone()
    return set(row[0] or ()) if row else set()


FLOP_WINDOW_DAYS = 30


def record_flop_rates(connection: Connection) -> None:
    """Note the share of flops among the posts of the last days that could be compared, by platform and niche.

    A post is of its day of publication, or where that is unknown, of the day on which it was first seen.
    """
    rows = connection.execute(
        """
        SELECT coalesce(platforms.value, 'other') AS platform, coalesce(niches.value, 'other') AS niche, count(*),
               count(*) FILTER (WHERE labels.label = 'flop')
        FROM outcome_labels AS labels
        JOIN actp_feedback_posts AS posts USING (platform, post_id)
        LEFT JOIN metric_label_values AS platforms
            ON platforms.value_set = 'platform' AND platforms.value = posts.platform
        LEFT JOIN metric_label_values AS niches ON niches.value_set = 'niche' AND niches.value = lower(posts.niche)
        WHERE labels.superseded_at IS NULL AND labels.label <> 'insufficient_data'
            AND coalesce(posts.published_at, posts.first_seen_at) >= now() - %s * interval '1 day'
        GROUP BY 1, 2
        """,
        (FLOP_WINDOW_DAYS,),
    ).fetchall()
    for metric, values in (
        ("everreach_flop_rate", [flops / posts for *_, posts, flops in rows]),
        ("everreach_flop_window_posts", [posts for *_, posts, _ in rows]),
    ):
        labels = [{"platform": platform, "niche": niche} for platform, niche, *_ in rows]
        replace_gauges(
            connection, metric, [Record(metric, value, each) for value, each in zip(values, labels, strict=True)]
        )


def label_counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many posts have each label now, by platform."""
    counts: dict[str, dict[str, int]] = {}
    for platform, label, posts in connection.execute(
        "SELECT platform, label, count(*) FROM outcome_labels WHERE superseded_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    ):
        counts.setdefault(platform, {})[label] = posts
    return counts


def posts_without_one_label(connection: Connection) -> int:
    """Posts whose outcomes were all taken into account and that do not have exactly one current label; 0 is right."""
    row = connection.execute(
        """
        SELECT count(*) FROM (
            SELECT snapshots.platform, snapshots.post_id FROM outcome_snapshots AS snapshots
            LEFT JOIN outcome_labels AS labels
                ON labels.platform = snapshots.platform AND labels.post_id = snapshots.post_id
                AND labels.superseded_at IS NULL
            WHERE snapshots.label_seq IS NOT NULL
            GROUP BY 1, 2 HAVING count(DISTINCT labels.seq) <> 1
        ) AS wrong
        """
    ).fetchone()
    return int(row[0]) if row else 0


def _columns(platform: str, classifications: Sequence[Classification], version: str) -> dict[str, object]:
    return {
        "platform": platform,
        "version": version,
        "post_ids": [each.post_id for each in classifications],
        "seqs": [each.snapshot_seq for each in classifications],
        "labels": [each.label for each in classifications],
        "reasons": [each.reason for each in classifications],
        "metrics": [each.metric for each in classifications],
        "values": [each.value for each in classifications],
        "scores": [each.score for each in classifications],
        "multiples": [each.multiple for each in classifications],
        "references": [each.reference_posts for each in classifications],
    }
