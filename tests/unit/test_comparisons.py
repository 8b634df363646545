"""One comparison: weights, near-duplicates, the textbook's interval, and what accounts and their growth may not do."""

import dataclasses
import datetime as dt
import math

import numpy as np
import pytest
import scipy.stats

from everreach_assets.domain.comparisons import HALF_LIFE_DAYS, compare, posts_of, side
from everreach_assets.domain.traits import Trait
from tests.labelled_sample import plain_outcome as outcome

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOOK, FORMAT = Trait("hook", "a"), Trait("format", "b")
ONES = np.ones


def test_equal_weights_give_the_interval_of_welch() -> None:
    random = np.random.default_rng(7)
    ours, others = random.normal(1.0, 0.5, 20), random.normal(0.0, 0.9, 35)
    outcomes = [outcome(number, value, account=f"a{number}") for number, value in enumerate([*ours, *others])]
    posts = posts_of(outcomes, np.arange(55))
    posts = dataclasses.replace(posts, standings=np.concatenate([ours, others]))
    found = compare(HOOK, np.arange(55) < 20, posts)
    test = scipy.stats.ttest_ind(ours, others, equal_var=False)
    assert found.effect == pytest.approx(ours.mean() - others.mean())
    assert found.p_value == pytest.approx(test.pvalue)
    assert found.interval(0.99) == pytest.approx(tuple(test.confidence_interval(0.99)))


def test_the_effective_size_is_that_of_kish_as_worked_out_by_hand() -> None:
    """Weights 1, 1 and 1/2: (5/2)^2 / (9/4) = 25/9. The mean of 0, 2 and 4 is (0 + 2 + 2) / (5/2) = 8/5."""
    found = side(np.array([0.0, 2.0, 4.0]), np.array([1.0, 1.0, 0.5]), np.arange(3))
    assert found.n == 3
    assert [found.mean, found.n_effective] == pytest.approx([1.6, 25 / 9])


def test_near_duplicates_are_one_post_with_their_mean() -> None:
    values, groups = np.array([1.0, 3.0, 5.0, 0.0]), np.array([4, 4, 4, 0])
    found = side(values, ONES(4), groups)
    once = side(np.array([3.0, 0.0]), ONES(2), np.arange(2))
    assert found == once


def test_the_weight_halves_with_each_half_life_from_the_newest_post_and_falls_with_doubt() -> None:
    days = (0.0, HALF_LIFE_DAYS, 2 * HALF_LIFE_DAYS)
    outcomes = [outcome(number, 0, published_at=NOON - dt.timedelta(days=each)) for number, each in enumerate(days)]
    outcomes.append(outcome(3, 0, published_at=None, confidence=0.5))
    assert posts_of(outcomes, np.arange(4)).weights == pytest.approx([1, 0.5, 0.25, 0.125])
    unknown = [dataclasses.replace(each, published_at=None) for each in outcomes]
    assert posts_of(unknown, np.arange(4)).weights == pytest.approx([1, 1, 1, 0.5])


def test_two_constants_are_no_evidence() -> None:
    outcomes = [outcome(number, number % 2, account=f"a{number}") for number in range(40)]
    posts = posts_of(outcomes, np.arange(40))
    assert compare(HOOK, np.arange(40) % 2 == 1, posts).p_value == 1.0


def test_what_one_account_does_is_no_success_because_the_account_grows() -> None:
    """The posts of an account that doubles all the time lie above their references, whatever they say."""
    random = np.random.default_rng(3)
    growing = [outcome(number, 0.7 + each, account="ann") for number, each in enumerate(random.normal(0, 0.3, 200))]
    steady = [outcome(200 + number, each, account="bob") for number, each in enumerate(random.normal(0, 0.3, 200))]
    posts = posts_of([*growing, *steady], np.arange(400))
    found = compare(HOOK, np.arange(400) < 200, posts)
    assert abs(found.effect) < 0.1
    assert np.mean([each.standing for each in growing]) > 0.6


def test_formats_are_compared_across_types_which_standings_are_not() -> None:
    """A reel that does as reels do has a standing of zero, and yet ten times the views of a photo."""
    outcomes = [
        outcome(
            number,
            0.0,
            value=10_000 * math.exp(noise) if number % 2 else 1_000 * math.exp(noise),
            post_type="reel" if number % 2 else "photo",
            published_at=NOON + dt.timedelta(hours=number),
        )
        for number, noise in enumerate(np.random.default_rng(1).normal(0, 0.2, 100))
    ]
    posts = posts_of(outcomes, np.arange(100))
    reels = np.arange(100) % 2 == 1
    assert compare(HOOK, reels, posts).effect == pytest.approx(0, abs=1e-9)
    assert compare(FORMAT, reels, posts).effect > 1


def test_a_format_of_late_years_is_no_success_because_the_account_has_grown() -> None:
    values = np.exp(np.linspace(5, 12, 600) + np.random.default_rng(2).normal(0, 0.3, 600))
    outcomes = [
        outcome(number, 0.0, value=value, published_at=NOON + dt.timedelta(days=number))
        for number, value in enumerate(values)
    ]
    late = compare(FORMAT, np.arange(600) >= 300, posts_of(outcomes, np.arange(600)))
    assert abs(late.effect) < 0.15  # it is 3.5 in plain logs


def test_metrics_are_never_mixed() -> None:
    views = [outcome(number, 0, value=9_999.0) for number in range(5)]
    likes = [outcome(10 + number, 0, value=9.0, metric="interactions") for number in range(5)]
    assert posts_of([*views, *likes], np.arange(10)).in_account == pytest.approx(np.zeros(10))
