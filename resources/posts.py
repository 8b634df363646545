"""The posts and the snapshots of their metrics: what writes them.

What belongs here: the statements on `outcome_snapshots`, and the recording of one outcome. What does not: files
(`resources/intake.py`) and what an outcome means (`domain/outcomes.py`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from psycopg.types.json import Jsonb

from everreach_assets.domain.posts import Outcome, RecordedOutcome
from resources.database import SQL_FOLDER, Connection, Database
from resources.intake_metrics import record_intake
from resources.merge import POSTS, merge_staged

_ONE_ROW = """staged AS (
    SELECT 1 AS line, NULL::text AS reason, %(platform)s::text AS platform, %(post_id)s::text AS post_id,
           %(account)s::text AS account, %(post_type)s::text AS post_type, ''::text AS niche, %(text)s::text AS text,
           ''::text AS url, %(published_at)s::timestamptz AS published_at, %(observed_at)s::timestamptz AS observed_at,
           %(metrics)s::jsonb AS metrics, jsonb_build_object() AS attributes)"""


def record_outcome(database: Database, outcome: Outcome) -> RecordedOutcome:
    """Register the post where it is unknown, and append the snapshot where it is news, in one transaction.

    It is committed when this returns. The same outcome again, also from two callers at once, is one row.

    Raises:
        Unavailable: the database did not answer; record it again, it cannot be doubled.
    """
    values = {**asdict(outcome), "metrics": Jsonb(outcome.metrics)}
    with database.transaction() as connection:
        merge_staged(connection, POSTS, staged=_ONE_ROW, values=values)
        appended = append_snapshots(connection, staged=_ONE_ROW, values=values)
        record_intake(connection, "api", 1)
        if appended:
            return RecordedOutcome(appended[0], is_new=True)
        row = connection.execute(
            "SELECT max(seq) FROM outcome_snapshots WHERE platform = %(platform)s AND post_id = %(post_id)s"
            " AND metrics = %(metrics)s AND observed_at = coalesce(%(observed_at)s, observed_at)",
            values,
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has one row
        return RecordedOutcome(row[0], is_new=False)


def append_snapshots(
    connection: Connection, *, staged: str = "", values: Mapping[str, object] | None = None
) -> list[int]:
    """Append the metrics of the rows of `staged`, as `merge_staged` understands it; answers the new rows' `seq`."""
    statement = "WITH " + (f"{staged}, " if staged else "") + _append_statement()
    return [seq for (seq,) in connection.execute(statement.encode(), values)]


@functools.cache
def _append_statement() -> str:
    return (SQL_FOLDER / "queries" / "append_snapshots.sql").read_text(encoding="utf-8")


def texts(connection: Connection, doc_ids: Sequence[str]) -> dict[str, str]:
    """The texts, not scrubbed, of posts by their document ids (`platform:post_id`)."""
    rows = connection.execute(
        "SELECT platform || ':' || post_id, text FROM actp_feedback_posts"
        " WHERE (platform, post_id) IN (SELECT split_part(id, ':', 1), substr(id, strpos(id, ':') + 1)"
        " FROM unnest(%s::text[]) AS id)",
        (list(doc_ids),),
    )
    return dict(rows.fetchall())


def synthetic_posts(connection: Connection) -> int:
    """Posts of the project's own sample."""
    row = connection.execute("SELECT count(*) FROM actp_feedback_posts WHERE attributes ? 'synthetic'").fetchone()
    return int(row[0]) if row else 0
