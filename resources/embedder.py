"""The embedder: every text is scrubbed, then embedded by a provider that may see it.

A collection whose rows may not reach an embedding provider is embedded by the local one (domain/collections.py). What
does not belong here: storing the vectors (`vector_db.py`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.cache_keys import text_hash
from everreach_assets.domain.collections import (
    CONTENT,
    LESSONS,
    OUTCOMES,
    PROSPECTS,
    Collection,
    Sink,
    collection_named,
)
from everreach_assets.domain.embedding_results import REASONS, EmbeddedText, NotEmbedded, Reason, Result
from everreach_assets.domain.errors import InvalidInput, QuotaExhausted, Refused
from everreach_assets.domain.printing import printable_line
from everreach_assets.domain.scrubbing import NameModel, ScrubbedText, Scrubber
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Vector
from resources.embedding_pipeline import EmbeddingPipeline, Order, Text
from resources.provider_requests import ProviderRequests
from resources.providers import EmbeddingProvider, LocalHashingProvider, Purpose

EXCERPT_CHARACTERS = 90

__all__ = ["REASONS", "Embedded", "EmbeddedText", "Embedder", "NotEmbedded", "Reason"]

RequestsOf = Callable[[EmbeddingProvider, bool], ProviderRequests]


def _bare_requests(provider: EmbeddingProvider, is_backed_up: bool) -> ProviderRequests:
    """Without quota, breaker and log."""
    return ProviderRequests(provider, is_backed_up=is_backed_up)


@dataclass(frozen=True)
class Embedded:
    """What became of a batch of texts.

    Attributes:
        results: in the order of the texts.
        redactions: how many spans of each kind the scrubber took out of the whole batch, and texts `refused`.
        exhausted: whose quota of calls is used up, and until when, where texts wait for it; None where none does.
    """

    results: list[Result]
    redactions: Mapping[str, int]
    exhausted: QuotaExhausted | None = None

    @property
    def vectors(self) -> list[Vector | None]:
        """The vectors alone, in the order of the texts; None where there is none."""
        return [each.vector if isinstance(each, EmbeddedText) else None for each in self.results]


class Embedder:
    """Scrubs and embeds texts, each for its collection.

    Args:
        provider: for the collections that may reach one; None: the local one.
        known_names: of people, to be scrubbed wherever they stand.
        name_model: finds the names of others.
        backup: embeds for them, in its own space, what the provider cannot.
        open_space: opens the provider of a space that neither of them has: one that was in force before the settings
            changed, or that a migration fills. Answers None where there is none.
        local: embeds what no other may see; None: nobody does, and such a collection is an error.
        pipeline: how a batch is embedded.
        requests_of: makes the requests of a provider; told whether it has a backup.
        on_close: writes what was counted and is not written yet.
    """

    def __init__(
        self,
        provider: EmbeddingProvider | None = None,
        known_names: Iterable[str] = (),
        *,
        backup: EmbeddingProvider | None = None,
        name_model: NameModel | None = None,
        local: EmbeddingProvider | Literal["hashing"] | None = "hashing",
        open_space: Callable[[Space], EmbeddingProvider | None] | None = None,
        pipeline: EmbeddingPipeline | None = None,
        requests_of: RequestsOf = _bare_requests,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._pipeline = pipeline or EmbeddingPipeline()
        self._on_close = on_close
        local = LocalHashingProvider() if local == "hashing" else local
        self._local = [requests_of(local, False)] if local else []
        self._chain = [requests_of(provider, backup is not None)] if provider else self._local
        if backup:
            self._chain = [*self._chain, requests_of(backup, False)]
        self._open_space = open_space or (lambda _: None)
        self._requests_of = requests_of
        self._queries_in: dict[Space, ProviderRequests] = {}
        self._by_space = {each.provider.space: each for each in (*self._local, *reversed(self._chain))}
        names = list(known_names)
        self._scrubber = Scrubber(names, name_model=name_model)
        self._prospect_scrubber = Scrubber(names, handles_are_personal=True, name_model=name_model)
        self.scrubber_version = self._scrubber.version

    def know(self, names: Iterable[str], *, only: bool = False) -> None:
        """Scrub these names too from now on, or with `only` no others: a process that lives long meets new people."""
        names = list(names)
        self._scrubber = self._scrubber.knowing(names, only=only)
        self._prospect_scrubber = self._prospect_scrubber.knowing(names, only=only)

    def close(self) -> None:
        """Write what was counted and is not written yet."""
        if self._on_close:
            self._on_close()

    def _chain_of(self, collection: Collection) -> list[ProviderRequests]:
        """Who may see the collection, the one in force first.

        Raises:
            InvalidInput: nobody may.
        """
        chain = self._chain if collection.allows(Sink.EMBEDDING_PROVIDER) else self._local
        if not chain:
            raise InvalidInput(f"{collection.name}: only a local provider may see it; set EMBEDDING_LOCAL_PROVIDER")
        return chain

    def space_of(self, collection: str) -> Space:
        """The space in force of the collection: that of the provider which may see it."""
        return self.spaces_of(collection)[0]

    def spaces_of(self, collection: str) -> list[Space]:
        """The spaces that the collection may have vectors in: the one in force, then that of the backup."""
        return [each.provider.space for each in self._chain_of(collection_named(collection))]

    def can_ask(self, space: Space) -> bool:
        """Whether the provider of the space is worth asking now: it answers, or it is time to see whether it does."""
        requests = self._requests_in(space)
        return requests is not None and requests.can_ask()

    def _requests_in(self, space: Space) -> ProviderRequests | None:
        if space not in self._by_space:
            provider = self._open_space(space)
            if provider is None:
                return None
            self._by_space[space] = self._requests_of(provider, False)
        return self._by_space[space]

    def scrub(self, collection: str, text: str) -> ScrubbedText:
        """The text without personal data. An @handle is personal in a prospect's text, and content in a post."""
        scrubber = self._prospect_scrubber if collection_named(collection) == PROSPECTS else self._scrubber
        return scrubber.scrub(text)

    def excerpt(self, collection: str, text: str) -> str:
        """The beginning of the text on one line, without personal data; empty where the scrubber refuses it."""
        scrubbed = self._scrub_or_refuse(collection, text)
        return printable_line(scrubbed.text)[:EXCERPT_CHARACTERS] if scrubbed else ""

    def embed_many(self, collection: str, texts: Sequence[str], doc_ids: Sequence[str] | None = None) -> Embedded:
        """Scrub the texts and embed what is left, in the space in force; where its provider cannot, in the backup's.

        Args:
            collection: whose texts they are.
            texts: as people wrote them.
            doc_ids: of their documents, so that a dead letter can name one.

        Raises:
            Unavailable, Refused, InvalidInput: as `EmbeddingPipeline.embed`.
        """
        return self._embed(collection, texts, self._chain_of(collection_named(collection)), doc_ids=doc_ids)

    def embed_in(
        self, collection: str, texts: Sequence[str], space: Space, doc_ids: Sequence[str] | None = None
    ) -> Embedded:
        """As `embed_many`, in that space alone.

        Raises:
            Unavailable: the provider of the space cannot be asked.
            InvalidInput: no provider that may see the collection has that space; else as `embed_many`.
        """
        requests = self._requests_in(space)
        may_be_sent = collection_named(collection).allows(Sink.EMBEDDING_PROVIDER)
        if requests is None or not (may_be_sent or requests in self._local):
            raise InvalidInput(
                f"{collection}: no provider that may see it has the space {space}; set its key again, or change to "
                "another space by 'everreach embedding migrate'"
            )
        return self._embed(collection, texts, [requests], doc_ids=doc_ids)

    def embed_query(self, collection: str, text: str) -> EmbeddedText:
        """The vector of a text to search with.

        Raises:
            InvalidInput: nothing is left to embed, or the provider has no vector for it.
            QuotaExhausted: the day's provider calls are used up; else as `embed_many`.
        """
        return self._embed_one(collection, text, "query")

    def embed_query_in(self, collection: str, text: str, space: Space) -> EmbeddedText | None:
        """The vector of a text to search with, in that space; None where no provider that may see it has one now.

        Nobody waits for an open breaker: a search has other ways.

        Raises:
            InvalidInput: nothing of the text is left to embed.
            Unavailable, Refused: the provider does not answer, or does not accept the key.
        """
        requests = self._requests_in(space)
        may_be_sent = collection_named(collection).allows(Sink.EMBEDDING_PROVIDER)
        if requests is None or not (may_be_sent or requests in self._local):
            return None
        if space not in self._queries_in:
            self._queries_in[space] = self._requests_of(requests.provider, True)
        (result,) = self._embed(collection, [text], [self._queries_in[space]], purpose="query").results
        if isinstance(result, NotEmbedded) and result.reason in ("empty", "refused_by_scrubber"):
            raise InvalidInput(f"{collection}: {REASONS[result.reason]}")
        return result if isinstance(result, EmbeddedText) else None

    def _embed_one(self, collection: str, text: str, purpose: Purpose) -> EmbeddedText:
        chain = self._chain_of(collection_named(collection))
        embedded = self._embed(collection, [text], chain, purpose=purpose)
        (result,) = embedded.results
        if isinstance(result, EmbeddedText):
            return result
        raise embedded.exhausted or InvalidInput(f"{collection}: {REASONS[result.reason]}")

    def _embed(
        self,
        collection: str,
        texts: Sequence[str],
        chain: Sequence[ProviderRequests],
        *,
        purpose: Purpose = "document",
        doc_ids: Sequence[str] | None = None,
    ) -> Embedded:
        scrubbed = [self._scrub_or_refuse(collection, text) for text in texts]
        redactions: Counter[str] = Counter()
        for each in scrubbed:
            redactions.update(each.redactions if each else {"refused": 1})
        ids = doc_ids if doc_ids is not None else [None] * len(texts)
        given = [Text(each, _hash(text), doc_id) for each, text, doc_id in zip(scrubbed, texts, ids, strict=True)]
        order = Order(collection, self.scrubber_version, purpose)
        outcome = self._pipeline.embed(order, given, chain)
        return Embedded(outcome.results, redactions, outcome.exhausted)

    def _scrub_or_refuse(self, collection: str, text: str) -> ScrubbedText | None:
        """The scrubbed text; None where the scrubber refuses it, so that one such text does not stop the others."""
        try:
            return self.scrub(collection, text)
        except Refused:
            return None

    async def embed_content(self, text: str) -> Vector:
        """The vector of a post's text: shape (1536,), float32, unit length.

        Raises:
            InvalidInput: nothing is left to embed; else as `embed_many`.
        """
        return await self._embed_soon(CONTENT, text)

    async def embed_prospect(self, text: str) -> Vector:
        """The vector of what is known of a prospect; always by the local provider."""
        return await self._embed_soon(PROSPECTS, text)

    async def embed_outcome(self, text: str) -> Vector:
        """The vector of an outcome: that of its post's text. Metrics are metadata: digits embed as noise."""
        return await self._embed_soon(OUTCOMES, text)

    async def embed_lesson(self, text: str) -> Vector:
        """The vector of a lesson's text."""
        return await self._embed_soon(LESSONS, text)

    async def _embed_soon(self, collection: Collection, text: str) -> Vector:
        return (await asyncio.to_thread(self._embed_one, collection.name, text, "document")).vector


def _hash(text: str) -> bytes:
    return text_hash(text.encode(errors="replace").decode())  # a lone surrogate is no character
