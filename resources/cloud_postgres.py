"""A Postgres with pgvector as the cloud: one table of its own, which this module makes.

A row's revision decides in the statement that writes it, so that a late or repeated write changes nothing; a removal
stays as a row without a vector. What does not belong here: what may be sent (`cloud_store.py`).
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.sync import Change, Held, Outgoing, Removal
from resources.cloud_store import RowsRefused
from resources.database import Connection
from resources.hosts import postgres_place
from resources.sync_ledger import VECTOR_SHA256

TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS everreach_vectors (
    collection text NOT NULL,
    doc_id text NOT NULL,
    rev bigint NOT NULL,
    is_deleted boolean NOT NULL DEFAULT false,
    space_id text,
    embedding vector(1536),
    metadata jsonb NOT NULL DEFAULT '{}',
    synced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, doc_id),
    CHECK (is_deleted = (embedding IS NULL) AND is_deleted = (space_id IS NULL))
);
COMMENT ON TABLE everreach_vectors IS
    'A copy kept by everreach sync. Compare vectors of one space_id only, and leave out what is_deleted.';
"""
CONNECT_SECONDS = 10
MAKING_LOCK = 0x636C6F75  # "clou": two syncs that make the table at once would fail on each other


class PostgresCloud:
    """The cloud's Postgres.

    Args:
        request_seconds: how long one statement may take.
    """

    def __init__(self, url: str, *, request_seconds: float = 60.0) -> None:
        self.address = f"postgresql://{postgres_place(url)}"
        self.requests = 0
        self._url = url
        self._request_seconds = request_seconds
        self._connection: Connection | None = None

    def upsert(self, collection: str, rows: Sequence[Outgoing]) -> None:
        ordered = sorted(rows, key=lambda each: each.doc_id)  # two writers lock in the same order
        whole = [each for each in ordered if each.vector is not None]
        metadata_only = [each for each in ordered if each.vector is None]
        if whole:
            self._execute(
                """
                INSERT INTO everreach_vectors AS stored (collection, doc_id, rev, space_id, embedding, metadata)
                SELECT %(collection)s, doc_id, rev, space_id, embedding, metadata
                FROM unnest(%(doc_ids)b::text[], %(revs)b::bigint[], %(spaces)b::text[], %(embeddings)b::vector[],
                            %(metadata)b::jsonb[]) AS given (doc_id, rev, space_id, embedding, metadata)
                ON CONFLICT (collection, doc_id) DO UPDATE
                SET rev = excluded.rev, is_deleted = false, space_id = excluded.space_id,
                    embedding = excluded.embedding, metadata = excluded.metadata, synced_at = now()
                WHERE excluded.rev > stored.rev OR (excluded.rev = stored.rev AND NOT stored.is_deleted)
                """,
                _columns(collection, whole) | {"embeddings": [each.vector for each in whole]},
            )
        if metadata_only:
            self._execute(
                """
                UPDATE everreach_vectors AS stored SET rev = given.rev, metadata = given.metadata, synced_at = now()
                FROM unnest(%(doc_ids)b::text[], %(revs)b::bigint[], %(spaces)b::text[], %(metadata)b::jsonb[])
                    AS given (doc_id, rev, space_id, metadata)
                WHERE stored.collection = %(collection)s AND stored.doc_id = given.doc_id
                    AND stored.space_id = given.space_id AND given.rev >= stored.rev
                """,
                _columns(collection, metadata_only),
            )

    def remove(self, collection: str, removals: Sequence[Removal]) -> None:
        ordered = sorted(removals, key=lambda each: each.doc_id)
        self._execute(
            """
            INSERT INTO everreach_vectors AS stored (collection, doc_id, rev, is_deleted)
            SELECT %(collection)s, doc_id, rev, true
            FROM unnest(%(doc_ids)b::text[], %(revs)b::bigint[]) AS given (doc_id, rev)
            ON CONFLICT (collection, doc_id) DO UPDATE
            SET rev = excluded.rev, is_deleted = true, space_id = NULL, embedding = NULL, metadata = '{}',
                synced_at = now()
            WHERE excluded.rev >= stored.rev
            """,
            {
                "collection": collection,
                "doc_ids": [each.doc_id for each in ordered],
                "revs": [each.rev for each in ordered],
            },
        )

    def held(self, collection: str, changes: Sequence[Change]) -> dict[str, Held]:
        return dict(self._rows(collection, "AND doc_id = ANY(%(doc_ids)s)", doc_ids=[each.doc_id for each in changes]))

    def listing(self, collection: str) -> Iterator[tuple[str, Held]]:
        yield from self._rows(collection, "AND NOT is_deleted")

    def holdings(self) -> Mapping[str, int]:
        rows = self._execute("SELECT collection, count(embedding) FROM everreach_vectors GROUP BY collection", {})
        return dict(rows)

    def erase(self, collection: str) -> None:
        self._execute("DELETE FROM everreach_vectors WHERE collection = %(collection)s", {"collection": collection})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, collection: str, condition: str, **parameters: object) -> Iterator[tuple[str, Held]]:
        # The hash is made of what is stored: it proves the vector without sending it back.
        rows = self._execute(
            f"""
            SELECT doc_id, rev, is_deleted, space_id, metadata, CASE WHEN NOT is_deleted THEN {VECTOR_SHA256} END
            FROM everreach_vectors WHERE collection = %(collection)s {condition}
            """,  # noqa: S608 - both parts are constants of this module
            {"collection": collection} | parameters,
        )
        for doc_id, rev, is_deleted, space_id, metadata, vector_sha256 in rows:
            yield doc_id, Held(rev, is_deleted, space_id or "", metadata, vector_sha256 or b"")

    def _execute(self, statement: str, parameters: Mapping[str, object]) -> list[Any]:
        """The rows of one statement, which is its own transaction.

        Raises:
            Unavailable: no answer in time, or none at all. Whether it was carried out is not known.
            InvalidInput: the cloud does not let us in, or do this.
            RowsRefused: it will not take a value.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            self.requests += 1
            with _deadline(self._connection, self._request_seconds):
                cursor = self._connection.execute(statement.encode(), parameters)
                return cursor.fetchall() if cursor.description else []
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RowsRefused(type(error).__name__) from None
        except (psycopg.ProgrammingError, psycopg.errors.InvalidAuthorizationSpecification) as error:
            self.close()
            reason = error.diag.message_primary or type(error).__name__
            raise InvalidInput(
                f"the cloud at {self.address} refuses ({reason}): give the user of CLOUD_DATABASE_URL the right to "
                "create a table there, and the extension vector (docs/sync.md)"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise Unavailable(
                f"the cloud at {self.address} does not answer ({str(error).strip()}); what it had not confirmed stays "
                "pending: run the same command again"
            ) from error

    def _connect(self) -> Connection:
        milliseconds = round(self._request_seconds * 1000)
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=round(min(self._request_seconds, CONNECT_SECONDS)),
            application_name="everreach-sync",
            prepare_threshold=None,
        )  # no prepared statements: poolers in front of hosted databases lose them
        try:
            with _deadline(connection, self._request_seconds):
                connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))
                if connection.execute("SELECT to_regclass('everreach_vectors')").fetchone() == (None,):
                    with connection.transaction():
                        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING_LOCK,))
                        connection.execute(TABLE)
                register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _columns(collection: str, rows: Sequence[Outgoing]) -> dict[str, object]:
    return {
        "collection": collection,
        "doc_ids": [each.doc_id for each in rows],
        "revs": [each.rev for each in rows],
        "spaces": [each.space_id for each in rows],
        "metadata": [Jsonb(dict(each.metadata)) for each in rows],
    }


@contextlib.contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection where the block takes longer: the driver would wait for a frozen server for ever."""
    duplicate = os.dup(connection.fileno())
    timer = threading.Timer(seconds + 1, _cut, (duplicate,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(duplicate)


def _cut(descriptor: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
