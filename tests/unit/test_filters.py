"""The grammar of `where`: what is taken, in what form, and what is refused. Its meaning is in test_vector_db.py."""

from typing import Any

import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.filters import MAX_COMPARISONS, MAX_DEPTH, Comparison, Group, parse_filter


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_filter_is_none(nothing: Any) -> None:
    assert parse_filter(nothing) is None


@pytest.mark.parametrize("value", [1, 1.5, "a", "", True])
def test_a_bare_value_is_an_equality(value: Any) -> None:
    parsed = parse_filter({"k": value})
    assert parsed == Comparison("k", "$eq", value)
    assert parsed == parse_filter({"k": {"$eq": value}})


def test_several_keys_and_several_operators_are_an_and() -> None:
    assert parse_filter({"a": 1, "b": {"$gt": 2, "$lte": 3}}) == Group(
        "$and", (Comparison("a", "$eq", 1), Comparison("b", "$gt", 2), Comparison("b", "$lte", 3))
    )


def test_a_group_of_one_is_its_member() -> None:
    assert parse_filter({"$or": [{"$and": [{"k": 1}]}]}) == Comparison("k", "$eq", 1)


def test_a_list_of_numbers_may_mix_whole_and_decimal_ones() -> None:
    assert parse_filter({"k": {"$in": [1, 2.5]}}) == Comparison("k", "$in", (1, 2.5))


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("k = 1", "str"),
        ("", "str"),
        ([], "list"),
        ([("k", 1)], "list"),
        (0, "int"),
        ({"k": {"$like": 1}}, r"\$like"),
        ({"$not": {"k": 1}}, r"\$not"),
        ({"$and": []}, r"\$and"),
        ({"$or": "ab"}, r"\$or"),
        ({"$or": b"ab"}, r"\$or"),
        ({"$or": [1]}, "int"),
        ({"$and": [{}]}, "empty"),
        ({"k": {}}, "'k'"),
        ({"k": None}, "'k'"),
        ({"k": [1]}, "'k'"),
        ({"k": {"$eq": {"a": 1}}}, "'k'"),
        ({"k": {"$in": []}}, "'k'"),
        ({"k": {"$in": "ab"}}, "'k'"),
        ({"k": {"$in": b"ab"}}, "'k'"),
        ({"k": {"$in": [1, "1"]}}, "one type"),
        ({"k": {"$nin": [True, 1]}}, "one type"),
        ({"k": {"$in": [None]}}, "'k'"),
        ({"k": {"$gt": "1"}}, r"\$gt"),
        ({"k": {"$lte": True}}, r"\$lte"),
        ({"k": {"$gt": float("nan")}}, "nan"),
        ({"k": 2**54}, "2\\^53"),
        ({"_rev": 1}, "_rev"),
        ({"a b": 1}, "metadata key: 1 to 36 of"),
        ({"anna@example.com": {}}, "^where names no operator"),
        ({"$anna@example.com": 1}, "^where: unknown operator;"),
        ({"415.555.2671": {"415.555.2671": 1}}, "^where: unknown operator;"),
        ({1: 1}, "1"),
    ],
)
def test_what_is_outside_the_grammar_is_refused_by_name(where: Any, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse_filter(where)


def nested(depth: int) -> dict[str, object]:
    where: dict[str, object] = {"k": 1}
    for _ in range(depth):
        where = {"$or": [where]}
    return where


def test_nesting_has_a_limit() -> None:
    assert parse_filter(nested(MAX_DEPTH)) == Comparison("k", "$eq", 1)
    for depth in (MAX_DEPTH + 1, 5_000):
        with pytest.raises(InvalidInput, match="deeper"):
            parse_filter(nested(depth))


def test_the_number_of_comparisons_has_a_limit() -> None:
    members = [{"k": i} for i in range(MAX_COMPARISONS)]
    assert isinstance(parse_filter({"$or": members}), Group)
    with pytest.raises(InvalidInput, match=str(MAX_COMPARISONS + 1)):
        parse_filter({"$or": [*members, {"k": -1}]})


def test_a_refusal_does_not_repeat_the_value() -> None:
    bad: list[Any] = [{"k": {"$gt": "jane@example.org"}}, "jane@example.org", {"k": "jane@example.org\x00"}]
    for where in bad:
        with pytest.raises(InvalidInput) as refusal:
            parse_filter(where)
        assert "jane" not in str(refusal.value)
