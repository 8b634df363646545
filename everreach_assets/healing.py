"""Bring rows back that a backup provider embedded: into the space in force, as soon as its provider answers again.

What waits is every vector of our texts in another space than the one in force; no flag says so, so none can be wrong.
What does not belong here: the statements (`resources/space_documents.py`) and the failing over itself (`embedder.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from everreach_assets.domain.collections import COLLECTIONS, OUTCOMES
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Document
from everreach_assets.embedding import BATCH_DOCUMENTS, record_space_rows
from resources import documents, space_documents, spaces
from resources.database import Database
from resources.documents import DocumentText, Scope
from resources.embedder import EmbeddedText, Embedder
from resources.vector_db import VectorDB


@dataclass(frozen=True)
class HealingReport:
    """What healing a collection did.

    Attributes:
        healed: vectors that are of the space in force now.
        waiting: that still are not.
        hindrance: why those wait; empty where none does, or where nothing was left to embed in them.
    """

    collection: str
    space: str
    healed: int
    waiting: int
    hindrance: str = ""

    def __str__(self) -> str:
        if not self.healed and not self.waiting:
            return f"{self.collection}: nothing waits to be healed"
        why = f" ({self.hindrance})" if self.hindrance and self.waiting else ""
        return f"{self.collection}: {self.healed:,} healed into {self.space}, {self.waiting:,} wait{why}"


def heal(*, database: Database, embedder: Embedder, vector_db: VectorDB) -> list[HealingReport]:
    """Heal every collection, posts before their outcomes, which copy them.

    A provider that does not answer ends its collection and no other: what was healed until then is stored.
    """
    return [
        heal_collection(name, database=database, embedder=embedder, vector_db=vector_db)
        for name in sorted(COLLECTIONS, key=lambda name: name == OUTCOMES.name)
    ]


def heal_collection(collection: str, *, database: Database, embedder: Embedder, vector_db: VectorDB) -> HealingReport:
    """Embed what waits in the space in force, in batches, each stored before the next is asked for.

    Raises:
        Unavailable: the database or the index did not answer; the next call goes on from there.
    """
    in_force = vector_db.space(collection)
    scope = Scope(collection, vector_db.space_id(collection), embedder.scrubber_version, vector_db.targets)
    healed, hindrance = 0, ""
    with database.connection() as connection:
        waiting = spaces.waiting(connection, collection)
    if waiting and collection == OUTCOMES.name:
        with vector_db.loading(collection, waiting), documents.comparison(database) as connection:
            healed += space_documents.heal_by_copy(connection, scope)
    if waiting > healed:
        with database.connection() as connection:
            before = spaces.waiting(connection, collection)
        batches = _Batches(scope, in_force, database, embedder)
        vector_db.upsert_stream(collection, batches, new=before)
        hindrance = batches.hindrance
        vector_db.deliver(collection)
    with database.transaction() as connection:
        left = spaces.waiting(connection, collection)
        record_space_rows(connection, collection)
    return HealingReport(collection, str(in_force), max(waiting - left, 0), left, hindrance)


class _Batches:
    """The healed batches, until there is none or the provider does not answer; then `hindrance` says why."""

    def __init__(self, scope: Scope, in_force: Space, database: Database, embedder: Embedder) -> None:
        self._scope = scope
        self._in_force = in_force
        self._database = database
        self._embedder = embedder
        self.hindrance = ""

    def __iter__(self) -> Iterator[list[Document]]:
        if not self._embedder.can_ask(self._in_force):
            self.hindrance = f"the provider of {self._in_force} cannot be asked now"
            return
        with documents.comparison(self._database) as reading:
            for batch in space_documents.to_heal(reading, self._scope, BATCH_DOCUMENTS):
                try:
                    yield self._healed(batch)
                except Unavailable as error:
                    self.hindrance = str(error)
                    return

    def _healed(self, batch: list[DocumentText]) -> list[Document]:
        texts = [each.text for each in batch]
        answer = self._embedder.embed_in(self._scope.collection, texts, self._in_force)
        return [
            Document(
                each.doc_id, text.vector, each.metadata, each.text_sha256, self._scope.scrubber_version, text.space
            )
            for each, text in zip(batch, answer.results, strict=True)
            if isinstance(text, EmbeddedText)
        ]
