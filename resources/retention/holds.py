"""Holds: what must be kept whatever its age."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everreach_assets.domain.errors import InvalidInput
from resources.database import Connection

IS_HELD = sql.SQL(
    """(EXISTS (
        SELECT FROM retention_holds AS hold WHERE hold.lifted_at IS NULL AND hold.scope = 'document'
            AND hold.doc_id = documents.doc_id
            AND coalesce(hold.collection, documents.collection) = documents.collection
    ) OR EXISTS (
        SELECT FROM retention_holds AS hold WHERE hold.lifted_at IS NULL AND hold.scope <> 'document'
            AND (hold.scope = 'everything'
                OR hold.scope = 'collection' AND hold.collection = documents.collection
                OR hold.scope = 'platform' AND hold.platform = documents.platform
                OR hold.scope = 'account' AND hold.platform || ':' || hold.account = documents.account)
    ))"""
)
"""Whether a hold covers the row `documents`: collection, doc_id, platform, account (as `platform:account`)."""


@dataclass(frozen=True)
class Hold:
    """What must be kept, and why."""

    hold_id: int
    scope: str
    collection: str | None
    doc_id: str | None
    platform: str | None
    account: str | None
    reason: str
    placed_by: str
    placed_at: dt.datetime

    @property
    def subject(self) -> str:
        account = f"{self.platform}:{self.account}" if self.account else self.platform
        named = [each for each in (self.collection, self.doc_id, account) if each]
        return " ".join([self.scope, *named])


def place(
    connection: Connection,
    scope: str,
    *,
    reason: str,
    placed_by: str,
    collection: str | None = None,
    doc_id: str | None = None,
    platform: str | None = None,
    account: str | None = None,
) -> int:
    """Keep what the scope covers, whatever its age; answers the hold's number.

    Raises:
        InvalidInput: the scope and what is named do not fit, or reason or name are empty or too long.
    """
    try:
        row = connection.execute(
            "INSERT INTO retention_holds (scope, collection, doc_id, platform, account, reason, placed_by)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING hold_id",
            (scope, collection, doc_id, platform, account, reason, placed_by),
        ).fetchone()
    except (psycopg.errors.CheckViolation, psycopg.DataError) as error:
        raise InvalidInput(
            "the hold is refused: name what its scope needs and nothing else, a reason of 1 to 500 characters, and who "
            f"places it ({error.diag.constraint_name or error.diag.message_primary})"
        ) from error
    assert row is not None  # noqa: S101 - INSERT ... RETURNING has a row
    return int(row[0])


def lift(connection: Connection, hold_ids: Sequence[int], lifted_by: str) -> int:
    """End those holds; answers how many were in force. They stay on record."""
    return connection.execute(
        "UPDATE retention_holds SET lifted_at = now(), lifted_by = %s WHERE hold_id = ANY(%s) AND lifted_at IS NULL",
        (lifted_by, list(hold_ids)),
    ).rowcount


def in_force(connection: Connection) -> list[Hold]:
    """The holds in force, oldest first."""
    rows = connection.execute(
        "SELECT hold_id, scope, collection, doc_id, platform, account, reason, placed_by, placed_at"
        " FROM retention_holds WHERE lifted_at IS NULL ORDER BY hold_id"
    )
    return [Hold(*row) for row in rows]
