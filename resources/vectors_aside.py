"""Second vectors of documents: of the space that a migration fills, and of the one that is kept after a switch.

They stand beside `vector_embeddings`, which holds each document once, and go with their document. What does not belong
here: which spaces these are (`spaces.py`), and the order of the steps (`everreach_assets/migration.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from psycopg import sql

from everreach_assets.domain.vectors import Document
from resources.database import Connection
from resources.vector_store import StoredVector, ledger_targets, noted


@dataclass(frozen=True)
class Pairs:
    """Documents with their vectors in two spaces.

    Attributes:
        first: vectors in the one space, shape (documents, 1536), float32.
        second: vectors of the same documents in the other.
        labels: of outcomes; empty where a document has none.
    """

    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    labels: Sequence[str]


def store(connection: Connection, collection: str, space_id: str, documents: Sequence[Document]) -> int:
    """Put the documents' vectors of the space aside; answers how many. What has gone meanwhile is left out."""
    ordered = sorted(documents, key=lambda each: each.doc_id)
    return connection.execute(
        """
        WITH present AS MATERIALIZED (
            SELECT doc_id FROM vector_embeddings WHERE collection = %(collection)s AND doc_id = ANY(%(doc_ids)b::text[])
            ORDER BY doc_id COLLATE "C" FOR KEY SHARE
        )
        INSERT INTO vectors_aside (collection, doc_id, space_id, embedding, text_sha256, scrubber_version)
        SELECT %(collection)s, doc_id, %(space_id)s, embedding, text_sha256, scrubber_version
        FROM unnest(%(doc_ids)b::text[], %(embeddings)b::vector[], %(hashes)b::bytea[], %(scrubbers)b::text[])
            AS given (doc_id, embedding, text_sha256, scrubber_version)
        JOIN present USING (doc_id)
        ORDER BY doc_id COLLATE "C"
        ON CONFLICT (collection, doc_id, space_id) DO UPDATE
        SET embedding = excluded.embedding, text_sha256 = excluded.text_sha256,
            scrubber_version = excluded.scrubber_version, rev = nextval('vector_revisions')
        """,
        {
            "collection": collection,
            "space_id": space_id,
            "doc_ids": [each.doc_id for each in ordered],
            "embeddings": [each.embedding for each in ordered],
            "hashes": [each.text_sha256 for each in ordered],
            "scrubbers": [each.scrubber_version for each in ordered],
        },
    ).rowcount


def revisions(connection: Connection, collection: str, space_id: str) -> dict[str, int]:
    """Id and revision of every vector of the space, in use or aside."""
    rows = connection.execute(
        "SELECT doc_id, rev FROM vectors_aside WHERE collection = %(collection)s AND space_id = %(space_id)s"
        " UNION ALL"
        " SELECT doc_id, rev FROM vector_embeddings WHERE collection = %(collection)s AND space_id = %(space_id)s",
        {"collection": collection, "space_id": space_id},
    )
    return dict(rows.fetchall())


def rows(connection: Connection, collection: str, space_id: str, doc_ids: Sequence[str]) -> list[StoredVector]:
    """The vectors of the space, in use or aside, with the metadata of their documents; those that there are."""
    found = connection.execute(
        """
        SELECT doc_id, CASE WHEN stored.space_id = %(space_id)s THEN stored.rev ELSE staged.rev END,
            CASE WHEN stored.space_id = %(space_id)s THEN stored.embedding ELSE staged.embedding END, stored.metadata
        FROM vector_embeddings AS stored
        LEFT JOIN (SELECT * FROM vectors_aside WHERE space_id = %(space_id)s) AS staged USING (collection, doc_id)
        WHERE collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
            AND (stored.space_id = %(space_id)s OR staged.doc_id IS NOT NULL)
        """,
        {"collection": collection, "space_id": space_id, "doc_ids": list(doc_ids)},
        binary=True,
    )
    return [
        StoredVector(doc_id, rev, embedding.to_numpy(), metadata, space_id)
        for doc_id, rev, embedding, metadata in found
    ]


def count(connection: Connection, collection: str, space_id: str) -> int:
    """Vectors of the space that are aside."""
    row = connection.execute(
        "SELECT count(*) FROM vectors_aside WHERE collection = %s AND space_id = %s", (collection, space_id)
    ).fetchone()
    return int(row[0]) if row else 0


def sample_pairs(connection: Connection, collection: str, space_id: str, documents: int) -> Pairs:
    """So many documents, drawn at random, with their vector in use and that of the space, which is aside."""
    found = connection.execute(
        """
        WITH drawn AS MATERIALIZED (
            SELECT collection, doc_id FROM vectors_aside
            WHERE collection = %s AND space_id = %s ORDER BY random() LIMIT %s
        )
        SELECT stored.embedding, staged.embedding, coalesce(stored.metadata ->> 'label', '')
        FROM drawn JOIN vector_embeddings AS stored USING (collection, doc_id)
        JOIN vectors_aside AS staged USING (collection, doc_id)
        WHERE staged.space_id = %s AND stored.space_id <> staged.space_id
            AND (staged.text_sha256, staged.scrubber_version) = (stored.text_sha256, stored.scrubber_version)
        """,
        (collection, space_id, documents, space_id),
        binary=True,
    ).fetchall()
    return Pairs(
        np.array([first.to_numpy() for first, _, _ in found], np.float32),
        np.array([second.to_numpy() for _, second, _ in found], np.float32),
        [label for _, _, label in found],
    )


def swap(
    connection: Connection,
    collection: str,
    *,
    old_id: str,
    new_id: str,
    in_index: Mapping[str, int],
    targets: Sequence[str],
) -> int:
    """Put the vectors of one space into use and those of the other aside, in the caller's transaction.

    A document that has no vector of its text in the new space keeps the one that it has. One whose metadata changed
    since its vector was put aside gets a revision of its own, so that every target learns of it.

    Args:
        in_index: the revision that the index of the new space holds of each document.
        targets: indexes that the ledger notes changes for, beside the cloud.

    Returns:
        How many documents changed their space.
    """
    parameters: dict[str, object] = {
        "collection": collection,
        "old_id": old_id,
        "new_id": new_id,
        "targets": ledger_targets(collection, targets),
        "indexes": list(targets),
        "held_ids": list(in_index),
        "held_revs": list(in_index.values()),
    }
    connection.execute(
        "SELECT count(*) FROM (SELECT FROM vector_embeddings WHERE collection = %(collection)s"
        ' ORDER BY doc_id COLLATE "C" FOR UPDATE) AS locked',
        parameters,
    )
    is_staged = (
        "stored.collection = %(collection)s AND staged.collection = stored.collection"
        " AND staged.doc_id = stored.doc_id AND staged.space_id = %(new_id)s"
        " AND (staged.text_sha256, staged.scrubber_version) = (stored.text_sha256, stored.scrubber_version)"
    )
    connection.execute(
        f"""
        INSERT INTO vectors_aside (collection, doc_id, space_id, embedding, text_sha256, scrubber_version, rev)
        SELECT stored.collection, stored.doc_id, stored.space_id, stored.embedding, stored.text_sha256,
            stored.scrubber_version, stored.rev
        FROM vector_embeddings AS stored, vectors_aside AS staged
        WHERE {is_staged} AND stored.space_id = %(old_id)s
        ON CONFLICT (collection, doc_id, space_id) DO UPDATE
        SET embedding = excluded.embedding, text_sha256 = excluded.text_sha256,
            scrubber_version = excluded.scrubber_version, rev = excluded.rev
        """,  # noqa: S608 - a constant
        parameters,
    )
    changing = sql.SQL(
        f"""
        WITH changed AS (
            UPDATE vector_embeddings AS stored
            SET embedding = staged.embedding, space_id = staged.space_id, updated_at = now(),
                rev = CASE WHEN staged.rev > stored.rev THEN staged.rev ELSE nextval('vector_revisions') END
            FROM vectors_aside AS staged WHERE {is_staged} AND stored.space_id <> %(new_id)s
            RETURNING stored.doc_id, stored.rev
        ), noted AS ({{noted}})
        SELECT count(*) FROM changed
        """  # noqa: S608 - a constant
    ).format(noted=noted("changed"))
    row = connection.execute(changing, parameters).fetchone()
    connection.execute(
        """
        UPDATE vector_deliveries AS ledger SET acked_rev = ledger.rev
        FROM unnest(%(held_ids)s::text[], %(held_revs)s::bigint[]) AS held (doc_id, rev)
        WHERE ledger.target = ANY(%(indexes)s) AND ledger.collection = %(collection)s
            AND ledger.doc_id = held.doc_id AND ledger.rev = held.rev
        """,
        parameters,
    )
    delete(connection, collection, new_id)
    return int(row[0]) if row else 0


def delete(connection: Connection, collection: str, space_id: str) -> int:
    """Delete what is aside of the space; answers how many."""
    return connection.execute(
        "DELETE FROM vectors_aside WHERE collection = %s AND space_id = %s", (collection, space_id)
    ).rowcount
