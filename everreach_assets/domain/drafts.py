"""What a draft may be expected to get, before it is published, and why.

What belongs here: from a fitted model and the claims in force to an answer in words and numbers. What does not: the
model (`standing_model.py`), reading it and the claims from the database, scrubbing the text.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.standing_model import StandingModel
from everreach_assets.domain.strategy_model import Claim, Interval, Part, Share, Topic
from everreach_assets.domain.traits import Trait, claim_id, traits_of

RECENT_POSTS = 20
"""What an account is said to have got lately."""
SIMILAR_POSTS = 3
"""As many as somebody opens before publishing."""
LEAST_SIMILARITY = 0.2
"""What is spelled less alike has only common pieces of words in common."""
NOT_COMPARED = "its topic is not known: there are no vectors to compare"


@dataclass(frozen=True)
class Draft:
    """A post that is not published yet, with its scrubbed text.

    Attributes:
        post_type: as the platform calls it; empty where it is not decided.
        published_at: when it will be, in UTC; None where it is not decided.
    """

    text: str
    account: str
    post_type: str = ""
    published_at: dt.datetime | None = None


class SimilarPost(Part):
    """A published post that is spelled like the draft.

    Attributes:
        similarity: cosine, in the space of the local provider.
        multiple: of what its account's posts usually got.
    """

    doc_id: str
    similarity: float
    multiple: float


class DraftScore(Part):
    """What a draft may be expected to get.

    Attributes:
        expected_score: robust z against the account's posts; 0 is what they usually get.
        expected_multiple: the same as a factor of what they usually get.
        interval: of the multiple; four of five posts come to lie in it (docs/strategies.md says how many did).
        success_probability: that it becomes a hit or viral.
        typical: what the account's posts usually get, of `metric`; None where nothing of the account is known.
        reasons: in sentences, the weightiest first.
        claims: ids of the claims that the draft matches.
    """

    expected_score: float
    expected_multiple: float
    interval: Interval
    success_probability: Share
    typical: float | None
    metric: str
    reasons: list[str]
    claims: list[str]
    similar_posts: list[SimilarPost]


def matching(draft: Draft, platform: str, claims: Sequence[Claim], topic: Topic | None = None) -> list[Claim]:
    """The rules and hypotheses whose trait the draft has, in their order; not those that a stronger one explains.

    Args:
        topic: that the draft belongs to; None where that is not known.
    """
    traits = traits_of(draft.text, draft.post_type, draft.published_at)
    if topic is not None:
        traits.append(Trait("topic", topic.topic_id))
    ids = {claim_id(platform, each) for each in traits}
    return [each for each in claims if each.claim_id in ids and each.evidence != "explore" and not each.explained_by]


def topic_reason(topic: Topic | None) -> str:
    """What is said of the draft's topic, where it could be compared."""
    if topic is None:
        return "none of the topics is near"
    named = f'"{", ".join(topic.terms)}"' if topic.terms else "one without typical terms"
    return f"of the topics, {named} is nearest ({topic.posts} posts)"


def score(
    draft: Draft, model: StandingModel, claims: Sequence[Claim] = (), further_reasons: Sequence[str] = ()
) -> DraftScore:
    """What the draft may be expected to get, with its reasons.

    Args:
        model: of the draft's platform.
        claims: of the strategy in force, those whose trait the draft has.
        further_reasons: that follow those of the claims, the account and similar posts.
    """
    foreseen = model.predict([draft])
    expected = float(foreseen.score[0])
    ours = [each for each in model.outcomes if each.account == draft.account]
    latest = (ours or model.outcomes)[-RECENT_POSTS:]
    spread = median(each.spread for each in latest)
    similar = [
        SimilarPost(
            doc_id=each.doc_id, similarity=round(cosine, 3), multiple=round(_multiple(each.score, each.spread), 2)
        )
        for each, cosine in model.similar(draft, SIMILAR_POSTS)
        if cosine >= LEAST_SIMILARITY
    ]
    return DraftScore(
        expected_score=round(expected, 3),
        expected_multiple=round(_multiple(expected, spread), 3),
        interval=(
            round(_multiple(float(foreseen.low[0]), spread), 3),
            round(_multiple(float(foreseen.high[0]), spread), 3),
        ),
        success_probability=round(float(foreseen.success_probability[0]), 4),
        typical=round(_typical(ours[-1]), 1) if ours else None,
        metric=latest[-1].metric,
        reasons=[
            *map(_claim_reason, claims),
            *_account_reasons(draft, ours, model),
            *_similar_reasons(similar),
            *further_reasons,
        ],
        claims=[each.claim_id for each in claims],
        similar_posts=similar,
    )


def _multiple(score: float, spread: float) -> float:
    return math.exp(score * spread)


def _typical(post: LabelledOutcome) -> float:
    """What the post was compared with: `score * spread` is how far ln(1 + value) lies above it."""
    return max(0.0, math.expm1(math.log1p(post.value) - post.score * post.spread))


def _claim_reason(claim: Claim) -> str:
    low, high = map(math.exp, claim.interval)
    return f"{claim.evidence}: {claim.trait}: {claim.ratio:.2f} times the others [{low:.2f}, {high:.2f}], n = {claim.n}"


def _account_reasons(draft: Draft, ours: Sequence[LabelledOutcome], model: StandingModel) -> list[str]:
    if not ours:
        return [f"nothing is known of this account: judged by the platform's {len(model.outcomes)} posts"]
    recent = ours[-RECENT_POSTS:]
    multiple = median(_multiple(each.score, each.spread) for each in recent)
    reasons = [f"the account's last {len(recent)} posts got {multiple:.2f} times what they were compared with (median)"]
    if draft.post_type and all(each.post_type != draft.post_type for each in ours):
        reasons.append("the account has no post of this type yet")
    return reasons


def _similar_reasons(similar: Sequence[SimilarPost]) -> list[str]:
    if not similar:
        return []
    multiple = median(each.multiple for each in similar)
    return [f"the {len(similar)} posts that are most like it got {multiple:.2f} times (median)"]
