"""Strategies in force, their archive, and the outcomes that none of them has taken into account."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.strategy_model import Strategy
from resources.database import Connection
from resources.metric_records import Record, record


@dataclass(frozen=True)
class StoredStrategy:
    """A strategy as it was stored."""

    strategy_id: int
    platform: str
    strategy: Mapping[str, Any]
    summary: str
    outcomes: int
    new_outcomes: int
    created_at: dt.datetime

    @property
    def content(self) -> Strategy | None:
        """The strategy; None where a builder made it whose form is no longer read."""
        try:
            return Strategy.model_validate(self.strategy)
        except ValidationError:
            return None


def new_outcomes(connection: Connection) -> dict[str, int]:
    """Distinct posts with an outcome that no strategy has consumed, by platform.

    An outcome that reports nothing usable is none.
    """
    return dict(
        connection.execute(
            "SELECT platform, count(DISTINCT post_id) FROM outcome_snapshots"
            " WHERE strategy_id IS NULL AND metrics <> '{}' GROUP BY platform ORDER BY platform"
        ).fetchall()
    )


def lock_strategy(connection: Connection, platform: str) -> None:
    """Let one transaction at a time replace the strategy of a platform."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"strategy:{platform}",))


def new_labelled_outcomes(connection: Connection, platform: str) -> list[tuple[int, str]]:
    """Number and post of the snapshots that are labelled and that no strategy has consumed."""
    return connection.execute(
        "SELECT seq, post_id FROM outcome_snapshots"
        " WHERE platform = %s AND strategy_id IS NULL AND label_seq IS NOT NULL AND metrics <> '{}'",
        (platform,),
    ).fetchall()


def labelled_outcomes(connection: Connection, platform: str) -> list[LabelledOutcome]:
    """The platform's posts that could be compared with others, with their texts as they are stored."""
    rows = connection.execute(
        """
        SELECT posts.platform || ':' || posts.post_id, posts.account, posts.post_type, posts.niche, posts.text,
               posts.published_at, labels.label, labels.metric, labels.value, labels.score,
               CASE WHEN labels.score = 0 OR labels.multiple = 0 THEN 1 ELSE ln(labels.multiple) / labels.score END
        FROM outcome_labels AS labels JOIN actp_feedback_posts AS posts USING (platform, post_id)
        WHERE labels.platform = %s AND labels.superseded_at IS NULL AND labels.score IS NOT NULL
        ORDER BY posts.post_id
        """,
        (platform,),
        binary=True,
    )
    return [LabelledOutcome(*row) for row in rows]


def replace_strategy(
    connection: Connection,
    strategy: Strategy,
    *,
    summary: str,
    snapshots: Sequence[int],
    new_outcomes: int,
) -> StoredStrategy:
    """Archive the strategy in force, put this one in its place, and note the snapshots that it consumed."""
    connection.execute(
        """
        WITH old AS (DELETE FROM actp_feedback_strategy WHERE platform = %s RETURNING *)
        INSERT INTO actp_feedback_strategy_archive SELECT old.*, now() FROM old
        """,
        (strategy.platform,),
    )
    row = connection.execute(
        """
        INSERT INTO actp_feedback_strategy
            (platform, strategy, summary, outcomes, new_outcomes, snapshot_watermark, builder_version)
        VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING strategy_id
        """,
        (
            strategy.platform,
            Jsonb(strategy.model_dump(mode="json")),
            summary,
            strategy.inputs.outcomes,
            new_outcomes,
            strategy.inputs.snapshot_watermark,
            strategy.inputs.builder_version,
        ),
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING of one row has one row
    connection.execute("UPDATE outcome_snapshots SET strategy_id = %s WHERE seq = ANY(%s)", (row[0], list(snapshots)))
    stored = strategy_in_force(connection, strategy.platform)
    assert stored is not None  # noqa: S101 - it was just written
    return stored


def record_rebuild(connection: Connection, platform: str, result: str) -> None:
    """Count a rebuild, or a look that found too little to rebuild."""
    record(connection, [Record("everreach_strategy_rebuilds_total", 1, {"platform": platform, "result": result})])


def strategy_in_force(connection: Connection, platform: str) -> StoredStrategy | None:
    """The platform's strategy, or None where there is none yet."""
    row = connection.execute(
        "SELECT strategy_id, platform, strategy, summary, outcomes, new_outcomes, created_at"
        " FROM actp_feedback_strategy WHERE platform = %s",
        (platform,),
    ).fetchone()
    return None if row is None else StoredStrategy(*row)


def cited_posts_that_are_gone(connection: Connection) -> int:
    """Posts that a strategy in force cites and that do not exist; 0 is right."""
    row = connection.execute(
        """
        SELECT count(*) FROM (SELECT DISTINCT doc_id FROM strategy_citations) AS cited
        WHERE NOT EXISTS (
            SELECT FROM actp_feedback_posts AS posts
            WHERE posts.platform = split_part(cited.doc_id, ':', 1)
                AND posts.post_id = substr(cited.doc_id, strpos(cited.doc_id, ':') + 1))
        """
    ).fetchone()
    return int(row[0]) if row else 0
