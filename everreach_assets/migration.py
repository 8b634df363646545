"""Changing the model: a second space is filled beside the one in force, compared with it, and switched to in one step.

    begin  ──►  fill (shards, resumable)  ──►  compare  ──►  switch  ──►  kept for a while: switch back, or removed

Searches and new writes go on in the old space until the switch. Collections that share a space (posts, outcomes) go
together. What does not belong here: the statements, and the step of the switch itself (`resources/space_switch.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from everreach_assets.domain.collections import COLLECTIONS, OUTCOMES, Sink, collection_named
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.spaces import Space, leading, neighbours, overlap, sharing
from everreach_assets.domain.vectors import Document
from everreach_assets.embedding import BATCH_DOCUMENTS, record_space_rows
from resources import documents, space_documents, spaces, vectors_aside
from resources.database import Database
from resources.documents import Scope
from resources.embedder import EmbeddedText, Embedder
from resources.providers import LOCAL
from resources.spaces import CollectionSpaces
from resources.vector_db import VectorDB

NEIGHBOURS = 10
SAMPLE_DOCUMENTS = 2_000
"""Their similarities among each other fill 16 MB, and are computed in a second."""


@dataclass(frozen=True)
class Filling:
    """How far a migration is.

    Attributes:
        filled: vectors that this call put aside.
        remaining: documents without a vector in the new space; what the new provider cannot embed stays among them.
    """

    collection: str
    target: Space
    filled: int
    remaining: int

    def __str__(self) -> str:
        return f"{self.collection}: {self.filled:,} filled into {self.target}, {self.remaining:,} remain"


@dataclass(frozen=True)
class Comparison:
    """What a sample of a collection's own documents says of two spaces.

    Attributes:
        documents: of the sample.
        overlap: share of the ten nearest others in the sample that both spaces name (overlap@10); None below 11.
        label_agreement: of labelled outcomes, the share whose nearest other has the same label, in the old space and
            in the new one; None where there are no labels.
    """

    collection: str
    documents: int
    overlap: float | None
    label_agreement: tuple[float, float] | None

    def __str__(self) -> str:
        if self.overlap is None:
            return f"{self.collection}: {self.documents:,} documents are too few to compare"
        said = f"{self.collection}: overlap@{NEIGHBOURS} {self.overlap:.2f} on {self.documents:,} documents"
        if self.label_agreement is None:
            return said
        old, new = self.label_agreement
        return f"{said}; nearest other has the same label: {old:.2f} in the old space, {new:.2f} in the new one"


def begin(collection: str, target: Space, *, database: Database, vector_db: VectorDB) -> None:
    """Record that the target is to be filled for the collection and those that share its space. Again: nothing changes.

    Raises:
        InvalidInput: the target is in force, another one is being filled, or it is no local one and the collection is
            local-only.
    """
    if target.provider != LOCAL and not collection_named(collection).allows(Sink.EMBEDDING_PROVIDER):
        raise InvalidInput(f"{collection} is local-only: {target} would see its texts")
    in_force = vector_db.space(collection)
    with database.transaction() as connection:
        spaces.put_in_force(connection, collection, in_force)  # a collection without vectors may have no record yet
        known = spaces.lock(connection, collection)
        if target == in_force:
            raise InvalidInput(f"{collection} is in {target} already")
        if known and known.target not in (None, target):
            raise InvalidInput(
                f"{collection} is being moved to {known.target}; "
                f"'everreach embedding abandon {leading(collection)}' ends that"
            )
        spaces.begin_migration(connection, collection, target)


def fill(collection: str, *, database: Database, embedder: Embedder, shard: int | None = None) -> Filling:
    """Embed in the target what has no vector there, in batches, each stored before the next is asked for.

    Args:
        shard: 0 to 15, only the documents of that part; None: all.

    Raises:
        Unavailable: the provider did not answer; what was filled is stored, and the next call goes on from there.
        InvalidInput: no migration of the collection is under way, or no setting leads to the target's provider.
    """
    target = target_of(collection, database=database)
    filled = 0
    scopes = [Scope(name, target.space_id, embedder.scrubber_version, ()) for name in sharing(collection)]
    for scope in scopes:
        if scope.collection == OUTCOMES.name:
            with documents.comparison(database) as connection:
                filled += space_documents.fill_by_copy(connection, scope)
        with documents.comparison(database) as reading:
            for batch in space_documents.to_fill(reading, scope, BATCH_DOCUMENTS, shard):
                texts = embedder.embed_in(scope.collection, [each.text for each in batch], target).results
                made = [
                    Document(each.doc_id, text.vector, each.metadata, each.text_sha256, scope.scrubber_version)
                    for each, text in zip(batch, texts, strict=True)
                    if isinstance(text, EmbeddedText)
                ]
                with database.transaction() as connection:
                    filled += vectors_aside.store(connection, scope.collection, target.space_id, made)
    return Filling(leading(collection), target, filled, remaining(collection, database=database, embedder=embedder))


def remaining(collection: str, *, database: Database, embedder: Embedder) -> int:
    """How many documents of the collection, and of those that share its space, the target lacks."""
    target = target_of(collection, database=database)
    with documents.comparison(database) as connection:
        return sum(
            space_documents.count_to_fill(connection, Scope(name, target.space_id, embedder.scrubber_version, ()))
            for name in sharing(collection)
        )


def compare(collection: str, *, database: Database) -> list[Comparison]:
    """Compare the spaces in force and filled, for the collection and those that share its space."""
    target = target_of(collection, database=database)
    return [_compared(name, target, database) for name in sharing(collection)]


def _compared(collection: str, target: Space, database: Database) -> Comparison:
    with database.connection() as connection:
        pairs = vectors_aside.sample_pairs(connection, collection, target.space_id, SAMPLE_DOCUMENTS)
    count = len(pairs.labels)
    if count <= NEIGHBOURS:
        return Comparison(collection, count, None, None)
    first, second = neighbours(pairs.first, NEIGHBOURS), neighbours(pairs.second, NEIGHBOURS)
    labels = np.array(pairs.labels)
    is_labelled = labels != ""
    agreement = [
        float((labels[near[:, 0]] == labels)[is_labelled].mean()) for near in (first, second) if any(is_labelled)
    ]
    return Comparison(collection, count, overlap(first, second), (agreement[0], agreement[1]) if agreement else None)


def switch(collection: str, *, keep_days: int, database: Database, embedder: Embedder, vector_db: VectorDB) -> int:
    """Catch up with what came, changed or went, then put the target in force; answers how many documents changed.

    Raises:
        Unavailable: as `fill`, or the index did not answer. The next call goes on from there.
        InvalidInput: as `fill`.
    """
    target = fill(collection, database=database, embedder=embedder).target
    return _put_in_force(collection, target, keep_days, database, vector_db)


def switch_back(collection: str, *, keep_days: int, database: Database, vector_db: VectorDB) -> int:
    """Put the kept space in force again; answers how many documents changed.

    What was embedded since the switch keeps its vector, and waits to be healed.

    Raises:
        InvalidInput: no space is kept.
        Unavailable: the index did not answer. The next call goes on from there.
    """
    known = _known(collection, database)
    if known is None or known.kept is None:
        raise InvalidInput(f"{collection}: no space is kept to switch back to")
    return _put_in_force(collection, known.kept, keep_days, database, vector_db)


def abandon(collection: str, *, database: Database, vector_db: VectorDB) -> int:
    """End the migration that is under way; answers how many vectors, already paid for, are deleted.

    Raises:
        InvalidInput: there is none.
    """
    return vector_db.forget_aside(leading(collection), target_of(collection, database=database))


def remove_expired(*, database: Database, vector_db: VectorDB) -> int:
    """Delete the vectors and indexes of spaces that were kept long enough; answers how many vectors."""
    with database.connection() as connection:
        expired = spaces.expired(connection)
    deleted = 0
    for collection in expired:
        known = _known(collection, database)
        if known is not None and known.kept is not None:
            deleted += vector_db.forget_aside(collection, known.kept)
    return deleted


def target_of(collection: str, *, database: Database) -> Space:
    """The space that a migration of the collection fills.

    Raises:
        InvalidInput: none is under way.
    """
    known = _known(collection, database)
    if known is None or known.target is None:
        raise InvalidInput(
            f"{collection}: no migration is under way; "
            f"'everreach embedding migrate {leading(collection)} --to PROVIDER/MODEL' begins one"
        )
    return known.target


def chosen(collection: str | None, target: Space | None = None) -> list[str]:
    """The leading collections that a command is for: that of the one named, or all that the target may see."""
    names: Iterable[str] = COLLECTIONS if collection is None else [collection]
    leaders = list(dict.fromkeys(leading(name) for name in names))
    if collection is not None or target is None or target.provider == LOCAL:
        return leaders
    return [name for name in leaders if collection_named(name).allows(Sink.EMBEDDING_PROVIDER)]


def _put_in_force(collection: str, space: Space, keep_days: int, database: Database, vector_db: VectorDB) -> int:
    changed = vector_db.switch(collection, space, keep_days=keep_days)
    for name in sharing(collection):
        vector_db.catch_up(name)
        with database.transaction() as connection:
            record_space_rows(connection, name)
    return changed


def _known(collection: str, database: Database) -> CollectionSpaces | None:
    with database.connection() as connection:
        return spaces.of_collection(connection, collection)
