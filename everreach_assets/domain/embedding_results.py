"""What becomes of a text that is to be embedded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.errors import QuotaExhausted
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Vector

Reason = Literal["empty", "refused_by_scrubber", "too_long", "bad_answer", "refused_by_provider", "quota"]
REASONS: Mapping[Reason, str] = {
    "empty": "the text is empty, so there is nothing to embed",
    "refused_by_scrubber": "the scrubber refuses the text, so it was not embedded",
    "too_long": "the text is longer than the provider takes, and EMBEDDING_LONG_TEXTS=refuse",
    "bad_answer": "the provider has no usable vector for the text; it is among the dead letters",
    "refused_by_provider": "the provider refuses the text; it is among the dead letters",
    "quota": "the day's provider calls are used up; it waits for the next day",
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


Result = EmbeddedText | NotEmbedded


@dataclass(frozen=True)
class Outcome:
    """What became of a batch.

    Attributes:
        results: in the order of the texts.
        exhausted: whose quota, and until when, where texts wait for it.
    """

    results: list[Result]
    exhausted: QuotaExhausted | None = None
