"""A post with its text and its label: what strategies, backtests and the scorer learn from.

What does not belong here: how a label is found (`outcomes.py`), what is learned from it (`strategies.py`,
`standing_model.py`), reading it from the database (`resources/strategies.py`).
"""

import datetime as dt
import math
from dataclasses import dataclass

from everreach_assets.domain.outcomes import Label

SUCCESSES: frozenset[Label] = frozenset({"viral", "hit"})
MOST_SPREADS = 3.0
"""A standing is clipped here: one viral post must not carry a claim by itself."""


@dataclass(frozen=True)
class LabelledOutcome:
    """A post that could be compared with others, with its scrubbed text.

    Attributes:
        doc_id: `platform:post_id`.
        published_at: in UTC; None where it is unknown.
        value: of `metric`, what the post was judged by.
        score: robust z of ln(1 + value) against the reference posts, which were published before it.
        spread: of the reference, in log space: `score * spread` is the log of the multiple of the reference's median.
        confidence: share of resamples of the reference that give the same label, 0 to 1.
        is_final: whether the post was observed at an age at which its counts are taken as settled.
    """

    doc_id: str
    account: str
    post_type: str
    niche: str
    text: str
    published_at: dt.datetime | None
    label: Label
    metric: str
    value: float
    score: float
    spread: float
    confidence: float = 1.0
    is_final: bool = True

    @property
    def standing(self) -> float:
        """How far the post lies above its account's typical post, in log space, clipped to three robust spreads."""
        return max(-MOST_SPREADS, min(MOST_SPREADS, self.score)) * self.spread

    @property
    def is_success(self) -> bool:
        """Whether it is a hit or viral."""
        return self.label in SUCCESSES

    @property
    def multiple(self) -> float:
        """The standing as a factor."""
        return math.exp(self.standing)
