"""What to publish next: shares that add up, the floor for what is not known, the cap, and the seed."""

import dataclasses
import math

import numpy as np
import pytest

from everreach_assets.domain.claims import Finding, claim_of, compare_all
from everreach_assets.domain.recommendations import EXPLORED, MOST_OF_ONE, Advice, posterior, recommend
from everreach_assets.domain.sample import PATTERNS
from everreach_assets.domain.strategy_model import Claim, ClaimKind, Evidence
from everreach_assets.domain.traits import Trait
from tests.labelled_sample import posts_with, sample_strategy


def arm(name: str, effect: float, evidence: Evidence = "rule", kind: ClaimKind = "hook", count: int = 40) -> tuple[
    Finding, Claim
]:  # fmt: skip
    """A finding on 200 posts, `count` of which have the trait and this effect."""
    members = np.arange(200) < count
    noise = np.random.default_rng(1).normal(0, 0.5, 200)
    for side in (members, ~members):
        noise[side] -= noise[side].mean()
    posts = posts_with(noise + effect * members)
    (comparison,) = compare_all(posts, {Trait(kind, name): members})
    finding = Finding(comparison, evidence, comparison.interval())
    return finding, claim_of(finding, "x", posts, np.zeros((200, 1), dtype=np.float32), [])


def advice(*arms: tuple[Finding, Claim], seed: int = 0) -> Advice:
    return recommend([finding for finding, _ in arms], [claim for _, claim in arms], seed=seed)


def test_the_posterior_is_normal_normal_with_a_prior_of_three_posts() -> None:
    finding, _ = arm("a", 0.86, count=40)
    mean, deviation = posterior(finding)
    assert mean == pytest.approx(0.86 * 40 / 43)
    assert deviation == pytest.approx(math.sqrt(finding.comparison.others.variance / 43))


def test_the_better_of_two_hooks_gets_more_and_neither_more_than_half() -> None:
    found = advice(arm("good", 0.6), arm("better", 0.7))
    shares = {each.trait: each.propensity for each in found.do_more}
    assert list(shares) == ["better", "good"]
    assert 0 < shares["good"] < shares["better"] <= MOST_OF_ONE
    assert sum(shares.values()) <= 1 - EXPLORED + 1e-9


def test_a_format_and_a_slot_do_not_take_from_each_other() -> None:
    found = advice(arm("a", 2.0, kind="format"), arm("b", 3.0, kind="slot"))
    assert [each.propensity for each in found.do_more] == [MOST_OF_ONE, MOST_OF_ONE]


def test_what_is_hardly_better_than_usual_gets_less_than_what_surely_is() -> None:
    (weak,) = advice(arm("a", 0.02, "hypothesis")).do_more
    (sure,) = advice(arm("a", 2.0)).do_more
    assert 0.3 < weak.propensity < sure.propensity == MOST_OF_ONE


def test_a_fifth_is_kept_for_what_is_not_known_however_sure_the_rest_is() -> None:
    found = advice(arm("sure", 3.0), arm("new", 0.3, "explore", count=3), arm("newer", 0.3, "explore", count=2))
    assert sum(each.propensity for each in found.try_next) == pytest.approx(EXPLORED)
    assert all(each.propensity > 0.05 for each in found.try_next)


def test_what_does_worse_keeps_the_share_that_may_be_a_mistake() -> None:
    likely, unlikely = (advice(arm("a", effect, "hypothesis")).do_less[0] for effect in (-0.02, -1.0))
    assert 0 <= unlikely.propensity < 0.001 < likely.propensity < 0.1  # a fifth of the posts have it, at even odds


def test_what_another_claim_explains_is_not_advised() -> None:
    finding, claim = arm("a", 1.0)
    explained = claim.model_copy(update={"explained_by": "x-hook-other"})
    assert recommend([finding], [explained], seed=0) == Advice([], [], [])


def test_the_seed_alone_decides_the_draws() -> None:
    arms = (arm("good", 0.60), arm("better", 0.62))
    assert advice(*arms) == advice(*arms)
    assert advice(*arms) != advice(*arms, seed=1)


@pytest.mark.parametrize("platform", sorted(PATTERNS))
def test_within_each_kind_the_shares_of_the_sample_leave_something_free(platform: str) -> None:
    strategy = sample_strategy(platform)
    kinds = {claim.claim_id: claim.kind for claim in strategy.claims}
    for kind in set(kinds.values()):
        advised = [each for each in strategy.do_more + strategy.try_next if kinds[each.claim_id] == kind]
        assert sum(each.propensity for each in advised) < 1
        assert all(0 <= each.propensity <= MOST_OF_ONE for each in advised)


def test_no_claims_are_no_advice() -> None:
    assert recommend([], [], seed=0) == Advice([], [], [])


def test_constants_are_no_trouble() -> None:
    finding, claim = arm("a", 1.0)
    still = dataclasses.replace(finding.comparison.others, variance=0.0)
    finding = dataclasses.replace(finding, comparison=dataclasses.replace(finding.comparison, others=still))
    assert recommend([finding], [claim], seed=0).do_more[0].propensity == MOST_OF_ONE
