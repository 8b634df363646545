"""Strategies in force, their archive, and the outcomes that none of them has taken into account.

What does not belong here: when each was in force, and going back to an earlier one (`strategy_history.py`).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.strategy_model import Strategy
from resources.database import Connection
from resources.metric_records import Record, record

Status = Literal["accepted", "held"]

IN_FORCE, ARCHIVE = sql.Identifier("actp_feedback_strategy"), sql.Identifier("actp_feedback_strategy_archive")
NAMES = (
    "strategy_id", "platform", "status", "reason", "strategy", "summary", "outcomes", "new_outcomes",
    "snapshot_watermark", "builder_version", "created_at",
)  # fmt: skip
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, NAMES))
"""Of both tables; the archive has `archived_at` besides."""


@dataclass(frozen=True)
class StoredStrategy:
    """A strategy as it was built.

    Attributes:
        status: `held` where the gate kept it out of force; `reason` says why, or why not.
        content: None where a builder made it whose form is no longer read; its summary still tells.
        created_at: it knows what was labelled until then.
    """

    strategy_id: int
    platform: str
    status: Status
    reason: str
    content: Strategy | None
    summary: str
    outcomes: int
    new_outcomes: int
    snapshot_watermark: int
    builder_version: str
    created_at: dt.datetime


def lock_strategy(connection: Connection, platform: str) -> None:
    """Let one transaction at a time replace the strategy of a platform."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"strategy:{platform}",))


def now(connection: Connection) -> dt.datetime:
    """The time now by the clock of the database, whenever the transaction began."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row[0]  # type: ignore[no-any-return]


def new_labelled_outcomes(connection: Connection, platform: str) -> list[tuple[int, str]]:
    """Number and post of the snapshots that are labelled and that no strategy has consumed."""
    return connection.execute(
        "SELECT seq, post_id FROM outcome_snapshots"
        " WHERE platform = %s AND strategy_id IS NULL AND label_seq IS NOT NULL AND metrics <> '{}'",
        (platform,),
    ).fetchall()


def labelled_outcomes(connection: Connection, platform: str, as_of: dt.datetime | None = None) -> list[LabelledOutcome]:
    """The platform's posts that could be compared with others, with their texts as they are stored.

    Args:
        as_of: with the labels that were known then; None: with those of now.
    """
    rows = connection.execute(
        """
        SELECT posts.platform || ':' || posts.post_id, posts.account, posts.post_type, posts.niche, posts.text,
               posts.published_at, labels.label, labels.metric, labels.value, labels.score, labels.spread,
               labels.confidence, labels.is_final
        FROM outcome_labels AS labels JOIN actp_feedback_posts AS posts USING (platform, post_id)
        WHERE labels.platform = %(platform)s AND labels.score IS NOT NULL AND labels.spread IS NOT NULL
            AND CASE WHEN %(as_of)s::timestamptz IS NULL THEN labels.superseded_at IS NULL
                     ELSE labels.labelled_at <= %(as_of)s
                          AND (labels.superseded_at IS NULL OR labels.superseded_at > %(as_of)s) END
        ORDER BY posts.post_id
        """,
        {"platform": platform, "as_of": as_of},
        binary=True,
    )
    return [LabelledOutcome(*row) for row in rows]


def consumed_posts(connection: Connection, strategy: StoredStrategy) -> set[str]:
    """Ids of the posts with an outcome that the strategy took into account, or one of its platform before it."""
    rows = connection.execute(
        "SELECT DISTINCT platform || ':' || post_id FROM outcome_snapshots WHERE platform = %s AND strategy_id <= %s",
        (strategy.platform, strategy.strategy_id),
    )
    return {doc_id for (doc_id,) in rows}


def store_strategy(
    connection: Connection,
    strategy: Strategy,
    *,
    summary: str,
    snapshots: Sequence[int],
    new_outcomes: int,
    created_at: dt.datetime,
) -> StoredStrategy:
    """Store a strategy as its verdict says, and note the snapshots that it consumed: a held one consumes them too.

    An accepted one takes the place of the one in force, which goes to the archive; a held one goes there at once.
    """
    verdict, platform = strategy.verdict, strategy.platform
    assert verdict is not None  # noqa: S101 - the builder asks the gate first
    if verdict.is_accepted:
        archive(connection, platform)
    row = connection.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns})"
            " VALUES (nextval(pg_get_serial_sequence('actp_feedback_strategy', 'strategy_id')), {values})"
            " RETURNING {columns}"
        ).format(
            table=IN_FORCE if verdict.is_accepted else ARCHIVE,
            columns=COLUMNS,
            values=sql.SQL(", ").join(map(sql.Placeholder, NAMES[1:])),
        ),
        {
            "platform": platform,
            "status": "accepted" if verdict.is_accepted else "held",
            "reason": verdict.reason,
            "strategy": Jsonb(strategy.model_dump(mode="json")),
            "summary": summary,
            "outcomes": strategy.inputs.outcomes,
            "new_outcomes": new_outcomes,
            "snapshot_watermark": strategy.inputs.snapshot_watermark,
            "builder_version": strategy.inputs.builder_version,
            "created_at": created_at,
        },
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING of one row has one row
    stored = stored_strategy(row)
    if verdict.is_accepted:
        begin_term(connection, stored)
    connection.execute(
        "UPDATE outcome_snapshots SET strategy_id = %s WHERE seq = ANY(%s)", (stored.strategy_id, list(snapshots))
    )
    return stored


def archive(connection: Connection, platform: str) -> None:
    """Move the strategy in force, where there is one, to the archive."""
    connection.execute(
        sql.SQL(
            "WITH old AS (DELETE FROM {in_force} WHERE platform = %s RETURNING {columns})"
            " INSERT INTO {archive} ({columns}) SELECT * FROM old"
        ).format(in_force=IN_FORCE, archive=ARCHIVE, columns=COLUMNS),
        (platform,),
    )


def begin_term(connection: Connection, strategy: StoredStrategy, *, decided_by: str | None = None) -> None:
    """Note that the strategy is in force from now on, where the term before ends.

    Args:
        decided_by: who went back to it; None: a rebuild made it.
    """
    ended = connection.execute(
        # The clock and not the transaction's start, which may lie before the term began that is ended here.
        "UPDATE strategy_terms SET until = greatest(clock_timestamp(), since)"
        " WHERE platform = %s AND until IS NULL RETURNING until",
        (strategy.platform,),
    ).fetchone()
    connection.execute(
        "INSERT INTO strategy_terms (platform, strategy_id, since, began_by, decided_by)"
        " VALUES (%s, %s, coalesce(%s, clock_timestamp()), %s, %s)",
        (
            strategy.platform,
            strategy.strategy_id,
            ended[0] if ended else None,
            "rollback" if decided_by else "rebuild",
            decided_by,
        ),
    )


def record_rebuild(connection: Connection, platform: str, result: Literal["rebuilt", "held", "unchanged"]) -> None:
    """Count a rebuild, or a look that found too little to rebuild."""
    record(connection, [Record("everreach_strategy_rebuilds_total", 1, {"platform": platform, "result": result})])


def record_wording(connection: Connection, results: Mapping[str, int]) -> None:
    """Count what came of asking a language model for the wording of claims."""
    record(
        connection, [Record("everreach_strategy_wordings_total", n, {"result": each}) for each, n in results.items()]
    )


def strategy_in_force(connection: Connection, platform: str) -> StoredStrategy | None:
    """The platform's strategy, or None where there is none yet."""
    row = connection.execute(
        sql.SQL("SELECT {columns} FROM {table} WHERE platform = %s").format(columns=COLUMNS, table=IN_FORCE),
        (platform,),
    ).fetchone()
    return None if row is None else stored_strategy(row)


def stored_strategy(row: Sequence[Any]) -> StoredStrategy:
    """A row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    try:
        content = Strategy.model_validate(values.pop("strategy"))
    except ValidationError:
        content = None
    return StoredStrategy(content=content, **values)


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
