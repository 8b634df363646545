"""From scrubbed texts to what a provider is sent: normalised, split where too long, packed into requests.

What belongs here: texts and numbers of tokens. What does not: how a tokenizer counts, and the requests themselves
(`resources/providers/`).
"""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass

import numpy as np

from everreach_assets.domain.scrubbing import ScrubbedText, plain_texts
from everreach_assets.domain.vectors import Vector

CountTokens = Callable[[str], int]

_SEAL = object()
_LINE_END = re.compile(r"\r\n?")
FEWEST_SHARED = 256
"""Texts of a request that is smaller than it might be so that others are under way with it: a call counts by the quota,
however small it is."""

_WORDS_APART = 200
"""Characters around the middle in which a split looks for a blank to cut at."""


@dataclass(frozen=True)
class EmbeddingInput:
    """One input of a request: a scrubbed text, or a part of one. Only the functions of this module can make it."""

    text: str
    _seal: InitVar[object]

    def __post_init__(self, _seal: object) -> None:
        if _seal is not _SEAL:
            raise TypeError("an EmbeddingInput is made of a ScrubbedText only")


PROBE = EmbeddingInput("Good morning.", _SEAL)
"""A text that nobody can object to: whether a provider refuses one text, or all of them."""


@dataclass(frozen=True)
class Limits:
    """What a provider takes in one request.

    Attributes:
        inputs: texts of a request.
        input_tokens: of each text.
        request_tokens: of all texts together.
    """

    inputs: int
    input_tokens: int
    request_tokens: int

    def shared(self, inputs: int, at_once: int) -> "Limits":
        """Those with which so many inputs become `at_once` requests, unless these would be very small."""
        share = max(FEWEST_SHARED, -(-inputs // at_once))
        return dataclasses.replace(self, inputs=min(self.inputs, share))


def normalised(text: ScrubbedText) -> EmbeddingInput | None:
    """The text in one spelling; None where nothing is left to embed.

    The same words typed on two systems differ in bytes (an accent composed or not, CR LF or LF), would be paid for
    twice and get two vectors. NFC and not NFKC: the latter changes what is written (a superscript into a digit). Blanks
    inside stay: they are the author's.
    """
    one_spelling = unicodedata.normalize("NFC", _LINE_END.sub("\n", plain_texts([text])[0])).strip()
    return EmbeddingInput(one_spelling, _SEAL) if one_spelling else None


def parts_of(whole: EmbeddingInput, count_tokens: CountTokens, input_tokens: int) -> list[EmbeddingInput]:
    """The text itself, or, where it is over the limit, its halves, as often as it takes.

    Halves, because parts of about the same length weigh about the same in the mean. They are cut at a blank where one
    is near, never inside a character.
    """
    if _is_within(whole.text, count_tokens, input_tokens):
        return [whole]
    middle = _cut(whole.text)
    halves = (whole.text[:middle].strip(), whole.text[middle:].strip())
    return [
        part for half in halves if half for part in parts_of(EmbeddingInput(half, _SEAL), count_tokens, input_tokens)
    ]


def _is_within(text: str, count_tokens: CountTokens, input_tokens: int) -> bool:
    if len(text) == 1:
        return True  # it cannot be halved
    size = len(text.encode())
    if size <= input_tokens:
        return True  # a token is at least one byte
    if size > 32 * input_tokens:
        return False  # a token of 32 bytes on average is no text of people; and tokenizers refuse what is too long
    return count_tokens(text) <= input_tokens


def _cut(text: str) -> int:
    middle = len(text) // 2
    reach = min(_WORDS_APART, middle - 1)
    blanks = [at for at in range(middle - reach, middle + reach) if text[at].isspace()]
    return min(blanks, key=lambda at: abs(at - middle)) if blanks else middle


def batches(
    inputs: Sequence[EmbeddingInput], tokens: Mapping[EmbeddingInput, int], limits: Limits
) -> Iterator[list[EmbeddingInput]]:
    """Requests that are as full as the limits allow, in the order of the inputs."""
    batch: list[EmbeddingInput] = []
    size = 0
    for each in inputs:
        if batch and (len(batch) == limits.inputs or size + tokens[each] > limits.request_tokens):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += tokens[each]
    if batch:
        yield batch


def pooled(vectors: Sequence[Vector], tokens: Sequence[int]) -> Vector | None:
    """The mean of the parts' vectors, each weighted by its tokens, of unit length; None where they cancel out.

    https://cookbook.openai.com/examples/embedding_long_inputs
    """
    if len(vectors) == 1:
        return vectors[0]
    mean = np.average(np.asarray(vectors, dtype=np.float64), axis=0, weights=tokens)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        return None
    unit: Vector = (mean / length).astype(np.float32)
    return unit
