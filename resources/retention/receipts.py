"""Receipts: what a purge did with each collection, and the age of its archives."""

import datetime as dt
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from resources.database import Connection
from resources.retention import measures
from resources.retention.holds import IS_HELD
from resources.retention.plans import Plan


@dataclass(frozen=True)
class Receipt:
    """What a purge did with one collection.

    Attributes:
        archive: name of the file; `archive_sha256` is None until it was written and verified.
    """

    receipt_id: int
    plan_id: int
    plan_hash: str
    collection: str
    planned: int
    purged: int
    is_approved: bool
    archive: str
    archive_sha256: str | None
    archived: int | None
    started_at: dt.datetime
    ended_at: dt.datetime | None
    archive_removed_at: dt.datetime | None


def every(connection: Connection) -> list[Receipt]:
    """All receipts, oldest first."""
    return _select(connection, "true")


def of_plan(connection: Connection, plan_id: int) -> list[Receipt]:
    """The receipts of a plan, oldest first."""
    return _select(connection, "plan_id = %s", plan_id)


def of_archive(connection: Connection, archive: str) -> Receipt | None:
    """The receipt that names the archive."""
    found = _select(connection, "archive = %s", archive)
    return found[-1] if found else None


def _select(connection: Connection, condition: LiteralString, *parameters: object) -> list[Receipt]:
    rows = connection.execute(
        sql.SQL(
            "SELECT receipt_id, plan_id, plan_hash, collection, planned, purged, is_approved, archive, archive_sha256,"
            " archived, started_at, ended_at, archive_removed_at FROM retention_receipts WHERE {} ORDER BY receipt_id"
        ).format(sql.SQL(condition)),
        parameters,
    )
    return [Receipt(*row) for row in rows]


def begin(connection: Connection, plan: Plan, collection: str, *, archive: str, is_approved: bool) -> Receipt:
    """Note that the purge of a collection begins, or find that it had begun."""
    connection.execute(
        """
        INSERT INTO retention_receipts (plan_id, plan_hash, collection, planned, is_approved, archive)
        SELECT %(plan_id)s, %(plan_hash)s, %(collection)s, count(*), %(is_approved)s, %(archive)s
        FROM retention_plan_items WHERE plan_id = %(plan_id)s AND collection = %(collection)s
        ON CONFLICT (plan_id, collection) DO NOTHING
        """,
        {
            "plan_id": plan.plan_id,
            "plan_hash": plan.plan_hash,
            "collection": collection,
            "is_approved": is_approved,
            "archive": archive,
        },
    )
    return next(each for each in of_plan(connection, plan.plan_id) if each.collection == collection)


def note_archive(connection: Connection, receipt: Receipt, *, sha256: str, rows: int) -> None:
    """Note that the archive is written and verified; from here on its rows may be deleted."""
    connection.execute(
        "UPDATE retention_receipts SET archive_sha256 = %s, archived = %s WHERE receipt_id = %s",
        (sha256, rows, receipt.receipt_id),
    )


def end(connection: Connection, receipt: Receipt, overdue: int | None = None) -> None:
    """Note that the purge of the collection has ended.

    Args:
        overdue: what is still there although it should go; None where that is not known.
    """
    connection.execute("UPDATE retention_receipts SET ended_at = now() WHERE receipt_id = %s", (receipt.receipt_id,))
    if overdue is not None:
        measures.note_overdue(connection, receipt.collection, overdue)


def broken_off(connection: Connection, plan: Plan) -> list[Receipt]:
    """Receipts of other plans that never ended: their process was killed."""
    return [each for each in every(connection) if each.ended_at is None and each.plan_id != plan.plan_id]


def last_purge_at(connection: Connection) -> dt.datetime | None:
    """When the purge before ended, by the clock of then."""
    row = connection.execute(
        "SELECT ended_at FROM retention_receipts WHERE ended_at IS NOT NULL ORDER BY receipt_id DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def archives_to_remove(connection: Connection, older_than: dt.timedelta) -> list[Receipt]:
    """Receipts whose archive has reached its age and holds nothing that is on hold."""
    rows = connection.execute(
        sql.SQL(
            """
            SELECT receipt_id FROM retention_receipts AS receipts
            WHERE ended_at < now() - %s AND archive_sha256 IS NOT NULL AND archive_removed_at IS NULL
                AND NOT EXISTS (
                    SELECT FROM retention_tombstones AS purged
                    LEFT JOIN actp_feedback_posts AS posts
                        ON posts.platform = split_part(purged.doc_id, ':', 1)
                        AND posts.post_id = substr(purged.doc_id, strpos(purged.doc_id, ':') + 1)
                    CROSS JOIN LATERAL (
                        SELECT purged.collection, purged.doc_id, posts.platform,
                               posts.platform || ':' || posts.account AS account) AS documents
                    WHERE purged.receipt_id = receipts.receipt_id AND {is_held})
            """
        ).format(is_held=IS_HELD),
        (older_than,),
    ).fetchall()
    wanted = {receipt_id for (receipt_id,) in rows}
    return [each for each in every(connection) if each.receipt_id in wanted]


def note_archive_removed(connection: Connection, receipt: Receipt) -> None:
    """Note that the archive is gone; from here on nothing of the receipt can be restored."""
    connection.execute(
        "UPDATE retention_receipts SET archive_removed_at = now() WHERE receipt_id = %s", (receipt.receipt_id,)
    )
