"""Who is measured: ours, and the raw clients as somebody would use them who knows them well.

What belongs here: filling an empty store and asking for the ten nearest rows with ids, distances and metadata. What
does not: the clock (`search.py`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import chromadb
import psycopg
from chromadb.api import ClientAPI
from chromadb.config import Settings as ChromaSettings
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.types.json import Jsonb

from everreach_assets.domain.vectors import Vector
from resources.chroma_index import BATCH_ROWS, HNSW, close_client
from resources.database import SESSION_SETTINGS, Database
from resources.hnsw_index import BUILD_SETTINGS
from resources.providers import LocalHashingProvider
from resources.settings import Settings
from resources.vector_db import VectorDB, open_index
from tests.benchmarks.vectors import NEIGHBOURS, Filter, VectorSet

Search = Callable[[Vector, Filter | None], list[str]]
"""The ids of the nearest rows that pass the filter, nearest first."""


class RawStore(Protocol):
    """A store that is used through its own client."""

    def fill(self, data: VectorSet) -> None: ...

    def search(self, query: Vector, where: Filter | None) -> list[str]: ...


class RawChroma:
    """A Chroma collection through `chromadb.HttpClient`."""

    def __init__(self, client: ClientAPI, name: str, hnsw: Mapping[str, object]) -> None:
        self._collection = client.create_collection(
            name,
            configuration={"hnsw": dict(hnsw)},  # type: ignore[arg-type]
            embedding_function=None,
        )

    def fill(self, data: VectorSet) -> None:
        for start in range(0, len(data.vectors), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            self._collection.upsert(
                ids=data.ids[rows],
                embeddings=data.vectors[rows],
                metadatas=data.metadata[rows],  # type: ignore[arg-type]
            )

    def search(self, query: Vector, where: Filter | None) -> list[str]:
        answer = self._collection.query(
            query_embeddings=query,
            n_results=NEIGHBOURS,
            where=where,  # type: ignore[arg-type]
            include=["metadatas", "distances"],
        )
        return answer["ids"][0]


class RawPgvector:
    """A table with an HNSW index through psycopg, on one connection that stays open."""

    def __init__(self, connection: psycopg.Connection, table: str) -> None:
        self._connection = connection
        self._table = sql.Identifier(table)

    def fill(self, data: VectorSet) -> None:
        create = "CREATE TABLE {} (doc_id text PRIMARY KEY, embedding vector(1536), metadata jsonb)"
        copy_into = sql.SQL("COPY {} FROM STDIN WITH (FORMAT binary)").format(self._table)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(sql.SQL(create).format(self._table))
            with cursor.copy(copy_into) as copy:
                copy.set_types(["text", "vector", "jsonb"])
                for doc_id, vector, metadata in zip(data.ids, data.vectors, data.metadata, strict=True):
                    copy.write_row((doc_id, vector, Jsonb(metadata)))
            for name, value in BUILD_SETTINGS.items():
                cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
            cursor.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (embedding vector_cosine_ops)").format(self._table))

    def search(self, query: Vector, where: Filter | None) -> list[str]:
        statement = sql.SQL(
            "SELECT doc_id, embedding <=> %(query)b AS distance, metadata FROM {} WHERE {}"
            " ORDER BY embedding <=> %(query)b LIMIT %(n)s"
        ).format(self._table, sql.SQL("true" if where is None else "metadata @> %(where)s"))
        parameters = {"query": query, "n": NEIGHBOURS} | ({} if where is None else {"where": Jsonb(where)})
        return [row[0] for row in self._connection.execute(statement, parameters, binary=True)]


class Ours:
    """`VectorDB`, by its plain functions and by its coroutines."""

    def __init__(self, vector_db: VectorDB, collection: str, loop: asyncio.AbstractEventLoop) -> None:
        self._vector_db = vector_db
        self._collection = collection
        self._loop = loop

    def fill(self, data: VectorSet) -> None:
        self._vector_db.upsert_many(self._collection, data.documents())

    def search(self, query: Vector, where: Filter | None) -> list[str]:
        return [match.doc_id for match in self._vector_db.search(self._collection, query, NEIGHBOURS, where)]

    def find_similar(self, query: Vector, where: Filter | None) -> list[str]:
        found = self._vector_db.find_similar(self._collection, query, NEIGHBOURS, where)
        return [match["doc_id"] for match in self._loop.run_until_complete(found)]


@dataclass(frozen=True)
class Backend:
    """A backend's contenders: `raw` has the index and search parameters of ours, `defaults` those of the product."""

    name: str
    ours: Ours
    raw: RawStore
    defaults: RawStore


@contextlib.contextmanager
def open_backends(settings: Settings) -> Iterator[list[Backend]]:
    """Both backends on the servers that the settings name, each contender with a connection of its own."""
    url = settings.database_url()
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database(url))
        loop = stack.enter_context(contextlib.closing(asyncio.new_event_loop()))
        ours = {name: stack.enter_context(_ours(settings, database, name, loop)) for name in ("chroma", "pgvector")}
        client = chromadb.HttpClient(
            host=settings.chroma_host or "",
            port=settings.chroma_port,
            settings=ChromaSettings(anonymized_telemetry=False),
        )
        stack.callback(close_client, client)
        tuned = stack.enter_context(_raw_connection(url, SESSION_SETTINGS))
        plain = stack.enter_context(_raw_connection(url, {}))
        yield [
            Backend(
                "chroma",
                ours["chroma"],
                RawChroma(client, "raw", HNSW),
                RawChroma(client, "raw_defaults", {"space": HNSW["space"]}),
            ),
            Backend(
                "pgvector",
                ours["pgvector"],
                RawPgvector(tuned, "raw"),
                RawPgvector(plain, "raw_defaults"),
            ),
        ]


@contextlib.contextmanager
def _ours(settings: Settings, database: Database, backend: str, loop: asyncio.AbstractEventLoop) -> Iterator[Ours]:
    index = open_index(settings.model_copy(update={"vector_backend": backend}), database)
    with contextlib.closing(VectorDB(database, index, lambda _: LocalHashingProvider.space)) as vector_db:
        yield Ours(vector_db, f"bench_{backend}", loop)


@contextlib.contextmanager
def _raw_connection(url: str, session: Mapping[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        register_vector(connection)
        for name, value in session.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        yield connection
