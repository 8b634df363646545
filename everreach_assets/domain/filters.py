"""The `where` of a search: one small grammar with one meaning on every backend.

    {"platform": "x"}                            the key equals the value
    {"score": {"$gt": 1, "$lte": 3}}             $gt $gte $lt $lte: numbers only
    {"label": {"$in": ["viral", "hit"]}}         $in $nin: values of one type
    {"label": {"$ne": "flop"}}                   $eq $ne
    {"$or": [{...}, {...}]}, {"$and": [...]}     and several keys in one dict are an $and

Meaning, the same on both backends: types differ (1 is not "1" and not true; 1 and 1.0 are one number). A row without
the key matches no comparison but `$ne` and `$nin`, as in MongoDB and Chroma: a filter that must not let a row through
never relies on those two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.vectors import MetadataValue, check_metadata, shown_key

MAX_DEPTH = 8
MAX_COMPARISONS = 64
Operator = Literal["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"]
RANGES = ("$gt", "$gte", "$lt", "$lte")
SETS = ("$in", "$nin")
OPERATORS = ("$eq", "$ne", *RANGES, *SETS)


@dataclass(frozen=True)
class Comparison:
    """One key against one value, or against a list of them for `$in` and `$nin`."""

    key: str
    operator: Operator
    value: MetadataValue | tuple[MetadataValue, ...]


@dataclass(frozen=True)
class Group:
    """Filters joined by `$and` or `$or`; at least two."""

    operator: Literal["$and", "$or"]
    members: tuple["Filter", ...]


Filter = Comparison | Group


def parse_filter(where: Mapping[str, object] | None) -> Filter | None:
    """The filter that a `where` states; None for no filter (None or an empty dict).

    Raises:
        InvalidInput: outside the grammar; the message names the key or operator, if it looks like one.
    """
    if where is None or where == {}:
        return None
    parsed = _parse(where, depth=0)
    if (comparisons := _count(parsed)) > MAX_COMPARISONS:
        raise InvalidInput(f"where: {comparisons} comparisons, the limit is {MAX_COMPARISONS}")
    return parsed


def _parse(where: object, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"where: nested deeper than {MAX_DEPTH}")
    if not isinstance(where, Mapping) or not where:
        raise InvalidInput(f"where: expected a dict that is not empty, got a {type(where).__name__}")
    members: list[Filter] = []
    for key, value in where.items():
        if key in ("$and", "$or"):
            members.append(_parse_group(key, value, depth))
        elif isinstance(key, str) and key.startswith("$"):
            raise InvalidInput(f"where: unknown operator{shown_key(key)}; between filters stand $and and $or")
        else:
            members.extend(_parse_key(key, value))
    return _join("$and", members)


def _parse_group(operator: Literal["$and", "$or"], value: object, depth: int) -> Filter:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise InvalidInput(f"where: {operator} takes a list of filters that is not empty")
    return _join(operator, [_parse(each, depth + 1) for each in value])


def _parse_key(key: str, value: object) -> list[Filter]:
    if not isinstance(value, Mapping):
        return [_comparison(key, "$eq", value)]
    if not value:
        raise InvalidInput(f"where{shown_key(key)} names no operator; one of {', '.join(OPERATORS)}")
    return [_comparison(key, operator, operand) for operator, operand in value.items()]


def _comparison(key: str, operator: object, operand: object) -> Comparison:
    what = f"where{shown_key(key)}"
    if operator not in OPERATORS:
        raise InvalidInput(f"{what}: unknown operator{shown_key(operator)}; one of {', '.join(OPERATORS)}")
    operator = cast("Operator", operator)
    if operator in SETS:
        return Comparison(key, operator, _values(key, operand, what))
    check_metadata({key: cast("MetadataValue", operand)}, what)
    if operator in RANGES and (isinstance(operand, bool) or not isinstance(operand, int | float)):
        raise InvalidInput(f"{what}: {operator} takes a number, got a {type(operand).__name__}")
    return Comparison(key, operator, cast("MetadataValue", operand))


def _values(key: str, operand: object, what: str) -> tuple[MetadataValue, ...]:
    if not isinstance(operand, Sequence) or isinstance(operand, str | bytes) or not operand:
        raise InvalidInput(f"{what}: $in and $nin take a list of values that is not empty")
    for each in operand:
        check_metadata({key: each}, what)
    kinds = {float if type(each) is int else type(each) for each in operand}
    if len(kinds) > 1:
        raise InvalidInput(f"{what}: the values of one list are of one type, got {sorted(k.__name__ for k in kinds)}")
    return tuple(operand)


def _join(operator: Literal["$and", "$or"], members: list[Filter]) -> Filter:
    return members[0] if len(members) == 1 else Group(operator, tuple(members))


def _count(parsed: Filter) -> int:
    return 1 if isinstance(parsed, Comparison) else sum(_count(member) for member in parsed.members)
