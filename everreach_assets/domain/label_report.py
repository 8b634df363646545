"""How good labels are, on a platform's own posts: their shares over its accounts, and whether they are stable.

A good rule calls about as many posts of each account viral, whatever the account's size and spread, and says the same
when some observations are missing. Two common rules are measured beside it: a fixed number of views, and three times
the median. What does not belong here: where posts come from (`resources/outcomes.py`), how figures are shown.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from everreach_assets.domain.label_references import MINIMUM_OF_PARENT
from everreach_assets.domain.label_rules import INTERACTIONS, PlatformRules
from everreach_assets.domain.outcomes import LABELS, Classification, ObservedPost, classify

FIXED_VIEWS = 100_000.0
FIXED_INTERACTIONS = 5_000.0
"""Where no reach is reported: five reactions for a hundred views."""
FIXED_MULTIPLE = 3.0
DROPPED_SHARE = 0.2
SEED = 20260630

OURS, FIXED_RULE, MULTIPLE_RULE = "viral", "fixed threshold", "3 x median"


@dataclass(frozen=True)
class Shares:
    """The share of a label, or of what a rule calls viral: of all posts, and the p5 and p95 over accounts."""

    overall: float
    p5: float
    p95: float


@dataclass(frozen=True)
class LabelReport:
    """The figures of one platform.

    Attributes:
        posts: that have snapshots; `compared` those that could be compared.
        accounts: with at least 20 compared posts, over which the spreads are.
        shares: of each label among the compared posts, and of insufficient_data among all.
        rules: what each rule calls viral, of the compared posts.
        borderline: share of the compared posts.
        same_label: share of the posts that keep their label when a random fifth of the snapshots is dropped; of those
            that have a snapshot left.
        same_viral: by rule, the share of them that stays viral or stays not viral. A fixed threshold changes its mind
            too, where the latest snapshot is dropped and the one before lies below it.
    """

    posts: int
    compared: int
    accounts: int
    shares: Mapping[str, Shares]
    rules: Mapping[str, Shares]
    borderline: float
    same_label: float
    same_viral: Mapping[str, float]


def report(posts: Sequence[ObservedPost], rules: PlatformRules, *, seed: int = SEED) -> LabelReport:
    """Label the posts, and label them again with a fifth of their snapshots gone."""
    labels = {each.post_id: each for each in classify(posts, rules)}
    accounts = {post.post_id: post.account for post in posts}
    compared = [each for each in labels.values() if each.score is not None]
    of_account: dict[str, list[Classification]] = defaultdict(list)
    for each in compared:
        of_account[accounts[each.post_id]].append(each)
    large = [each for each in of_account.values() if len(each) >= MINIMUM_OF_PARENT]
    again = {each.post_id: each for each in classify(without_a_fifth(posts, seed), rules)}
    both = [(labels[each.post_id], each) for each in again.values()]
    viral = {name: [(is_viral(name, one), is_viral(name, other)) for one, other in both] for name in _RULES}
    undecided = sum(each.label == "insufficient_data" for each in labels.values())
    shares: dict[str, Shares] = {
        label: _shares([[each.label == label for each in group] for group in (compared, *large)])
        for label in LABELS[:-1]
    }
    return LabelReport(
        posts=len(labels),
        compared=len(compared),
        accounts=len(large),
        shares=shares | {LABELS[-1]: Shares(undecided / max(1, len(labels)), 0.0, 0.0)},
        rules={
            name: _shares([[is_viral(name, each) for each in group] for group in (compared, *large)]) for name in _RULES
        },
        borderline=_share([each.is_borderline for each in compared]),
        same_label=_share([one.label == other.label for one, other in both]),
        same_viral={name: _share([one == other for one, other in pairs]) for name, pairs in viral.items()},
    )


_RULES = (OURS, FIXED_RULE, MULTIPLE_RULE)


def is_viral(rule: str, post: Classification) -> bool:
    """Whether the rule calls the post viral."""
    if rule == OURS:
        return post.label == "viral"
    if rule == MULTIPLE_RULE:
        return post.multiple is not None and post.multiple >= FIXED_MULTIPLE
    threshold = FIXED_INTERACTIONS if post.metric == INTERACTIONS else FIXED_VIEWS
    return post.value is not None and post.value >= threshold


def without_a_fifth(posts: Sequence[ObservedPost], seed: int) -> list[ObservedPost]:
    """The posts with a random fifth of their snapshots gone, and without those that had no other."""
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    left = []
    for post in sorted(posts, key=lambda each: each.post_id):
        snapshots = [*post.earlier, (post.age_seconds, post.metrics)]
        kept = [each for each in snapshots if draw.random() >= DROPPED_SHARE]
        if kept:
            age, metrics = kept[-1]
            left.append(replace(post, age_seconds=age, metrics=metrics, earlier=tuple(kept[:-1])))
    return left


def _shares(groups: Sequence[Sequence[bool]]) -> Shares:
    """Of the first group the share; over the others the p5 and p95 of theirs, 0 where there are none."""
    whole, *others = map(_share, groups)
    p5, p95 = np.percentile(others, [5, 95]) if others else (0.0, 0.0)
    return Shares(whole, float(p5), float(p95))


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 0.0
