"""Bring one vector collection up to its documents: the steps that every `vectors/*` asset takes.

What belongs here: their order. What does not: the statements (`resources/documents.py`), the scrubbing and embedding
(`resources/embedder.py`), the index (`resources/vector_db.py`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from everreach_assets.domain.collections import OUTCOMES
from everreach_assets.domain.vectors import Document
from resources import documents
from resources.database import Database
from resources.documents import Scope
from resources.embedder import Embedder
from resources.vector_db import VectorDB

BATCH_DOCUMENTS = 1_000
"""Their vectors take 6 MB: memory stays bounded whatever the size of the collection."""


@dataclass(frozen=True)
class EmbeddingReport:
    """What bringing a collection up to date did.

    Attributes:
        vectors: in the collection now.
        embedded: documents whose text was embedded, or whose vector was copied from their post's.
        unchanged: documents whose text had its vector already.
        not_embedded: documents in which nothing was left to embed, or which the scrubber refused.
        metadata_changed: vectors that only got other metadata.
        deleted: vectors whose document, or its text, is gone.
        mended_in_index: rows that the index had lost or kept and that were sent or removed again.
        redactions: spans that the scrubber took out, by kind.
        space: what the vectors are of, such as `openai/text-embedding-3-small`.
    """

    collection: str
    space: str
    vectors: int
    embedded: int
    unchanged: int
    not_embedded: int
    metadata_changed: int
    deleted: int
    mended_in_index: int
    redactions: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.embedded == 0:
            return f"nothing to embed: {self.unchanged:,} documents are unchanged"
        return f"{self.embedded:,} embedded by {self.space}, {self.unchanged:,} unchanged"


def embed_collection(
    collection: str, *, database: Database, embedder: Embedder, vector_db: VectorDB
) -> EmbeddingReport:
    """Embed what is new or changed, refresh metadata, delete what is gone, deliver to the index.

    Raises:
        Unavailable: a server or the provider did not answer. What was embedded until then is stored, and the next call
            goes on from there.
    """
    scope = Scope(collection, vector_db.space_id(collection), embedder.scrubber_version, vector_db.targets)
    with documents.comparison(database) as connection:
        deleted = documents.delete_gone(
            connection, scope
        )  # vectors before tombstones: the order in which a purge locks
        documents.admit_arrivals(connection, scope)
        metadata_changed = documents.refresh_metadata(connection, scope)
        total, pending = documents.count(connection, scope)
    redactions: Counter[str] = Counter()
    if collection == OUTCOMES.name:
        with vector_db.loading(collection, pending), documents.comparison(database) as connection:
            embedded = documents.copy_from_content(connection, scope)
        if embedded < pending:  # retention keeps outcomes for longer than the vectors of their posts
            batches = _embedded_batches(scope, database, embedder, redactions, only_of_purged_posts=True)
            embedded += vector_db.upsert_stream(collection, batches, new=0)
    else:
        batches = _embedded_batches(scope, database, embedder, redactions)
        embedded = vector_db.upsert_stream(collection, batches, new=pending)
    if embedded < pending:
        with documents.comparison(database) as connection:
            deleted += documents.delete_outdated(connection, scope)
    return EmbeddingReport(
        collection=collection,
        space=str(embedder.space_of(collection)),
        vectors=vector_db.count(collection),
        embedded=embedded,
        unchanged=total - pending,
        not_embedded=pending - embedded,
        metadata_changed=metadata_changed,
        deleted=deleted,
        mended_in_index=vector_db.catch_up(collection),
        redactions=dict(redactions),
    )


def _embedded_batches(
    scope: Scope,
    database: Database,
    embedder: Embedder,
    redactions: Counter[str],
    *,
    only_of_purged_posts: bool = False,
) -> Iterator[list[Document]]:
    with documents.comparison(database) as reading:  # it ends with the last batch, before the index is built
        for batch in documents.to_embed(reading, scope, BATCH_DOCUMENTS, only_of_purged_posts=only_of_purged_posts):
            result = embedder.embed_many(scope.collection, [each.text for each in batch])
            redactions.update(result.redactions)
            yield [
                Document(each.doc_id, vector, each.metadata, each.text_sha256, scope.scrubber_version)
                for each, vector in zip(batch, result.vectors, strict=True)
                if vector is not None
            ]
