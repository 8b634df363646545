"""A whole strategy: what the sample hides is found, what it does not hide is not, and the same gives the same."""

import dataclasses
import datetime as dt
from collections import Counter
from random import Random

import numpy as np
import pytest

from everreach_assets.domain.sample import NOISE_HASHTAG, PATTERNS, SEED
from everreach_assets.domain.strategies import build_strategy, considered
from everreach_assets.domain.strategy_model import Strategy
from everreach_assets.domain.traits import Trait, traits_of
from tests.labelled_sample import (
    INPUTS,
    PLANTED,
    labelled_sample,
    nothing_near,
    plain_outcome,
    sample_strategy,
    sample_vectors,
    search_in,
)


@pytest.mark.parametrize("seed", [SEED, 1, 2])
@pytest.mark.parametrize("platform", sorted(PLANTED))
def test_the_planted_pattern_is_a_rule_and_the_planted_noise_is_none(platform: str, seed: int) -> None:
    """`make bench-claims` counts it over many more."""
    strategy = sample_strategy(platform, seed)
    rules = {claim.trait: claim for claim in strategy.claims if claim.evidence == "rule"}
    assert rules[PLANTED[platform]].direction == "more"
    assert rules[PLANTED[platform]].interval[0] > 0
    noise = Trait("hashtag", NOISE_HASHTAG.lower())
    outcomes = labelled_sample(seed, platform)
    assert sum(noise in traits_of(each.text, each.post_type, each.published_at) for each in outcomes) > 20
    assert noise.name not in rules


def test_topics_of_stories_do_well_where_stories_do_well() -> None:
    style = {each.doc_id: "True story" in each.text for each in labelled_sample(SEED, "instagram")}
    found = sample_strategy("instagram").topics
    told = [topic for topic in found if all(style[doc_id] for doc_id in topic.central_posts)]
    assert told
    assert min(topic.standing for topic in told) > max(topic.standing for topic in found if topic not in told)


def test_every_claim_cites_posts_that_have_its_trait() -> None:
    for platform in PATTERNS:
        traits = {
            each.doc_id: {trait.name for trait in traits_of(each.text, each.post_type, each.published_at)}
            for each in labelled_sample(SEED, platform)
        }
        strategy = sample_strategy(platform)
        for claim in strategy.claims:
            cited = claim.exemplars + claim.counter_exemplars
            assert cited
            assert len(claim.exemplars) == len(set(claim.exemplars))
            if claim.kind != "topic":
                assert all(claim.trait in traits[doc_id] for doc_id in cited)
        for change in (strategy.do_more, strategy.do_less, strategy.try_next):
            assert {each.claim_id for each in change} <= {claim.claim_id for claim in strategy.claims}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_outcomes_does_not_matter(seed: int) -> None:
    outcomes = list(labelled_sample(SEED, "tiktok"))
    vectors = sample_vectors(SEED, "tiktok")
    Random(seed).shuffle(outcomes)  # noqa: S311
    again = build_strategy("tiktok", outcomes, vectors, search_in(outcomes, vectors), inputs=INPUTS)
    assert again == sample_strategy("tiktok")


def test_a_strategy_is_told_from_the_one_before_and_the_same_again_is_no_change() -> None:
    outcomes, vectors = labelled_sample(SEED, "x"), sample_vectors(SEED, "x")
    search = search_in(outcomes, vectors)
    first = sample_strategy("x")
    again = build_strategy("x", outcomes, vectors, search, inputs=INPUTS, previous=first)
    assert again.changes == []
    assert again.topics == first.topics
    trait = next(each for each in first.claims if each.trait == PLANTED["x"])
    flopped = [
        dataclasses.replace(each, score=-3.0)
        if PLANTED["x"] in {found.name for found in traits_of(each.text, each.post_type, each.published_at)}
        else each
        for each in outcomes
    ]
    later = build_strategy("x", flopped, vectors, search, inputs=INPUTS, previous=first)
    assert {change.claim_id: change.what for change in later.changes}[trait.claim_id] == "reversed"


def test_ten_thousand_reposts_of_a_success_are_no_rule() -> None:
    posts = [plain_outcome(number, value) for number, value in enumerate(np.random.default_rng(1).normal(0, 1, 60))]
    reposts = [plain_outcome(100 + number, 3.0, text="Is it?", doc_id=f"x:r{number:05d}") for number in range(10_000)]
    strategy = build_strategy("x", [*posts, *reposts], {}, nothing_near, inputs=INPUTS)
    assert [claim for claim in strategy.claims if claim.evidence != "explore"] == []


def test_of_more_posts_than_can_be_compared_the_latest_are() -> None:
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    outcomes = [plain_outcome(number, 0, published_at=day + dt.timedelta(days=number)) for number in range(6)]
    given = [outcomes[4], plain_outcome(9, 0), outcomes[2], outcomes[5]]
    assert considered(given, most=3) == [outcomes[2], outcomes[4], outcomes[5]]


def test_the_number_of_searches_does_not_grow_with_the_posts() -> None:
    asked: Counter[tuple[int, tuple[str, ...]]] = Counter()

    def search(_: object, n: int, labels: object) -> list[tuple[str, float]]:
        asked[n, tuple(labels)] += 1  # type: ignore[arg-type]
        return []

    outcomes = labelled_sample(SEED, "x")
    strategy = build_strategy("x", outcomes, sample_vectors(SEED, "x"), search, inputs=INPUTS)
    assert asked == {(20, ("hit", "viral")): len(strategy.topics), (20, ("flop",)): len(strategy.topics)}
    assert len(strategy.topics) <= 12


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_outcomes_are_a_strategy_without_claims(count: int) -> None:
    outcomes = [plain_outcome(number, 0) for number in range(count)]
    empty = build_strategy("x", outcomes, {}, nothing_near, inputs=INPUTS)
    assert empty == Strategy(platform="x", inputs=INPUTS)
