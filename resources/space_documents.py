"""Documents whose vector is in another space than it should be: to be healed, and to be filled into a second space.

What does not belong here: the vectors themselves (`vector_store.py`, `vectors_aside.py`), and the embedding.
"""

from collections.abc import Iterator

from everreach_assets.domain.collections import OUTCOMES
from resources.database import Connection
from resources.documents import DocumentText, Scope, with_view, write_noting

SHARDS = 16
"""Parts that a migration is filled in, by a hash of the id: independent, so that they can run at once."""

OF_SHARD = (
    f"(%(shard)s::int IS NULL OR get_byte(sha256(convert_to(documents.doc_id, 'UTF8')), 0) %% {SHARDS} = %(shard)s)"
)

# An outcome's vector is copied from its post's; it is embedded by itself only where the post has none (retention).
HAS_NO_POST_TO_COPY = """
    (NOT %(is_outcomes)s OR NOT EXISTS (
        SELECT FROM vector_embeddings AS content
        WHERE content.collection = %(content)s AND content.doc_id = documents.doc_id
            AND (content.text_sha256, content.scrubber_version) = (documents.text_sha256, %(scrubber_version)s)))
"""
TO_HEAL = f"""
    FROM {{view}} AS documents
    JOIN vector_embeddings AS stored ON stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
    WHERE stored.space_id <> %(space_id)s AND NOT {{is_other_text}} AND {HAS_NO_POST_TO_COPY}
"""
TO_FILL = f"""
    FROM {{view}} AS documents
    JOIN vector_embeddings AS stored ON stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
    LEFT JOIN vectors_aside AS staged ON staged.collection = %(collection)s AND staged.doc_id = documents.doc_id
        AND staged.space_id = %(space_id)s
    WHERE stored.space_id <> %(space_id)s AND NOT {{is_other_text}} AND {OF_SHARD}
        AND (staged.text_sha256, staged.scrubber_version)
            IS DISTINCT FROM (documents.text_sha256, %(scrubber_version)s)
"""


def to_heal(connection: Connection, scope: Scope, rows: int) -> Iterator[list[DocumentText]]:
    """The documents whose vector is of another space than the scope's, `rows` at a time.

    The connection must be in its transaction (`documents.comparison`) for as long as the batches are read.
    """
    yield from _batches(connection, scope, TO_HEAL, rows, None)


def to_fill(connection: Connection, scope: Scope, rows: int, shard: int | None) -> Iterator[list[DocumentText]]:
    """The documents of the shard that have no vector of their text in the scope's space yet, `rows` at a time.

    As `to_heal`, with the vectors aside taken into account. Without a shard, those of all.
    """
    yield from _batches(connection, scope, f"{TO_FILL} AND {HAS_NO_POST_TO_COPY}", rows, shard)


def count_to_fill(connection: Connection, scope: Scope) -> int:
    """How many documents have no vector of their text in the scope's space yet."""
    row = connection.execute(with_view(scope, f"SELECT count(*) {TO_FILL}"), _parameters(scope, None)).fetchone()
    return int(row[0]) if row else 0


def heal_by_copy(connection: Connection, scope: Scope) -> int:
    """Give each outcome that waits the vector that its post now has in the scope's space; answers how many."""
    return write_noting(
        connection,
        scope,
        """
        UPDATE vector_embeddings AS stored
        SET embedding = content.embedding, space_id = content.space_id, rev = nextval('vector_revisions'),
            updated_at = now()
        FROM vector_embeddings AS content
        WHERE stored.collection = %(collection)s AND stored.space_id <> %(space_id)s
            AND content.collection = %(content)s AND content.doc_id = stored.doc_id
            AND content.space_id = %(space_id)s
            AND (content.text_sha256, content.scrubber_version) = (stored.text_sha256, stored.scrubber_version)
        RETURNING stored.doc_id, stored.rev
        """,
    )


def fill_by_copy(connection: Connection, scope: Scope) -> int:
    """Put aside, for each outcome, the vector that its post has in the scope's space; answers how many."""
    return connection.execute(
        with_view(
            scope,
            f"""
            WITH posts AS (
                SELECT doc_id, embedding, text_sha256, scrubber_version FROM vectors_aside
                WHERE collection = %(content)s AND space_id = %(space_id)s
                UNION ALL
                SELECT doc_id, embedding, text_sha256, scrubber_version FROM vector_embeddings
                WHERE collection = %(content)s AND space_id = %(space_id)s
            ), lacking AS MATERIALIZED (
                SELECT documents.doc_id, documents.text_sha256 {TO_FILL}
                ORDER BY documents.doc_id COLLATE "C" FOR KEY SHARE OF stored
            )
            INSERT INTO vectors_aside (collection, doc_id, space_id, embedding, text_sha256, scrubber_version)
            SELECT %(collection)s, lacking.doc_id, %(space_id)s, posts.embedding, posts.text_sha256,
                posts.scrubber_version
            FROM lacking JOIN posts ON posts.doc_id = lacking.doc_id
                AND (posts.text_sha256, posts.scrubber_version) = (lacking.text_sha256, %(scrubber_version)s)
            ORDER BY lacking.doc_id COLLATE "C"
            ON CONFLICT (collection, doc_id, space_id) DO UPDATE
            SET embedding = excluded.embedding, text_sha256 = excluded.text_sha256,
                scrubber_version = excluded.scrubber_version, rev = nextval('vector_revisions')
            """,  # noqa: S608 - constants
        ),
        _parameters(scope, None),
    ).rowcount


def _batches(
    connection: Connection, scope: Scope, source: str, rows: int, shard: int | None
) -> Iterator[list[DocumentText]]:
    statement = (
        f"SELECT documents.doc_id, documents.text, documents.text_sha256, documents.metadata {source}"
        " ORDER BY documents.doc_id"
    )
    with connection.cursor(name="documents_of_another_space") as cursor:
        cursor.execute(with_view(scope, statement), _parameters(scope, shard))
        while batch := cursor.fetchmany(rows):
            yield [DocumentText(*row) for row in batch]


def _parameters(scope: Scope, shard: int | None) -> dict[str, object]:
    return scope.parameters | {"shard": shard, "is_outcomes": scope.collection == OUTCOMES.name}
