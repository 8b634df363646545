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

_GIVEN = """staged AS (
    SELECT line, NULL::text AS reason, platform, post_id, account, post_type, ''::text AS niche, text, ''::text AS url,
           published_at, observed_at, metrics, jsonb_build_object() AS attributes
    FROM jsonb_to_recordset(%(given)s::jsonb) AS given (line int8, platform text, post_id text, account text,
         post_type text, text text, published_at timestamptz, observed_at timestamptz, metrics jsonb))"""


def record_outcome(database: Database, outcome: Outcome) -> RecordedOutcome:
    """Register the post where it is unknown, and append the snapshot where it is news, in one transaction.

    It is committed when this returns. The same outcome again, also from two callers at once, is one row.

    Raises:
        Unavailable: the database did not answer; record it again, it cannot be doubled.
    """
    return record_outcomes(database, [outcome])[0]


def record_outcomes(database: Database, outcomes: Sequence[Outcome]) -> list[RecordedOutcome]:
    """`record_outcome` for several, in one transaction; answers one for each, in their order.

    Of two that are the same, the first one is the new one. Of two of one post, what the later one says of it wins.
    """
    values = {"given": Jsonb([_row(line, outcome) for line, outcome in enumerate(outcomes)])}
    with database.transaction() as connection:
        merge_staged(connection, POSTS, staged=_GIVEN, values=values)
        new = set(append_snapshots(connection, staged=_GIVEN, values=values))
        record_intake(connection, "api", len(outcomes))
        rows = connection.execute(
            f"WITH {_GIVEN} SELECT line, max(known.seq) FROM staged JOIN outcome_snapshots AS known"  # noqa: S608
            " ON known.platform = staged.platform AND known.post_id = staged.post_id"
            " AND known.metrics = staged.metrics"
            " AND known.observed_at = coalesce(staged.observed_at, known.observed_at) GROUP BY line".encode(),
            values,
        )
        seqs = dict(rows.fetchall())
    recorded: list[RecordedOutcome] = []
    for line in range(len(outcomes)):
        recorded.append(RecordedOutcome(seqs[line], is_new=seqs[line] in new))
        new.discard(seqs[line])
    return recorded


def _row(line: int, outcome: Outcome) -> dict[str, object]:
    times = {
        name: moment.isoformat() if moment else None
        for name, moment in (("observed_at", outcome.observed_at), ("published_at", outcome.published_at))
    }
    return asdict(outcome) | times | {"line": line}


def append_snapshots(
    connection: Connection, *, staged: str = "", values: Mapping[str, object] | None = None
) -> list[int]:
    """Append the metrics of the rows of `staged`, as `merge_staged` understands it; answers the new rows' `seq`."""
    statement = "WITH " + (f"{staged}, " if staged else "") + _append_statement()
    return [seq for (seq,) in connection.execute(statement.encode(), values)]


@functools.cache
def _append_statement() -> str:
    return (SQL_FOLDER / "queries" / "append_snapshots.sql").read_text(encoding="utf-8")


_OF_DOC_IDS = """ FROM actp_feedback_posts WHERE (platform, post_id) IN
    (SELECT split_part(id, ':', 1), substr(id, strpos(id, ':') + 1) FROM unnest(%s::text[]) AS id)"""


def texts(connection: Connection, doc_ids: Sequence[str]) -> dict[str, str]:
    """The texts, not scrubbed, of posts by their document ids (`platform:post_id`)."""
    return dict(
        connection.execute(
            ("SELECT platform || ':' || post_id, text" + _OF_DOC_IDS).encode(), (list(doc_ids),)
        ).fetchall()
    )


def addresses(connection: Connection, doc_ids: Sequence[str]) -> dict[str, str]:
    """The addresses of posts on their platforms, by document id; of those that have none there is none."""
    return dict(
        connection.execute(
            ("SELECT platform || ':' || post_id, url" + _OF_DOC_IDS + " AND url <> ''").encode(), (list(doc_ids),)
        ).fetchall()
    )


def synthetic_posts(connection: Connection) -> int:
    """Posts of the project's own sample."""
    row = connection.execute("SELECT count(*) FROM actp_feedback_posts WHERE attributes ? 'synthetic'").fetchone()
    return int(row[0]) if row else 0
