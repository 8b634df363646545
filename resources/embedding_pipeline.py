"""From scrubbed texts to vectors: normalise, deduplicate, cache, ask, store, put each vector in its text's place.

Every answered request goes to the cache at once, so that a process that is killed pays again for those requests at most
that were under way. What does not belong here: scrubbing and which provider may see a text
(`embedder.py`), retries and verification (`provider_requests.py`), the vectors' lasting home (`vector_store.py`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from everreach_assets.domain.cache_keys import cache_key
from everreach_assets.domain.embedding_inputs import EmbeddingInput, batches, normalised, parts_of, pooled
from everreach_assets.domain.embedding_results import EmbeddedText, NotEmbedded, Outcome, Reason, Result
from everreach_assets.domain.errors import QuotaExhausted, Unavailable
from everreach_assets.domain.scrubbing import ScrubbedText
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Vector
from resources.embedding_dead_letters import EmbeddingDeadLetters
from resources.provider_requests import ProviderRequests, Vectors
from resources.providers import LOCAL, Purpose


@dataclass(frozen=True)
class Text:
    """A text to embed.

    Attributes:
        scrubbed: None where the scrubber refused it.
        text_hash: SHA-256 of the text before scrubbing: by it the cache forgets what is erased.
        doc_id: of the document, for dead letters; None where there is none.
    """

    scrubbed: ScrubbedText | None
    text_hash: bytes
    doc_id: str | None = None


@dataclass(frozen=True)
class Order:
    """What a batch of texts is embedded for.

    Attributes:
        collection: whose texts they are.
        scrubber_version: of the scrubber that they went through.
        purpose: to be found, or to find.
    """

    collection: str
    scrubber_version: str
    purpose: Purpose = "document"


class Cache(Protocol):
    """Vectors that were paid for, by key (`resources/embedding_cache.py`)."""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Vector]: ...

    def put_many(self, vectors: Mapping[bytes, Vector], sources: Mapping[bytes, set[bytes]]) -> None: ...


@dataclass(frozen=True)
class EmbeddingPipeline:
    """Embeds texts by a provider, and where it cannot, by its backup in a space of its own.

    Attributes:
        concurrency: requests under way at once.
        refuses_long_texts: a text over a provider's limit is not embedded; else its vector is the mean of its parts'.
        cache: None: every text is asked for. The local provider's vectors are not cached: they cost nothing, and what
            may not leave the machine must not reach a cache elsewhere.
        dead_letters: None: a text that a provider has no vector for is asked for again each time.
        on_failover: is told of the space of a backup, and how many texts it embedded.
    """

    concurrency: int = 4
    refuses_long_texts: bool = False
    cache: Cache | None = None
    dead_letters: EmbeddingDeadLetters | None = None
    on_failover: Callable[[Space, int], None] | None = None

    def embed(self, order: Order, texts: Sequence[Text], chain: Sequence[ProviderRequests]) -> Outcome:
        """What became of the texts. The same text twice is embedded once.

        Where the day's quota of calls is used up, the texts that are left wait: that is no error, and no backup's work.

        Args:
            order: what for.
            texts: scrubbed.
            chain: the provider in force, then its backup.

        Raises:
            Unavailable, Refused, InvalidInput: as `ProviderRequests.vectors_of`, of the last of the chain that was
                asked. What was answered until then is in the cache.
        """
        wholes = [None if each.scrubbed is None else normalised(each.scrubbed) for each in texts]
        sources: dict[EmbeddingInput, list[Text]] = {}
        for whole, text in zip(wholes, texts, strict=True):
            if whole is not None:
                sources.setdefault(whole, []).append(text)
        results: dict[EmbeddingInput, Result] = {}
        exhausted: QuotaExhausted | None = None
        for number, requests in enumerate(chain):
            unsettled = {whole: theirs for whole, theirs in sources.items() if whole not in results}
            if not unsettled:
                break
            share = _Share(self, order, requests, unsettled)
            try:
                share.ask()
            except Unavailable:
                if number == len(chain) - 1:
                    raise
            exhausted = share.exhausted
            settled = share.results()
            results |= settled
            if number > 0 and self.on_failover:
                embedded = sum(isinstance(each, EmbeddedText) for each in settled.values())
                self.on_failover(requests.provider.space, embedded)
        in_order = [
            results[whole]
            if whole is not None
            else NotEmbedded("refused_by_scrubber" if text.scrubbed is None else "empty")
            for text, whole in zip(texts, wholes, strict=True)
        ]
        return Outcome(in_order, exhausted)


@dataclass
class _Share:
    """One provider's share of a batch: distinct texts, each with where it comes from."""

    pipeline: EmbeddingPipeline
    order: Order
    requests: ProviderRequests
    texts: Mapping[EmbeddingInput, list[Text]]
    parts: dict[EmbeddingInput, list[EmbeddingInput]] = field(default_factory=dict)
    keys: dict[EmbeddingInput, bytes] = field(default_factory=dict)
    sources: dict[bytes, list[Text]] = field(default_factory=dict)
    vectors: dict[EmbeddingInput, Vector] = field(default_factory=dict)
    faults: dict[EmbeddingInput, Reason] = field(default_factory=dict)
    exhausted: QuotaExhausted | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cache(self) -> Cache | None:
        return None if self.requests.provider.space.provider == LOCAL else self.pipeline.cache

    def ask(self) -> None:
        """Find or ask for the vectors of every part of every text."""
        self._split()
        self._look_up()
        provider = self.requests.provider
        missing = [each for each in self.keys if each not in self.vectors and each not in self.faults]
        tokens = {each: provider.count_tokens(each.text) for each in missing}
        limits = provider.limits
        if provider.space.provider != LOCAL:  # which works in this process: two requests at once are none faster
            limits = limits.shared(len(missing), self.pipeline.concurrency)
        requests = list(batches(missing, tokens, limits))
        # Where the provider failed before, one request tries for all.
        alone = 0 if not requests or self.requests.is_sure() else 1
        try:
            for request in requests[:alone]:
                self._request(request)
            self._request_at_once(requests[alone:])
        except QuotaExhausted as error:
            self.exhausted = error
            unasked = [each for each in missing if each not in self.vectors and each not in self.faults]
            self.faults.update(dict.fromkeys(unasked, "quota"))

    def results(self) -> dict[EmbeddingInput, Result]:
        """What became of the texts; those are left out of which a part was not asked for."""
        found = {whole: self._result(whole, parts) for whole, parts in self.parts.items()}
        return {whole: result for whole, result in found.items() if result is not None}

    def _result(self, whole: EmbeddingInput, parts: Sequence[EmbeddingInput]) -> Result | None:
        for each in (whole, *parts):
            if each in self.faults:
                return NotEmbedded(self.faults[each])
        if any(each not in self.vectors for each in parts):
            return None
        provider = self.requests.provider
        weights = [provider.count_tokens(each.text) for each in parts] if len(parts) > 1 else [1]
        vector = pooled([self.vectors[each] for each in parts], weights)
        return NotEmbedded("bad_answer") if vector is None else EmbeddedText(vector, provider.space)

    def _split(self) -> None:
        provider = self.requests.provider
        for whole, theirs in self.texts.items():
            parts = parts_of(whole, provider.count_tokens, provider.limits.input_tokens)
            if len(parts) > 1 and self.pipeline.refuses_long_texts:
                parts, self.faults[whole] = [], "too_long"
            self.parts[whole] = parts
            for part in parts:
                self.keys[part] = self._key(part)
                self.sources.setdefault(self.keys[part], []).extend(theirs)

    def _key(self, part: EmbeddingInput) -> bytes:
        provider = self.requests.provider
        is_query = self.order.purpose == "query" and provider.tells_queries_apart
        # No text of Postgres holds a NUL, so no document's text is like that of a query.
        text = f"query\0{part.text}" if is_query else part.text
        return cache_key(provider.space, self.order.scrubber_version, text)

    def _look_up(self) -> None:
        """What is cached, and what is a dead letter."""
        if self.cache:
            found = self.cache.get_many(list(self.keys.values()))
            self.vectors |= {each: found[key] for each, key in self.keys.items() if key in found}
        if self.pipeline.dead_letters:
            missing = [key for each, key in self.keys.items() if each not in self.vectors]
            space = self.requests.provider.space
            reasons = self.pipeline.dead_letters.among(self.order.collection, space, missing)
            self.faults |= {each: reasons[key] for each, key in self.keys.items() if key in reasons}

    def _request_at_once(self, requests: Sequence[Sequence[EmbeddingInput]]) -> None:
        """Some requests under way at once; after an error no further one is begun."""
        has_failed = threading.Event()

        def request_unless_failed(inputs: Sequence[EmbeddingInput]) -> None:
            if not has_failed.is_set():
                try:
                    self._request(inputs)
                except BaseException:
                    has_failed.set()
                    raise

        if len(requests) <= 1:  # a search has one, and no time for threads
            for inputs in requests:
                self._request(inputs)
            return
        with ThreadPoolExecutor(min(self.pipeline.concurrency, len(requests))) as pool:
            asked = [pool.submit(request_unless_failed, inputs) for inputs in requests]
        for each in asked:  # all have ended: the first error is told when every answer is stored
            each.result()

    def _request(self, inputs: Sequence[EmbeddingInput]) -> None:
        faults = self.requests.vectors_of(inputs, self.order.purpose, self._store)
        lasting = {self.keys[each]: fault for each, fault in faults.items() if fault != "unsettled"}
        if lasting and self.pipeline.dead_letters and self.order.purpose == "document":
            doc_ids = {key: text.doc_id for key in lasting for text in self.sources[key] if text.doc_id is not None}
            space = self.requests.provider.space
            self.pipeline.dead_letters.add(self.order.collection, space, lasting, doc_ids)
        with self.lock:
            self.faults |= {each: "bad_answer" if fault == "unsettled" else fault for each, fault in faults.items()}

    def _store(self, vectors: Vectors) -> None:
        """Keep what one request has brought, before anything else is done with it."""
        known = {each: vector for each, vector in vectors.items() if each in self.keys}  # not the probe
        if self.cache:
            keys = {self.keys[each]: vector for each, vector in known.items()}
            self.cache.put_many(keys, {key: {text.text_hash for text in self.sources[key]} for key in keys})
        with self.lock:
            self.vectors |= known
