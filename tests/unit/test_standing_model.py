"""The model that predicts standings: what it may know, what it finds, and that it needs little."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from everreach_assets.domain.drafts import Draft
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.outcomes import Label
from everreach_assets.domain.standing_model import LARGEST_TRAINING, Foreseen, fit
from tests.planted import START, planted_outcomes


def assert_same(one: Foreseen, other: Foreseen) -> None:
    for ours, theirs in zip(vars(one).values(), vars(other).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def rescored(outcomes: Sequence[LabelledOutcome], *, after: dt.datetime) -> list[LabelledOutcome]:
    return [
        replace(each, score=-each.score) if each.published_at is not None and each.published_at >= after else each
        for each in outcomes
    ]


def test_a_question_that_always_does_better_is_foreseen() -> None:
    outcomes = planted_outcomes(120)
    asking, telling = (Draft(text, "anna", "text", START) for text in ("Why bake bread?", "We bake bread."))
    foreseen = fit(outcomes).predict([asking, telling])
    assert foreseen.score[0] > foreseen.score[1] + 0.5
    assert foreseen.success_probability[0] > foreseen.success_probability[1]


def test_the_order_of_the_outcomes_does_not_matter() -> None:
    outcomes = planted_outcomes(60)
    assert_same(fit(outcomes).predict(outcomes), fit(outcomes[::-1]).predict(outcomes))


def test_a_rehearsal_does_not_know_the_posts_after_it() -> None:
    outcomes = planted_outcomes(100)
    first = fit(outcomes).rehearsals[0]
    later = outcomes[80].published_at
    assert later is not None
    other = fit(rescored(outcomes, after=later)).rehearsals[0]
    assert [each.doc_id for each in first.posts] == [each.doc_id for each in outcomes[60:80]]
    np.testing.assert_array_equal(first.predicted, other.predicted)


def test_four_of_five_posts_come_to_lie_in_the_interval() -> None:
    outcomes = planted_outcomes(500)
    later = outcomes[300:]
    foreseen = fit(outcomes[:300]).predict(later)
    scores = np.array([each.score for each in later])
    assert 0.7 <= np.mean((foreseen.low <= scores) & (scores <= foreseen.high)) <= 0.9


def test_what_cannot_be_foreseen_is_expected_as_usual() -> None:
    random = np.random.default_rng(1)
    noise = [replace(each, score=float(random.normal())) for each in planted_outcomes(150)]
    assert np.abs(fit(noise).predict(noise).score).max() < 0.5


@pytest.mark.parametrize("count", [1, 2, 10, 20])
def test_few_outcomes_are_enough_for_an_answer(count: int) -> None:
    foreseen = fit(planted_outcomes(count)).predict([Draft("", "nobody")])
    assert foreseen.low[0] <= foreseen.high[0]
    assert 0 < foreseen.success_probability[0] < 1
    assert np.isfinite(foreseen.score[0])


def test_without_texts_times_and_types_there_is_an_answer() -> None:
    bare = [replace(each, text="", published_at=None, post_type="") for each in planted_outcomes(40)]
    drafts = [Draft("", ""), Draft("Why?", "anna", "unheard of", START)]
    assert np.isfinite(fit(bare).predict(drafts).score).all()


@pytest.mark.parametrize(("label", "low", "high"), [("hit", 0.9, 1.0), ("average", 0.0, 0.1)])
def test_where_all_or_none_succeeded_the_chance_is_near_the_share(label: Label, low: float, high: float) -> None:
    outcomes = [replace(each, label=label) for each in planted_outcomes(40)]
    assert low < fit(outcomes).predict(outcomes[:1]).success_probability[0] < high


def test_no_outcome_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="record outcomes"):
        fit([])


def test_an_outcome_without_confidence_teaches_next_to_nothing() -> None:
    outcomes = planted_outcomes(60)
    wrong = [replace(each, doc_id=f"{each.doc_id}!", score=-each.score, confidence=0.0) for each in outcomes]
    asking = Draft("Why bake bread?", "anna", "text", START)
    model = fit([*outcomes, *wrong])
    assert model._members.ridge.predict(model._features.matrices([asking]).wide)[0] > 0.3


def test_only_the_most_recent_outcomes_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everreach_assets.domain.standing_model.LARGEST_TRAINING", 30)
    outcomes = planted_outcomes(50)
    assert [each.doc_id for each in fit(outcomes).outcomes] == [each.doc_id for each in outcomes[20:]]
    assert LARGEST_TRAINING >= 1_000
