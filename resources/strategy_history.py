"""What was in force when, what was held, and going back to an earlier strategy.

What does not belong here: storing a new strategy (`strategies.py`) and deciding whether it is accepted
(`everreach_assets/domain/backtests.py`).
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from everreach_assets.domain.errors import InvalidInput, NotFound
from resources.database import Connection
from resources.strategies import (
    ARCHIVE,
    COLUMNS,
    IN_FORCE,
    Status,
    StoredStrategy,
    archive,
    begin_term,
    lock_strategy,
    now,
    stored_strategy,
    strategy_in_force,
)

ALL = sql.SQL("SELECT {columns} FROM {in_force} UNION ALL SELECT {columns} FROM {archive}").format(
    columns=COLUMNS, in_force=IN_FORCE, archive=ARCHIVE
)


@dataclass(frozen=True)
class HistoryEntry:
    """A term of a strategy in force, or a strategy that was held and never was.

    Attributes:
        since, until: of the term; `until` is None while it lasts; both are None where the strategy was held.
        began_by, decided_by: `rollback` and who went back, or `rebuild`.
    """

    strategy_id: int
    platform: str
    status: Status
    reason: str
    outcomes: int
    new_outcomes: int
    created_at: dt.datetime
    since: dt.datetime | None
    until: dt.datetime | None
    began_by: Literal["rebuild", "rollback"] | None
    decided_by: str | None


def history(connection: Connection, platform: str | None = None) -> list[HistoryEntry]:
    """What happened to the strategies of the platform, or of all, oldest first."""
    rows = connection.execute(
        sql.SQL(
            """
            SELECT strategy_id, made.platform::text, status, reason, outcomes, new_outcomes, created_at, since, until,
                   began_by, decided_by
            FROM ({all}) AS made LEFT JOIN strategy_terms USING (strategy_id)
            WHERE made.platform = %(platform)s OR %(platform)s::text IS NULL
            ORDER BY 2, coalesce(since, created_at), strategy_id
            """
        ).format(all=ALL),
        {"platform": platform},
    )
    return [HistoryEntry(*row) for row in rows]


def in_force_at(connection: Connection, platform: str, moment: dt.datetime) -> StoredStrategy:
    """The strategy that was in force on the platform: from the start of its term until just before the end.

    Raises:
        InvalidInput: the moment is yet to come.
        NotFound: there was none.
    """
    if moment > now(connection):
        raise InvalidInput(f"{_shown(moment)} is yet to come: leave --as-of out for what is in force now")
    row = connection.execute(
        sql.SQL(
            "SELECT {columns} FROM ({all}) AS made WHERE strategy_id = (SELECT strategy_id FROM strategy_terms"
            " WHERE platform = %(platform)s AND since <= %(moment)s AND (until IS NULL OR until > %(moment)s))"
        ).format(columns=COLUMNS, all=ALL),
        {"platform": platform, "moment": moment},
    ).fetchone()
    if row is None:
        first = connection.execute("SELECT min(since) FROM strategy_terms WHERE platform = %s", (platform,)).fetchone()
        known = f"the first came into force at {_shown(first[0])}" if first and first[0] else "there never was one"
        raise NotFound(f"no strategy was in force on {platform} at {_shown(moment)}: {known}")
    return stored_strategy(row)


def strategy_numbered(connection: Connection, platform: str, strategy_id: int) -> StoredStrategy:
    """The platform's strategy of that number, in force, replaced or held.

    Raises:
        NotFound: the platform has none of that number.
    """
    row = connection.execute(
        sql.SQL("SELECT {columns} FROM ({all}) AS made WHERE platform = %s AND strategy_id = %s").format(
            columns=COLUMNS, all=ALL
        ),
        (platform, strategy_id),
    ).fetchone()
    if row is None:
        raise NotFound(f"{platform} has no strategy {strategy_id}: 'everreach strategy list {platform}' shows them")
    return stored_strategy(row)


def latest_held(connection: Connection, platform: str) -> StoredStrategy | None:
    """The last strategy of the platform that the gate held; None where it held none."""
    row = connection.execute(
        sql.SQL(
            "SELECT {columns} FROM {archive} WHERE platform = %s AND status = 'held' ORDER BY strategy_id DESC LIMIT 1"
        ).format(columns=COLUMNS, archive=ARCHIVE),
        (platform,),
    ).fetchone()
    return None if row is None else stored_strategy(row)


def before(connection: Connection, strategy: StoredStrategy) -> StoredStrategy | None:
    """The strategy that was in force on the platform and made last before this one; None where there is none."""
    row = connection.execute(
        "SELECT max(strategy_id) FROM strategy_terms WHERE platform = %s AND strategy_id < %s",
        (strategy.platform, strategy.strategy_id),
    ).fetchone()
    return strategy_numbered(connection, strategy.platform, row[0]) if row and row[0] else None


def roll_back(connection: Connection, platform: str, *, old: int, new: int, decided_by: str) -> StoredStrategy:
    """Put a strategy in force again that was so before, as a term of its own; the other goes to the archive.

    Args:
        connection: in a transaction.
        old: the strategy in force, as the caller has seen it.
        new: the one to go back to.
        decided_by: for the history.

    Raises:
        InvalidInput: `new` is in force, or never was; or another than `old` is in force by now.
        NotFound: the platform has no strategy `new`.
    """
    lock_strategy(connection, platform)
    current = strategy_in_force(connection, platform)
    if current is None or current.strategy_id != old:
        there = f"strategy {current.strategy_id}" if current else "none"
        raise InvalidInput(f"{there} is in force on {platform}, no longer strategy {old}: look at it, then decide anew")
    target = strategy_numbered(connection, platform, new)
    if new == old:
        raise InvalidInput(f"strategy {new} of {platform} is in force already")
    if target.status == "held":
        raise InvalidInput(f"strategy {new} of {platform} was held and never in force: {target.reason}")
    archive(connection, platform)
    connection.execute(
        sql.SQL(
            "WITH again AS (DELETE FROM {archive} WHERE strategy_id = %s RETURNING {columns})"
            " INSERT INTO {in_force} ({columns}) SELECT * FROM again"
        ).format(archive=ARCHIVE, in_force=IN_FORCE, columns=COLUMNS),
        (new,),
    )
    begin_term(connection, target, decided_by=decided_by)
    return target


def _shown(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
