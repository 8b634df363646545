"""Labelled outcomes in which questions do better, and others in which nothing is left to learn."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from everreach_assets.domain.labelled_outcomes import LabelledOutcome

START = dt.datetime(2026, 1, 5, 8, tzinfo=dt.UTC)
SUBJECTS = ("bread", "rice", "soup", "beans", "cake", "tea")


def planted_outcomes(count: int, *, effect: float = 2.0, seed: int = 7) -> list[LabelledOutcome]:
    """Posts in the order of their publication, six hours apart, of two accounts; one in three asks a question.

    Args:
        effect: what a question adds to the score, in standard deviations of the noise.
    """
    random = np.random.default_rng(seed)
    return [_outcome(random, number, effect) for number in range(count)]


def shuffled(outcomes: Sequence[LabelledOutcome], seed: int | Sequence[int]) -> list[LabelledOutcome]:
    """The same posts with one another's labels."""
    order = np.random.default_rng(seed).permutation(len(outcomes))
    return [
        replace(
            each,
            label=other.label,
            score=other.score,
            value=other.value,
            spread=other.spread,
            confidence=other.confidence,
        )
        for each, other in zip(outcomes, (outcomes[index] for index in order), strict=True)
    ]


def shuffled_within_accounts(outcomes: Sequence[LabelledOutcome], seed: int) -> list[LabelledOutcome]:
    """The same posts, each with what another of its account got."""
    accounts = sorted({each.account for each in outcomes})
    return [
        mixed
        for number, name in enumerate(accounts)  # of its own order each: equal ones would mix them in step
        for mixed in shuffled([each for each in outcomes if each.account == name], [seed, number])
    ]


def _outcome(random: np.random.Generator, number: int, effect: float) -> LabelledOutcome:
    is_question = random.random() < 1 / 3
    subject, other = random.choice(SUBJECTS, 2, replace=False)
    score = float(random.normal()) + (effect if is_question else 0.0) - effect / 3
    return LabelledOutcome(
        doc_id=f"x:{number:05d}",
        account=("anna", "ben")[int(random.integers(2))],
        post_type=("text", "image")[int(random.integers(2))],
        niche="cooking",
        text=f"Why {subject} with {other}?" if is_question else f"We make {subject} with {other}.",
        published_at=START + dt.timedelta(hours=6 * number),
        label="hit" if score >= 1 else "average",
        metric="views",
        value=round(1_000 * float(np.exp(score * 0.5))),
        score=score,
        spread=0.5,
    )
