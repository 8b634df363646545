"""What the cloud has yet to take and what it has confirmed: the statements of the sync.

The ledger is `vector_deliveries` with the target `cloud`; every write notes it (`vector_store.NOTED`). What does not
belong here: what may leave (`domain/sync.py`), who may send (`sync_lease.py`) and the sending (`cloud_store.py`).

A removal stays in the ledger when it is acknowledged: another cloud, or the same after a change of address and back, is
told of it too.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Jsonb

from everreach_assets.domain.sync import MAX_ATTEMPTS, Change, Outgoing
from everreach_assets.domain.vectors import Metadata, Vector
from resources.database import Connection
from resources.vector_store import CLOUD_TARGET

VECTOR_SHA256 = "sha256(convert_to(space_id, 'UTF8') || vector_send(embedding))"
"""Made alike here and in the cloud: of the space's id and the vector in pgvector's binary form."""


@dataclass(frozen=True)
class Pending:
    """A change that the cloud has not confirmed.

    Attributes:
        rev: of the ledger.
        was_sent: the cloud has confirmed some revision of the row, so it is there.
        stored: the row; None where it is to be removed.
    """

    doc_id: str
    rev: int
    attempts: int
    was_sent: bool
    stored: "StoredRow | None"


@dataclass(frozen=True)
class StoredRow:
    """The row as it is stored; `vector` is None where the cloud has confirmed this very vector."""

    rev: int
    space_id: str
    metadata: Metadata
    vector_sha256: bytes
    vector: Vector | None


@dataclass(frozen=True)
class Confirmed:
    """A local row with what the cloud has confirmed of it."""

    metadata: Metadata
    rev: int
    acked_rev: int | None
    acked_vector_sha256: bytes | None


# What is pending


def newest_revision(connection: Connection) -> int:
    """The revision drawn last: a run that stops there ends, however much is written meanwhile."""
    row = connection.execute("SELECT last_value FROM vector_revisions").fetchone()
    return int(row[0]) if row else 0


def pending(
    connection: Connection,
    collection: str,
    *,
    removals: bool,
    after: int,
    up_to: int,
    limit: int,
    of_all: bool = False,
) -> list[Pending]:
    """The oldest changes after a revision that the cloud has not confirmed, dead letters left out.

    Args:
        removals: whether removals are asked for, or rows.
        of_all: take nothing as confirmed, as if the cloud were another.
    """
    # Row by row, in the order of the index of what is pending: a join would read every vector for each batch.
    statement = sql.SQL(
        """
        SELECT ledger.doc_id, ledger.rev, ledger.attempts, ledger.acked_vector_sha256, stored.rev, stored.space_id,
               stored.metadata, stored.vector_sha256,
               CASE WHEN stored.vector_sha256 IS DISTINCT FROM {confirmed} THEN stored.embedding END
        FROM (
            SELECT doc_id, rev, attempts, acked_vector_sha256 FROM vector_deliveries
            WHERE target = %(target)s AND collection = %(collection)s AND {is_pending} AND is_deleted = %(removals)s
                AND rev > %(after)s AND rev <= %(up_to)s
            ORDER BY rev LIMIT %(limit)s
        ) AS ledger
        LEFT JOIN LATERAL (
            SELECT rev, space_id, metadata, embedding, {vector_sha256} AS vector_sha256 FROM vector_embeddings
            WHERE collection = %(collection)s AND doc_id = ledger.doc_id AND NOT %(removals)s
            LIMIT 1
        ) AS stored ON true
        ORDER BY ledger.rev
        """
    ).format(
        confirmed=sql.SQL("NULL" if of_all else "ledger.acked_vector_sha256"),
        is_pending=sql.SQL("true" if of_all else "acked_rev IS DISTINCT FROM rev AND dead_since IS NULL"),
        vector_sha256=sql.SQL(VECTOR_SHA256),
    )
    with _by_index(connection):
        rows = connection.execute(
            statement,
            {
                "target": CLOUD_TARGET,
                "collection": collection,
                "removals": removals,
                "after": after,
                "up_to": up_to,
                "limit": limit,
            },
            binary=True,
        ).fetchall()
    return [
        Pending(
            doc_id,
            rev,
            attempts,
            confirmed is not None and not of_all,
            None
            if stored_rev is None
            else StoredRow(stored_rev, space_id, metadata, digest, None if vector is None else vector.to_numpy()),
        )
        for doc_id, rev, attempts, confirmed, stored_rev, space_id, metadata, digest, vector in rows
    ]


def count_pending(connection: Connection, collection: str) -> int:
    """Changes that the cloud has not confirmed, dead letters left out."""
    with _by_index(connection):
        row = connection.execute(
            "SELECT count(*) FROM vector_deliveries WHERE target = %s AND collection = %s"
            " AND acked_rev IS DISTINCT FROM rev AND dead_since IS NULL",
            (CLOUD_TARGET, collection),
        ).fetchone()
    return int(row[0]) if row else 0


def dead_letters(connection: Connection, collection: str) -> dict[str, int]:
    """Changes that the cloud refused again and again, by what it answered last."""
    rows = connection.execute(
        "SELECT coalesce(error_class, ''), count(*) FROM vector_deliveries WHERE target = %s AND collection = %s"
        " AND acked_rev IS DISTINCT FROM rev AND dead_since IS NOT NULL GROUP BY 1 ORDER BY 1",
        (CLOUD_TARGET, collection),
    )
    return dict(rows.fetchall())


def retry_dead_letters(connection: Connection, collection: str) -> int:
    """Count the dead letters as never tried; answers how many."""
    return connection.execute(
        "UPDATE vector_deliveries SET attempts = 0, error_class = NULL, dead_since = NULL WHERE target = %s"
        " AND collection = %s AND acked_rev IS DISTINCT FROM rev AND dead_since IS NOT NULL",
        (CLOUD_TARGET, collection),
    ).rowcount


# What came of it


def acknowledge(connection: Connection, collection: str, changes: Sequence[Change]) -> None:
    """Note what the cloud holds exactly as it was sent."""
    digests = {each.doc_id: each.vector_sha256.hex() if isinstance(each, Outgoing) else None for each in changes}
    _lock(connection, collection, list(digests))
    connection.execute(
        """
        UPDATE vector_deliveries
        SET acked_rev = (%(revs)s ->> doc_id)::bigint, acked_vector_sha256 = decode(%(digests)s ->> doc_id, 'hex'),
            attempts = 0, error_class = NULL,
            pending_since = CASE WHEN rev = (%(revs)s ->> doc_id)::bigint THEN pending_since ELSE now() END
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
        """,
        {
            "target": CLOUD_TARGET,
            "collection": collection,
            "doc_ids": list(digests),
            "revs": Jsonb({each.doc_id: each.rev for each in changes}),
            "digests": Jsonb(digests),
        },
    )


def note_kept(connection: Connection, collection: str, kept: Sequence[Pending]) -> None:
    """Settle rows that must stay here and were never in the cloud: there is nothing to send."""
    revs = {each.doc_id: each.rev for each in kept}
    _lock(connection, collection, list(revs))
    connection.execute(
        "UPDATE vector_deliveries SET acked_rev = (%s ->> doc_id)::bigint"
        " WHERE target = %s AND collection = %s AND doc_id = ANY(%s)",
        (Jsonb(revs), CLOUD_TARGET, collection, list(revs)),
    )


def note_failures(
    connection: Connection, collection: str, failed: Mapping[str, str], tried: Mapping[str, Pending]
) -> int:
    """Count an attempt of each, with its class of error; answers how many became dead letters.

    What the cloud holds of them is not known any longer, so the next attempt sends the whole row.

    Args:
        failed: class of error by id.
        tried: as they were read, by id: an attempt at an older revision does not count against a newer one.
    """
    _lock(connection, collection, list(failed))
    rows = connection.execute(
        """
        UPDATE vector_deliveries
        SET attempts = attempts + 1, error_class = %(failed)s ->> doc_id, acked_vector_sha256 = NULL,
            dead_since = CASE WHEN attempts + 1 >= %(most)s THEN now() END
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
            AND rev = (%(revs)s ->> doc_id)::bigint
        RETURNING dead_since IS NOT NULL
        """,
        {
            "target": CLOUD_TARGET,
            "collection": collection,
            "doc_ids": list(failed),
            "failed": Jsonb(dict(failed)),
            "revs": Jsonb({doc_id: tried[doc_id].rev for doc_id in failed}),
            "most": MAX_ATTEMPTS,
        },
    ).fetchall()
    return sum(is_dead for (is_dead,) in rows)


def doubt(connection: Connection, collection: str, doc_ids: Sequence[str]) -> int:
    """Count these rows as not confirmed, so that the next sync sends them whole; answers how many."""
    _lock(connection, collection, doc_ids)
    return connection.execute(
        """
        UPDATE vector_deliveries SET acked_rev = NULL, acked_vector_sha256 = NULL, attempts = 0, error_class = NULL,
            dead_since = NULL, pending_since = CASE WHEN acked_rev = rev THEN now() ELSE pending_since END
        WHERE target = %s AND collection = %s AND doc_id = ANY(%s)
        """,
        (CLOUD_TARGET, collection, list(doc_ids)),
    ).rowcount


def note_removal(connection: Connection, collection: str, revs: Mapping[str, int]) -> None:
    """Note the removal of rows that the cloud holds and this database does not.

    Args:
        revs: the revision that the cloud holds, by id: the removal gets one above it.
    """
    newest = max(revs.values(), default=0)
    connection.execute(  # only ever forwards
        "SELECT setval('vector_revisions', %s) FROM vector_revisions WHERE last_value < %s", (newest, newest)
    )
    connection.execute(
        """
        INSERT INTO vector_deliveries AS ledger (target, collection, doc_id, rev, is_deleted)
        SELECT %(target)s, %(collection)s, doc_id, nextval('vector_revisions'), true
        FROM unnest(%(doc_ids)s::text[]) AS extra (doc_id)
        WHERE NOT EXISTS (SELECT FROM vector_embeddings AS stored
                          WHERE stored.collection = %(collection)s AND stored.doc_id = extra.doc_id)
        ORDER BY doc_id COLLATE "C"
        ON CONFLICT (target, collection, doc_id) DO UPDATE
        SET rev = excluded.rev, is_deleted = true, attempts = 0, error_class = NULL, dead_since = NULL
        """,
        {"target": CLOUD_TARGET, "collection": collection, "doc_ids": list(revs)},
    )


def add_rows_held(connection: Connection, collection: str, difference: int) -> None:
    """Keep the number of confirmed rows in step."""
    connection.execute(
        "UPDATE cloud_collections SET rows_held = greatest(rows_held + %s, 0) WHERE (target, collection) = (%s, %s)",
        (difference, CLOUD_TARGET, collection),
    )


def rows_held(connection: Connection, collection: str) -> int:
    """Rows of the collection that the cloud has confirmed."""
    row = connection.execute(
        "SELECT rows_held FROM cloud_collections WHERE (target, collection) = (%s, %s)", (CLOUD_TARGET, collection)
    ).fetchone()
    return int(row[0]) if row else 0


def confirmed_rows(connection: Connection, collection: str) -> tuple[dict[str, Confirmed], set[str]]:
    """Every local row with what was confirmed of it, by id; and the ids whose removal the cloud has yet to confirm."""
    rows = connection.execute(
        """
        SELECT stored.doc_id, stored.metadata, stored.rev, ledger.acked_rev, ledger.acked_vector_sha256
        FROM vector_embeddings AS stored LEFT JOIN vector_deliveries AS ledger
            ON ledger.target = %(target)s AND ledger.collection = stored.collection AND ledger.doc_id = stored.doc_id
        WHERE stored.collection = %(collection)s
        """,
        {"target": CLOUD_TARGET, "collection": collection},
        binary=True,
    )
    known = {doc_id: Confirmed(*confirmed) for doc_id, *confirmed in rows}
    leaving = connection.execute(
        "SELECT doc_id FROM vector_deliveries WHERE target = %s AND collection = %s AND is_deleted"
        " AND acked_rev IS DISTINCT FROM rev",
        (CLOUD_TARGET, collection),
    )
    return known, {doc_id for (doc_id,) in leaving}


def now(connection: Connection) -> float:
    """The database's clock, in Unix seconds."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    return float(row[0]) if row else 0.0


@contextlib.contextmanager
def _by_index(connection: Connection) -> Iterator[None]:
    """A transaction that reads by the index of what is pending, in its order.

    The planner takes nearly every row for pending, whatever the statistics say, and so would read the whole ledger to
    find that nothing is.
    """
    with connection.transaction():
        connection.execute("SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)")
        yield


def _lock(connection: Connection, collection: str, doc_ids: Sequence[str]) -> None:
    """Lock the rows in the order in which every writer does."""
    connection.execute(
        "SELECT FROM vector_deliveries WHERE target = %s AND collection = %s AND doc_id = ANY(%s)"
        ' ORDER BY doc_id COLLATE "C" FOR UPDATE',
        (CLOUD_TARGET, collection, list(doc_ids)),
    )
