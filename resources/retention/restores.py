"""Restores: purged documents, brought back as they were from the lines of an archive."""

from collections.abc import Mapping, Sequence

from pgvector import Vector as StoredEmbedding
from psycopg import sql

from everreach_assets.domain.collections import PROSPECTS
from resources import vector_store
from resources.database import Connection
from resources.retention.purges import lock_out_writers
from resources.retention.receipts import Receipt


def restore(
    connection: Connection,
    receipt: Receipt,
    lines: Mapping[str, str],
    embeddings: Mapping[str, bytes],
    *,
    targets: Sequence[str],
    restored_by: str,
    wait_seconds: int,
) -> list[str]:
    """Bring purged documents back as they were, each with a hold, in the transaction of the connection.

    A document that has come back in another way meanwhile is left as it is. Without the hold the next purge would take
    what was restored, for it is as old as before.

    Args:
        connection: in a transaction.
        receipt: of the purge that took them.
        lines: of the archive, by document.
        embeddings: binary form of the vectors of those documents that had one.
        targets: `known_targets`.
        restored_by: who asked for it; stands in the holds.
        wait_seconds: how long to wait for others who write.

    Returns:
        The ids of what was restored.

    Raises:
        Unavailable: others wrote vectors for longer than that.
    """
    lock_out_writers(connection, wait_seconds)
    restored = _take_tombstones(connection, receipt, sorted(lines))
    vectors = {doc_id: embeddings[doc_id] for doc_id in sorted(restored) if doc_id in embeddings}
    _insert_vectors(connection, receipt.collection, lines, vectors, targets)
    if receipt.collection == PROSPECTS.name:
        connection.execute(
            "INSERT INTO prospects SELECT (jsonb_populate_record(NULL::prospects, line -> 'person')).*"
            " FROM unnest(%s::jsonb[]) AS line",
            ([lines[doc_id] for doc_id in restored],),
        )
    connection.execute(
        "INSERT INTO retention_holds (scope, collection, doc_id, reason, placed_by)"
        " SELECT 'document', %s, doc_id, %s, %s FROM unnest(%s::text[]) AS doc_id",
        (receipt.collection, f"restored from {receipt.archive}", restored_by, restored),
    )
    return restored


def _take_tombstones(connection: Connection, receipt: Receipt, doc_ids: list[str]) -> list[str]:
    """Remove the tombstones of those documents that have not come back in another way; answers their ids."""
    taken = connection.execute(
        """
        DELETE FROM retention_tombstones AS purged
        WHERE receipt_id = %(receipt_id)s AND doc_id = ANY(%(doc_ids)s)
            AND NOT EXISTS (SELECT FROM vector_embeddings AS stored
                            WHERE stored.collection = purged.collection AND stored.doc_id = purged.doc_id)
            AND NOT EXISTS (SELECT FROM prospects AS people
                            WHERE purged.collection = %(prospects)s AND people.prospect_id = purged.doc_id)
        RETURNING doc_id
        """,
        {"receipt_id": receipt.receipt_id, "doc_ids": doc_ids, "prospects": PROSPECTS.name},
    )
    return [doc_id for (doc_id,) in taken]


def _insert_vectors(
    connection: Connection,
    collection: str,
    lines: Mapping[str, str],
    embeddings: Mapping[str, bytes],
    targets: Sequence[str],
) -> None:
    """Insert the vectors with all that their lines say of them, and note them for the targets."""
    connection.execute(
        sql.SQL(
            """
            WITH written AS (
                INSERT INTO vector_embeddings
                    (id, collection, doc_id, embedding, metadata, created_at, updated_at, space_id, text_sha256,
                     scrubber_version)
                SELECT (vector ->> 'id')::uuid, %(collection)s, line ->> 'doc_id', embedding, vector -> 'metadata',
                       (vector ->> 'created_at')::timestamptz, (vector ->> 'updated_at')::timestamptz,
                       vector ->> 'space_id', (vector ->> 'text_sha256')::bytea, vector ->> 'scrubber_version'
                FROM unnest(%(lines)s::jsonb[], %(embeddings)b::vector[]) AS given (line, embedding),
                     LATERAL (SELECT line -> 'vector' AS vector) AS parts
                RETURNING doc_id, rev
            )
            {noted}
            """
        ).format(noted=vector_store.noted("written")),
        {
            "collection": collection,
            "lines": [lines[doc_id] for doc_id in embeddings],
            "embeddings": [StoredEmbedding.from_binary(each) for each in embeddings.values()],
            "targets": list(targets),
        },
    )
