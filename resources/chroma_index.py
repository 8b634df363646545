"""The index on a Chroma server: ids, vectors and metadata, never text.

Chroma may lose what it acknowledged (docs/adr/0002), merges metadata on upsert, and has no limit on how long it lets a
client wait. This module makes up for each: the ledger in Postgres says what it should hold, metadata is replaced, and
every request has a deadline.
"""

import contextlib
import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import chromadb
import chromadb.errors
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings

from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.filters import Filter, Group
from everreach_assets.domain.vectors import Match, MetadataValue, Vector
from resources import spaces, vector_store, vectors_aside
from resources.database import Connection, Database
from resources.vector_index import IndexReport
from resources.vector_store import StoredVector

REVISION_KEY = "_rev"
"""Beside a row's metadata in Chroma; the grammar of metadata keys lets no caller use it."""

BATCH_ROWS = 500
"""About 4 MB of vectors: far below the server's limit of a request, and no faster beyond."""

LISTING_ROWS = 5_000
HNSW = {"space": "cosine", "ef_search": 200}
"""ef_search as in Postgres, so that both backends find alike; the space is fixed when a collection is made."""

Answer = TypeVar("Answer")


class ChromaIndex:
    """Searches through a Chroma server.

    Args:
        request_seconds: how long one request may take.
    """

    backend = "chroma"
    targets: Sequence[str] = ("chroma",)

    def __init__(self, database: Database, host: str, port: int, *, request_seconds: float = 60.0) -> None:
        self._database = database
        self._host = host
        self._port = port
        self._request_seconds = request_seconds
        self._handles: dict[tuple[str, str], Collection] = {}
        self._in_force: dict[str, str] = {}

    @contextlib.contextmanager
    def loading(self, collection: str, space_id: str, incoming: int) -> Iterator[None]:
        yield
        self.deliver(collection, space_id)

    def adopt(self, collection: str, space_id: str) -> int:
        with self._database.connection() as connection:
            return vector_store.adopt(connection, self.targets[0], collection, space_id)

    def deliver(self, collection: str, space_id: str) -> int:
        """Send what the ledger says is pending, oldest first, and note what was taken.

        Raises:
            Unavailable: the server did not answer; what it had not taken stays pending.
        """
        delivered = 0
        while batch := self._ask(
            collection, space_id, lambda handle: self._deliver_batch(handle, collection, space_id)
        ):
            delivered += batch
        return delivered

    def _deliver_batch(self, handle: Collection, collection: str, space_id: str) -> int:
        target = self.targets[0]
        with self._database.transaction() as connection:
            # One delivery to a collection at a time: of two, the slower could put an old revision over a new one.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"{target}:{collection}",))
            batch = vector_store.pending_deliveries(connection, target, collection, space_id, BATCH_ROWS)
            if batch:
                if rows := [each.stored for each in batch if each.stored is not None]:
                    _replace(handle, rows)
                    # A row is in one space: it leaves the one before when it has arrived in this one.
                    kept = spaces.aside(connection, collection)
                    self._remove(collection, [each.doc_id for each in rows], except_of={space_id, *kept})
                if removed := [each.doc_id for each in batch if each.stored is None]:
                    self._remove(collection, removed)
                vector_store.acknowledge(connection, target, collection, batch)
        return len(batch)

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        answer = self._ask(
            collection,
            space_id,
            lambda handle: handle.query(
                query_embeddings=np.asarray([query]),
                n_results=n,
                where=None if where is None else _where(where),
                include=["distances"],
            ),
        )
        ids, distances = answer["ids"][0], (answer["distances"] or [[]])[0]
        # What a row says comes from Postgres: one that is gone there, or matches no longer, is no answer.
        with self._database.connection() as connection:
            known = vector_store.metadata_of(connection, collection, space_id, ids, where)
        return [
            Match(doc_id, min(max(float(distance), 0.0), 2.0), known[doc_id])  # Chroma rounds to -8e-07 at times
            for doc_id, distance in zip(ids, distances, strict=True)
            if doc_id in known
        ]

    def size(self, collection: str, space_id: str) -> int:
        return self._ask(collection, space_id, lambda handle: int(handle.count()))

    def check(self, collection: str, space_id: str) -> IndexReport:
        # The index first: a row that is written meanwhile must not look like one that Postgres lacks.
        held = self._ask(collection, space_id, _revisions)
        with self._database.connection() as connection:
            wanted = dict(vector_store.revisions(connection, collection, space_id))
            aside = vectors_aside.revisions(connection, collection, space_id)  # of a switch to come, or to go back to
        return IndexReport(
            collection,
            self.backend,
            len(wanted),
            missing=sorted(wanted.keys() - held.keys()),
            stale=sorted(doc_id for doc_id in wanted.keys() & held.keys() if held[doc_id] != wanted[doc_id]),
            extra=sorted(held.keys() - wanted.keys() - aside.keys()),
        )

    def mend(self, collection: str, space_id: str) -> int:
        mended = self.deliver(collection, space_id)
        report = self.check(collection, space_id)
        with self._database.transaction() as connection:
            vector_store.adopt(connection, self.targets[0], collection, space_id)
            vector_store.forget_acknowledgements(
                connection, self.targets[0], collection, space_id, [*report.missing, *report.stale]
            )
        self._ask(collection, space_id, lambda handle: _delete(handle, report.extra))
        return mended + len(report.extra) + self.deliver(collection, space_id)

    def rebuild(self, collection: str, space_id: str) -> int:
        self.forget(collection, space_id)
        with self._database.transaction() as connection:
            vector_store.forget_acknowledgements(connection, self.targets[0], collection, space_id)
            vector_store.adopt(connection, self.targets[0], collection, space_id)
        self.deliver(collection, space_id)
        return self._ask(collection, space_id, lambda handle: int(handle.count()))

    def spaces(self, collection: str) -> list[str]:
        return self._asked(lambda: [_space_of(each) for each in self._of(collection)])

    def put_in_force(self, collection: str, space_id: str) -> None:
        if self._in_force.get(collection) != space_id:
            self._asked(lambda: self._take_name(collection, space_id))
            self._in_force[collection] = space_id

    def prepare(self, collection: str, space_id: str) -> Mapping[str, int]:
        held = self._ask(collection, space_id, _revisions)
        with self._database.connection() as connection:
            wanted = vectors_aside.revisions(connection, collection, space_id)
        lacking = sorted(doc_id for doc_id, rev in wanted.items() if held.get(doc_id) != rev)
        for start in range(0, len(lacking), BATCH_ROWS):
            batch = lacking[start : start + BATCH_ROWS]
            with self._database.connection() as connection:
                rows = vectors_aside.rows(connection, collection, space_id, batch)
            if rows:
                self._ask(collection, space_id, lambda handle, rows=rows: _replace(handle, rows))  # type: ignore[misc]
            wanted |= {row.doc_id: row.rev for row in rows}
        self._ask(collection, space_id, lambda handle: _delete(handle, sorted(held.keys() - wanted.keys())))
        return wanted

    def forget(self, collection: str, space_id: str) -> None:
        def delete() -> None:
            for each in self._of(collection):
                if _space_of(each) == space_id:
                    self._client.delete_collection(each.name)

        self._asked(delete)
        self._handles.clear()
        self._in_force.clear()

    def close(self) -> None:
        """Close the connections to the server; the next request opens them again."""
        if client := self.__dict__.pop("_client", None):
            close_client(client)
        self._handles.clear()

    @functools.cached_property
    def _client(self) -> ClientAPI:
        return open_client(self._host, self._port, self._request_seconds)

    def _ask(self, collection: str, space_id: str, request: Callable[[Collection], Answer]) -> Answer:
        """What the request answers, made to the collection of the space.

        A collection that was replaced since it was last used (a rebuild, a wiped server) is looked up again, once.

        Raises:
            Unavailable: the server did not answer, or answered that it cannot.
        """

        def asked() -> Answer:
            with contextlib.suppress(chromadb.errors.NotFoundError):
                return request(self._handle(collection, space_id))
            self._handles.clear()
            return request(self._handle(collection, space_id))

        return self._asked(asked)

    def _asked(self, request: Callable[[], Answer]) -> Answer:
        """What the request answers.

        Raises:
            Unavailable: as `_ask`.
        """
        try:
            return request()
        except Exception as error:
            # For an answer that is not Chroma's own, a proxy's for one, its client raises a bare Exception.
            if type(error) is Exception or isinstance(error, httpx.HTTPError | chromadb.errors.ChromaError):
                raise Unavailable(
                    f"Chroma at {self._host}:{self._port} does not answer ({error or type(error).__name__}); nothing "
                    "is lost: see that it runs, then run the same command again"
                ) from error
            raise

    def _handle(self, collection: str, space_id: str) -> Collection:
        if (collection, space_id) not in self._handles:
            self._handles[collection, space_id] = self._open(collection, space_id)
        return self._handles[collection, space_id]

    def _open(self, collection: str, space_id: str) -> Collection:
        """The collection of the space, whatever its name is now; a new one where there is none."""
        if (found := self._find(collection, space_id)) is not None:
            return found
        with self._database.transaction() as connection:
            _lock_names(connection, collection)  # two at once would make two of them
            if (found := self._find(collection, space_id)) is not None:
                return found
            # A new collection holds nothing, whatever was acknowledged.
            vector_store.forget_acknowledgements(connection, self.targets[0], collection, space_id)
            is_first = collection not in {each.name for each in self._of(collection)}
            return self._client.create_collection(
                collection if is_first else _name_aside(collection, space_id),
                configuration={"hnsw": HNSW},  # type: ignore[arg-type]
                metadata={"space_id": space_id},
                embedding_function=None,  # never code that a server's configuration names (CVE-2026-45829)
            )

    def _find(self, collection: str, space_id: str) -> Collection | None:
        names = [each.name for each in self._of(collection) if _space_of(each) == space_id]
        return self._get(names[0]) if names else None

    def _take_name(self, collection: str, space_id: str) -> None:
        """Give the collection of the space the plain name; the one that has it gets a name with its space."""
        self._handle(collection, space_id)
        with self._database.transaction() as connection:
            _lock_names(connection, collection)
            found = {_space_of(each): each.name for each in self._of(collection)}
            if found.get(space_id) == collection:
                return
            for other, name in found.items():
                if name == collection:
                    self._get(name).modify(name=_name_aside(collection, other))
            if space_id in found:
                self._get(found[space_id]).modify(name=collection)
        self._handles.clear()

    def _of(self, collection: str) -> list[Collection]:
        """The server's collections that hold rows of this one, one for each space."""
        return [
            each
            for each in self._client.list_collections()
            if each.name == collection or each.name.startswith(f"{collection}.")
        ]

    def _remove(self, collection: str, doc_ids: list[str], *, except_of: Container[str] = ()) -> None:
        """Remove the documents from the collections of every space, or of every other."""
        for each in self._of(collection):
            if _space_of(each) not in except_of:
                self._get(each.name).delete(ids=doc_ids)

    def _get(self, name: str) -> Collection:
        return self._client.get_collection(name, embedding_function=None)


def _space_of(collection: Collection) -> str:
    return str((collection.metadata or {}).get("space_id", "unknown"))


def _name_aside(collection: str, space_id: str) -> str:
    return f"{collection}.{space_id}"


def _lock_names(connection: Connection, collection: str) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"chroma names:{collection}",))


def _revisions(handle: Collection) -> dict[str, int]:
    """The revision of every row that the collection holds, by id."""
    held: dict[str, int] = {}
    while True:
        page = handle.get(limit=LISTING_ROWS, offset=len(held), include=["metadatas"])
        for doc_id, metadata in zip(page["ids"], page["metadatas"] or [], strict=True):
            held[doc_id] = int((metadata or {}).get(REVISION_KEY, 0))  # type: ignore[arg-type]
        if len(page["ids"]) < LISTING_ROWS:
            return held


def open_client(
    host: str,
    port: int,
    request_seconds: float,
    *,
    is_ssl: bool = False,
    headers: Mapping[str, str] | None = None,
    **place: str,
) -> ClientAPI:
    """A client whose requests all have a deadline.

    Args:
        place: `tenant` and `database` on the server.
    """
    # The client asks the server while it is made, without a deadline: ask before it does.
    address = f"{'https' if is_ssl else 'http'}://{host}:{port}/api/v2/heartbeat"
    httpx.get(address, timeout=request_seconds, headers=dict(headers or {})).raise_for_status()
    client = chromadb.HttpClient(
        host=host,
        port=port,
        ssl=is_ssl,
        headers=dict(headers or {}),
        settings=ChromaSettings(anonymized_telemetry=False),
        **place,
    )
    # The client waits for ever and has no setting for it; its HTTP session does.
    client._server._session.timeout = httpx.Timeout(request_seconds)  # type: ignore[attr-defined]
    return client


def close_client(client: ClientAPI) -> None:
    """Close a client and its HTTP sessions, one for data and one for tenants, which its own `close` leaves open."""
    for each in (client, client._admin_client):  # type: ignore[attr-defined]
        each._server._session.close()  # type: ignore[union-attr]
    client.close()  # type: ignore[attr-defined]


def _delete(handle: Collection, doc_ids: Sequence[str]) -> None:
    for start in range(0, len(doc_ids), BATCH_ROWS):
        handle.delete(ids=list(doc_ids[start : start + BATCH_ROWS]))


def _replace(handle: Collection, rows: Sequence[StoredVector]) -> None:
    """Upsert, and take away the metadata keys that a row no longer has: Chroma alone would keep them."""
    ids = [row.doc_id for row in rows]
    present = handle.get(ids=ids, include=["metadatas"])
    old_keys = {
        doc_id: dict.fromkeys(metadata or {})
        for doc_id, metadata in zip(present["ids"], present["metadatas"] or [], strict=True)
    }
    metadatas: list[Any] = [
        old_keys.get(row.doc_id, {})
        | {key: number_as_decimal(value) for key, value in row.metadata.items()}
        | {REVISION_KEY: row.rev}
        for row in rows
    ]
    handle.upsert(ids=ids, embeddings=np.stack([row.embedding for row in rows]), metadatas=metadatas)


def _where(where: Filter) -> dict[str, Any]:
    """The filter in Chroma's own grammar, which means the same."""
    if isinstance(where, Group):
        return {where.operator: [_where(member) for member in where.members]}
    if isinstance(where.value, tuple):
        return {where.key: {where.operator: [number_as_decimal(each) for each in where.value]}}
    return {where.key: {where.operator: number_as_decimal(where.value)}}


def number_as_decimal(value: MetadataValue) -> MetadataValue:
    """Chroma cuts 2.5 to 2 where it compares it with whole numbers, so it is given none."""
    return float(value) if type(value) is int else value
