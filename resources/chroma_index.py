"""The index on a Chroma server: ids, vectors and metadata, never text.

Chroma may lose what it acknowledged (spec.md, 13), merges metadata on upsert, and has no limit on how long it lets a
client wait. This module makes up for each: the ledger in Postgres says what it should hold, metadata is replaced, and
every request has a deadline.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import chromadb
import chromadb.errors
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings

from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.filters import Comparison, Filter
from everreach_assets.domain.vectors import Match, Vector
from resources import vector_store
from resources.database import Database
from resources.vector_index import IndexReport
from resources.vector_store import StoredVector

REVISION_KEY = "_rev"
"""Beside a row's metadata in Chroma; the grammar of metadata keys lets no caller use it."""

BATCH_ROWS = 500
"""About 4 MB of vectors: far below the server's limit of a request, and no faster beyond (peers.md, 2.1)."""

LISTING_ROWS = 5_000
REQUEST_SECONDS = 60.0
HNSW = {"space": "cosine", "ef_search": 200}
"""ef_search as in Postgres, so that both backends find alike; the space is fixed when a collection is made."""


class ChromaIndex:
    """Searches through a Chroma server."""

    backend = "chroma"
    targets: Sequence[str] = ("chroma",)

    def __init__(self, database: Database, host: str, port: int) -> None:
        self._database = database
        self._host = host
        self._port = port
        self._handles: dict[tuple[str, str], Collection] = {}

    @contextlib.contextmanager
    def loading(self, collection: str, space_id: str, incoming: int) -> Iterator[None]:
        yield
        self.deliver(collection, space_id)

    def deliver(self, collection: str, space_id: str) -> int:
        """Send what the ledger says is pending, oldest first, and note what was taken.

        Raises:
            Unavailable: the server did not answer; what it had not taken stays pending.
        """
        delivered = 0
        while batch := self._deliver_batch(collection, space_id):
            delivered += batch
        return delivered

    def _deliver_batch(self, collection: str, space_id: str) -> int:
        target = self.targets[0]
        with self._database.transaction() as connection:
            # One delivery to a collection at a time: of two, the slower could put an old revision over a new one.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"{target}:{collection}",))
            batch = vector_store.pending_deliveries(connection, target, collection, space_id, BATCH_ROWS)
            if batch:
                with self._requests(collection, space_id) as handle:
                    if rows := [each.stored for each in batch if each.stored is not None]:
                        _replace(handle, rows)
                    if removed := [each.doc_id for each in batch if each.stored is None]:
                        self._remove(collection, removed)
                vector_store.acknowledge(connection, target, collection, batch)
        return len(batch)

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        with self._requests(collection, space_id) as handle:
            answer = handle.query(
                query_embeddings=np.asarray([query]),
                n_results=n,
                where=None if where is None else _where(where),
                include=["distances"],
            )
        ids, distances = answer["ids"][0], (answer["distances"] or [[]])[0]
        # What a row says comes from Postgres: a row that is gone there is gone, whatever Chroma still holds.
        with self._database.connection() as connection:
            known = vector_store.metadata_of(connection, collection, space_id, ids)
        return [
            Match(doc_id, float(distance), known[doc_id])
            for doc_id, distance in zip(ids, distances, strict=True)
            if doc_id in known
        ]

    def size(self, collection: str, space_id: str) -> int:
        with self._requests(collection, space_id) as handle:
            return handle.count()

    def check(self, collection: str, space_id: str) -> IndexReport:
        with self._database.connection() as connection:
            wanted = dict(vector_store.revisions(connection, collection, space_id))
        held = self._revisions(collection, space_id)
        return IndexReport(
            collection,
            self.backend,
            len(wanted),
            missing=sorted(wanted.keys() - held.keys()),
            stale=sorted(doc_id for doc_id in wanted.keys() & held.keys() if held[doc_id] != wanted[doc_id]),
            extra=sorted(held.keys() - wanted.keys()),
        )

    def mend(self, collection: str, space_id: str) -> int:
        report = self.check(collection, space_id)
        with self._database.transaction() as connection:
            vector_store.adopt(connection, self.targets[0], collection, space_id)
            vector_store.forget_acknowledgements(
                connection, self.targets[0], collection, [*report.missing, *report.stale]
            )
        for start in range(0, len(report.extra), BATCH_ROWS):
            with self._requests(collection, space_id) as handle:
                handle.delete(ids=report.extra[start : start + BATCH_ROWS])
        return self.deliver(collection, space_id) + len(report.extra)

    def rebuild(self, collection: str, space_id: str) -> int:
        with self._requests(collection, space_id):
            self._client.delete_collection(collection)
            self._handles.pop((collection, space_id))
        with self._database.transaction() as connection:
            vector_store.forget_acknowledgements(connection, self.targets[0], collection)
            vector_store.adopt(connection, self.targets[0], collection, space_id)
        self.deliver(collection, space_id)
        with self._requests(collection, space_id) as handle:
            return handle.count()

    def _revisions(self, collection: str, space_id: str) -> dict[str, int]:
        held: dict[str, int] = {}
        while True:
            with self._requests(collection, space_id) as handle:
                page = handle.get(limit=LISTING_ROWS, offset=len(held), include=["metadatas"])
            for doc_id, metadata in zip(page["ids"], page["metadatas"] or [], strict=True):
                held[doc_id] = int((metadata or {}).get(REVISION_KEY, 0))  # type: ignore[arg-type]
            if len(page["ids"]) < LISTING_ROWS:
                return held

    @functools.cached_property
    def _client(self) -> ClientAPI:
        client = chromadb.HttpClient(
            host=self._host, port=self._port, settings=ChromaSettings(anonymized_telemetry=False)
        )
        # The client waits for ever and has no setting for it; its HTTP session does.
        client._server._session.timeout = httpx.Timeout(REQUEST_SECONDS)  # type: ignore[attr-defined]
        return client

    @contextlib.contextmanager
    def _requests(self, collection: str, space_id: str) -> Iterator[Collection]:
        """The collection of the space, for requests; what goes wrong in them becomes `Unavailable`."""
        try:
            if (collection, space_id) not in self._handles:
                self._handles[collection, space_id] = self._open(collection, space_id)
            yield self._handles[collection, space_id]
        except chromadb.errors.NotFoundError as error:
            self._handles.clear()
            raise Unavailable(
                f"Chroma's collection {collection!r} was replaced meanwhile; run the same command again"
            ) from error
        except (httpx.TransportError, chromadb.errors.InternalError, ValueError) as error:
            if isinstance(error, ValueError) and "connect" not in str(error).lower():
                raise
            raise Unavailable(
                f"Chroma at {self._host}:{self._port} does not answer ({error or type(error).__name__}); nothing is "
                "lost: start it, then run the same command again"
            ) from error

    def _open(self, collection: str, space_id: str) -> Collection:
        """The collection with the plain name, which is that of the space in force.

        One of another space that has the name is put aside under a name with its space.
        """
        present = {each.name: each for each in self._client.list_collections()}
        plain = present.get(collection)
        if plain is not None and (plain.metadata or {}).get("space_id") == space_id:
            return self._get(collection)
        if plain is not None:
            self._get(collection).modify(name=f"{collection}.{(plain.metadata or {}).get('space_id', 'unknown')}")
        if (aside := f"{collection}.{space_id}") in present:
            self._get(aside).modify(name=collection)
            return self._get(collection)
        with self._database.connection() as connection:  # a new collection holds nothing, whatever was acknowledged
            vector_store.forget_acknowledgements(connection, self.targets[0], collection)
        return self._client.create_collection(
            collection,
            configuration={"hnsw": HNSW},  # type: ignore[arg-type]
            metadata={"space_id": space_id},
            embedding_function=None,  # never code that a server's configuration names (CVE-2026-45829)
        )

    def _remove(self, collection: str, doc_ids: list[str]) -> None:
        """Remove the documents from the collection, and from those of its other spaces that were put aside."""
        for each in self._client.list_collections():
            if each.name == collection or each.name.startswith(f"{collection}."):
                self._get(each.name).delete(ids=doc_ids)

    def _get(self, name: str) -> Collection:
        return self._client.get_collection(name, embedding_function=None)


def _replace(handle: Collection, rows: Sequence[StoredVector]) -> None:
    """Upsert, and take away the metadata keys that a row no longer has: Chroma alone would keep them."""
    ids = [row.doc_id for row in rows]
    present = handle.get(ids=ids, include=["metadatas"])
    old_keys = {
        doc_id: dict.fromkeys(metadata or {})
        for doc_id, metadata in zip(present["ids"], present["metadatas"] or [], strict=True)
    }
    metadatas: list[Any] = [old_keys.get(row.doc_id, {}) | dict(row.metadata) | {REVISION_KEY: row.rev} for row in rows]
    handle.upsert(ids=ids, embeddings=np.stack([row.embedding for row in rows]), metadatas=metadatas)


def _where(where: Filter) -> dict[str, Any]:
    """The filter in Chroma's own grammar, which means the same."""
    if isinstance(where, Comparison):
        value: Any = list(where.value) if isinstance(where.value, tuple) else where.value
        return {where.key: {where.operator: value}}
    return {where.operator: [_where(member) for member in where.members]}
