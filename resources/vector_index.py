"""What a search index must do, whoever it is. `chroma_index.py` and `hnsw_index.py` are the two that exist.

An index holds nothing that is not in Postgres with the same revision: it can be dropped at any time and made again.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from everreach_assets.domain.filters import Filter
from everreach_assets.domain.vectors import Match, Vector


@dataclass(frozen=True)
class IndexReport:
    """What an index holds against what it should hold, for one collection.

    Attributes:
        rows: vectors in Postgres.
        missing: ids that the index lacks.
        stale: ids that it holds in an older revision.
        extra: ids that it holds and Postgres does not.
        fault: what is wrong with the index as a whole; empty where nothing is.
    """

    collection: str
    backend: str
    rows: int
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    fault: str = ""

    def joined(self, other: "IndexReport") -> "IndexReport":
        """The report of two spaces of a collection together."""
        return IndexReport(
            self.collection,
            self.backend,
            self.rows + other.rows,
            missing=sorted([*self.missing, *other.missing]),
            stale=sorted([*self.stale, *other.stale]),
            extra=sorted([*self.extra, *other.extra]),
            fault=self.fault or other.fault,
        )

    @property
    def is_whole(self) -> bool:
        return not (self.missing or self.stale or self.extra or self.fault)

    def __str__(self) -> str:
        if self.is_whole:
            return f"{self.collection}: {self.rows:,} vectors, all in {self.backend}"
        counts = f"{len(self.missing):,} missing, {len(self.stale):,} stale, {len(self.extra):,} extra"
        return f"{self.collection}: {self.rows:,} vectors; {self.backend}: {self.fault or counts}"


class VectorIndex(Protocol):
    """A search index over the vectors of each collection, apart for each of its spaces."""

    backend: str
    targets: Sequence[str]
    """Names under which the ledger notes what the index has yet to take; none for an index inside Postgres."""

    def loading(self, collection: str, space_id: str, incoming: int) -> AbstractContextManager[None]:
        """Around the writing of `incoming` rows: the index may do its part at once instead of row by row."""

    def adopt(self, collection: str, space_id: str) -> int:
        """Count rows that were written while another index answered as not delivered; answers how many."""

    def deliver(self, collection: str, space_id: str) -> int:
        """Bring the index up to what Postgres holds; answers how many rows it took."""

    def nearest(self, collection: str, space_id: str, query: Vector, n: int, where: Filter | None) -> list[Match]:
        """Up to `n` of the nearest documents, nearest first; perhaps fewer than match."""

    def size(self, collection: str, space_id: str) -> int:
        """How many rows the index says it holds."""

    def check(self, collection: str, space_id: str) -> IndexReport:
        """Compare the index with Postgres, row by row where it can be listed."""

    def mend(self, collection: str, space_id: str) -> int:
        """Compare as `check` does and send or remove what differs; answers how many rows that were."""

    def rebuild(self, collection: str, space_id: str) -> int:
        """Drop the index of the space and make it again from Postgres; answers how many rows it holds."""

    def spaces(self, collection: str) -> list[str]:
        """Ids of the spaces of which the index holds rows apart from Postgres; none for an index inside Postgres."""

    def put_in_force(self, collection: str, space_id: str) -> None:
        """Let the index of the space be the one that is found under the collection's name."""

    def prepare(self, collection: str, space_id: str) -> Mapping[str, int]:
        """Bring the index of a space to what is stored of it and aside, before it comes into force.

        Returns:
            The revision that it now holds of each document, by id; nothing for an index inside Postgres.
        """

    def forget(self, collection: str, space_id: str) -> None:
        """Drop the index of a space of which nothing is stored any longer."""

    def close(self) -> None:
        """Close the connections to the index."""
