"""Which accounts have to be judged again: a fingerprint of everything that an account's labels follow from.

What belongs here: the walk over a platform's posts that judges only where a fingerprint is another one than before.
What does not: the judgement (`outcomes.py`), where fingerprints are kept (`resources/label_states.py`).
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from everreach_assets.domain.label_anchors import AnchorKey, Anchors, new_anchors
from everreach_assets.domain.label_references import Reference, References
from everreach_assets.domain.label_rules import PlatformRules
from everreach_assets.domain.outcomes import (
    Classification,
    JudgedPost,
    ObservedPost,
    in_order,
    label_post,
    reference_of,
    remember,
)


@dataclass(frozen=True)
class Changes:
    """What a walk over a platform's posts found.

    Attributes:
        classifications: of the posts that were judged.
        fingerprints: of every account.
        judged_accounts: whose fingerprint is another one than before.
        anchors: to be frozen, with the number of posts that each is the median of.
    """

    classifications: Sequence[Classification]
    fingerprints: Mapping[str, str]
    judged_accounts: int
    anchors: Mapping[AnchorKey, tuple[float, int]]


def classify_changed(
    posts: Iterable[ObservedPost],
    rules: PlatformRules,
    rules_key: str,
    *,
    fingerprints: Mapping[str, str],
    frozen: Anchors,
) -> Changes:
    """Judge the posts of the accounts whose fingerprint has changed; the result is that of judging all.

    An account's fingerprint has two parts: its own posts and snapshots with the rules, and what its posts took from
    other accounts. Where only the second changed, only the posts that took something are judged.
    """
    ordered = in_order(posts, rules)
    own = _own_fingerprints(ordered, rules_key)
    anchors = new_anchors(_settled(ordered, rules), frozen)
    known = {**frozen, **{key: median for key, (median, _) in anchors.items()}}
    is_changed = {account: fingerprints.get(account, "")[: len(own[account])] != own[account] for account in own}
    others = {account: hashlib.blake2b(digest_size=16) for account in own}
    classifications: dict[str, list[Classification]] = defaultdict(list)
    waiting: dict[str, list[tuple[JudgedPost, Reference | None]]] = defaultdict(list)
    references = References()
    for each in ordered:
        account, latest = each.post.account, each.latest
        by_itself = (
            latest.value is None
            or latest.slot is None
            or latest.metric is None
            or references.is_by_itself(each.place, latest.metric, latest.slot)
        )
        if is_changed[account] or not by_itself:
            reference = reference_of(each, references)
            if not by_itself:
                others[account].update(repr(reference).encode())
            if is_changed[account]:
                classifications[account].append(label_post(each, reference, rules, known))
            else:
                waiting[account].append((each, reference))
        remember(each, references)
    current = {account: own[account] + others[account].hexdigest() for account in own}
    for account, held in waiting.items():
        if current[account] != fingerprints[account]:
            classifications[account] = [label_post(each, reference, rules, known) for each, reference in held]
    return Changes(
        [each for judged in classifications.values() for each in judged],
        current,
        sum(current[account] != fingerprints.get(account) for account in current),
        anchors,
    )


def _own_fingerprints(ordered: Sequence[JudgedPost], rules_key: str) -> dict[str, str]:
    digests = {each.post.account: hashlib.blake2b(rules_key.encode(), digest_size=16) for each in ordered}
    for each in ordered:
        digests[each.post.account].update(
            repr((each.place, each.post.snapshot_seq, each.latest, each.by_slot)).encode()
        )
        digests[each.post.account].update(each.post.post_id.encode())
    return {account: digest.hexdigest() for account, digest in digests.items()}


def _settled(ordered: Iterable[JudgedPost], rules: PlatformRules) -> Iterable[tuple[str, str, float, float]]:
    final = len(rules.checkpoints) - 1
    for each in ordered:
        latest = each.latest
        if latest.slot == final and latest.metric is not None and latest.value is not None:
            yield each.post.account, latest.metric, each.post.at, math.log1p(latest.value)
