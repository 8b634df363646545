"""Labelled outcomes for tests of strategies: the sample's, their vectors in the local space, and a search over them."""

import dataclasses
import datetime as dt
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.collections import OUTCOMES
from everreach_assets.domain.comparisons import Posts, posts_of
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.metrics import METRICS
from everreach_assets.domain.outcomes import Classification, Label, ObservedPost, classify
from everreach_assets.domain.sample import SEED, make_sample
from everreach_assets.domain.strategies import build_strategy
from everreach_assets.domain.strategy_model import Inputs, Strategy
from everreach_assets.domain.topics import Search
from resources.embedder import Embedder

Vectors = Mapping[str, npt.NDArray[np.float32]]

INPUTS = Inputs(
    snapshot_watermark=0, outcomes=0, matured=0, labels={}, builder_version="2", classifier_version="2", space_id=""
)

PLANTED = {
    "x": "published on a weekday, 08:00 to 12:00 UTC",
    "tiktok": "opens with a question",
    "youtube": "opens with a number",
    "linkedin": "opens with how to",
    "instagram": "opens with a story",
}
"""The trait that shows each platform's pattern."""


@functools.cache
def labelled_sample(seed: int, platform: str) -> tuple[LabelledOutcome, ...]:
    """The platform's posts of a sample, labelled by their last observation."""
    sample = make_sample(seed)
    posts = {str(row["post_id"]): row for row in sample.posts if row["platform"] == platform}
    latest = dict(posts)
    latest |= {str(row["post_id"]): row for row in sample.outcomes if row["platform"] == platform}
    published = {post_id: dt.datetime.fromisoformat(str(row["published_at"])) for post_id, row in posts.items()}
    labels = classify(
        ObservedPost(
            post_id,
            str(row["account"]),
            str(row["post_type"]),
            published[post_id].timestamp(),
            0,
            {name: float(str(value)) for name, value in latest[post_id].items() if name in METRICS},
        )
        for post_id, row in posts.items()
    )
    return tuple(
        LabelledOutcome(
            doc_id=f"{platform}:{each.post_id}",
            account=str(posts[each.post_id]["account"]),
            post_type=str(posts[each.post_id]["post_type"]),
            niche=str(posts[each.post_id]["niche"]),
            text=str(posts[each.post_id]["text"]),
            published_at=published[each.post_id],
            label=each.label,
            metric=each.metric or "",
            value=each.value or 0.0,
            score=each.score,
            spread=spread_of(each),
        )
        for each in labels
        if each.score is not None
    )


def plain_outcome(number: int, standing: float, **changes: object) -> LabelledOutcome:
    """An average post of ann without anything remarkable, with this standing."""
    plain = LabelledOutcome(
        doc_id=f"x:{number:03d}",
        account="ann",
        post_type="",
        niche="",
        text="",
        published_at=None,
        label="average",
        metric="views",
        value=1_000.0,
        score=standing,
        spread=1.0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def posts_with(standings: npt.NDArray[np.float64], groups: npt.NDArray[np.intp] | None = None) -> Posts:
    """Posts of accounts of their own, with exactly these standings."""
    outcomes = [plain_outcome(number, value, account=f"a{number}") for number, value in enumerate(standings)]
    posts = posts_of(outcomes, np.arange(len(standings)) if groups is None else groups)
    return dataclasses.replace(posts, standings=standings, in_account=standings)


def spread_of(label: Classification) -> float:
    """The spread of the reference, from the multiple and the score that it gave."""
    return math.log(max(label.multiple or 1.0, 1e-9)) / label.score if label.score else 1.0


@functools.cache
def sample_vectors(seed: int, platform: str) -> Vectors:
    return vectors_of(labelled_sample(seed, platform))


def vectors_of(outcomes: Sequence[LabelledOutcome]) -> Vectors:
    """Of the texts, in the space of the local provider."""
    found = Embedder().embed_many(OUTCOMES.name, [each.text for each in outcomes]).vectors
    return {
        each.doc_id: np.asarray(vector, dtype=np.float32)
        for each, vector in zip(outcomes, found, strict=True)
        if vector is not None
    }


def search_in(outcomes: Sequence[LabelledOutcome], vectors: Vectors) -> Search:
    """An exact search over the outcomes."""
    ordered = sorted(each.doc_id for each in outcomes if each.doc_id in vectors)
    label_of = {each.doc_id: each.label for each in outcomes}
    rows = np.array([vectors[doc_id] for doc_id in ordered])

    def search(query: npt.NDArray[np.float32], n: int, labels: Sequence[Label]) -> list[tuple[str, float]]:
        likeness = np.round(rows @ query, 6)
        nearest = (place for place in np.argsort(-likeness, kind="stable") if label_of[ordered[place]] in labels)
        return [(ordered[place], float(likeness[place])) for place, _ in zip(nearest, range(n), strict=False)]

    return search


def nothing_near(_: npt.NDArray[np.float32], __: int, ___: Sequence[Label]) -> list[tuple[str, float]]:
    """A search over nothing."""
    return []


@functools.cache
def sample_strategy(platform: str, seed: int = SEED) -> Strategy:
    outcomes, vectors = labelled_sample(seed, platform), sample_vectors(seed, platform)
    return build_strategy(platform, outcomes, vectors, search_in(outcomes, vectors), inputs=INPUTS)
