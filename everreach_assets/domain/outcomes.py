"""How a post did: its label, from its latest snapshot against the posts that its account published before it.

The first, simple form. A post's metric is compared in log space with up to 100 earlier posts of the last 180 days, of
the same account and type where there are ten, else of the account, else (twenty) of the platform:

    y = ln(1 + metric)      z = (y - median) / max(1.4826 * MAD, 0.25)      multiple = metric / (e^median - 1)

A label needs both, a z and a multiple: fixed multiples alone call 3 % or 23 % of an account's posts viral, by nothing
but its spread (docs/outcomes.md). Only earlier posts count, so posts that come later change no label.
What does not belong here: where snapshots come from and where labels go (`resources/outcomes.py`).
"""

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

CLASSIFIER_VERSION = "1"

Label = Literal["viral", "hit", "average", "underperform", "flop", "insufficient_data"]

REACH_METRICS = ("views", "impressions", "reach", "plays")
"""The first of them that a post reports is what it is judged by: they count people, not their reactions."""

INTERACTION_WEIGHTS = {"likes": 1, "score": 1, "reactions": 1, "comments": 2, "shares": 3, "saves": 3, "clicks": 1}
"""Where no reach is reported: what costs a person more counts more. `reactions` hold the likes and replace them."""

INTERACTIONS = "interactions"
VIRAL_FLOOR = {INTERACTIONS: 50.0} | dict.fromkeys(REACH_METRICS, 1_000.0)
"""A tiny account's best day is no viral post."""

REFERENCE_POSTS = 100
REFERENCE_SECONDS = 180 * 86_400
MINIMUM_OF_ACCOUNT = 10
"""The median of ten posts has a one-sigma error of about 49 % at sigma 1: fewer say too little."""
MINIMUM_OF_PLATFORM = 20
SMALLEST_SPREAD = 0.25
"""In log space: below it, a steady account's every tenth like would be an event."""


@dataclass(frozen=True)
class ObservedPost:
    """A post with its latest snapshot.

    Attributes:
        at: when it was published, in seconds since 1970; when it was first seen where that is unknown.
        metrics: known counts by canonical name; an unknown count is a missing key.
    """

    post_id: str
    account: str
    post_type: str
    at: float
    snapshot_seq: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Classification:
    """A post's label with what it was judged by.

    Attributes:
        metric: what was compared, `value` of it; None where the post reports nothing usable.
        score: robust z in log space; None without a reference.
        multiple: of the reference's median.
        reference_posts: how many posts it was compared with.
    """

    post_id: str
    snapshot_seq: int
    label: Label
    reason: str
    metric: str | None = None
    value: float | None = None
    score: float | None = None
    multiple: float | None = None
    reference_posts: int = 0


def primary_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """What a post is judged by, and how much of it there is; None where it reports nothing usable."""
    for name in REACH_METRICS:
        if name in metrics:
            return name, float(metrics[name])
    weights = {name: weight for name, weight in INTERACTION_WEIGHTS.items() if name in metrics}
    if "reactions" in weights:
        weights.pop("likes", None)
    if not weights:
        return None
    return INTERACTIONS, float(sum(weight * metrics[name] for name, weight in weights.items()))


def classify(posts: Iterable[ObservedPost]) -> list[Classification]:
    """Label the posts of one platform; the same posts give the same labels, in any order."""
    histories: dict[tuple[str, ...], _History] = {}
    labelled = []
    for post in sorted(posts, key=lambda each: (each.at, each.post_id)):
        primary = primary_metric(post.metrics)
        if primary is None:
            labelled.append(
                Classification(post.post_id, post.snapshot_seq, "insufficient_data", "no usable metric is known")
            )
            continue
        metric, value = primary
        levels = (
            (f"earlier {post.post_type or 'untyped'} posts of the account", (metric, post.account, post.post_type)),
            ("earlier posts of the account", (metric, post.account)),
            ("earlier posts of the platform", (metric,)),
        )
        labelled.append(_judge(post, metric, value, histories, levels))
        for _, key in levels:
            histories.setdefault(key, _History()).append(post.at, math.log1p(value))
    return labelled


@dataclass
class _History:
    """Times and logged metrics of the posts of one level, oldest first."""

    times: list[float] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)

    def append(self, at: float, log: float) -> None:
        self.times.append(at)
        self.logs.append(log)

    def before(self, at: float) -> list[float]:
        first = max(bisect.bisect_left(self.times, at - REFERENCE_SECONDS), len(self.times) - REFERENCE_POSTS)
        return self.logs[first:]


def _judge(
    post: ObservedPost,
    metric: str,
    value: float,
    histories: Mapping[tuple[str, ...], _History],
    levels: Iterable[tuple[str, tuple[str, ...]]],
) -> Classification:
    for name, key in levels:
        minimum = MINIMUM_OF_PLATFORM if key == (metric,) else MINIMUM_OF_ACCOUNT
        history = histories.get(key)
        reference = history.before(post.at) if history else []
        if len(reference) >= minimum:
            return _compare(post, metric, value, np.array(reference), name)
    return Classification(
        post.post_id,
        post.snapshot_seq,
        "insufficient_data",
        f"fewer than {MINIMUM_OF_ACCOUNT} earlier posts of the account and {MINIMUM_OF_PLATFORM} of the platform",
        metric,
        value,
    )


def _compare(post: ObservedPost, metric: str, value: float, reference: np.ndarray, name: str) -> Classification:
    median = float(np.median(reference))
    spread = max(1.4826 * float(np.median(np.abs(reference - median))), SMALLEST_SPREAD)
    # Rounded before they are judged: through the logarithm and back, 150 is 1.4999999999999998 times 100.
    score = round((math.log1p(value) - median) / spread, 6)
    typical = math.expm1(median)
    multiple = round(value / max(typical, 1.0), 6)
    return Classification(
        post.post_id,
        post.snapshot_seq,
        _label(score, multiple, value, typical, VIRAL_FLOOR[metric]),
        f"{multiple:.2f} times the median {metric} of {len(reference)} {name} (z {score:+.2f})",
        metric,
        value,
        score,
        multiple,
        len(reference),
    )


def _label(score: float, multiple: float, value: float, typical: float, floor: float) -> Label:
    if score >= 2.0 and multiple >= 3.0 and value >= floor:
        return "viral"
    if score >= 1.0 and multiple >= 1.5:
        return "hit"
    # Where the typical post has nothing, nothing is no flop.
    if score <= -1.28 and multiple <= 0.5 and typical > 0:
        return "flop"
    if score <= -0.67 and typical > 0:
        return "underperform"
    return "average"
