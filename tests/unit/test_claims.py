"""Claims: what is planted is found, what is not is not, overlaps are seen, and the posts to open are the right ones."""

import dataclasses
import datetime as dt
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from everreach_assets.domain.claims import MINIMUM_EFFECTIVE, Finding, claim_of, compare_all, find
from everreach_assets.domain.comparisons import Members, Posts
from everreach_assets.domain.sample import PATTERNS, SEED
from everreach_assets.domain.strategies import build_strategy
from everreach_assets.domain.strategy_model import Topic
from everreach_assets.domain.topics import Cluster
from everreach_assets.domain.traits import Trait
from tests.labelled_sample import INPUTS, labelled_sample, nothing_near, posts_with, search_in, vectors_of
from tests.planted import START, shuffled_within_accounts

ONE, OTHER, THIRD = Trait("hook", "one"), Trait("slot", "other"), Trait("hashtag", "#third")


def found(posts: Posts, traits: Mapping[Trait, Members]) -> dict[Trait, Finding]:
    return {each.comparison.trait: each for each in find(posts, compare_all(posts, traits), [])}


def first(count: int, of: int = 200) -> Members:
    return np.arange(of) < count


def noise(seed: int, count: int = 200) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 0.5, count)


def test_outcomes_drawn_by_chance_alone_hardly_ever_give_a_rule() -> None:
    """At 95 % for all comparisons together, 3 of 60 strategies may have a rule; more than 8 have a chance of 0.3 %."""
    with_rules = 0
    for platform in PATTERNS:
        for seed in range(12):
            outcomes = shuffled_within_accounts(labelled_sample(SEED, platform), seed)
            strategy = build_strategy(platform, outcomes, {}, nothing_near, inputs=INPUTS)
            with_rules += any(claim.evidence == "rule" for claim in strategy.claims)
    assert with_rules <= 8


def test_a_rule_passes_the_correction_for_all_comparisons_and_a_hypothesis_only_the_plain_interval() -> None:
    values = noise(1)
    random = np.random.default_rng(5)
    others = {Trait("hashtag", f"#{number}"): random.random(200) < 0.3 for number in range(40)}
    for shift in np.arange(0.0, 1.0, 0.01):
        posts = posts_with(values + shift * first(60))
        if (alone := found(posts, {ONE: first(60)})) and alone[ONE].evidence == "rule":
            break
    assert alone[ONE].interval[0] == pytest.approx(0, abs=0.02)
    among_others = found(posts, {ONE: first(60)} | others)
    assert among_others[ONE].evidence == "hypothesis"
    assert among_others[ONE].interval == alone[ONE].interval


def test_the_interval_of_a_rule_is_at_the_level_that_it_had_to_pass() -> None:
    """Holm's first of two comparisons is judged at 2.5 %, the second at 5 %."""
    values = noise(2) + 2.0 * first(60) - 1.0 * (np.arange(200) % 2)
    findings = found(posts_with(values), {ONE: first(60), OTHER: np.arange(200) % 2 == 1})
    assert {each.evidence for each in findings.values()} == {"rule"}
    for trait, level in ((ONE, 0.025), (OTHER, 0.05)):
        assert findings[trait].interval == findings[trait].comparison.interval(1 - level)


@pytest.mark.parametrize(("lift", "evidence"), [(2.0, "rule"), (None, "rule"), (0.5, "hypothesis")])
def test_a_topic_is_no_rule_where_the_search_near_its_centre_says_the_opposite(
    lift: float | None, evidence: str
) -> None:
    values = noise(1) + np.where(first(60), 1.0, 0.0)
    topic = Topic(topic_id="t", terms=["bread"], posts=60, standing=1.0, central_posts=["x:0"], x=0.0, y=0.0, lift=lift)
    posts = posts_with(values)
    compared = compare_all(posts, {Trait("topic", "t"): first(60)})
    (claimed,) = find(posts, compared, [Cluster(topic, first(60), [], [])])
    assert claimed.evidence == evidence


def test_a_trait_and_its_opposite_are_one_comparison() -> None:
    posts = posts_with(noise(3))
    compared = compare_all(posts, {ONE: first(60), OTHER: ~first(60), THIRD: first(60)})
    assert [each.trait for each in compared] == [ONE]


def test_a_trait_of_all_or_of_none_is_not_compared() -> None:
    assert compare_all(posts_with(noise(3)), {ONE: first(200), OTHER: first(0)}) == []


@pytest.mark.parametrize("count", [7, 193])
def test_fewer_than_eight_effective_posts_on_a_side_are_no_rule_however_large_the_effect(count: int) -> None:
    assert MINIMUM_EFFECTIVE == 8
    findings = found(posts_with(noise(4) + 9.0 * first(count)), {ONE: first(count)})
    assert {each.evidence for each in findings.values()} <= {"explore"}


@pytest.mark.parametrize(
    ("days", "days_of_others", "evidence"),
    [(1, 100, "hypothesis"), (4, 100, "hypothesis"), (5, 100, "rule"), (20, 5, "rule"), (20, 4, "hypothesis")],
)
def test_posts_of_few_days_on_either_side_are_no_rule(days: int, days_of_others: int, evidence: str) -> None:
    posts = posts_with(noise(4) + 2.0 * first(20))
    dated = [
        dataclasses.replace(
            each, published_at=START + dt.timedelta(days=place % (days if place < 20 else days_of_others))
        )
        for place, each in enumerate(posts.outcomes)
    ]
    findings = found(dataclasses.replace(posts, outcomes=dated), {ONE: first(20)})
    assert findings[ONE].evidence == evidence


def test_seven_reposts_and_a_post_are_two_posts_and_no_rule() -> None:
    groups = np.concatenate([np.zeros(7, dtype=np.intp), np.arange(1, 194)])
    findings = found(posts_with(noise(4) + 9.0 * first(8), groups), {ONE: first(8)})
    assert (findings[ONE].evidence, findings[ONE].comparison.ours.n) == ("explore", 2)


def test_of_traits_of_few_posts_those_that_did_well_are_to_be_explored() -> None:
    values = noise(6) + 1.0 * first(4) - 1.0 * (np.arange(200) >= 196)
    findings = found(posts_with(values), {ONE: first(4), OTHER: np.arange(200) >= 196, THIRD: first(1)})
    assert list(findings) == [ONE]  # the other did badly, the third is one post
    assert findings[ONE].direction == "try"


def test_a_claim_that_a_stronger_one_explains_is_no_rule_and_says_by_which() -> None:
    """Mornings do well only because most mornings have the hook that does."""
    hook = first(80)
    morning = hook | (np.random.default_rng(8).random(200) < 0.15)
    findings = found(posts_with(noise(7) + 1.5 * hook), {ONE: hook, OTHER: morning})
    assert (findings[ONE].evidence, findings[ONE].explained_by) == ("rule", None)
    assert (findings[OTHER].evidence, findings[OTHER].explained_by) == ("hypothesis", ONE)


def test_two_traits_that_both_work_are_two_rules() -> None:
    odd = np.arange(200) % 2 == 1
    findings = found(posts_with(noise(7) + 0.8 * first(80) + 0.8 * odd), {ONE: first(80), OTHER: odd})
    assert [each.evidence for each in findings.values()] == ["rule", "rule"]


def test_rules_come_first_then_hypotheses_then_what_is_to_be_explored_by_the_size_of_the_effect() -> None:
    random = np.random.default_rng(9)
    traits = {Trait("hashtag", f"#{number:02d}"): random.random(200) < share for number, share in
              enumerate(np.linspace(0.01, 0.5, 40))}  # fmt: skip
    values = noise(10) + sum(0.4 * members for members in list(traits.values())[::6])
    findings = find(posts_with(values), compare_all(posts_with(values), traits), [])
    order = [("rule", "hypothesis", "explore").index(each.evidence) for each in findings]
    assert order == sorted(order)
    assert len(set(order)) == 3
    for level in range(3):
        effects = [abs(each.comparison.effect) for each, its in zip(findings, order, strict=True) if its == level]
        assert effects == sorted(effects, reverse=True)


def test_the_posts_to_open_are_the_best_and_the_worst_that_differ() -> None:
    values = np.concatenate([[3.0, 2.9, 2.8, 2.2, 2.1, 0.6, 0.5, 0.4], noise(11, 40)])
    posts = posts_with(values)
    rows = np.zeros((48, 4), dtype=np.float32)
    rows[:3, 0] = 1.0  # the three best say nearly the same
    rows[3, 1], rows[4, 2] = 1.0, 1.0
    (finding,) = find(posts, compare_all(posts, {ONE: first(8, 48)}), [])
    claim = claim_of(finding, "x", posts, rows, [])
    assert claim.exemplars == ["x:000", "x:003", "x:004"]
    assert claim.counter_exemplars[0] == "x:007"
    assert not set(claim.exemplars) & set(claim.counter_exemplars)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_few_posts_none_is_an_example_of_both(count: int) -> None:
    posts = posts_with(noise(11) + 2.0 * first(count))
    (finding,) = find(posts, compare_all(posts, {ONE: first(count)}), [])
    claim = claim_of(finding, "x", posts, np.zeros((200, 1), dtype=np.float32), [])
    assert len(claim.exemplars) == len(claim.counter_exemplars) == count // 2
    assert not set(claim.exemplars) & set(claim.counter_exemplars)


@pytest.mark.parametrize("platform", PATTERNS)
def test_no_post_of_the_sample_is_cited_for_and_against_the_same_claim(platform: str) -> None:
    outcomes = labelled_sample(SEED, platform)
    claims = build_strategy(
        platform, outcomes, vectors_of(outcomes), search_in(outcomes, vectors_of(outcomes)), inputs=INPUTS
    ).claims
    assert any(each.kind == "topic" for each in claims)
    assert [each.trait for each in claims if set(each.exemplars) & set(each.counter_exemplars)] == []


def test_a_near_duplicate_is_no_second_example() -> None:
    values = np.concatenate([np.linspace(3.0, 2.0, 12), noise(11, 40)])
    posts = posts_with(values, np.array([0, 0, 0, *range(1, 50)]))
    (finding,) = find(posts, compare_all(posts, {ONE: first(12, 52)}), [])
    claim = claim_of(finding, "x", posts, np.zeros((52, 1), dtype=np.float32), [])
    assert claim.exemplars == ["x:000", "x:003", "x:004"]
