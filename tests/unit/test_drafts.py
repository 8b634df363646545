"""What a draft is told before it is published."""

import pytest

from everreach_assets.domain.drafts import Draft, score
from everreach_assets.domain.standing_model import StandingModel, fit
from everreach_assets.domain.strategy_model import Claim
from tests.planted import START, planted_outcomes

CLAIM = Claim(
    claim_id="x-hook-1",
    kind="hook",
    trait="opens with a question",
    direction="more",
    evidence="rule",
    effect=0.6931471805599453,
    interval=(0.4054651081081644, 1.0986122886681098),
    n=40,
    n_effective=35.0,
    exemplars=[],
    counter_exemplars=[],
)


@pytest.fixture(scope="module")
def model() -> StandingModel:
    return fit(planted_outcomes(120))


def test_a_draft_is_told_what_it_may_get_and_why(model: StandingModel) -> None:
    asking = score(Draft("Why bread with tea?", "anna", "text", START), model, [CLAIM])
    telling = score(Draft("We make bread with tea.", "anna", "text", START), model)
    assert asking.expected_multiple > 1.2
    assert telling.expected_multiple < 1.0
    assert asking.interval[0] < asking.expected_multiple < asking.interval[1]
    assert asking.success_probability > telling.success_probability
    assert asking.claims == ["x-hook-1"]
    assert asking.reasons[0] == "rule: opens with a question: 2.00 times the others [1.50, 3.00], n = 40"
    assert len(asking.similar_posts) == 3
    assert asking.similar_posts[0].similarity > 0.5


def test_what_is_typical_is_what_the_accounts_posts_were_compared_with(model: StandingModel) -> None:
    told = score(Draft("We make rice.", "ben"), model)
    assert told.metric == "views"
    assert told.typical == pytest.approx(1_000, rel=0.02)


def test_an_unknown_account_is_told_so(model: StandingModel) -> None:
    told = score(Draft("Why rice?", "carla"), model)
    assert told.typical is None
    assert told.reasons[0].startswith("nothing is known of this account")


def test_a_type_that_the_account_never_published_is_named(model: StandingModel) -> None:
    assert "the account has no post of this type yet" in score(Draft("Why rice?", "anna", "reel"), model).reasons


def test_posts_that_are_hardly_alike_are_not_shown(model: StandingModel) -> None:
    told = score(Draft("Zzyzx qvfk 1234", "anna"), model)
    assert told.similar_posts == []
    assert not any("most like it" in each for each in told.reasons)


def test_a_draft_without_a_text_is_like_no_post(model: StandingModel) -> None:
    assert score(Draft("", "anna"), model).similar_posts == []
