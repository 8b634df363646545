"""The embedder: every text is scrubbed, then embedded by a provider that may see it.

A collection whose rows may not reach an embedding provider is embedded by the local one (domain/collections.py). What
does not belong here: storing the vectors (`vector_db.py`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.collections import (
    CONTENT,
    LESSONS,
    OUTCOMES,
    PROSPECTS,
    Collection,
    Sink,
    collection_named,
)
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION, ScrubbedText, Scrubber
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Vector
from resources.providers import CallLog, EmbeddingProvider, LocalHashingProvider, OpenAIProvider
from resources.settings import Settings

EXCERPT_CHARACTERS = 90

Reason = Literal["empty", "refused_by_scrubber"]
REASONS: Mapping[Reason, str] = {
    "empty": "the text is empty, so there is nothing to embed",
    "refused_by_scrubber": "the scrubber refuses the text, so it was not embedded",
}
"""Why a text has no vector, as a person is told."""


@dataclass(frozen=True)
class EmbeddedText:
    """A text's vector, shape (1536,), and the space that it is of: vectors of two spaces are never compared."""

    vector: Vector
    space: Space


@dataclass(frozen=True)
class NotEmbedded:
    """Why a text has no vector."""

    reason: Reason


@dataclass(frozen=True)
class Embedded:
    """What became of a batch of texts.

    Attributes:
        results: in the order of the texts.
        redactions: how many spans of each kind the scrubber took out of the whole batch, and texts `refused`.
    """

    results: list[EmbeddedText | NotEmbedded]
    redactions: Mapping[str, int]

    @property
    def vectors(self) -> list[Vector | None]:
        """The vectors alone, in the order of the texts; None where there is none."""
        return [each.vector if isinstance(each, EmbeddedText) else None for each in self.results]


class Embedder:
    """Scrubs and embeds texts, each for its collection.

    Args:
        provider: for the collections that may reach one.
        backup: embeds for them, in its own space, what the provider cannot.
        known_names: of people, to be scrubbed wherever they stand.
        on_call: is told of the calls of the local provider that embeds what no other may see.
        on_close: writes what `on_call` still holds.
    """

    scrubber_version = SCRUBBER_VERSION

    def __init__(
        self,
        provider: EmbeddingProvider | None = None,
        known_names: Iterable[str] = (),
        *,
        backup: EmbeddingProvider | None = None,
        on_call: CallLog | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._on_close = on_close
        self._local = LocalHashingProvider(on_call)
        self._provider = provider or self._local
        self._backup = backup
        names = list(known_names)
        self._scrubber = Scrubber(names)
        self._prospect_scrubber = Scrubber(names, handles_are_personal=True)

    def close(self) -> None:
        """Write what was counted and is not written yet."""
        if self._on_close:
            self._on_close()

    def _providers_of(self, collection: Collection) -> list[EmbeddingProvider]:
        """Who may see the collection, the one in force first."""
        if not collection.allows(Sink.EMBEDDING_PROVIDER):
            return [self._local]
        return [self._provider] if self._backup is None else [self._provider, self._backup]

    def space_of(self, collection: str) -> Space:
        """The space in force of the collection: that of the provider which may see it."""
        return self.spaces_of(collection)[0]

    def spaces_of(self, collection: str) -> list[Space]:
        """The spaces that the collection may have vectors in: the one in force, then that of the backup."""
        return [each.space for each in self._providers_of(collection_named(collection))]

    def can_ask(self, space: Space) -> bool:
        """Whether the provider of the space is worth asking now: it answers, or it is time to see whether it does."""
        providers = {each.space: each for each in (self._provider, self._backup, self._local) if each is not None}
        return space in providers

    def scrub(self, collection: str, text: str) -> ScrubbedText:
        """The text without personal data. An @handle is personal in a prospect's text, and content in a post."""
        scrubber = self._prospect_scrubber if collection_named(collection) == PROSPECTS else self._scrubber
        return scrubber.scrub(text)

    def excerpt(self, collection: str, text: str) -> str:
        """The beginning of the text on one line, without personal data; empty where the scrubber refuses it."""
        scrubbed = self._scrub_or_refuse(collection, text)
        return " ".join(scrubbed.text.split())[:EXCERPT_CHARACTERS] if scrubbed else ""

    def embed_many(self, collection: str, texts: Sequence[str]) -> Embedded:
        """Scrub the texts and embed what is left, in the space in force; where its provider cannot, in the backup's.

        Raises:
            Unavailable, Refused, InvalidInput: as the provider's `embed`; the backup's where that failed too.
        """
        provider, *backups = self._providers_of(collection_named(collection))
        try:
            return self._embed(collection, texts, provider)
        except Unavailable:
            if not backups:
                raise
            return self._embed(collection, texts, backups[0])

    def embed_in(self, collection: str, texts: Sequence[str], space: Space) -> Embedded:
        """As `embed_many`, in that space alone.

        Raises:
            Unavailable: the provider of the space cannot be asked.
            InvalidInput: no provider that may see the collection has that space; else as `embed_many`.
        """
        for provider in self._providers_of(collection_named(collection)):
            if provider.space == space:
                return self._embed(collection, texts, provider)
        raise InvalidInput(f"{collection}: no provider that may see it has the space {space}")

    def _embed(self, collection: str, texts: Sequence[str], provider: EmbeddingProvider) -> Embedded:
        scrubbed = [self._scrub_or_refuse(collection, text) for text in texts]
        redactions: Counter[str] = Counter()
        for each in scrubbed:
            redactions.update(each.redactions if each else {"refused": 1})
        vectors = iter(provider.embed([each for each in scrubbed if each is not None]))
        results: list[EmbeddedText | NotEmbedded] = []
        for each in scrubbed:
            vector = next(vectors) if each else None
            if vector is not None:
                results.append(EmbeddedText(vector, provider.space))
            else:
                results.append(NotEmbedded("empty" if each else "refused_by_scrubber"))
        return Embedded(results, redactions)

    def embed_query(self, collection: str, text: str) -> EmbeddedText:
        """The vector of a text to search with.

        Raises:
            InvalidInput: nothing is left to embed; else as `embed_many`.
        """
        (result,) = self.embed_many(collection, [text]).results
        if isinstance(result, NotEmbedded):
            raise InvalidInput(f"{collection}: {REASONS[result.reason]}")
        return result

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
        return await self._embed_one(CONTENT, text)

    async def embed_prospect(self, text: str) -> Vector:
        """The vector of what is known of a prospect; always by the local provider."""
        return await self._embed_one(PROSPECTS, text)

    async def embed_outcome(self, text: str) -> Vector:
        """The vector of an outcome: that of its post's text. Metrics are metadata: digits embed as noise."""
        return await self._embed_one(OUTCOMES, text)

    async def embed_lesson(self, text: str) -> Vector:
        """The vector of a lesson's text."""
        return await self._embed_one(LESSONS, text)

    async def _embed_one(self, collection: Collection, text: str) -> Vector:
        return (await asyncio.to_thread(self.embed_query, collection.name, text)).vector


def open_provider(settings: Settings, on_call: CallLog | None = None) -> EmbeddingProvider:
    """The provider that the settings choose: OpenAI where a key is set, else the local one.

    Raises:
        InvalidInput: OpenAI is chosen without a key.
    """
    if not settings.uses_openai:
        return LocalHashingProvider(on_call)
    if settings.openai_api_key is None:
        raise InvalidInput("EMBEDDING_PROVIDER=openai needs OPENAI_API_KEY")
    return OpenAIProvider(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        model=settings.embedding_model,
        width=settings.embedding_width,
        timeout_seconds=settings.embedding_timeout_seconds,
        deadline_seconds=settings.embedding_deadline_seconds,
        on_call=on_call,
    )
