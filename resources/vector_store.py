"""The truth about vectors: rows of `vector_embeddings`, and the ledger of what each index has acknowledged.

What does not belong here: searching through an index (`chroma_index.py`, `hnsw_index.py`), and the order of the steps
(`vector_db.py`). Every function takes a connection, so that its caller decides what is one transaction. Every statement
locks rows in the order of their ids, so that two writers never block each other for good.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pgvector
from psycopg import sql
from psycopg.types.json import Jsonb

from everreach_assets.domain.filters import Comparison, Filter
from everreach_assets.domain.sync import may_leave
from everreach_assets.domain.vectors import Document, Match, Metadata, Vector
from resources.database import Connection

CLOUD_TARGET = "cloud"
"""The ledger's name for the cloud, whichever one is configured (the table `clouds` says which)."""

NOTED = sql.SQL(
    """
    INSERT INTO vector_deliveries AS ledger (target, collection, doc_id, rev, is_deleted)
    SELECT target, %(collection)s, doc_id, rev, {is_deletion}
    FROM {changes} CROSS JOIN unnest(%(targets)s::text[]) AS target ORDER BY doc_id COLLATE "C"
    ON CONFLICT (target, collection, doc_id) DO UPDATE
    SET rev = excluded.rev, is_deleted = excluded.is_deleted, attempts = 0, error_class = NULL, dead_since = NULL,
        pending_since = CASE WHEN ledger.acked_rev = ledger.rev THEN now() ELSE ledger.pending_since END
    """
)
"""Every change goes through this into the ledger, in the statement that makes it. `changes` has `doc_id` and `rev`;
the parameter `targets` comes from `ledger_targets`."""

JSONPATH_OPERATORS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass(frozen=True)
class StoredVector:
    """A row as an index takes it.

    Attributes:
        space_id: of the space that the vector is of; an index is given rows of one space at a time.
    """

    doc_id: str
    rev: int
    embedding: Vector
    metadata: Metadata
    space_id: str


@dataclass(frozen=True)
class PendingDelivery:
    """What an index has yet to acknowledge: a row, or its removal (`stored` is None)."""

    doc_id: str
    rev: int
    stored: StoredVector | None


def ledger_targets(collection: str, indexes: Sequence[str]) -> list[str]:
    """Who has to learn of a change in the collection: the indexes, and the cloud where its rows may leave.

    The cloud is noted whether or not one is configured: when one is, nothing has to be searched for.
    """
    return [*indexes, *([CLOUD_TARGET] if may_leave(collection) else [])]


def noted(changes: str, *, is_deletion: bool = False) -> sql.Composed:
    """The statement that notes the changes, the name of a part of the WITH that it stands in."""
    return NOTED.format(changes=sql.Identifier(changes), is_deletion=sql.Literal(is_deletion))


def upsert(
    connection: Connection, collection: str, space_id: str, documents: Sequence[Document], targets: Sequence[str]
) -> int:
    """Write the documents, each in its space, and note what each target now lacks; answers how many changed.

    `space_id` is that of documents which name none. A document that is already stored as it is gets no new revision.
    One that was purged is left out: an embedding run may have read its text before the purge.
    """
    ordered = sorted(documents, key=lambda each: each.doc_id)
    statement = sql.SQL(
        """
        WITH changed AS (
            INSERT INTO vector_embeddings AS stored
                (collection, doc_id, embedding, metadata, space_id, text_sha256, scrubber_version)
            SELECT %(collection)s, doc_id, embedding, metadata, space_id, text_sha256, scrubber_version
            FROM unnest(%(doc_ids)b::text[], %(embeddings)b::vector[], %(metadata)b::jsonb[],
                        %(spaces)b::text[], %(hashes)b::bytea[], %(scrubbers)b::text[])
                AS given (doc_id, embedding, metadata, space_id, text_sha256, scrubber_version)
            WHERE NOT EXISTS (
                SELECT FROM retention_tombstones AS purged
                WHERE purged.collection = %(collection)s AND purged.doc_id = given.doc_id)
            ORDER BY doc_id COLLATE "C"
            ON CONFLICT (collection, doc_id) DO UPDATE
            SET embedding = excluded.embedding, metadata = excluded.metadata, space_id = excluded.space_id,
                text_sha256 = excluded.text_sha256, scrubber_version = excluded.scrubber_version,
                rev = nextval('vector_revisions'), updated_at = now()
            WHERE (stored.embedding, stored.metadata, stored.space_id, stored.text_sha256, stored.scrubber_version)
                IS DISTINCT FROM (excluded.embedding, excluded.metadata, excluded.space_id, excluded.text_sha256,
                                  excluded.scrubber_version)
            RETURNING doc_id, rev
        ), noted AS ({noted})
        SELECT count(*) FROM changed
        """
    ).format(noted=noted("changed"))
    row = connection.execute(
        statement,
        {
            "collection": collection,
            "spaces": [each.space.space_id if each.space else space_id for each in ordered],
            "doc_ids": [each.doc_id for each in ordered],
            "embeddings": [each.embedding for each in ordered],
            "metadata": [Jsonb(dict(each.metadata)) for each in ordered],
            "hashes": [each.text_sha256 for each in ordered],
            "scrubbers": [each.scrubber_version for each in ordered],
            "targets": ledger_targets(collection, targets),
        },
    ).fetchone()
    return int(row[0]) if row else 0


def delete(connection: Connection, collection: str, doc_ids: Sequence[str], targets: Sequence[str]) -> int:
    """Delete the rows and note that each target must; answers how many there were."""
    return _delete(connection, collection, sql.SQL("doc_id = ANY(%(doc_ids)s)"), {"doc_ids": list(doc_ids)}, targets)


def delete_where(connection: Connection, collection: str, where: Filter, targets: Sequence[str]) -> int:
    """Delete the rows that match, however many; answers how many there were."""
    condition, parameters = filter_condition(where)
    return _delete(connection, collection, condition, parameters, targets)


def _delete(
    connection: Connection,
    collection: str,
    condition: sql.Composable,
    parameters: dict[str, object],
    targets: Sequence[str],
) -> int:
    statement = sql.SQL(
        """
        WITH locked AS MATERIALIZED (
            SELECT id FROM vector_embeddings WHERE collection = %(collection)s AND {condition}
            ORDER BY doc_id COLLATE "C" FOR UPDATE
        ), gone AS (
            DELETE FROM vector_embeddings WHERE id IN (SELECT id FROM locked)
            RETURNING doc_id, nextval('vector_revisions') AS rev
        ), noted AS ({noted})
        SELECT count(*) FROM gone
        """
    ).format(condition=condition, noted=noted("gone", is_deletion=True))
    given = {"collection": collection, "targets": ledger_targets(collection, targets)}
    row = connection.execute(statement, parameters | given).fetchone()
    return int(row[0]) if row else 0


def get_many(connection: Connection, collection: str, doc_ids: Sequence[str]) -> dict[str, StoredVector]:
    """The rows of those ids that exist, by id."""
    rows = connection.execute(
        "SELECT doc_id, rev, embedding, metadata, space_id FROM vector_embeddings"
        " WHERE collection = %s AND doc_id = ANY(%s)",
        (collection, list(doc_ids)),
        binary=True,
    )
    return {row[0]: _stored(row) for row in rows}


def sample(connection: Connection, collection: str, space_id: str, rows: int) -> dict[str, Vector]:
    """The vectors of so many documents of the space, drawn at random, by id."""
    drawn = connection.execute(
        "SELECT doc_id, embedding FROM vector_embeddings WHERE id IN (SELECT id FROM vector_embeddings"
        " WHERE collection = %s AND space_id = %s ORDER BY random() LIMIT %s)",
        (collection, space_id, rows),
        binary=True,
    )
    return {doc_id: embedding.to_numpy() for doc_id, embedding in drawn}


def count(connection: Connection, collection: str, space_id: str | None = None) -> int:
    """Rows of the collection, or of one space of it."""
    row = connection.execute(
        "SELECT count(*) FROM vector_embeddings WHERE collection = %s AND space_id = coalesce(%s, space_id)",
        (collection, space_id),
    ).fetchone()
    return int(row[0]) if row else 0


def count_present(connection: Connection, collection: str, doc_ids: Sequence[str]) -> int:
    """How many of those ids have a row."""
    row = connection.execute(
        "SELECT count(*) FROM vector_embeddings WHERE collection = %s AND doc_id = ANY(%s)", (collection, list(doc_ids))
    ).fetchone()
    return int(row[0]) if row else 0


def purged(connection: Connection, collection: str, doc_ids: Sequence[str]) -> list[str]:
    """Those of the ids that were purged and not restored."""
    rows = connection.execute(
        "SELECT doc_id FROM retention_tombstones WHERE collection = %s AND doc_id = ANY(%s) ORDER BY doc_id",
        (collection, list(doc_ids)),
    )
    return [doc_id for (doc_id,) in rows]


def metadata_of(
    connection: Connection, collection: str, space_id: str, doc_ids: Sequence[str], where: Filter | None
) -> dict[str, Metadata]:
    """Metadata of those ids that the space still holds and that match, by id."""
    condition, parameters = filter_condition(where)
    rows = connection.execute(
        sql.SQL(
            "SELECT doc_id, metadata FROM vector_embeddings WHERE collection = %(collection)s"
            " AND space_id = %(space_id)s AND doc_id = ANY(%(doc_ids)s) AND {condition}"
        ).format(condition=condition),
        parameters | {"collection": collection, "space_id": space_id, "doc_ids": list(doc_ids)},
        binary=True,
    )
    return dict(rows.fetchall())


def search_exactly(
    connection: Connection,
    collection: str,
    space_id: str,
    query: Vector,
    n: int,
    where: Filter | None,
    *,
    unless_more_than: int | None = None,
) -> list[Match] | None:
    """The nearest rows by comparing with every row that matches.

    Args:
        query: shape (1536,).
        n: how many at most.
        unless_more_than: give up, and answer None, where more rows than this match.
    """
    condition, parameters = filter_condition(where)
    rows = connection.execute(
        sql.SQL(
            """
            WITH matching AS MATERIALIZED (
                SELECT doc_id, embedding, metadata FROM vector_embeddings
                WHERE collection = %(collection)s AND space_id = %(space_id)s AND {condition}
                LIMIT {stop_after}
            ), matched AS (SELECT count(*) AS total FROM matching)
            SELECT matched.total, nearest.* FROM matched LEFT JOIN LATERAL (
                SELECT doc_id, embedding <=> %(query)b AS distance, metadata FROM matching
                WHERE matched.total < coalesce({stop_after}, matched.total + 1)
                ORDER BY distance, doc_id LIMIT %(n)s
            ) AS nearest ON true
            """
        ).format(
            condition=condition, stop_after=sql.Literal(None if unless_more_than is None else unless_more_than + 1)
        ),
        parameters | {"collection": collection, "space_id": space_id, "query": query, "n": n},
        binary=True,
        prepare=False,  # a plan for every filter would read the whole collection where this one leaves ten rows
    ).fetchall()
    if unless_more_than is not None and rows[0][0] > unless_more_than:
        return None
    return [Match(doc_id, distance, metadata) for _, doc_id, distance, metadata in rows if doc_id is not None]


def pending_deliveries(
    connection: Connection, target: str, collection: str, space_id: str, limit: int
) -> list[PendingDelivery]:
    """The oldest changes of the space, and removals, that the target has not acknowledged."""
    # Row by row (LIMIT 1), in the order of the index of what is pending: a join would read every vector for each batch.
    rows = connection.execute(
        """
        SELECT ledger.doc_id, ledger.rev, stored.rev, stored.embedding, stored.metadata
        FROM (
            SELECT doc_id, rev, is_deleted FROM vector_deliveries
            WHERE target = %(target)s AND collection = %(collection)s AND acked_rev IS DISTINCT FROM rev
            ORDER BY rev
        ) AS ledger
        LEFT JOIN LATERAL (
            SELECT rev, embedding, metadata FROM vector_embeddings
            WHERE collection = %(collection)s AND doc_id = ledger.doc_id AND space_id = %(space_id)s
                AND NOT ledger.is_deleted
            LIMIT 1
        ) AS stored ON true
        WHERE ledger.is_deleted OR stored.rev IS NOT NULL
        ORDER BY ledger.rev LIMIT %(limit)s
        """,
        {"target": target, "collection": collection, "space_id": space_id, "limit": limit},
        binary=True,
    )
    return [
        PendingDelivery(
            doc_id, rev, None if stored_rev is None else _stored((doc_id, stored_rev, embedding, metadata, space_id))
        )
        for doc_id, rev, stored_rev, embedding, metadata in rows
    ]


def acknowledge(connection: Connection, target: str, collection: str, delivered: Iterable[PendingDelivery]) -> None:
    """Note what the target took. A removal needs no row in the ledger any longer."""
    revs = {each.doc_id: each.stored.rev if each.stored else each.rev for each in delivered}
    parameters = {"target": target, "collection": collection, "doc_ids": list(revs), "revs": Jsonb(revs)}
    connection.execute(
        """
        SELECT FROM vector_deliveries
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
        ORDER BY doc_id COLLATE "C" FOR UPDATE
        """,
        parameters,
    )
    # Revisions are looked up, not joined: before the first ANALYZE a join compares each with the whole collection.
    connection.execute(
        """
        DELETE FROM vector_deliveries
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
            AND is_deleted AND rev = (%(revs)s ->> doc_id)::bigint
        """,
        parameters,
    )
    connection.execute(
        """
        UPDATE vector_deliveries SET acked_rev = (%(revs)s ->> doc_id)::bigint
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s) AND NOT is_deleted
        """,
        parameters,
    )


def adopt(connection: Connection, target: str, collection: str, space_id: str) -> int:
    """Put rows that the ledger does not know for this target into it; answers how many.

    They exist where the backend was another one when they were written.
    """
    return connection.execute(
        """
        INSERT INTO vector_deliveries (target, collection, doc_id, rev)
        SELECT %(target)s, collection, doc_id, rev FROM vector_embeddings AS stored
        WHERE collection = %(collection)s AND space_id = %(space_id)s AND rev IS DISTINCT FROM (
            SELECT ledger.rev FROM vector_deliveries AS ledger  -- looked up by its key, not joined: as in acknowledge
            WHERE ledger.target = %(target)s AND ledger.collection = stored.collection
                AND ledger.doc_id = stored.doc_id)
        ORDER BY doc_id COLLATE "C"
        ON CONFLICT (target, collection, doc_id) DO UPDATE SET rev = excluded.rev, is_deleted = false
        """,
        {"target": target, "collection": collection, "space_id": space_id},
    ).rowcount


def forget_acknowledgements(
    connection: Connection, target: str, collection: str, space_id: str, doc_ids: Sequence[str] | None = None
) -> int:
    """Count those documents of the space, or all of them, as not delivered; answers how many."""
    parameters = {"target": target, "collection": collection, "space_id": space_id}
    acknowledged = connection.execute(
        """
        SELECT doc_id FROM vector_deliveries AS ledger
        WHERE target = %(target)s AND collection = %(collection)s AND acked_rev IS NOT NULL
            AND (%(doc_ids)s::text[] IS NULL OR doc_id = ANY(%(doc_ids)s))
            AND EXISTS (SELECT FROM vector_embeddings AS stored WHERE stored.collection = ledger.collection
                        AND stored.doc_id = ledger.doc_id AND stored.space_id = %(space_id)s)
        ORDER BY doc_id COLLATE "C" FOR UPDATE
        """,
        parameters | {"doc_ids": None if doc_ids is None else list(doc_ids)},
    )
    return connection.execute(
        """
        UPDATE vector_deliveries SET acked_rev = NULL
        WHERE target = %(target)s AND collection = %(collection)s AND doc_id = ANY(%(doc_ids)s)
        """,
        parameters | {"doc_ids": [doc_id for (doc_id,) in acknowledged]},
    ).rowcount


def revisions(connection: Connection, collection: str, space_id: str) -> Iterator[tuple[str, int]]:
    """Id and revision of every row of the space."""
    yield from connection.execute(
        "SELECT doc_id, rev FROM vector_embeddings WHERE collection = %s AND space_id = %s", (collection, space_id)
    )


def filter_condition(where: Filter | None) -> tuple[sql.Composable, dict[str, object]]:
    """The filter as an SQL condition on `metadata` and its parameters; every value and key is a parameter."""
    parameters: dict[str, object] = {}
    if where is None:
        return sql.SQL("true"), parameters
    return _condition(where, parameters), parameters


def _condition(where: Filter, parameters: dict[str, object]) -> sql.Composable:
    if isinstance(where, Comparison):
        return _comparison(where, parameters)
    joiner = sql.SQL(" AND " if where.operator == "$and" else " OR ")
    return sql.SQL("({})").format(joiner.join(_condition(member, parameters) for member in where.members))


def _comparison(where: Comparison, parameters: dict[str, object]) -> sql.Composable:
    def parameter(value: object) -> sql.Placeholder:
        name = f"where_{len(parameters)}"
        parameters[name] = value
        return sql.Placeholder(name)

    match where.operator:
        case "$eq":
            return sql.SQL("metadata @> {}::jsonb").format(parameter(Jsonb({where.key: where.value})))
        case "$ne":
            return sql.SQL("NOT metadata @> {}::jsonb").format(parameter(Jsonb({where.key: where.value})))
        case "$in" | "$nin":
            assert isinstance(where.value, tuple)  # noqa: S101 - parse_filter sees to it
            is_member = sql.SQL("coalesce(metadata -> {}::text = ANY({}::jsonb[]), false)").format(
                parameter(where.key), parameter([Jsonb(value) for value in where.value])
            )
            return is_member if where.operator == "$in" else sql.SQL("NOT {}").format(is_member)
        case "$gt" | "$gte" | "$lt" | "$lte":
            # In a jsonpath a text or a truth value compared with a number is unknown, so the row does not match.
            path = f"$.{json.dumps(where.key)} ? (@ {JSONPATH_OPERATORS[where.operator]} $bound)"
            return sql.SQL("jsonb_path_exists(metadata, {}::jsonpath, {}::jsonb)").format(
                parameter(path), parameter(Jsonb({"bound": where.value}))
            )


def _stored(row: tuple[str, int, pgvector.Vector, Metadata, str]) -> StoredVector:
    doc_id, rev, embedding, metadata, space_id = row
    return StoredVector(doc_id, rev, embedding.to_numpy(), metadata, space_id)
