"""The ledger of rebuilds: which outcomes no strategy has consumed, and which rebuilds were asked for since the last.

What belongs here: the statements on the marks of `outcome_snapshots` and on sql/migrations/0020_rebuild_requests.sql.
What does not: when a rebuild is due (`domain/rebuilds.py`) and building it (`strategy_builder.py`).
"""

import datetime as dt
from collections.abc import Iterable

from everreach_assets.domain.rebuilds import Progress
from resources.database import Connection

PROGRESS = """
    SELECT fresh.platform::text AS platform, fresh.posts, last.built AS since_strategy,
        coalesce(asked.attempts, 0) AS attempts, now() - asked.requested_at AS waited
    FROM (
        SELECT platform, count(DISTINCT post_id) AS posts FROM outcome_snapshots
        WHERE strategy_id IS NULL AND metrics <> '{}' GROUP BY platform
    ) AS fresh
    CROSS JOIN LATERAL (
        SELECT max(strategy_id) AS built FROM (
            SELECT strategy_id FROM actp_feedback_strategy WHERE platform = fresh.platform
            UNION ALL
            SELECT strategy_id FROM actp_feedback_strategy_archive WHERE platform = fresh.platform
        ) AS strategies
    ) AS last
    LEFT JOIN strategy_rebuild_requests AS asked
        ON asked.platform = fresh.platform AND asked.since_strategy = coalesce(last.built, 0)
"""
"""One statement, so that one moment is seen: what a strategy consumed, and that strategy. An outcome that reports
nothing usable is none. Requests of before the last strategy are of the past."""


LOCK_SECONDS = 15.0
STATEMENT_SECONDS = 10.0
"""That a decision waits for another one, for each of its three statements, and holds the lock while Dagster is asked:
together, once there is a connection, less than the minute after which Dagster gives an evaluation up, while its code
server would go on with it."""


def lock(connection: Connection) -> None:
    """Let one transaction at a time decide what to ask for: with two daemons, the second sees what the first asked.

    Nobody holds it without end: neither a slow statement nor who does something else meanwhile.
    """
    _limit(connection, "statement_timeout", LOCK_SECONDS)
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('strategy_rebuild_requests'))")
    _limit(connection, "statement_timeout", STATEMENT_SECONDS)
    _limit(connection, "idle_in_transaction_session_timeout", STATEMENT_SECONDS)


def _limit(connection: Connection, setting: str, seconds: float) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", (setting, f"{seconds * 1000:.0f}ms"))


def progress(connection: Connection) -> dict[str, Progress]:
    """What is new and what was asked for, of every platform with a new outcome."""
    rows = connection.execute(f"{PROGRESS} ORDER BY platform")
    return {platform: Progress(*known) for platform, *known in rows}


def note_requests(connection: Connection, platforms: Iterable[str]) -> None:
    """Note that a rebuild of each of these is asked for now: the first since its last strategy, or one more."""
    connection.execute(
        f"""
        INSERT INTO strategy_rebuild_requests AS asked (platform, since_strategy, attempts, requested_at)
        SELECT platform, coalesce(since_strategy, 0), attempts + 1, now() FROM ({PROGRESS}) AS progress
        WHERE platform = ANY(%s)
        ON CONFLICT (platform) DO UPDATE SET since_strategy = EXCLUDED.since_strategy,
            attempts = EXCLUDED.attempts, requested_at = EXCLUDED.requested_at
        """,  # noqa: S608 - a constant
        (list(platforms),),
    )


def stale(connection: Connection, after: dt.timedelta) -> dict[str, dt.datetime]:
    """The platforms with an outcome that has waited for longer, and since when the oldest has."""
    rows = connection.execute(
        "SELECT platform::text, min(recorded_at) FROM outcome_snapshots"
        " WHERE strategy_id IS NULL AND metrics <> '{}' AND recorded_at < now() - %s"
        " GROUP BY platform ORDER BY platform",
        (after,),
    )
    return dict(rows.fetchall())
