"""What to publish next, and how often: Thompson sampling over the claims, with a floor for what is not known yet.

What belongs here: from claims to shares of the next posts. What does not: the claims (`claims.py`). The shares are kept
as propensities: later outcomes follow our own advice, and only who knows how often a trait was advised can correct
for that. Formulas and their sources: docs/strategies.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from everreach_assets.domain.claims import Finding
from everreach_assets.domain.strategy_model import Claim, Recommendation

PRIOR_POSTS = 3.0
"""Kappa of the Normal-Normal posterior: an effect of three posts is halved."""
EXPLORED = 0.2
"""Share of the next posts that tries something else: advice that is always followed cannot be found wrong."""
MOST_OF_ONE = 0.5
DRAWS = 10_000
USUAL = (0.0, 0.0)
"""The arm of going on as before: what is worse than that is not advised."""


@dataclass(frozen=True)
class Advice:
    """The three lists; what `do_more` and `try_next` leave of one within a kind is free."""

    do_more: list[Recommendation]
    do_less: list[Recommendation]
    try_next: list[Recommendation]


def posterior(finding: Finding) -> tuple[float, float]:
    """Mean and standard deviation of the effect: Normal-Normal, the prior at no effect and worth three posts.

    The spread is that of the other posts, which are many where the trait's own are few.
    """
    each = finding.comparison
    n = each.ours.n_effective
    return each.effect * n / (n + PRIOR_POSTS), max(math.sqrt(each.others.variance / (n + PRIOR_POSTS)), 1e-9)


def recommend(findings: Sequence[Finding], claims: Sequence[Claim], *, seed: int) -> Advice:
    """Shares of the next posts for each claim that stands by itself; one that another explains is not advised.

    The arms are those of one kind at a time: a post has a format and a slot, so their shares do not compete.

    Args:
        findings: with their `claims`, in the same order.
        seed: of the draws; the same gives the same shares.
    """
    standing = [pair for pair in zip(findings, claims, strict=True) if not pair[1].explained_by]
    less = [(finding, claim) for finding, claim in standing if claim.direction == "less"]
    more, explored = [], []
    for kind in sorted({claim.kind for _, claim in standing}):
        arms = [pair for pair in standing if pair[1].kind == kind]
        more += _shares([pair for pair in arms if pair[1].direction == "more"], 1 - EXPLORED, [USUAL], seed)
        explored += _shares([pair for pair in arms if pair[1].direction == "try"], EXPLORED, [], seed)
    return Advice(
        do_more=sorted(more, key=_most_first),
        do_less=sorted((_recommendation(claim, _kept(finding)) for finding, claim in less), key=_most_first),
        try_next=sorted(explored, key=_most_first),
    )


def _shares(
    arms: Sequence[tuple[Finding, Claim]], total: float, others: Sequence[tuple[float, float]], seed: int
) -> list[Recommendation]:
    """Part of `total` by the probability to be the best of all arms (Thompson 1933), at most half of all posts."""
    if not arms:
        return []
    means, deviations = np.array([*(posterior(finding) for finding, _ in arms), *others]).T
    best = np.random.default_rng(seed).normal(means, deviations, (DRAWS, len(means))).argmax(axis=1)
    shares = total * np.bincount(best, minlength=len(means)) / DRAWS
    return [_recommendation(claim, min(share, MOST_OF_ONE)) for (_, claim), share in zip(arms, shares, strict=False)]


def _kept(finding: Finding) -> float:
    """What stays of a trait that does worse: its share of the posts, times the probability that it does not."""
    mean, deviation = posterior(finding)
    return float(finding.comparison.members.mean() * ndtr(mean / deviation))


def _recommendation(claim: Claim, propensity: float) -> Recommendation:
    return Recommendation(claim_id=claim.claim_id, trait=claim.trait, propensity=round(float(propensity), 4))


def _most_first(each: Recommendation) -> tuple[float, str]:
    return -each.propensity, each.claim_id
