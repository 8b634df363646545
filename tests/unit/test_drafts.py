"""What a draft is told before it is published."""

import pytest

from everreach_assets.domain.drafts import Draft, matching, score
from everreach_assets.domain.standing_model import StandingModel, fit
from everreach_assets.domain.strategy_model import Claim, Topic
from everreach_assets.domain.traits import Trait, claim_id
from tests.claims import claim
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


QUESTION = claim(claim_id("x", Trait("hook", "opens with a question")))
BREAD = claim(claim_id("x", Trait("topic", "bread")), kind="topic")
ASKING, TELLING = Draft("Why bread with tea?", "anna"), Draft("We make bread with tea.", "anna")


def topic(topic_id: str) -> Topic:
    return Topic(topic_id=topic_id, terms=[], posts=9, standing=0.0, x=0.0, y=0.0, central_posts=[])


def test_a_draft_matches_the_rules_and_hypotheses_whose_trait_it_has() -> None:
    number = claim(claim_id("x", Trait("hook", "opens with a number")))
    under = claim(claim_id("x", Trait("length", "text under 80 characters")), evidence="hypothesis")
    of_tiktok = claim(claim_id("tiktok", Trait("hook", "opens with a question")))
    claims = [under, number, QUESTION, of_tiktok]
    assert matching(ASKING, "x", claims) == [under, QUESTION]
    assert matching(TELLING, "x", claims) == [under]


def test_a_draft_matches_nothing_that_is_to_be_explored_or_that_a_stronger_claim_explains() -> None:
    explored = QUESTION.model_copy(update={"evidence": "explore", "direction": "try"})
    explained = QUESTION.model_copy(update={"evidence": "hypothesis", "explained_by": "x-format-1"})
    assert matching(ASKING, "x", [explored, explained]) == []


def test_a_draft_matches_the_claim_on_its_topic_and_on_no_other() -> None:
    claims = [BREAD, QUESTION]
    assert matching(ASKING, "x", claims, topic("bread")) == [BREAD, QUESTION]
    assert matching(ASKING, "x", claims, topic("rice")) == [QUESTION]
    assert matching(ASKING, "x", claims) == [QUESTION]
