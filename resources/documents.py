"""What each vector collection should hold, against what it holds: documents to embed, to refresh and to delete.

The documents of a collection are the rows of its view (sql/migrations/0010_retention.sql): id, text, hash of the
text, allow-listed metadata; what was purged is not among them. What does not belong here: embedding (`embedder.py`) and
the vectors themselves (`vector_store.py`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.vectors import Metadata
from resources import embedding_cache, posts
from resources.database import Connection, Database
from resources.vector_store import ledger_targets, noted

VIEWS = {
    CONTENT.name: "content_documents",
    OUTCOMES.name: "outcome_documents",
    PROSPECTS.name: "prospect_documents",
    LESSONS.name: "lesson_documents",
}

IS_OTHER_TEXT = sql.SQL(
    "(stored.doc_id IS NULL OR (stored.text_sha256, stored.scrubber_version)"
    " IS DISTINCT FROM (documents.text_sha256, %(scrubber_version)s))"
)
"""The document has no vector, or one of another text or scrubber. One in another space than the one in force is up to
date: it waits to be healed (`space_documents.py`), and is not paid for again meanwhile."""


@dataclass(frozen=True)
class DocumentText:
    """A document whose text has no vector yet."""

    doc_id: str
    text: str
    text_sha256: bytes
    metadata: Metadata


@dataclass(frozen=True)
class Scope:
    """A collection, and what its vectors must have been made by.

    Attributes:
        space_id: the space in force, or another that is to be filled.
        targets: indexes that the ledger notes changes for, beside the cloud.
    """

    collection: str
    space_id: str
    scrubber_version: str
    targets: Sequence[str]

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "collection": self.collection,
            "space_id": self.space_id,
            "scrubber_version": self.scrubber_version,
            "targets": ledger_targets(self.collection, self.targets),
            "content": CONTENT.name,
        }


def texts(connection: Connection, collection: str, doc_ids: Sequence[str]) -> dict[str, str]:
    """The texts, not scrubbed, of those documents that there are, by id."""
    if collection in (CONTENT.name, OUTCOMES.name):
        return posts.texts(connection, doc_ids)  # by the key of the table, which the view's ids are made of
    statement = sql.SQL("SELECT doc_id, text FROM {} WHERE doc_id = ANY(%s)").format(sql.Identifier(VIEWS[collection]))
    return dict(connection.execute(statement, (list(doc_ids),)).fetchall())


@contextlib.contextmanager
def comparison(database: Database) -> Iterator[Connection]:
    """A transaction for the functions here, each of which compares all documents of a collection with its vectors.

    It joins by hashing. Where the tables have just grown, the planner expects a single row and would compare each
    document with each vector: 45,000 posts were not done after ten minutes.
    """
    with database.transaction() as connection:
        connection.execute("SELECT set_config('enable_nestloop', 'off', true)")
        yield connection


def count(connection: Connection, scope: Scope) -> tuple[int, int]:
    """Documents of the collection, and how many of them have yet to be embedded."""
    row = connection.execute(
        with_view(
            scope,
            """
            SELECT count(*), count(*) FILTER (WHERE {is_other_text}) FROM {view} AS documents
            LEFT JOIN vector_embeddings AS stored
                ON stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
            """,
        ),
        scope.parameters,
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def admit_arrivals(connection: Connection, scope: Scope) -> int:
    """Forget that those documents were purged whose source came after the purge; answers how many.

    A person who is entered again, or a post with a new outcome, is a new document, with a new age.
    """
    return connection.execute(
        """
        DELETE FROM retention_tombstones AS purged USING retention_arrivals AS arrivals
        WHERE purged.collection = %(collection)s AND arrivals.collection = %(collection)s
            AND arrivals.doc_id = purged.doc_id AND arrivals.arrived_at > purged.purged_at
        """,
        scope.parameters,
    ).rowcount


def to_embed(
    connection: Connection, scope: Scope, rows: int, *, only_of_purged_posts: bool = False
) -> Iterator[list[DocumentText]]:
    """The documents that have yet to be embedded, `rows` at a time, whatever their number, in one pass.

    The connection must be in its transaction (`comparison`) for as long as the batches are read.

    Args:
        connection: as said.
        scope: whose documents.
        rows: of a batch.
        only_of_purged_posts: of outcomes, those whose post's vector was purged, so that there is none to copy.
    """
    with connection.cursor(name="documents_to_embed") as cursor:
        cursor.execute(
            with_view(
                scope,
                """
                SELECT documents.doc_id, documents.text, documents.text_sha256, documents.metadata
                FROM {view} AS documents
                LEFT JOIN vector_embeddings AS stored
                    ON stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
                WHERE {is_other_text} AND (NOT %(only_of_purged_posts)s OR EXISTS (
                    SELECT FROM retention_tombstones AS purged
                    WHERE purged.collection = %(content)s AND purged.doc_id = documents.doc_id))
                ORDER BY documents.doc_id
                """,
            ),
            scope.parameters | {"only_of_purged_posts": only_of_purged_posts},
        )
        while batch := cursor.fetchmany(rows):
            yield [DocumentText(*row) for row in batch]


def refresh_metadata(connection: Connection, scope: Scope) -> int:
    """Replace the metadata of vectors whose text is as it was; answers how many changed. No vector is touched."""
    return write_noting(
        connection,
        scope,
        """
        UPDATE vector_embeddings AS stored
        SET metadata = documents.metadata, rev = nextval('vector_revisions'), updated_at = now()
        FROM {view} AS documents
        WHERE stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
            AND stored.metadata IS DISTINCT FROM documents.metadata AND NOT {is_other_text}
        RETURNING stored.doc_id, stored.rev
        """,
    )


def copy_from_content(connection: Connection, scope: Scope) -> int:
    """Give each document that lacks a vector that of the post with its id and text; answers how many.

    An outcome's vector is that of its post's text, so it is copied, in whatever space that is, and never paid for
    twice.
    """
    return write_noting(
        connection,
        scope,
        """
        INSERT INTO vector_embeddings
            (collection, doc_id, embedding, metadata, space_id, text_sha256, scrubber_version)
        SELECT %(collection)s, documents.doc_id, content.embedding, documents.metadata, content.space_id,
               content.text_sha256, content.scrubber_version
        FROM {view} AS documents
        JOIN vector_embeddings AS content
            ON content.collection = %(content)s AND content.doc_id = documents.doc_id
            AND (content.text_sha256, content.scrubber_version) = (documents.text_sha256, %(scrubber_version)s)
        LEFT JOIN vector_embeddings AS stored
            ON stored.collection = %(collection)s AND stored.doc_id = documents.doc_id
        WHERE {is_other_text}
        ORDER BY documents.doc_id
        ON CONFLICT (collection, doc_id) DO UPDATE
        SET embedding = excluded.embedding, metadata = excluded.metadata, space_id = excluded.space_id,
            text_sha256 = excluded.text_sha256, scrubber_version = excluded.scrubber_version,
            rev = nextval('vector_revisions'), updated_at = now()
        RETURNING doc_id, rev
        """,
    )


def delete_gone(connection: Connection, scope: Scope) -> int:
    """Delete the vectors whose document is no longer there; answers how many.

    A vector that somebody stored without a text of ours (no hash) is not one of these documents and stays.
    """
    return _delete_noting(
        connection,
        scope,
        """
        DELETE FROM vector_embeddings AS stored
        WHERE collection = %(collection)s AND text_sha256 IS NOT NULL
            AND NOT EXISTS (SELECT FROM {view} AS documents WHERE documents.doc_id = stored.doc_id)
        RETURNING stored.doc_id, nextval('vector_revisions') AS rev, stored.text_sha256
        """,
    )


def delete_outdated(connection: Connection, scope: Scope) -> int:
    """Delete the vectors of another text than their document has; answers how many.

    After the embedding these are the documents in whose new text nothing was left to embed.
    """
    return _delete_noting(
        connection,
        scope,
        """
        DELETE FROM vector_embeddings AS stored USING {view} AS documents
        WHERE stored.collection = %(collection)s AND stored.doc_id = documents.doc_id AND {is_other_text}
        RETURNING stored.doc_id, nextval('vector_revisions') AS rev, stored.text_sha256
        """,
    )


def write_noting(connection: Connection, scope: Scope, statement: str) -> int:
    """Run a writing statement that returns `doc_id, rev`, note the changes for each target, answer their number."""
    noting = sql.SQL("WITH changed AS ({statement}), noted AS ({noted}) SELECT count(*) FROM changed").format(
        statement=with_view(scope, statement), noted=noted("changed")
    )
    row = connection.execute(noting, scope.parameters).fetchone()
    return int(row[0]) if row else 0


def _delete_noting(connection: Connection, scope: Scope, statement: str) -> int:
    """As `write_noting`, of a deletion that returns `text_sha256` too: those texts leave the cache with their rows."""
    noting = sql.SQL(
        "WITH changed AS ({statement}), noted AS ({noted}) SELECT count(*), array_agg(text_sha256) FROM changed"
    ).format(statement=with_view(scope, statement), noted=noted("changed", is_deletion=True))
    deleted, text_hashes = connection.execute(noting, scope.parameters).fetchone() or (0, None)
    embedding_cache.erase_in(connection, text_hashes or [])
    return int(deleted)


def with_view(scope: Scope, statement: str) -> sql.Composed:
    """The statement with `{view}` and `{is_other_text}` of the collection filled in."""
    return sql.SQL(statement).format(view=sql.Identifier(VIEWS[scope.collection]), is_other_text=IS_OTHER_TEXT)
