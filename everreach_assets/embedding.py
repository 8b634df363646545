"""Bring one vector collection up to its documents: the steps that every `vectors/*` asset takes.

What belongs here: their order. What does not: the statements (`resources/documents.py`), the scrubbing and embedding
(`resources/embedder.py`), the index (`resources/vector_db.py`).
"""

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from everreach_assets.domain.collections import OUTCOMES
from everreach_assets.domain.errors import QuotaExhausted
from everreach_assets.domain.metric_catalogue import VALUE_SETS
from everreach_assets.domain.spaces import Space, leading
from everreach_assets.domain.vectors import Document
from resources import documents, spaces
from resources.database import Connection, Database
from resources.documents import Scope
from resources.embedder import Embedded, EmbeddedText, Embedder
from resources.metric_records import Record, record, replace_gauges
from resources.spending import Account, Spender, spending
from resources.vector_db import VectorDB

BATCH_DOCUMENTS = 4_096
"""Enough for several requests at once. Their vectors take 25 MB: memory stays bounded whatever the collection."""


@dataclass(frozen=True)
class EmbeddingReport:
    """What bringing a collection up to date did.

    Attributes:
        vectors: in the collection now.
        embedded: documents whose text was embedded, or whose vector was copied from their post's.
        unchanged: documents whose text had its vector already.
        not_embedded: documents in which nothing was left to embed, or which the scrubber refused.
        waiting: documents that wait for the next day, because the day's quota is used up.
        waiting_to_heal: vectors of another space than the one in force (`healing.py`).
        metadata_changed: vectors that only got other metadata.
        deleted: vectors whose document, or its text, is gone.
        mended_in_index: rows that the index had lost or kept and that were sent or removed again.
        redactions: spans that the scrubber took out, by kind.
        space: the space in force, such as `openai/text-embedding-3-small`.
        space_of_settings: the one that the settings name, where that is another; else empty.
        quota_reset_at: when the waiting documents' day begins; None where none waits.
        account: the provider calls that it took, and what the cache gave.
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
    waiting_to_heal: int
    space_of_settings: str
    redactions: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    quota_reset_at: dt.datetime | None = None
    account: Account = field(default_factory=lambda: Account(Spender()))

    def __str__(self) -> str:
        if self.embedded == 0 and self.waiting == 0:
            done = f"nothing to embed: {self.unchanged:,} documents are unchanged"
        else:
            done = f"{self.embedded:,} embedded by {self.space}, {self.unchanged:,} unchanged"
        return "; ".join(filter(None, (done, self._waiting, self.advice)))

    @property
    def _waiting(self) -> str:
        to_heal = f"{self.waiting_to_heal:,} wait to be healed" if self.waiting_to_heal else ""
        if self.quota_reset_at is None:
            return to_heal
        until = f"{self.quota_reset_at:%Y-%m-%d %H:%M} UTC"
        for_quota = f"{self.waiting:,} wait: the day's quota of calls is used up until {until}"
        return "; ".join(filter(None, (for_quota, to_heal)))

    @property
    def advice(self) -> str:
        """What to do where the settings name another space than the one in force; else empty."""
        if not self.space_of_settings:
            return ""
        model, _, _ = self.space_of_settings.partition(" ")
        return (
            f"the settings name {self.space_of_settings}, {self.space} stays in force until "
            f"'everreach embedding migrate {leading(self.collection)} --to {model}'"
        )


class RunCounts:
    """What an embedding run counts: a batch's part in the transaction that stores the batch."""

    def __init__(self, collection: str, *, remaining: int) -> None:
        self._labels = {"collection": collection}
        self._collection = collection
        self._remaining = remaining
        self._started_at = 0.0
        self._unrecorded: Counter[str] = Counter()
        self.redactions: Counter[str] = Counter()
        self.not_embedded = 0
        self.exhausted: QuotaExhausted | None = None

    def batch_started(self, started_at: float, redactions: Mapping[str, int], not_embedded: int) -> None:
        """Note a batch that was scrubbed and embedded, and will be stored next."""
        self._started_at = started_at
        self.not_embedded += not_embedded
        self._unrecorded.update(redactions)
        self.redactions.update(redactions)

    def record_batch(self, connection: Connection, embedded: int) -> None:
        """Count the batch that this transaction stores."""
        self._remaining = max(0, self._remaining - embedded)
        record(
            connection,
            [
                rows_of(self._collection, "embedded", embedded),
                Record("everreach_backfill_remaining_rows", self._remaining, self._labels),
                Record("everreach_backfill_batch_duration_seconds", time.monotonic() - self._started_at, self._labels),
                *self._taken_redactions(),
            ],
        )

    def record_end(self, connection: Connection, *, unchanged: int, not_embedded: int, waiting: int) -> None:
        """Count what the run came upon and did not embed."""
        record(
            connection,
            [
                rows_of(self._collection, "unchanged", unchanged),
                rows_of(self._collection, "not_embedded", not_embedded),
                Record("everreach_backfill_remaining_rows", waiting, self._labels),
                Record("everreach_vector_index_null_count", not_embedded, self._labels),
                *self._taken_redactions(),
            ],
        )

    def _taken_redactions(self) -> list[Record]:
        taken, self._unrecorded = self._unrecorded, Counter()
        return [
            Record("everreach_pii_redactions_total", spans, {"entity": entity})
            for entity, spans in taken.items()
            if entity in REDACTIONS
        ]


REDACTIONS = frozenset(VALUE_SETS["redaction"])  # a text that the scrubber refused is not a span


def rows_of(collection: str, status: str, documents: int) -> Record:
    """Documents that a run came upon, by what became of them."""
    return Record("everreach_backfill_rows_total", documents, {"collection": collection, "status": status})


def record_index_size(connection: Connection, collection: str, backend: str, vectors: int) -> None:
    """Note what the index holds; of a backend that answered before, nothing is said any longer."""
    of_collection = {"collection": collection}
    size = Record("everreach_vector_index_size", vectors, of_collection | {"backend": backend})
    replace_gauges(connection, size.metric, [size], within=of_collection)


def record_space_rows(connection: Connection, collection: str) -> dict[Space, int]:
    """Note how many vectors the collection has in each space; answers it. Of a space without any, nothing is said."""
    rows = spaces.rows_by_space(connection, collection)
    metric = "everreach_embedding_space_rows"
    replace_gauges(
        connection,
        metric,
        [
            Record(metric, count, {"collection": collection, "provider": space.provider, "model": space.model})
            for space, count in rows.items()
        ],
        within={"collection": collection},
    )
    return rows


def embed_collection(
    collection: str, *, database: Database, embedder: Embedder, vector_db: VectorDB, run_id: str = "command"
) -> EmbeddingReport:
    """Embed what is new or changed, refresh metadata, delete what is gone, deliver to the index.

    Where the day's quota of calls is used up, it ends with what it did and says how many documents wait.

    Args:
        collection: one of `COLLECTIONS`.
        database: the truth.
        embedder: embeds.
        vector_db: stores and delivers.
        run_id: of Dagster, for the cost ledger.

    Raises:
        Unavailable: a server or the provider did not answer. What was embedded until then is stored, and the next call
            goes on from there.
    """
    with spending(Spender(run_id, f"vectors/{collection}")) as account:
        report = _embed_collection(collection, database, embedder, vector_db)
    return replace(report, account=account)


def _embed_collection(collection: str, database: Database, embedder: Embedder, vector_db: VectorDB) -> EmbeddingReport:
    in_force, named = vector_db.space(collection), embedder.space_of(collection)
    scope = Scope(collection, vector_db.space_id(collection), embedder.scrubber_version, vector_db.targets)
    with documents.comparison(database) as connection:
        deleted = documents.delete_gone(connection, scope)  # before tombstones: the order in which a purge locks
        documents.admit_arrivals(connection, scope)
        metadata_changed = documents.refresh_metadata(connection, scope)
        total, pending = documents.count(connection, scope)
        record(connection, [rows_of(collection, "deleted", deleted)])
    unchanged = total - pending
    counts = RunCounts(collection, remaining=pending)
    embedded = 0
    if pending:
        embedded = _embed_pending(
            scope, in_force, pending, database=database, embedder=embedder, vector_db=vector_db, counts=counts
        )
    # More may be embedded than pending: some came since they were counted.
    waiting = max(0, pending - embedded) if counts.exhausted else 0  # how many hold nothing to embed, nobody knows yet
    not_embedded = 0 if counts.exhausted else max(counts.not_embedded, pending - embedded)
    if not_embedded:
        with documents.comparison(database) as connection:
            outdated = documents.delete_outdated(connection, scope)
            record(connection, [rows_of(collection, "deleted", outdated)])
        deleted += outdated
    mended = vector_db.catch_up(collection)
    with database.transaction() as connection:
        counts.record_end(connection, unchanged=unchanged, not_embedded=not_embedded, waiting=waiting)
        record_index_size(connection, collection, vector_db.backend, vector_db.index_size(collection))
        rows = record_space_rows(connection, collection)
        waiting_to_heal = spaces.waiting(connection, collection)
    return EmbeddingReport(
        collection=collection,
        space=str(in_force),
        vectors=sum(rows.values()),
        embedded=embedded,
        unchanged=unchanged,
        not_embedded=not_embedded,
        metadata_changed=metadata_changed,
        deleted=deleted,
        mended_in_index=mended,
        waiting_to_heal=waiting_to_heal,
        space_of_settings="" if named == in_force else named.beside(in_force),
        redactions=dict(counts.redactions),
        waiting=waiting,
        quota_reset_at=counts.exhausted.reset_at if counts.exhausted else None,
    )


def _embed_pending(
    scope: Scope,
    in_force: Space,
    pending: int,
    *,
    database: Database,
    embedder: Embedder,
    vector_db: VectorDB,
    counts: RunCounts,
) -> int:
    """Give the documents that lack a vector theirs; answers how many got one."""
    collection = scope.collection
    if collection != OUTCOMES.name:
        batches = _embedded_batches(scope, in_force, database, embedder, counts)
        return vector_db.upsert_stream(collection, batches, new=pending, on_stored=counts.record_batch)
    with vector_db.loading(collection, pending), documents.comparison(database) as connection:
        copied = documents.copy_from_content(connection, scope)
        record(connection, [rows_of(collection, "embedded", copied)])
    if copied >= pending:  # more, where outcomes came since they were counted
        return copied
    # Retention keeps outcomes for longer than the vectors of their posts.
    batches = _embedded_batches(scope, in_force, database, embedder, counts, only_of_purged_posts=True)
    return copied + vector_db.upsert_stream(collection, batches, new=0, on_stored=counts.record_batch)


def embed_texts(
    embedder: Embedder, collection: str, texts: Sequence[str], in_force: Space, doc_ids: Sequence[str] | None = None
) -> Embedded:
    """Embed the texts in the space in force; where its provider cannot be asked, the backup does so in its own space.

    Args:
        embedder: embeds.
        collection: whose texts they are.
        texts: as people wrote them.
        in_force: the space in force.
        doc_ids: of their documents, so that a dead letter can name one.

    Raises:
        as `Embedder.embed_many`; InvalidInput where no setting leads to the provider of the space in force.
    """
    if in_force == embedder.space_of(collection):
        return embedder.embed_many(collection, texts, doc_ids)
    return embedder.embed_in(collection, texts, in_force, doc_ids)


def _embedded_batches(
    scope: Scope,
    in_force: Space,
    database: Database,
    embedder: Embedder,
    counts: RunCounts,
    *,
    only_of_purged_posts: bool = False,
) -> Iterator[list[Document]]:
    with documents.comparison(database) as reading:  # it ends with the last batch, before the index is built
        for batch in documents.to_embed(reading, scope, BATCH_DOCUMENTS, only_of_purged_posts=only_of_purged_posts):
            start = time.monotonic()
            texts, doc_ids = [each.text for each in batch], [each.doc_id for each in batch]
            result = embed_texts(embedder, scope.collection, texts, in_force, doc_ids)
            embedded = [
                Document(each.doc_id, text.vector, each.metadata, each.text_sha256, scope.scrubber_version, text.space)
                for each, text in zip(batch, result.results, strict=True)
                if isinstance(text, EmbeddedText)
            ]
            counts.batch_started(start, result.redactions, len(batch) - len(embedded))
            counts.exhausted = result.exhausted
            yield embedded
            if result.exhausted:
                return
