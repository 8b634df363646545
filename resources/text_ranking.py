"""Ranking documents by the words of their texts, for when a query has no vector in their space.

Postgres's full-text search over the truth: no second index to keep. Stemmed as English, other languages alike on both
sides. What does not belong here: search by vectors.
"""

from psycopg import sql

from everreach_assets.domain.filters import Filter
from everreach_assets.domain.vectors import Metadata
from resources.database import Connection
from resources.documents import VIEWS
from resources.vector_store import filter_condition


def nearest(
    connection: Connection, collection: str, space_id: str, query: str, n: int, where: Filter | None
) -> list[tuple[str, Metadata]]:
    """Ids and metadata of the documents of the space that share most with the query; those that share nothing last.

    Args:
        query: scrubbed, as every text that is searched with.
        n: how many at most; fewer only where fewer match the filter.
    """
    condition, parameters = filter_condition(where)
    view = sql.Identifier(VIEWS[collection]) if collection in VIEWS else sql.SQL("(SELECT '' AS doc_id, '' AS text)")
    statement = sql.SQL(
        """
        WITH query AS (
            SELECT replace(plainto_tsquery('english', %(query)s)::text, ' & ', ' | ')::tsquery AS any_word
        ), stored AS MATERIALIZED (
            SELECT doc_id, metadata FROM vector_embeddings
            WHERE collection = %(collection)s AND space_id = %(space_id)s AND {condition}
        ), ranked AS (
            SELECT documents.doc_id, ts_rank_cd(to_tsvector('english', documents.text), any_word, 1) AS rank
            FROM {view} AS documents CROSS JOIN query
            WHERE to_tsvector('english', documents.text) @@ any_word
        )
        SELECT stored.doc_id, stored.metadata FROM stored LEFT JOIN ranked USING (doc_id)
        ORDER BY coalesce(rank, 0) DESC, stored.doc_id LIMIT %(n)s
        """
    ).format(condition=condition, view=view)
    rows = connection.execute(
        statement, parameters | {"query": query, "collection": collection, "space_id": space_id, "n": n}, binary=True
    )
    return rows.fetchall()
