"""Purges: who may delete, what is archived, what is deleted, and what must not come back."""

import contextlib
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from everreach_assets.domain.collections import PROSPECTS
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.retention import RetentionPolicy
from resources import vector_store
from resources.database import Connection
from resources.retention import measures
from resources.retention.plans import Plan, verdicts
from resources.retention.receipts import Receipt

PURGE_LOCK = "everreach retention purge"


@contextlib.contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """No other purge or restore runs during the block; a killed one's lock ends with its session.

    Raises:
        Unavailable: another one runs.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (PURGE_LOCK,)).fetchone()
    if not (row and row[0]):
        raise Unavailable("another purge or restore is running; run the same again when it has ended")
    try:
        yield
    finally:
        if not connection.closed:  # it goes back to the pool, and the lock would stay with it
            connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", (PURGE_LOCK,))


def known_targets(connection: Connection, collection: str, indexes: Sequence[str]) -> list[str]:
    """Who is told of a purge: the indexes in force, the cloud, and every other target that the ledger knows.

    An index that answers no longer, since another backend was chosen, may still hold what was purged.
    """
    known = connection.execute("SELECT DISTINCT target FROM vector_deliveries WHERE collection = %s", (collection,))
    return sorted({*vector_store.ledger_targets(collection, indexes), *(target for (target,) in known)})


def eligible(connection: Connection, policy: RetentionPolicy, plan: Plan, collection: str) -> list[str]:
    """Of the plan's documents, those that a purge would delete now, in the order of their ids."""
    query, parameters = _eligible(policy, plan, collection)
    return [
        doc_id
        for doc_id, *_ in connection.execute(query + sql.SQL(' ORDER BY verdicts.doc_id COLLATE "C"'), parameters)
    ]


def archive_lines(
    connection: Connection, policy: RetentionPolicy, plan: Plan, collection: str, doc_ids: Sequence[str]
) -> list[str]:
    """Of those documents each that would be purged now, with all that goes, as a line of JSON.

    The line is made by Postgres and is read by it again, so that no number or time is rounded on the way.
    """
    query, parameters = _eligible(policy, plan, collection, doc_ids)
    rows = connection.execute(
        sql.SQL(
            """
            SELECT jsonb_build_object(
                'doc_id', eligible.doc_id,
                'reason', eligible.reason,
                'expired_at', eligible.expired_at,
                'embedding', translate(encode(vector_send(stored.embedding), 'base64'), E'\\n', ''),
                'vector', CASE WHEN stored.id IS NOT NULL THEN jsonb_build_object(
                    'id', stored.id, 'metadata', stored.metadata, 'created_at', stored.created_at,
                    'updated_at', stored.updated_at, 'space_id', stored.space_id, 'rev', stored.rev,
                    'text_sha256', stored.text_sha256, 'scrubber_version', stored.scrubber_version) END,
                'person', to_jsonb(people))::text
            FROM ({eligible}) AS eligible
            LEFT JOIN vector_embeddings AS stored
                ON stored.collection = %(collection)s AND stored.doc_id = eligible.doc_id
            LEFT JOIN prospects AS people
                ON %(collection)s = %(prospects)s AND people.prospect_id = eligible.doc_id
            ORDER BY eligible.doc_id COLLATE "C"
            """
        ).format(eligible=query),
        parameters | {"prospects": PROSPECTS.name},
    )
    return [line for (line,) in rows]


def delete_expired(
    connection: Connection,
    policy: RetentionPolicy,
    plan: Plan,
    receipt: Receipt,
    doc_ids: Sequence[str],
    targets: Sequence[str],
    wait_seconds: int,
) -> int:
    """Delete those of the documents that are still as planned, still expired and not held; answers how many.

    Vectors, rows of people, ledger, tombstones, receipt and metric change in the transaction of the connection, or not
    at all.

    Args:
        connection: in a transaction.
        policy: that of the plan.
        plan: whose documents.
        receipt: of the collection.
        doc_ids: those of a verified archive, so that nothing goes that is not in it.
        targets: `known_targets`.
        wait_seconds: how long to wait for others who write.

    Raises:
        Unavailable: others wrote vectors for longer than a purge waits.
    """
    lock_out_writers(connection, wait_seconds)
    query, parameters = _eligible(policy, plan, receipt.collection, doc_ids)
    row = connection.execute(
        sql.SQL(
            """
            WITH expired AS MATERIALIZED (
                SELECT doc_id, nextval('vector_revisions') AS rev FROM ({eligible}) AS eligible
            ), vectors AS (
                DELETE FROM vector_embeddings AS stored USING expired
                WHERE stored.collection = %(collection)s AND stored.doc_id = expired.doc_id
            ), people AS (
                DELETE FROM prospects USING expired
                WHERE %(collection)s = %(prospects)s AND prospects.prospect_id = expired.doc_id
            ), noted AS ({noted}), marked AS (
                INSERT INTO retention_tombstones (collection, doc_id, receipt_id)
                SELECT %(collection)s, doc_id, %(receipt_id)s FROM expired
                ON CONFLICT (collection, doc_id) DO UPDATE SET receipt_id = excluded.receipt_id, purged_at = now()
            )
            UPDATE retention_receipts SET purged = purged + (SELECT count(*) FROM expired)
            WHERE receipt_id = %(receipt_id)s RETURNING (SELECT count(*) FROM expired)
            """
        ).format(eligible=query, noted=vector_store.noted("expired", is_deletion=True)),
        parameters | {"prospects": PROSPECTS.name, "targets": list(targets), "receipt_id": receipt.receipt_id},
    ).fetchone()
    purged = int(row[0]) if row else 0
    if purged:
        measures.note_purged(connection, receipt.collection, purged)
    return purged


def _eligible(
    policy: RetentionPolicy, plan: Plan, collection: str, only: Sequence[str] | None = None
) -> tuple[sql.Composed, dict[str, object]]:
    """A query of the plan's documents that are as they were planned and expired still, as of the time of the plan."""
    selected, parameters = verdicts(policy, collection, plan.created_at, only)
    query = sql.SQL(
        """
        SELECT verdicts.doc_id, verdicts.reason, verdicts.expired_at
        FROM ({verdicts}) AS verdicts
        JOIN retention_plan_items AS items
            ON items.plan_id = %(plan_id)s AND items.collection = %(collection)s AND items.doc_id = verdicts.doc_id
        WHERE verdicts.verdict = 'expired'
            AND (verdicts.rev, verdicts.row_updated_at) IS NOT DISTINCT FROM (items.rev, items.row_updated_at)
        """
    ).format(verdicts=selected)
    return query, parameters | {"plan_id": plan.plan_id}


def lock_out_writers(connection: Connection, wait_seconds: int) -> None:
    """Let nobody place a hold, replace a strategy, or write vectors or people, until the transaction ends.

    Who comes meanwhile waits, and then sees the tombstones. Without it a hold, or a vector that an embedding run has
    just made, could slip in between the look at the rows and their end. Reading goes on.

    Raises:
        Unavailable: others wrote for longer than a purge waits.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{wait_seconds}s",))
    try:
        connection.execute(
            "LOCK TABLE actp_feedback_strategy, prospects, retention_holds, vector_embeddings"
            " IN SHARE ROW EXCLUSIVE MODE"
        )
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"vectors were written for more than {wait_seconds} seconds without a pause; what was done until now is on "
            "record, run the same again"
        ) from error


def is_purged(connection: Connection, doc_id: str) -> bool:
    """Whether the document was purged from a collection and has not come back."""
    row = connection.execute("SELECT EXISTS (SELECT FROM retention_tombstones WHERE doc_id = %s)", (doc_id,)).fetchone()
    return bool(row and row[0])


def purged_documents_that_are_stored(connection: Connection) -> int:
    """Documents with a tombstone that have a vector of their text nevertheless; 0 is right."""
    row = connection.execute(
        "SELECT count(*) FROM retention_tombstones JOIN vector_embeddings USING (collection, doc_id)"
        " WHERE text_sha256 IS NOT NULL"
    ).fetchone()
    return int(row[0]) if row else 0
