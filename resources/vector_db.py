"""`VectorDB`: the one face of the vector collections, the same on both backends.

    Postgres (truth, vector_store.py)  ──►  index (chroma_index.py or hnsw_index.py)

A vector is written to Postgres first, with a revision, and then to the index; the ledger in Postgres says what the
index has yet to take. A search goes through the index and returns n documents, or all that match. Calls for one record
are coroutines, for services; batch calls are plain functions, for assets. What does not belong here: making vectors
from texts (`embedder.py`).
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from everreach_assets.domain.collections import check_doc_id, collection_named
from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.filters import Filter, parse_filter
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import (
    Document,
    Match,
    Metadata,
    Vector,
    check_documents,
    check_vector,
)
from resources import metric_records, space_switch, spaces, vector_store
from resources.chroma_index import ChromaIndex
from resources.database import Connection, Database
from resources.hnsw_index import HnswIndex
from resources.metric_buffer import MetricBuffer
from resources.metric_records import Record
from resources.settings import Settings
from resources.vector_index import IndexReport, VectorIndex

WRITE_ROWS = 1_000
"""Rows of one statement: 6 MB of vectors, so that memory stays bounded whatever the size of a batch."""

EXACT_UP_TO_ROWS = 1_000
"""Where a filter leaves no more than this, each of them is compared. An index alone would miss some: under a filter
that keeps 1 % of 10,000 rows, HNSW found 97 % of the neighbours (docs/benchmarks.md)."""

BROAD_FOR_SECONDS = 60.0
"""How long a filter that left more is taken to leave more still. Should its rows go meanwhile, the index answers
alone: still n rows or all that match, of which it may miss the few that it misses under such filters."""

BROAD_FILTERS = 1_000
"""Filters remembered at a time."""

MAX_RESULTS = 10_000


SELF_RECALL_MATCHES = 10
SAME_DISTANCE = 1e-6
"""Cosine distance of a vector to itself, with the rounding of single precision."""


@dataclass(frozen=True)
class _Search:
    """A search as it is counted."""

    collection: str
    seconds: float
    fell_back: bool


class VectorDB:
    """The vectors of every collection. Each is of the space in force for the collection, unless its writer says which.

    Args:
        database: the truth.
        index: who answers searches.
        space_of: the space in force of a collection, by its name; asked each time, because a migration changes it.
    """

    def __init__(self, database: Database, index: VectorIndex, space_of: Callable[[str], Space]) -> None:
        self._database = database
        self._index = index
        self._space_of = space_of
        self._registered: set[Space] = set()
        self._broad_until: dict[str, float] = {}
        self._searches: MetricBuffer[_Search] = MetricBuffer(self._record_searches)

    @property
    def backend(self) -> str:
        return self._index.backend

    async def upsert(
        self, collection: str, doc_id: str, embedding: Sequence[float] | Vector, metadata: Metadata | None = None
    ) -> str:
        """Store one vector; what the document held before, metadata too, is replaced. Answers its id.

        Raises:
            InvalidVector: not 1536 finite numbers, or all of them zero.
            InvalidInput: a name, id or metadata that a backend could not hold.
            Refused: the document was purged (docs/retention.md).
            Unavailable: the index did not answer. The vector is stored and reaches the index with the next delivery.
        """
        vector = check_vector(embedding, f"document {doc_id!r}")
        await asyncio.to_thread(self.upsert_many, collection, [Document(doc_id, vector, metadata or {})])
        return doc_id

    async def find_similar(
        self,
        collection: str,
        query_embedding: Sequence[float] | Vector,
        n: int = 10,
        where: Mapping[str, object] | None = None,
    ) -> list[dict[str, Any]]:
        """The documents nearest to the query: `n`, or all that match the filter where there are fewer.

        Returns:
            Nearest first, each with `doc_id`, `distance` (cosine, 0 to 2), `similarity` (1 - distance), `metadata`.

        Raises:
            InvalidInput: the query, `n` or the filter (grammar: `domain/filters.py`).
            Unavailable: the index or the database did not answer.
        """
        matches = await asyncio.to_thread(self.search, collection, query_embedding, n, where)
        return [
            {
                "doc_id": match.doc_id,
                "distance": match.distance,
                "similarity": 1.0 - match.distance,
                "metadata": dict(match.metadata),
            }
            for match in matches
        ]

    async def get(self, collection: str, doc_id: str) -> dict[str, Any] | None:
        """One document with its `embedding`, `metadata` and `space_id`, or None."""
        found = await asyncio.to_thread(self.get_many, collection, [doc_id])
        return None if doc_id not in found else {"doc_id": doc_id} | found[doc_id]

    async def delete(self, collection: str, doc_id: str) -> bool:
        """Delete one document; answers whether there was one."""
        return await asyncio.to_thread(self.delete_many, collection, [doc_id]) == 1

    def upsert_many(self, collection: str, documents: Sequence[Document]) -> int:
        """Store the documents, all checked before the first is written; answers how many changed anything.

        Raises:
            as `upsert`; also InvalidInput for an id that stands twice in the batch.
        """
        self._open(collection)
        checked = check_documents(documents)
        doc_ids = [each.doc_id for each in checked]
        with self._database.connection() as connection:
            if purged := vector_store.purged(connection, collection, doc_ids):
                raise Refused(
                    f"document {purged[0]!r} of {collection} was purged ({len(purged)} such ids in the batch): "
                    "'everreach retention restore' brings it back, else store it under another id"
                )
            present = vector_store.count_present(connection, collection, doc_ids)
        return self._store(collection, [checked], new=len(checked) - present)

    def upsert_stream(
        self,
        collection: str,
        batches: Iterable[Sequence[Document]],
        *,
        new: int,
        on_stored: Callable[[Connection, int], None] | None = None,
    ) -> int:
        """Store batch after batch, then bring the index up to date once; answers how many documents changed.

        Args:
            new: about how many of the documents are not stored yet; an index may prefer to load many at once.
            on_stored: called in the transaction of each write with the number of documents that it changed.

        Raises:
            as `upsert_many`, for the batch at hand: those before it are stored.
        """
        return self._store(collection, map(check_documents, batches), new=new, on_stored=on_stored)

    def _store(
        self,
        collection: str,
        batches: Iterable[Sequence[Document]],
        *,
        new: int,
        on_stored: Callable[[Connection, int], None] | None = None,
    ) -> int:
        """`upsert_stream` of documents that have been checked."""
        space_id = self._open(collection)
        changed = 0
        others: set[str] = set()
        with self._index.loading(collection, space_id, new):
            for checked in batches:
                others |= self._register({each.space for each in checked if each.space}) - {space_id}
                for start in range(0, len(checked), WRITE_ROWS):
                    rows = checked[start : start + WRITE_ROWS]
                    with self._database.transaction() as connection:
                        written = vector_store.upsert(connection, collection, space_id, rows, self._index.targets)
                        if on_stored:
                            on_stored(connection, written)
                    changed += written
        # The index last: what it does not take now is stored all the same.
        self._index.put_in_force(collection, space_id)
        for other in sorted(others):
            self._index.deliver(collection, other)
        return changed

    def get_many(self, collection: str, doc_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """`embedding` (shape (1536,), float32), `metadata` and `space_id` of those ids that exist, by id."""
        collection_named(collection)
        with self._database.connection() as connection:
            found = vector_store.get_many(connection, collection, [check_doc_id(each) for each in doc_ids])
        return {
            doc_id: {"embedding": stored.embedding, "metadata": dict(stored.metadata), "space_id": stored.space_id}
            for doc_id, stored in found.items()
        }

    def delete_many(self, collection: str, doc_ids: Sequence[str]) -> int:
        """Delete those documents; answers how many there were."""
        space_id = self._open(collection)
        with self._database.connection() as connection:
            deleted = vector_store.delete(
                connection, collection, [check_doc_id(each) for each in doc_ids], self._index.targets
            )
        self._index.deliver(collection, space_id)
        return deleted

    def delete_where(self, collection: str, where: Mapping[str, object]) -> int:
        """Delete every document that matches, however many; answers how many there were.

        Raises:
            InvalidInput: the filter is empty: deleting a whole collection by an empty filter is never meant.
        """
        parsed = parse_filter(where)
        if parsed is None:
            raise InvalidInput("delete_where: the filter is empty and would match every document; name what to delete")
        space_id = self._open(collection)
        with self._database.connection() as connection:
            deleted = vector_store.delete_where(connection, collection, parsed, self._index.targets)
        self._index.deliver(collection, space_id)
        return deleted

    def search(
        self,
        collection: str,
        query: Sequence[float] | Vector,
        n: int = 10,
        where: Mapping[str, object] | None = None,
        *,
        space_id: str | None = None,
    ) -> list[Match]:
        """`find_similar` without a coroutine.

        Args:
            space_id: of the space that the query is of, where that is not the one in force; only its vectors are found.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_RESULTS:
            raise InvalidInput(f"n: a whole number from 1 to {MAX_RESULTS:,}, got {n!r}")
        vector = check_vector(query, "the query")
        condition = parse_filter(where)
        start = time.perf_counter()
        matches, fell_back = self._search(collection, space_id or self._open(collection), vector, n, condition)
        self._searches.add(_Search(collection, time.perf_counter() - start, fell_back))
        return matches

    def _search(
        self, collection: str, space_id: str, query: Vector, n: int, condition: Filter | None
    ) -> tuple[list[Match], bool]:
        """The matches, and whether Postgres knew of some that the index did not find."""
        if condition is not None:
            few = self._search_few(collection, space_id, query, n, condition)
            if few is not None:
                return few, False
        matches = self._index.nearest(collection, space_id, query, n, condition)
        if len(matches) == n:
            return matches, False
        # The index found fewer: it is behind, or its search gave up early. Postgres knows them all.
        with self._database.connection() as connection:
            exact = vector_store.search_exactly(connection, collection, space_id, query, n, condition) or []
        return exact, len(exact) > len(matches)

    def self_recall(self, collection: str, sample: int) -> tuple[int, int]:
        """How many of a random sample of vectors the index finds when it is asked for them, and how many were asked.

        A vector counts as found where the index answers with as many others that are equally near: posts of the same
        text have the same vector.
        """
        space_id = self._open(collection)
        with self._database.connection() as connection:
            drawn = vector_store.sample(connection, collection, space_id, sample)
        found = 0
        for doc_id, vector in drawn.items():
            matches = self._index.nearest(collection, space_id, vector, SELF_RECALL_MATCHES, None)
            are_all_equal = len(matches) == SELF_RECALL_MATCHES and matches[-1].distance < SAME_DISTANCE
            found += are_all_equal or any(match.doc_id == doc_id for match in matches)
        if drawn:
            with self._database.connection() as connection:
                metric_records.record(
                    connection,
                    [Record("everreach_vector_self_recall_ratio", found / len(drawn), {"collection": collection})],
                )
        return found, len(drawn)

    def index_size(self, collection: str) -> int:
        """How many rows of the collection the index says it holds, in all spaces that are searched."""
        return sum(self._index.size(collection, space_id) for space_id in self._space_ids(collection))

    def count(self, collection: str) -> int:
        """Vectors of the collection in its space in force."""
        return self._count(collection, self._open(collection))

    def deliver(self, collection: str) -> int:
        """Send the index what the ledger says is pending; answers how many rows it took."""
        return sum(self._index.deliver(collection, space_id) for space_id in self._space_ids(collection))

    def catch_up(self, collection: str) -> int:
        """Deliver, also what was written under another backend; then, if the index holds another number of rows than
        Postgres, mend it. Answers the rows mended."""
        self._index.put_in_force(collection, self._open(collection))
        mended = 0
        for space_id in self._space_ids(collection):
            self._index.adopt(collection, space_id)
            self._index.deliver(collection, space_id)
            if self._index.size(collection, space_id) != self._count(collection, space_id):
                mended += self._index.mend(collection, space_id)  # of a space that is aside too, nothing: it compares
        return mended

    def mend_index(self, collection: str) -> int:
        """Send what the index lacks, after comparing the two row by row; answers how many rows were mended."""
        return sum(self._index.mend(collection, space_id) for space_id in self._space_ids(collection))

    def check_index(self, collection: str) -> IndexReport:
        """What the index holds against what it should hold."""
        reports = [self._index.check(collection, space_id) for space_id in self._space_ids(collection)]
        return functools.reduce(IndexReport.joined, reports)

    def rebuild_index(self, collection: str) -> int:
        """Make the index of the collection again from Postgres, without any provider; answers its rows."""
        in_force = self._open(collection)
        rows = sum(self._index.rebuild(collection, space_id) for space_id in self._space_ids(collection))
        self._index.put_in_force(collection, in_force)
        return rows

    def loading(self, collection: str, new: int) -> AbstractContextManager[None]:
        """Around statements that write vectors inside Postgres; at its end the index is brought up to date."""
        return self._index.loading(collection, self._open(collection), new)

    def switch(self, collection: str, space: Space, *, keep_days: int) -> int:
        """Put another space in force; answers how many documents changed to their vector in it (`space_switch.py`)."""
        return space_switch.switch(self._database, self._index, collection, space, keep_days=keep_days)

    def forget_aside(self, collection: str, space: Space) -> int:
        """Delete what is aside of the space, and its index; answers how many vectors."""
        return space_switch.forget_aside(self._database, self._index, collection, space)

    def close(self) -> None:
        """Write what was counted, and close the connections to the index; the database closes its own."""
        self._searches.flush()
        self._index.close()

    @property
    def targets(self) -> Sequence[str]:
        """Indexes that the ledger notes deliveries for."""
        return self._index.targets

    def space(self, collection: str) -> Space:
        """The space in force of the collection."""
        return self._space_of(collection_named(collection).name)

    def space_id(self, collection: str) -> str:
        """The id of the space in force of the collection."""
        return self._open(collection)

    def held_spaces(self, collection: str) -> list[Space]:
        """The spaces that the collection has vectors in."""
        with self._database.connection() as connection:
            return spaces.held(connection, collection_named(collection).name)

    def _search_few(
        self, collection: str, space_id: str, query: Vector, n: int, condition: Filter
    ) -> list[Match] | None:
        """The nearest rows by comparing with each that matches; None where those are too many to do so."""
        key = repr((collection, space_id, condition))  # as text, because 1, 1.0 and True are equal in Python
        if time.monotonic() < self._broad_until.get(key, 0.0):
            return None
        with self._database.connection() as connection:
            few = vector_store.search_exactly(
                connection, collection, space_id, query, n, condition, unless_more_than=EXACT_UP_TO_ROWS
            )
        if few is None:
            if len(self._broad_until) >= BROAD_FILTERS:
                self._broad_until.clear()
            self._broad_until[key] = time.monotonic() + BROAD_FOR_SECONDS
        return few

    def _record_searches(self, searches: Sequence["_Search"]) -> None:
        seconds: dict[str, list[float]] = {}
        for each in searches:
            seconds.setdefault(each.collection, []).append(each.seconds)
        records = [
            Record("everreach_vector_query_latency_seconds", taken, {"backend": self.backend, "collection": collection})
            for collection, taken in seconds.items()
        ]
        if fallbacks := sum(each.fell_back for each in searches):
            records.append(Record("everreach_vector_fallback_total", fallbacks, {"reason": "index_short"}))
        with self._database.connection() as connection:
            metric_records.record(connection, records)

    def _open(self, collection: str) -> str:
        """The id of the space in force, registered; refuses what is no name of a collection."""
        (space_id,) = self._register({self.space(collection)})
        return space_id

    def _register(self, given: set[Space]) -> set[str]:
        """The ids of the spaces, each of them noted in Postgres."""
        for space in given - self._registered:
            with self._database.connection() as connection:
                spaces.register(connection, space)
            self._registered.add(space)
        return {space.space_id for space in given}

    def _space_ids(self, collection: str) -> list[str]:
        """The spaces that searches look at, the one in force first; also one that only the index still has rows of."""
        in_force = self._open(collection)
        with self._database.connection() as connection:
            held = [space.space_id for space in spaces.held(connection, collection)]
            aside = spaces.aside(connection, collection)
        left_over = [each for each in self._index.spaces(collection) if each not in aside]
        return list(dict.fromkeys([in_force, *held, *left_over]))

    def _count(self, collection: str, space_id: str) -> int:
        with self._database.connection() as connection:
            return vector_store.count(connection, collection, space_id)


def open_index(settings: Settings, database: Database, *, request_seconds: float = 60.0) -> VectorIndex:
    """The index that the settings choose.

    Args:
        request_seconds: how long one request to a server of its own may take.

    Raises:
        InvalidInput: Chroma is chosen and its host is not set (the commands set it for the embedded server).
    """
    if settings.vector_backend == "pgvector":
        return HnswIndex(database)
    if not settings.chroma_host:
        raise InvalidInput("CHROMA_HOST is not set: name a Chroma server, or set VECTOR_BACKEND=pgvector")
    return ChromaIndex(database, settings.chroma_host, settings.chroma_port, request_seconds=request_seconds)
