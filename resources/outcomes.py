"""Snapshots to label, and the history of labels. How a label is found does not belong here (`domain/outcomes.py`)."""

import dataclasses
import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

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


def unlabelled(connection: Connection) -> dict[str, int]:
    """Snapshots that no label took into account, by platform."""
    return dict(
        connection.execute(
            "SELECT platform, count(*) FROM outcome_snapshots WHERE label_seq IS NULL GROUP BY platform"
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
    """Every post of the platform with its snapshots; of several of one time, the one recorded last."""
    rows = connection.execute(
        """
        SELECT post_id, posts.account, posts.post_type,
               extract(epoch FROM coalesce(posts.published_at, posts.first_seen_at))::float8, snapshots.seq,
               snapshots.metrics, extract(epoch FROM snapshots.observed_at - posts.published_at)::float8, posts.niche
        FROM (
            SELECT DISTINCT ON (post_id, observed_at) post_id, observed_at, seq, metrics FROM outcome_snapshots
            WHERE platform = %(platform)s ORDER BY post_id, observed_at, seq DESC
        ) AS snapshots
        JOIN actp_feedback_posts AS posts USING (post_id)
        WHERE posts.platform = %(platform)s ORDER BY post_id, snapshots.observed_at
        """,
        {"platform": platform},
        binary=True,
    )
    posts = []
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        *before, latest = group
        posts.append(dataclasses.replace(ObservedPost(*latest), earlier=tuple((row[6], row[5]) for row in before)))
    return posts


def write_labels(
    connection: Connection,
    platform: str,
    classifications: Sequence[Classification],
    snapshots: Sequence[int],
    classifier_version: str,
) -> LabelChanges:
    """Add what changed to the history of labels, and mark the snapshots as taken into account.

    A post gets a new row where the verdict is another one (`_VERDICT`); the old row is superseded.
    """
    given = [*_COLUMNS, "classifier_version"]
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE given ON COMMIT DROP AS SELECT {} FROM outcome_labels WITH NO DATA").format(
            _names(given)
        )
    )
    copy_into = sql.SQL("COPY given ({}) FROM STDIN").format(_names(given))
    with connection.cursor() as cursor, cursor.copy(copy_into) as copy:
        for each in classifications:
            copy.write_row([*map(vars(each).__getitem__, _COLUMNS), classifier_version])
    connection.execute("ANALYZE given")
    # Not now(), which is when the transaction began: it may have waited since for the labels of another one.
    (moment,) = connection.execute("SELECT clock_timestamp()").fetchall()[0]
    values = {"platform": platform, "moment": moment}
    changed = connection.execute(_SUPERSEDE.encode(), values).fetchall()
    # A second statement: within one, the new row and the superseded one would be current at the same time.
    connection.execute(
        sql.SQL(
            "INSERT INTO outcome_labels (platform, labelled_at, observed_at, {names})"
            " SELECT {platform}, {moment}, snapshots.observed_at, {given} FROM given"
            " JOIN outcome_snapshots AS snapshots ON snapshots.seq = given.snapshot_seq"
            " WHERE given.post_id = ANY({post_ids}) ORDER BY given.post_id"
        ).format(
            names=_names(given),
            given=sql.SQL(", ").join(sql.Identifier("given", name) for name in given),
            platform=sql.Placeholder("platform"),
            moment=sql.Placeholder("moment"),
            post_ids=sql.Placeholder("post_ids"),
        ),
        values | {"post_ids": [post_id for post_id, _ in changed]},
    )
    connection.execute("DROP TABLE given")
    connection.execute(
        """
        UPDATE outcome_snapshots AS snapshots SET label_seq = labels.seq
        FROM unnest(%(snapshots)s::bigint[]) AS given (seq), outcome_labels AS labels
        WHERE snapshots.seq = given.seq AND labels.platform = %(platform)s
            AND labels.post_id = snapshots.post_id AND labels.superseded_at IS NULL
        """,
        {"platform": platform, "snapshots": list(snapshots)},
    )
    labels: Counter[str] = Counter(label for _, label in changed)
    record(
        connection,
        [
            Record("everreach_posts_classified_total", posts, {"platform": platform, "classification": label})
            for label, posts in labels.items()
        ],
    )
    return LabelChanges(labels, len(classifications) - len(changed))


_COLUMNS = tuple(each.name for each in dataclasses.fields(Classification))
"""A classification is a row of `outcome_labels`, field by field."""

_VERDICT = ", ".join(
    [
        "{0}.label, {0}.snapshot_seq, {0}.checkpoint, {0}.is_final, {0}.is_borderline, {0}.classifier_version",
        "round({0}.score::numeric, 2), round({0}.spread::numeric, 2)",
    ]
)
"""What makes a new row. Score and spread count to two places: a hair's breadth is no other verdict."""

_SUPERSEDE = f"""
    WITH changed AS (
        SELECT given.post_id, given.label FROM given
        LEFT JOIN outcome_labels AS current
            ON current.platform = %(platform)s AND current.post_id = given.post_id AND current.superseded_at IS NULL
        WHERE ({_VERDICT.format("current")}) IS DISTINCT FROM ({_VERDICT.format("given")})
    ), superseded AS (
        UPDATE outcome_labels AS old SET superseded_at = %(moment)s FROM changed
        WHERE old.platform = %(platform)s AND old.post_id = changed.post_id AND old.superseded_at IS NULL
    )
    SELECT post_id, label FROM changed
"""  # noqa: S608


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


@dataclass(frozen=True)
class LabelRow:
    """One row of a post's label history. `observed_at` is valid time, the other two are transaction time."""

    label: str
    checkpoint: str | None
    is_final: bool
    confidence: float | None
    is_borderline: bool
    reason: str
    classifier_version: str
    observed_at: dt.datetime
    labelled_at: dt.datetime
    superseded_at: dt.datetime | None


def label_history(
    connection: Connection, platform: str, post_id: str, *, known_at: dt.datetime | None = None
) -> list[LabelRow]:
    """Every label that the post has had, as it was known then (None: now), oldest first."""
    rows = connection.execute(
        """
        SELECT label, checkpoint, is_final, confidence, is_borderline, reason, classifier_version, observed_at,
               labelled_at, CASE WHEN superseded_at <= %(known)s THEN superseded_at END
        FROM outcome_labels
        WHERE platform = %(platform)s AND post_id = %(post_id)s AND labelled_at <= %(known)s
        ORDER BY seq
        """,
        {"platform": platform, "post_id": post_id, "known": known_at or dt.datetime.max.replace(tzinfo=dt.UTC)},
    )
    return [LabelRow(*row) for row in rows]


def label_at(history: Sequence[LabelRow], valid_at: dt.datetime | None = None) -> LabelRow | None:
    """The row that holds for that time (None: the latest) by a history: of the last observation until then, the one
    labelled last."""
    valid = [row for row in history if valid_at is None or row.observed_at <= valid_at]
    return max(reversed(valid), key=lambda row: (row.observed_at, row.labelled_at), default=None)


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
