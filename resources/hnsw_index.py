"""The index inside Postgres: one partial HNSW index for each collection and space.

Partial, because one index over all collections returns too few rows of the small ones.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from psycopg import sql

from everreach_assets.domain.filters import Filter
from everreach_assets.domain.vectors import Match, Vector
from resources import vector_store
from resources.database import Connection, Database
from resources.vector_index import IndexReport

INDEXED_FROM_ROWS = 1_000
"""Below it, comparing with every row takes a few milliseconds and finds every neighbour."""

BUILD_SETTINGS = {
    "maintenance_work_mem": "512MB",  # 10,000 x 1536 need about 80 MB; a graph that spills builds several times slower
    "max_parallel_maintenance_workers": "2",
}


class HnswIndex:
    """Searches through pgvector's HNSW."""

    backend = "pgvector"
    targets: Sequence[str] = ()

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.contextmanager
    def loading(self, collection: str, space_id: str, incoming: int) -> Iterator[None]:
        """Drop the index before a load that at least doubles the rows, and build it afterwards: several times faster.

        A search meanwhile compares with every row: slower, not wrong.
        """
        with self._database.connection() as connection:
            if incoming >= INDEXED_FROM_ROWS and incoming >= vector_store.count(connection, collection, space_id):
                _drop(connection, collection, space_id)
        yield
        self.deliver(collection, space_id)

    def adopt(self, collection: str, space_id: str) -> int:
        return 0  # Postgres has kept the index in step, whoever answered

    def deliver(self, collection: str, space_id: str) -> int:
        """Build the index where there are rows enough and none that is valid; Postgres keeps it from then on."""
        with self._database.connection() as connection:
            return self._build(connection, collection, space_id)

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        condition, parameters = vector_store.filter_condition(where)
        statement = sql.SQL(
            "SELECT doc_id, embedding <=> %(query)b AS distance, metadata FROM vector_embeddings"
            " WHERE {scope} AND {condition} ORDER BY embedding <=> %(query)b LIMIT %(n)s"
        ).format(scope=_scope(collection, space_id), condition=condition)
        with self._database.transaction() as connection:
            # The planner takes reading and comparing a vector for as cheap as a number, and so prefers to sort all of
            # some thousand rows. Without a sort, only the index gives the order; where there is none, it sorts still.
            connection.execute("SET LOCAL enable_sort = off")
            rows = connection.execute(statement, parameters | {"query": query, "n": n}, binary=True)
            return [Match(*row) for row in rows]

    def size(self, collection: str, space_id: str) -> int:
        with self._database.connection() as connection:  # Postgres keeps it in step with its rows
            return vector_store.count(connection, collection, space_id)

    def check(self, collection: str, space_id: str) -> IndexReport:
        with self._database.connection() as connection:
            rows = vector_store.count(connection, collection, space_id)
            return IndexReport(collection, self.backend, rows, fault=self._fault(connection, collection, space_id))

    def mend(self, collection: str, space_id: str) -> int:
        return self.deliver(collection, space_id)

    def rebuild(self, collection: str, space_id: str) -> int:
        with self._database.connection() as connection:
            _drop(connection, collection, space_id)
            self._build(connection, collection, space_id)
            return vector_store.count(connection, collection, space_id)

    def spaces(self, collection: str) -> list[str]:
        return []

    def put_in_force(self, collection: str, space_id: str) -> None:
        """Nothing: an index is found by its space."""

    def prepare(self, collection: str, space_id: str) -> Mapping[str, int]:
        return {}  # it indexes rows where they stand: those aside come into it with the switch

    def forget(self, collection: str, space_id: str) -> None:
        with self._database.connection() as connection:
            _drop(connection, collection, space_id)

    def close(self) -> None:
        """Nothing: the connections are the database's."""

    def _fault(self, connection: Connection, collection: str, space_id: str) -> str:
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (_name(collection, space_id),)
        ).fetchone()
        if row is not None:
            return "" if row[0] else "its index was left half-built"
        needs_one = vector_store.count(connection, collection, space_id) >= INDEXED_FROM_ROWS
        return "it has no index yet" if needs_one else ""

    def _build(self, connection: Connection, collection: str, space_id: str) -> int:
        if not self._fault(connection, collection, space_id):
            return 0
        with connection.transaction():
            # Two builders at once would fight for the same name: the second waits, and finds it there.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (_name(collection, space_id),))
            if not self._fault(connection, collection, space_id):
                return 0
            _drop(connection, collection, space_id)
            for name, value in BUILD_SETTINGS.items():
                connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            connection.execute(
                sql.SQL(
                    "CREATE INDEX {name} ON vector_embeddings USING hnsw (embedding vector_cosine_ops) WHERE {scope}"
                ).format(name=sql.Identifier(_name(collection, space_id)), scope=_scope(collection, space_id))
            )
        connection.execute("ANALYZE vector_embeddings")
        return vector_store.count(connection, collection, space_id)


def _drop(connection: Connection, collection: str, space_id: str) -> None:
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(_name(collection, space_id))))


def _name(collection: str, space_id: str) -> str:
    return f"hnsw_{collection}_{space_id}"  # at most 5 + 40 + 1 + 12 of Postgres's 63 characters


def _scope(collection: str, space_id: str) -> sql.Composable:
    """The condition of the partial index, in literals: with parameters the planner could not match it."""
    return sql.SQL("collection = {} AND space_id = {}").format(sql.Literal(collection), sql.Literal(space_id))
