"""What two strategies in a row teach."""

from everreach_assets.domain.lessons import lesson_changes, lesson_text
from tests.claims import claim, strategy


def ids(changes: object) -> tuple[list[str], list[str], list[str]]:
    learned, confirmed, superseded = vars(changes).values()
    return [each.claim_id for each in learned], [each.claim_id for each in confirmed], superseded


def test_a_rule_of_two_strategies_in_a_row_is_learned() -> None:
    before, after = strategy(claim("a"), claim("b")), strategy(claim("a"), claim("c"))
    assert ids(lesson_changes(before, after, {})) == (["a"], [], [])


def test_the_first_strategy_teaches_nothing() -> None:
    assert ids(lesson_changes(None, strategy(claim("a")), {})) == ([], [], [])


def test_a_hypothesis_is_no_lesson_whichever_comes_first() -> None:
    rule, hypothesis = strategy(claim("a")), strategy(claim("a", evidence="hypothesis"))
    assert ids(lesson_changes(hypothesis, rule, {})) == ([], [], [])
    assert ids(lesson_changes(rule, hypothesis, {})) == ([], [], [])


def test_a_rule_that_turned_round_is_no_lesson() -> None:
    before, after = strategy(claim("a", ratio=2)), strategy(claim("a", ratio=0.5))
    assert ids(lesson_changes(before, after, {})) == ([], [], [])


def test_a_lesson_stands_while_its_claim_is_a_rule_or_a_hypothesis() -> None:
    for evidence in ("rule", "hypothesis"):
        after = strategy(claim("a", evidence=evidence))
        assert ids(lesson_changes(strategy(claim("a")), after, {"a": "more"})) == ([], ["a"], [])


def test_a_lesson_is_superseded_where_its_claim_is_gone_or_only_worth_exploring() -> None:
    for after in (strategy(), strategy(claim("a", evidence="explore"))):
        assert ids(lesson_changes(strategy(claim("a")), after, {"a": "more"})) == ([], [], ["a"])


def test_a_lesson_that_turns_round_is_superseded_and_learned_the_other_way_once_that_stands_twice() -> None:
    turned = strategy(claim("a", ratio=0.5))
    assert ids(lesson_changes(strategy(claim("a")), turned, {"a": "more"})) == ([], [], ["a"])
    assert ids(lesson_changes(turned, turned, {})) == (["a"], [], [])


def test_a_lesson_is_a_sentence_without_numbers() -> None:
    assert lesson_text("x", claim(ratio=0.5)) == (
        "On x, hook: opens with a number. Such posts do worse than the account's others."
    )
