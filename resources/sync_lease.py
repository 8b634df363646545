"""Whose the acknowledgements of the ledger are, and who may send a collection.

What does not belong here: the changes themselves and what became of them (`sync_ledger.py`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from everreach_assets.domain.errors import Refused
from resources.database import Connection, Database
from resources.vector_store import CLOUD_TARGET

LEASE_SECONDS = 600
"""Longer than the slowest batch: every call of it with its deadline and retries. A holder that was killed is replaced
at once, since its connection is gone; only a frozen one is waited for this long."""

MEETING_LOCK = 0x6D656574  # "meet": one process at a time decides whose the acknowledgements are


@dataclass(frozen=True)
class Lease:
    """The right to send a collection until somebody with a higher token has it."""

    collection: str
    token: int


# Whose the acknowledgements are


def is_met(connection: Connection, address_sha256: bytes, policy_sha256: bytes) -> bool:
    """Whether the acknowledgements belong to this address, and were given under these rules."""
    return _cloud(connection) == (address_sha256, policy_sha256)


def knows_address(connection: Connection, address_sha256: bytes) -> bool:
    """Whether the acknowledgements belong to this address."""
    known = _cloud(connection)
    return known is not None and known[0] == address_sha256


def meet(database: Database, address_sha256: bytes, policy_sha256: bytes, allowed: Sequence[str]) -> None:
    """Make the ledger say what is true for this address under these rules: nothing is acknowledged.

    At the same address the hashes of vectors stay, so that rules about metadata cost no vectors. Whoever holds a lease
    for the cloud before loses it.
    """
    parameters = {"target": CLOUD_TARGET, "allowed": list(allowed), "address": address_sha256, "policy": policy_sha256}
    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MEETING_LOCK,))
        if is_met(connection, address_sha256, policy_sha256):
            return
        is_same_place = knows_address(connection, address_sha256)
        connection.execute(
            "UPDATE cloud_collections SET token = token + 1, expires_at = '-infinity',"
            " rows_held = CASE WHEN %(same)s THEN rows_held ELSE 0 END WHERE target = %(target)s",
            parameters | {"same": is_same_place},
        )
        connection.execute(
            "DELETE FROM vector_deliveries WHERE target = %(target)s AND collection <> ALL(%(allowed)s)", parameters
        )
        connection.execute(
            """
            UPDATE vector_deliveries
            SET acked_rev = NULL, attempts = 0, error_class = NULL, dead_since = NULL,
                pending_since = CASE WHEN acked_rev = rev THEN now() ELSE pending_since END,
                acked_vector_sha256 = CASE WHEN %(same)s THEN acked_vector_sha256 END
            WHERE target = %(target)s
            """,
            parameters | {"same": is_same_place},
        )
        connection.execute(  # rows of a collection that had to stay here and may leave now
            """
            INSERT INTO vector_deliveries AS ledger (target, collection, doc_id, rev)
            SELECT %(target)s, collection, doc_id, rev FROM vector_embeddings
            WHERE collection = ANY(%(allowed)s)
            ORDER BY collection, doc_id COLLATE "C" ON CONFLICT (target, collection, doc_id) DO NOTHING
            """,
            parameters,
        )
        connection.execute(
            """
            INSERT INTO clouds (target, address_sha256, policy_sha256) VALUES (%(target)s, %(address)s, %(policy)s)
            ON CONFLICT (target) DO UPDATE SET address_sha256 = excluded.address_sha256,
                policy_sha256 = excluded.policy_sha256, met_at = now()
            """,
            parameters,
        )


def _cloud(connection: Connection) -> tuple[bytes, bytes] | None:
    row = connection.execute(
        "SELECT address_sha256, policy_sha256 FROM clouds WHERE target = %s", (CLOUD_TARGET,)
    ).fetchone()
    return (bytes(row[0]), bytes(row[1])) if row else None


# Who may send


@contextlib.contextmanager
def lease(database: Database, collection: str, holder: str) -> Iterator[Lease | None]:
    """The lease of the collection for the block, or None where somebody else has it.

    It ends with the block, with the connection that is kept open for it (a killed process), or after `LEASE_SECONDS`
    without a renewal (a frozen one).
    """
    with database.connection() as session:
        taken = _take(session, collection, holder)
        try:
            yield taken
        finally:
            if taken is not None and not session.closed:
                session.execute(
                    "UPDATE cloud_collections SET expires_at = '-infinity'"
                    " WHERE (target, collection, token) = (%s, %s, %s)",
                    (CLOUD_TARGET, collection, taken.token),
                )


def renew(connection: Connection, held: Lease) -> None:
    """Go on holding the lease; its row stays locked until the transaction's end, so that nobody takes it meanwhile.

    Raises:
        Refused: somebody else has taken it since.
    """
    renewed = connection.execute(
        "UPDATE cloud_collections SET expires_at = clock_timestamp() + make_interval(secs => %s)"
        " WHERE (target, collection, token) = (%s, %s, %s)",
        (LEASE_SECONDS, CLOUD_TARGET, held.collection, held.token),
    )
    if renewed.rowcount != 1:
        raise Refused(
            f"this sync of {held.collection} stood still for so long that another one has taken over: nothing more is "
            "sent or acknowledged. Nothing is to be done; the next sync sees what is left"
        )


def _take(session: Connection, collection: str, holder: str) -> Lease | None:
    row = session.execute(
        """
        INSERT INTO cloud_collections AS held
            (target, collection, token, holder, backend_pid, backend_started_at, expires_at)
        SELECT %(target)s, %(collection)s, 1, %(holder)s, pid, backend_start,
               clock_timestamp() + make_interval(secs => %(seconds)s)
        FROM pg_stat_activity WHERE pid = pg_backend_pid()
        ON CONFLICT (target, collection) DO UPDATE
        SET token = held.token + 1, holder = excluded.holder, backend_pid = excluded.backend_pid,
            backend_started_at = excluded.backend_started_at, expires_at = excluded.expires_at
        WHERE held.expires_at < clock_timestamp() OR NOT EXISTS (
            SELECT FROM pg_stat_activity AS activity
            WHERE (activity.pid, activity.backend_start) = (held.backend_pid, held.backend_started_at))
        RETURNING token
        """,
        {"target": CLOUD_TARGET, "collection": collection, "holder": holder, "seconds": LEASE_SECONDS},
    ).fetchone()
    return Lease(collection, row[0]) if row else None
