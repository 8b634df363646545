"""Confidence: the resamples are those of the textbook, always the same, and say when a label hangs by a thread."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain import outcomes
from everreach_assets.domain.label_confidence import RESAMPLES, medians_and_deviations, resampled
from everreach_assets.domain.label_references import MAD_TO_SIGMA, Reference, deviation, median
from everreach_assets.domain.outcomes import ObservedPost, classify

DAY = 86_400.0


@given(st.lists(st.floats(0, 20), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_medians_and_deviations_are_those_of_scipy(values: list[float], seed: int) -> None:
    samples = np.sort(np.random.default_rng(seed).choice(values, (len(values), 7)), axis=0)
    medians, deviations = medians_and_deviations(samples)
    assert medians == pytest.approx(np.median(samples, axis=0))
    assert deviations == pytest.approx(scipy.stats.median_abs_deviation(samples, axis=0))
    assert deviation(sorted(values)) == pytest.approx(scipy.stats.median_abs_deviation(values))
    assert median(sorted(values)) == pytest.approx(np.median(values))


def test_the_first_of_the_resamples_is_the_reference_itself() -> None:
    logs = tuple(sorted(np.random.default_rng(1).normal(7, 1, 41)))
    centres, spreads = resampled(Reference("type", logs), "p1")
    assert (len(centres), len(spreads)) == (RESAMPLES + 1, RESAMPLES + 1)
    assert centres[0] == np.median(logs)
    assert spreads[0] == pytest.approx(MAD_TO_SIGMA * scipy.stats.median_abs_deviation(logs))


def test_the_medians_of_the_resamples_spread_as_the_theory_says() -> None:
    """The standard error of the median of n normal values is sigma sqrt(pi / 2n): 0.125 of a hundred (Kenney and
    Keeping 1962). Averaged over many posts, because each has one reference."""
    random = np.random.default_rng(2)
    errors = [
        resampled(Reference("type", tuple(sorted(random.normal(7, 1, 100)))), f"p{number}")[0].std()
        for number in range(200)
    ]
    assert np.mean(errors) == pytest.approx(np.sqrt(np.pi / 200), rel=0.1)


def posts(values: list[float]) -> list[ObservedPost]:
    return [
        ObservedPost(f"p{number:03d}", "ann", "video", number * DAY, number, {"views": value})
        for number, value in enumerate(values)
    ]


def test_a_label_at_its_threshold_is_borderline_and_one_far_from_it_is_sure() -> None:
    history = list(np.random.default_rng(3).lognormal(8, 1, 60))
    typical = classify(posts([*history, 1.0]))[-1]
    assert typical.score is not None
    assert (typical.label, typical.confidence, typical.is_borderline) == ("flop", 1.0, False)
    at_threshold = np.exp(np.median(np.log(history)) + 1.0 * (typical.spread or 0))
    hit = classify(posts([*history, float(at_threshold) + 5]))[-1]
    assert (hit.label, hit.is_borderline) == ("hit", True)
    assert 0.3 < (hit.confidence or 0) < 0.7


@pytest.mark.parametrize(("agreeing", "is_borderline"), [(69, True), (70, False)])
def test_a_label_is_borderline_where_fewer_than_seven_of_ten_resamples_share_it(
    monkeypatch: pytest.MonkeyPatch, agreeing: int, is_borderline: bool
) -> None:
    centres = np.log1p([100.0, *[100.0] * agreeing, *[1.0] * (100 - agreeing)])
    monkeypatch.setattr(outcomes, "resampled", lambda *_: (centres, np.full(101, 0.25)))
    found = classify(posts([100.0] * 6))[-1]
    assert (found.confidence, found.is_borderline) == (agreeing / 100, is_borderline)


def test_the_same_post_has_the_same_confidence_whatever_else_there_is() -> None:
    history = posts(list(np.random.default_rng(4).lognormal(8, 1, 80)))
    again = [dataclasses.replace(each, account="bob", post_id=f"b{each.post_id}") for each in history]
    assert classify(history)[40:] == [each for each in classify([*history, *again]) if each.post_id[0] == "p"][40:]
