"""What a language model is told of claims, and which of its sentences are taken."""

import json

import pytest

from everreach_assets.domain.collections import COLLECTIONS, OUTCOMES, Sink
from everreach_assets.domain.wording import accepted, asked
from tests.claims import claim

CLAIM = claim(ratio=1.83)  # interval 1.26 to 2.65, 1,032 posts


@pytest.mark.parametrize(
    "sentence",
    [
        "Posts that open with a number get 1.83 times what the others get.",
        "They get 1.8 times the others (1.26 to 2.65), over 1032 posts.",
        "They get 83% more, from 26% to 165% more, over 1,032 posts.",
        "Open with a number more often.",
    ],
)
def test_a_sentence_with_the_claims_numbers_is_taken(sentence: str) -> None:
    assert accepted(CLAIM, sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "They get 1.9 times the others.",
        "They get 2 times the others.",  # 1.83 is not 2
        "They get 84% more.",
        "Of 1,033 posts.",
        "With 95 % confidence they do better.",
        "They do twice as well.",
        "They nearly double.",
        "They do a third better.",
        "Seventeen posts show it.",
        "They get \u0662 times the others.",  # a digit of another script
        "See https://example.com.",
        "Ask ann@example.com.",
        "Line one.\nLine two.",
        "<b>More</b> numbers.",
        "x" * 301,
        "  ",
        "",
        None,
        1.83,
        ["They get 1.83 times the others."],
    ],
)
def test_a_sentence_that_says_another_number_or_more_than_the_claim_is_not(sentence: object) -> None:
    assert not accepted(CLAIM, sentence)


def test_numbers_of_the_trait_may_be_said() -> None:
    slot = claim(trait="published 08:00 to 12:00 UTC, top three")
    assert accepted(slot, "Between 08:00 and 12:00 UTC, in the top three, they do better.")
    assert not accepted(slot, "Between 08:00 and 13:00 UTC they do better.")
    assert not accepted(CLAIM, "In the top three they do better.")


def test_large_factors_may_be_rounded_to_a_whole() -> None:
    assert accepted(claim(ratio=12.34), "They get 12 times the others.")
    assert accepted(claim(ratio=2.0), "They get 2 times the others.")


def test_the_model_is_told_claims_and_no_post() -> None:
    (told,) = json.loads(asked([CLAIM]))
    assert told == {
        "id": "a",
        "kind": "hook",
        "trait": "opens with a number",
        "direction": "more",
        "evidence": "rule",
        "times_the_others": 1.83,
        "interval": [1.26, 2.65],
        "posts": 1032,
    }


def test_only_what_follows_from_outcomes_may_reach_a_language_model() -> None:
    assert [each for each in COLLECTIONS.values() if each.allows(Sink.LANGUAGE_MODEL)] == [OUTCOMES]
