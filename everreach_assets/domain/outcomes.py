"""How a post did: its label, from its latest snapshot against the posts that its account published before it.

A post's metric is compared in log space with earlier posts as they were at the same age (`label_references.py`):

    y = ln(1 + metric)      z = (y - centre) / spread      multiple = metric / max(e^centre - 1, 1)

A label needs both, a z and a multiple: fixed multiples alone call 3 % or 23 % of an account's posts viral, by nothing
but its spread (docs/outcomes.md). Only earlier posts count, so posts that come later change no label.
What does not belong here: where snapshots come from and where labels go (`resources/outcomes.py`), which metric
(`label_rules.py`), which accounts are looked at again (`label_changes.py`).
"""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from everreach_assets.domain.label_anchors import Anchors, quarter_of
from everreach_assets.domain.label_confidence import Floats, resampled
from everreach_assets.domain.label_references import (
    MINIMUM_OF_ACCOUNT,
    MINIMUM_OF_PARENT,
    SMALLEST_SPREAD,
    Place,
    Reference,
    References,
)
from everreach_assets.domain.label_rules import PlatformRules

__all__ = ["CLASSIFIER_VERSION", "LABELS", "SMALLEST_SPREAD", "Classification", "Label", "ObservedPost", "classify"]

CLASSIFIER_VERSION = "2"

Label = Literal["viral", "hit", "average", "underperform", "flop", "insufficient_data"]
LABELS: tuple[Label, ...] = get_args(Label)

BORDERLINE = 0.7
"""A label that fewer resamples share is borderline."""

LARGEST_CORRECTION = 0.1
NET_METRICS = frozenset({"score", "followers"})
"""What may fall: votes against are taken off, followers leave."""


@dataclass(frozen=True)
class ObservedPost:
    """A post with its latest snapshot, and those before it.

    Attributes:
        at: when it was published, in seconds since 1970; when it was first seen where that is unknown.
        metrics: known counts by canonical name; an unknown count is a missing key.
        age_seconds: of the post at that snapshot; None where its publication is unknown.
        earlier: age and counts of the snapshots before, oldest first; of several of one time, the one recorded last.
    """

    post_id: str
    account: str
    post_type: str
    at: float
    snapshot_seq: int
    metrics: Mapping[str, float]
    age_seconds: float | None = None
    niche: str = ""
    earlier: tuple[tuple[float | None, Mapping[str, float]], ...] = ()


@dataclass(frozen=True)
class Classification:
    """A post's label with what it was judged by.

    Attributes:
        metric: what was compared, `value` of it; None where the post reports nothing usable.
        checkpoint: the age at which it was compared; None where it was too young.
        is_final: whether its counts are taken as settled.
        same_age: whether the reference was observed at the same checkpoint; if not, at later ones.
        level: the narrowest level with enough posts: type, account, niche or platform.
        reference_posts: how many posts there are of it.
        score: robust z in log space; None without a reference.
        multiple: of the reference's typical post.
        spread: of the reference, in log space: score * spread is the distance from the centre.
        percentile: mid-rank among the posts of the level, 0 to 1.
        confidence: share of resamples of the reference that give the same label; below 0.7 it `is_borderline`.
        anchor_multiple: of the account's typical post of a year ago; None where there is none.
    """

    post_id: str
    snapshot_seq: int
    label: Label
    reason: str
    metric: str | None = None
    value: float | None = None
    checkpoint: str | None = None
    is_final: bool = False
    same_age: bool = False
    level: str | None = None
    reference_posts: int = 0
    score: float | None = None
    multiple: float | None = None
    spread: float | None = None
    percentile: float | None = None
    confidence: float | None = None
    is_borderline: bool = False
    anchor_multiple: float | None = None


@dataclass(frozen=True)
class Observation:
    """What a snapshot says by a platform's rules; without a value it says `fault` instead."""

    slot: int | None = None
    metric: str | None = None
    value: float | None = None
    fault: str = ""


@dataclass(frozen=True)
class JudgedPost:
    """A post with what its snapshots say: the latest of all, and the latest at each checkpoint."""

    post: ObservedPost
    latest: Observation
    by_slot: tuple[tuple[int, str, float], ...]

    @property
    def place(self) -> Place:
        return Place(self.post.account, self.post.post_type, self.post.niche, self.post.at)


def observe(post: ObservedPost, rules: PlatformRules) -> JudgedPost:
    """Read a post's snapshots by the rules.

    A count that has fallen by more than a tenth, and by more than ten, is unknown, because either of the two is wrong:
    what shrinks by less was corrected by the platform (likes withdrawn, views of robots).
    """
    highest: dict[str, float] = {}
    by_slot: dict[int, tuple[int, str, float]] = {}
    latest = Observation()
    for age, metrics in (*post.earlier, (post.age_seconds, post.metrics)):
        counts = rules.known(metrics)
        fallen = _fallen(counts, highest)
        highest |= {name: max(count, highest.get(name, 0.0)) for name, count in counts.items()}
        latest = _observation(counts, fallen, age, rules)
        if latest.slot is not None and latest.metric is not None and latest.value is not None:
            by_slot[latest.slot] = (latest.slot, latest.metric, math.log1p(latest.value))
    return JudgedPost(post, latest, tuple(by_slot.values()))


def _fallen(counts: Mapping[str, float], highest: Mapping[str, float]) -> set[str]:
    losses = {name: highest[name] - count for name, count in counts.items() if name in highest}
    return {
        name
        for name, loss in losses.items()
        if loss > max(10, LARGEST_CORRECTION * highest[name]) and name not in NET_METRICS
    }


def _observation(counts: Mapping[str, float], fallen: set[str], age: float | None, rules: PlatformRules) -> Observation:
    slot = rules.slot(age)
    primary = rules.primary(counts)
    if primary is None:
        return Observation(slot, fault="no usable metric is known")
    metric, value, parts = primary
    if wrong := sorted(fallen.intersection(parts)):
        return Observation(
            slot,
            metric,
            fault=f"{', '.join(wrong)} fell since an earlier observation, so one of the two is wrong: record the right"
            " count with the time of the wrong one",
        )
    if slot is None:
        before = age is not None and age < 0
        return Observation(
            None, metric, fault="observed before it was published" if before else "observed within an hour: too young"
        )
    return Observation(slot, metric, value)


def classify(posts: Iterable[ObservedPost], rules: PlatformRules | None = None) -> list[Classification]:
    """Label the posts of one platform; the same posts give the same labels, in any order."""
    rules = rules or PlatformRules()
    references = References()
    labelled = []
    for judged in in_order(posts, rules):
        labelled.append(label_post(judged, reference_of(judged, references), rules))
        remember(judged, references)
    return labelled


def in_order(posts: Iterable[ObservedPost], rules: PlatformRules) -> list[JudgedPost]:
    """The posts by their publication, each with what its snapshots say."""
    return [observe(post, rules) for post in sorted(posts, key=lambda each: (each.at, each.post_id))]


def reference_of(judged: JudgedPost, references: References) -> Reference | None:
    """What the post is compared with; None where there is nothing to compare, or too little to compare with."""
    latest = judged.latest
    if latest.value is None or latest.slot is None or latest.metric is None:
        return None
    return references.of(judged.place, latest.metric, latest.slot)


def remember(judged: JudgedPost, references: References) -> None:
    """Let the post count for those that were published after it, unless its latest observation says nothing."""
    latest = judged.latest
    if latest.value is not None and latest.slot is not None and latest.metric is not None:
        references.add(judged.place, (latest.slot, latest.metric, math.log1p(latest.value)), judged.by_slot)


def label_post(
    judged: JudgedPost, reference: Reference | None, rules: PlatformRules, anchors: Anchors | None = None
) -> Classification:
    """The post's label against that reference."""
    post, latest = judged.post, judged.latest
    checkpoint = None if latest.slot is None else rules.checkpoints[latest.slot]
    unlabelled = Classification(
        post_id=post.post_id,
        snapshot_seq=post.snapshot_seq,
        label="insufficient_data",
        reason=latest.fault,
        metric=latest.metric,
        value=latest.value,
        checkpoint=checkpoint,
        is_final=checkpoint == rules.final_at,
    )
    if latest.value is None or latest.metric is None:
        return unlabelled
    if reference is None:
        return replace(
            unlabelled,
            reason=f"fewer than {MINIMUM_OF_ACCOUNT} earlier posts of the account and {MINIMUM_OF_PARENT} of the"
            " platform",
        )
    found = _compared(latest.metric, latest.value, reference, rules, seed_from=post.post_id)
    if not reference.same_age and not unlabelled.is_final and found.label not in ("viral", "hit"):
        # Against posts that had more time, a young one is as good as its label or better: only the best are sure.
        return replace(unlabelled, reason=f"no posts to compare with at its age, {checkpoint}")
    anchor = (anchors or {}).get((post.account, latest.metric, quarter_of(post.at)))
    return replace(
        unlabelled,
        label=found.label,
        reason=_reason(post, latest.metric, found, reference, checkpoint or ""),
        same_age=reference.same_age,
        level=reference.level,
        reference_posts=len(reference.logs),
        score=found.score,
        multiple=found.multiple,
        spread=found.spread,
        percentile=_mid_rank(reference.logs, math.log1p(latest.value)),
        confidence=found.confidence,
        is_borderline=found.confidence < BORDERLINE,
        anchor_multiple=None if anchor is None else latest.value / max(math.expm1(anchor), 1.0),
    )


@dataclass(frozen=True)
class _Comparison:
    """A value beside a reference; the attributes are those of a `Classification`."""

    label: Label
    score: float
    multiple: float
    spread: float
    confidence: float


def _compared(metric: str, value: float, reference: Reference, rules: PlatformRules, *, seed_from: str) -> _Comparison:
    centres, spreads = resampled(reference, seed_from)
    # Rounded before they are judged: through the logarithm and back, 150 is 1.4999999999999998 times 100.
    typical: Floats = np.expm1(centres)
    scores = np.round((math.log1p(value) - centres) / spreads, 6)
    multiples = np.round(value / np.maximum(typical, 1.0), 6)
    codes = label_codes(scores, multiples, np.round(typical, 6), is_above_floor=value >= rules.floor(metric))
    return _Comparison(
        label=_CODES[codes[0]],
        score=float(scores[0]),
        multiple=float(multiples[0]),
        spread=round(float(spreads[0]), 6),
        confidence=float(np.mean(codes[1:] == codes[0])),
    )


def _mid_rank(logs: Sequence[float], log: float) -> float:
    """The share of sorted values below, and half of those that are equal."""
    return (bisect.bisect_left(logs, log) + bisect.bisect_right(logs, log)) / 2 / len(logs)


def _reason(post: ObservedPost, metric: str, found: _Comparison, reference: Reference, checkpoint: str) -> str:
    whose = {
        "type": f"earlier {post.post_type or 'untyped'} posts of the account",
        "account": "earlier posts of the account",
        "niche": "earlier posts of the niche",
        "platform": "earlier posts of the platform",
    }[reference.level]
    age = checkpoint if reference.same_age else f"{checkpoint} and later"
    pooled = ", pooled with other accounts" if reference.is_pooled else ""
    return (
        f"{found.multiple:.2f} times the typical {metric} of {len(reference.logs)} {whose} at {age}{pooled}"
        f" (z {found.score:+.2f})"
    )


_CODES: tuple[Label, ...] = ("average", "viral", "hit", "flop", "underperform")


def label_codes(scores: Floats, multiples: Floats, typical: Floats, *, is_above_floor: bool) -> np.ndarray:
    """Numbers of labels in `_CODES`; the last line that holds decides.

    Where the typical post has nothing, nothing is no flop.
    """
    has_typical = typical >= 1
    codes = np.where((scores <= -0.67) & has_typical, 4, 0)
    codes[(scores <= -1.28) & (multiples <= 0.5) & has_typical] = 3
    codes[(scores >= 1.0) & (multiples >= 1.5)] = 2
    if is_above_floor:
        codes[(scores >= 2.0) & (multiples >= 3.0)] = 1
    return codes
