"""Embedding providers: who turns scrubbed text into vectors.

A provider embeds what it is given and says which space its vectors are of. What does not belong here: scrubbing, and
which collection may use which provider (`embedder.py`).
"""

import base64
import contextlib
import datetime as dt
import email.utils
import json
import math
import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import openai
import stamina
from sklearn.feature_extraction.text import HashingVectorizer

from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.scrubbing import ScrubbedText, plain_texts
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Vector

LOCAL = "local"
"""The provider that runs in this process: it costs nothing and has no quota."""


@dataclass(frozen=True)
class ProviderCall:
    """One attempt to have texts embedded, whatever came of it.

    Attributes:
        seconds: from the request to its answer.
        tokens: that the provider charges for.
        error: the class of the error, None where there was none.
    """

    provider: str
    model: str
    seconds: float
    tokens: int = 0
    error: str | None = None


CallLog = Callable[[ProviderCall], None]


class EmbeddingProvider(Protocol):
    """Computes vectors of one space."""

    space: Space

    def embed(self, texts: Sequence[ScrubbedText]) -> list[Vector | None]:
        """One vector of shape (1536,) for each text, in their order; None where a text says nothing."""


class LocalHashingProvider:
    """Hashed character n-grams: no download, no network, about 10,000 short texts a second.

    Near in this space means alike in spelling, not in meaning: on the STS benchmark its Spearman correlation with
    people's judgement is 0.66, where words give 0.56.
    """

    space = Space(LOCAL, "hashing-char-3-5", WIDTH, "1")

    def __init__(self, on_call: CallLog | None = None) -> None:
        self._on_call = on_call
        self._vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=WIDTH, norm="l2")

    def embed(self, texts: Sequence[ScrubbedText]) -> list[Vector | None]:
        if not texts:
            return []
        start = time.perf_counter()
        rows = self._vectorizer.transform(plain_texts(texts)).toarray().astype(np.float32)
        if self._on_call:
            self._on_call(ProviderCall(self.space.provider, self.space.model, time.perf_counter() - start))
        return [row if row.any() else None for row in rows]


MAX_INPUTS = 2_048
MAX_INPUT_BYTES = 8_000
MAX_REQUEST_BYTES = 300_000
"""OpenAI takes 2,048 inputs, 8,192 tokens each, 300,000 a request. A token is at least one byte, so bytes are safe."""

LONGEST_WAIT_SECONDS = 30.0


class OpenAIProvider:
    """OpenAI's embeddings, or those of any server that speaks its protocol.

    A text over the limit is split, and its vector is the mean of its parts', each weighted by its length.

    Args:
        model: such as `text-embedding-3-small`.
        width: components of the model's vectors, at most 1536; fewer are padded with zeros.
        timeout_seconds: of one call.
        deadline_seconds: of one batch with its retries; no wait and no call goes beyond it.
        on_call: is told of each attempt, before its answer is used.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None,
        model: str,
        width: int,
        timeout_seconds: float,
        deadline_seconds: float,
        on_call: CallLog | None = None,
    ) -> None:
        self.space = Space("openai", model, width, "1")
        self._on_call = on_call
        self._timeout_seconds = timeout_seconds
        self._deadline_seconds = deadline_seconds
        # The retries are ours alone: the client's own would multiply with them.
        # stamina's own log line would quote the provider's answer, which may quote the text.
        stamina.instrumentation.set_on_retry_hooks([])
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url, max_retries=0)
        weakref.finalize(self, self._client.close)  # nobody closes a provider; its connections go with it

    def embed(self, texts: Sequence[ScrubbedText]) -> list[Vector | None]:
        """The vectors of the texts.

        Raises:
            Unavailable: 429, 5xx or silence until the deadline.
            Refused: the key is not accepted, or its quota is used up.
            InvalidInput: the server refuses the request, or answers with something that is not its vectors.
        """
        parts = [(number, part) for number, text in enumerate(plain_texts(texts)) for part in _split(text.strip())]
        totals: dict[int, Vector] = {}
        for batch in _batches(parts):
            for (number, part), vector in zip(batch, self._request([part for _, part in batch]), strict=True):
                weighted = vector * np.float32(len(part))
                totals[number] = totals[number] + weighted if number in totals else weighted
        return [_unit(totals[number]) if number in totals else None for number in range(len(texts))]

    def _request(self, inputs: list[str]) -> list[Vector]:
        started_at = time.monotonic()

        def seconds_left() -> float:
            return started_at + self._deadline_seconds - time.monotonic()

        def wait_seconds(error: Exception) -> bool | float:
            """How long to wait before another attempt; False where there is none."""
            if not _is_passing(error):
                return False
            # About as long again as it has taken so far: the waits double, whatever the calls take.
            taken = min(max(time.monotonic() - started_at, 0.5), LONGEST_WAIT_SECONDS)
            seconds = _seconds_asked_for(error) or taken * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            return seconds if seconds < seconds_left() else False

        vectors: list[Vector] = []
        try:
            for attempt in stamina.retry_context(on=wait_seconds, attempts=None, timeout=None):
                with attempt:
                    vectors = self._attempt(inputs, timeout_seconds=min(self._timeout_seconds, seconds_left()))
        # Their messages can hold the text that was sent, or the key: "from None" keeps them out of every traceback.
        except openai.OpenAIError as error:
            raise _our_error(error, self.space) from None
        except json.JSONDecodeError:
            raise _not_the_protocol(self.space) from None
        return vectors

    def _attempt(self, inputs: list[str], *, timeout_seconds: float) -> list[Vector]:
        """One call, and the report of it: what an answer cost is owed also where the answer is of no use."""
        dimensions = self.space.width if self.space.model.startswith("text-embedding-3") else openai.omit
        start, tokens = time.perf_counter(), 0
        vectors: list[Vector] = []
        failure: Exception | None = None
        try:
            answer = self._client.embeddings.create(
                model=self.space.model,
                input=inputs,
                dimensions=dimensions,
                encoding_format="base64",
                timeout=timeout_seconds,
            )
            tokens = _tokens(answer)
            vectors = _verified(answer, len(inputs), self.space)
        except Exception as error:
            failure = error
        # After the block: an error of the report must not carry the provider's, which can hold the text, with it.
        if self._on_call:
            seconds = time.perf_counter() - start
            error_class = None if failure is None else _error_class(failure)
            self._on_call(ProviderCall(self.space.provider, self.space.model, seconds, tokens, error_class))
        if failure is not None:
            raise failure
        return vectors


class _WrongWidth(InvalidInput):
    """Vectors of another width than was asked for."""


def _tokens(answer: openai.types.CreateEmbeddingResponse) -> int:
    """What the answer says it cost; 0 where it does not say, or is no such answer at all."""
    tokens = getattr(getattr(answer, "usage", None), "total_tokens", None)
    return tokens if isinstance(tokens, int) and tokens > 0 else 0


ERROR_CLASSES: tuple[tuple[type[Exception], str], ...] = (  # the more special before the more general
    (openai.APITimeoutError, "timeout"),
    (openai.RateLimitError, "rate_limited"),
    (openai.AuthenticationError, "auth"),
    (openai.PermissionDeniedError, "auth"),
    (openai.InternalServerError, "server"),
    (openai.APIConnectionError, "server"),
    (openai.APIStatusError, "bad_request"),
    (_WrongWidth, "dimension"),
)


def _error_class(error: Exception) -> str:
    """The class under which the error is counted (`embedding_error` in domain/metric_catalogue.py)."""
    return next((name for type_, name in ERROR_CLASSES if isinstance(error, type_)), "other")


def _is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, openai.RateLimitError):
        return error.code != "insufficient_quota"
    return isinstance(error, openai.APIConnectionError | openai.InternalServerError)  # time-outs are the former


def _split(text: str) -> Iterator[str]:
    """Parts of at most MAX_INPUT_BYTES, cut between characters; none for an empty text."""
    encoded = text.encode()
    start = 0
    while start < len(encoded):
        part = encoded[start : start + MAX_INPUT_BYTES].decode(errors="ignore")
        yield part
        start += len(part.encode())


def _batches(parts: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    size = 0
    for number, part in parts:
        part_size = len(part.encode())
        if batch and (len(batch) == MAX_INPUTS or size + part_size > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, part))
        size += part_size
    if batch:
        yield batch


def _seconds_asked_for(error: Exception) -> float | None:
    """Seconds that Retry-After states, as a number or as a date (RFC 9110, 10.2.3); None where it does not."""
    if not isinstance(error, openai.APIStatusError):
        return None
    stated = error.response.headers.get("retry-after", "")
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = (email.utils.parsedate_to_datetime(stated) - dt.datetime.now(dt.UTC)).total_seconds()
    with contextlib.suppress(ValueError):
        seconds = float(stated)
    return seconds if seconds > 0 else None


def _our_error(error: openai.OpenAIError, space: Space) -> Exception:
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return Refused(f"{space}: the provider does not accept the key; check OPENAI_API_KEY")
    if _is_passing(error):
        return Unavailable(f"{space}: no answer within the deadline ({type(error).__name__}); run it again later")
    if isinstance(error, openai.RateLimitError):
        return Refused(f"{space}: the provider says that the quota of this key is used up")
    return InvalidInput(f"{space}: the provider refused the request ({type(error).__name__}); check EMBEDDING_MODEL")


def _not_the_protocol(space: Space) -> InvalidInput:
    return InvalidInput(f"{space}: the server's answer is not one of OpenAI's protocol; check OPENAI_BASE_URL")


def _verified(answer: openai.types.CreateEmbeddingResponse, expected: int, space: Space) -> list[Vector]:
    """The vectors in the order of their inputs, padded to 1536; refused unless they are what was asked for."""
    try:
        items = sorted(answer.data, key=lambda item: item.index)
        decoded = [_decoded(item.embedding) for item in items]
    except (AttributeError, TypeError, ValueError):  # the client checks nothing of a body: it can be a web page
        raise _not_the_protocol(space) from None
    if [item.index for item in items] != list(range(expected)):
        raise InvalidInput(
            f"{space}: {expected} inputs were sent and {len(items)} vectors with other numbers came back"
        )
    shapes = {vector.shape for vector in decoded}
    if shapes != {(space.width,)}:
        raise _WrongWidth(
            f"{space}: vectors of shape {sorted(shapes)} came back, {space.width} components were expected; "
            "set EMBEDDING_WIDTH to the model's width"
        )
    vectors = np.array(decoded)
    norms = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise InvalidInput(f"{space}: a vector came back that is zero or not finite")
    units = vectors / norms[:, None]
    return list(np.pad(units, ((0, 0), (0, WIDTH - space.width))))


def _decoded(embedding: str | list[float]) -> Vector:
    """A vector as it was sent: base64 of float32, as was asked for, or numbers, as some servers send all the same."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.array(embedding, dtype=np.float32)


def _unit(vector: Vector) -> Vector:
    unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
