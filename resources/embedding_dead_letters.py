"""Texts that a provider has no vector for, by their hash alone: not sent again until they change or somebody asks.

The hash is that of the cache (`domain/cache_keys.py`): of space, scrubber and text, so a text that changes is another.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.spaces import Space
from resources.database import Connection, Database

InputReason = Literal["bad_answer", "refused_by_provider"]


@dataclass(frozen=True)
class DeadLetter:
    """One text without a vector.

    Attributes:
        doc_id: of a document with that text; None where the text came without one.
        reason: why; `domain/embedding_results.py` words it.
    """

    collection: str
    doc_id: str | None
    input_sha256: bytes
    provider: str
    reason: InputReason
    failed_at: dt.datetime


class EmbeddingDeadLetters:
    """What the pipeline asks and notes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def among(self, collection: str, space: Space, keys: Collection[bytes]) -> dict[bytes, InputReason]:
        """Of these texts, those that are dead letters, each with its reason."""
        if not keys:
            return {}
        with self._database.connection() as connection:
            return dict(
                connection.execute(
                    "SELECT input_sha256, reason FROM embedding_dead_letters"
                    " WHERE collection = %s AND space_id = %s AND input_sha256 = ANY(%s)",
                    (collection, space.space_id, list(keys)),
                ).fetchall()
            )

    def add(
        self, collection: str, space: Space, reasons: Mapping[bytes, InputReason], doc_ids: Mapping[bytes, str]
    ) -> None:
        """Note texts without a vector, each with its reason and, where it is known, a document that has it."""
        with self._database.transaction() as connection:
            connection.cursor().executemany(
                "INSERT INTO embedding_dead_letters (collection, space_id, input_sha256, doc_id, provider, reason)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (collection, space_id, input_sha256) DO UPDATE"
                " SET doc_id = excluded.doc_id, reason = excluded.reason, failed_at = now()",
                [
                    (collection, space.space_id, key, doc_ids.get(key), space.provider, reasons[key])
                    for key in sorted(reasons)
                ],
            )


def listed(connection: Connection, collection: str | None, limit: int) -> Sequence[DeadLetter]:
    """The latest dead letters, of one collection or of all."""
    rows = connection.execute(
        "SELECT collection, doc_id, input_sha256, provider, reason, failed_at FROM embedding_dead_letters"
        " WHERE %(collection)s::text IS NULL OR collection = %(collection)s"
        " ORDER BY failed_at DESC, input_sha256 LIMIT %(limit)s",
        {"collection": collection, "limit": limit},
    )
    return [DeadLetter(*row) for row in rows]


def forget(connection: Connection, collection: str | None) -> int:
    """Let the next run ask for them again; answers how many there were."""
    return connection.execute(
        "DELETE FROM embedding_dead_letters WHERE %(collection)s::text IS NULL OR collection = %(collection)s",
        {"collection": collection},
    ).rowcount
