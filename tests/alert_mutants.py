"""Rules with one fault each: what the cases of `tests/alert_cases.py` must notice.

What is broken: each number (half, double, and a small step), each comparison, each `*` and `/`, `+` and `-` for the
other, each guard (`and`, `unless`, `or` with one side gone, and for one another), each window and offset (half, double,
one step of the evaluation), `for` (gone, half, double, one step), each sum and max for the other, each function over
time for its like, each round(), each matcher of labels, and each label of `by`, `on` and `ignoring` gone.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.alert_cases import STEP_SECONDS, Case, alerts, rule_groups

NUMBER = re.compile(r"(?<![\w.:\[])\d+(?:\.\d+)?(?![\w.\]])")
WINDOW = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]")
COMPARISON = re.compile(r">=|<=|==|(?<![=!<>])[<>](?!=)")
AGGREGATION = re.compile(r"\b(?:sum|max|min)(?= by|\()")
ARITHMETIC = re.compile(r"(?<=\s)[-+*/](?=\s)")
SET_OPERATOR = re.compile(r"\b(?:and|or|unless)\b")
FUNCTION = re.compile(r"\b(?:(?:max|min|avg|last)_over_time|increase|rate)(?=\()")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring) \(([^)]*)\)")
OTHERS: Mapping[str, tuple[str, ...]] = {
    ">": (">=", "<"), "<": ("<=", ">"), ">=": (">", "<"), "<=": ("<", ">"), "==": ("!=",),
    "sum": ("max",), "max": ("sum",), "min": ("sum",),
    "*": ("/",), "/": ("*",), "+": ("-",), "-": ("+",),
    "and": ("or", "unless"), "or": ("and", "unless"), "unless": ("and", "or"),
    "max_over_time": ("min_over_time", "avg_over_time"), "min_over_time": ("max_over_time", "avg_over_time"),
    "avg_over_time": ("max_over_time", "min_over_time"),
    "last_over_time": ("max_over_time", "min_over_time", "avg_over_time"),
    "increase": ("rate",), "rate": ("increase",),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A rule with one fault.

    Attributes:
        rule: the name of the alert or of the recorded series.
        change: what was done to it.
    """

    rule: str
    change: str
    expression: str
    duration: str | None


def rules() -> dict[str, dict[str, Any]]:
    """Every rule by its name, recorded series first."""
    recorded = {rule["record"]: rule for group in rule_groups("recording.yml") for rule in group["rules"]}
    return {**recorded, **alerts()}


def mutants(name: str, steps: Sequence[str]) -> Iterator[Mutant]:
    """The mutants of a rule whose cases are evaluated in these steps."""
    rule = rules()[name]
    expression, duration = rule["expr"].strip(), rule.get("for")
    original = promql_parser.parse(expression).prettify()
    seen = {original}
    for change, mutated in _expressions(expression, steps):
        text = promql_parser.parse(mutated).prettify()  # what cannot be read would fail for a wrong reason
        if text not in seen:
            seen.add(text)
            yield Mutant(name, change, mutated, duration)
    if "alert" in rule:
        for other in _durations(duration, steps):
            yield Mutant(name, f"for: {duration} -> {other}", expression, other)


def _expressions(expression: str, steps: Sequence[str]) -> Iterator[tuple[str, str]]:
    hidden = re.sub(r"\{[^}]*\}|\"[^\"]*\"", lambda found: "~" * len(found[0]), expression)  # matchers and texts
    for found in NUMBER.finditer(hidden):
        yield from _replaced(expression, found, _numbers(found[0]))
    for found in WINDOW.finditer(hidden):
        yield from _replaced(expression, found, _windows(found[0], steps))
    for pattern in (COMPARISON, AGGREGATION, ARITHMETIC, SET_OPERATOR, FUNCTION):
        for found in pattern.finditer(hidden):
            yield from _replaced(expression, found, OTHERS[found[0]])
    for found in GROUPING.finditer(hidden):
        labels = re.findall(r"\w+", found[1])
        fewer = [found[0].replace(found[1], ", ".join(each for each in labels if each != gone)) for gone in labels]
        yield from _replaced(expression, found, fewer)
    for found in re.finditer(r"\{[^}]*\}", expression):
        yield from _replaced(expression, found, [""])
    yield from _without_guards(expression)


def _replaced(expression: str, found: re.Match[str], others: Sequence[str]) -> Iterator[tuple[str, str]]:
    for other in others:
        where = re.sub(r"\s+", " ", expression[max(0, found.start() - 30) : found.start()])
        what = expression[found.start() : found.end()]
        yield (f"{where}[{what} -> {other}]", expression[: found.start()] + other + expression[found.end() :])


def _numbers(text: str) -> list[str]:
    value = float(text)
    small = (value - 1, value + 1) if value.is_integer() else (value * 0.99, value * 1.01)
    return [f"({each!r})" for each in sorted({value * 0.5, value * 2, *small} - {value})]


def _windows(text: str, steps: Sequence[str]) -> list[str]:
    seconds = _seconds(text)
    small = _small_step(seconds, steps)
    return [f"{each}s" for each in sorted({seconds // 2, seconds * 2, seconds - small, seconds + small}) if each > 0]


def _durations(duration: str | None, steps: Sequence[str]) -> list[str | None]:
    if duration is None:
        return [f"{_small_step(0, steps)}s"]
    seconds = _seconds(duration)
    small = _small_step(seconds, steps)
    others = sorted({seconds // 2, seconds * 2, seconds - small, seconds + small} - {0})
    return [None, *(f"{each}s" for each in others)]


def _small_step(seconds: int, steps: Sequence[str]) -> int:
    """A step of the evaluation: of the finest cases, or of the coarsest for what lasts hours, which only those hold."""
    fitting = [each for each in map(STEP_SECONDS.__getitem__, steps) if seconds % each == 0]
    return max(fitting) if seconds >= 6 * 3600 else min(fitting)


def _seconds(text: str) -> int:
    return int(promql_parser.parse_duration(text).total_seconds())


def _without_guards(expression: str) -> Iterator[tuple[str, str]]:
    """Each `and`, `or` and `unless` with one of its sides alone, each round() with what it rounds."""
    count = 0

    def count_nodes(_: promql_parser.Expr) -> None:
        nonlocal count
        count += 1

    tree = promql_parser.parse(expression)
    promql_parser.walk(tree, pre_visit=count_nodes)
    for number in range(count):
        for side in ("lhs", "rhs"):
            if found := _with_one_side(tree, number, side):
                yield found


def _with_one_side(tree: promql_parser.Expr, number: int, side: str) -> tuple[str, str] | None:
    visited = -1
    change = ""

    def replace(node: promql_parser.Expr) -> promql_parser.Expr | None:
        nonlocal visited, change
        visited += 1
        if visited != number:
            return None
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) in {"and", "or", "unless"}:
            kept: promql_parser.Expr = node.lhs if side == "lhs" else node.rhs
            text = re.sub(r"\s+", " ", kept.prettify())
            change = f"{node.op} keeps only {text[:60]}"
            return kept
        if isinstance(node, promql_parser.Call) and node.func.name == "round" and side == "lhs":
            change = "round() is gone"
            argument: promql_parser.Expr = node.args[0]
            return argument
        return None

    mutated = promql_parser.transform(tree, post_visit=replace)
    return (change, mutated.prettify()) if change else None


def judging(name: str, cases: Sequence[Case]) -> list[Case]:
    """The cases that a mutant of this rule is tried on: those of each alert that rests on it."""
    recorded = {rule: _text(body) for rule, body in rules().items() if "record" in body}
    resting = {name}
    for rule, text in recorded.items():  # a recorded series stands below those it rests on
        if any(each in text for each in resting):
            resting.add(rule)
    named = {alert for alert, body in alerts().items() if alert in resting or any(r in _text(body) for r in resting)}
    return [case for case in cases if case.alert in named]


def _name(rule: Mapping[str, Any]) -> str:
    return str(rule.get("record") or rule["alert"])


def _text(rule: Mapping[str, Any]) -> str:
    return str(rule["expr"])


def files_of(mutant: Mutant | None, cases: Sequence[Case]) -> tuple[str, str]:
    """recording.yml and alerts.yml with the mutant in its place, and only the rules that the cases need."""
    needed = {case.alert for case in cases}
    for name, rule in reversed(rules().items()):
        if "record" in rule and any(name in _text(rules()[each]) for each in needed):
            needed.add(name)
    documents = []
    for file in ("recording.yml", "alerts.yml"):
        groups = copy.deepcopy(rule_groups(file))
        for group in groups:
            group["rules"] = [rule for rule in group["rules"] if _name(rule) in needed]
            for rule in group["rules"]:
                if mutant is not None and _name(rule) == mutant.rule:
                    rule["expr"] = mutant.expression
                    rule.pop("for", None)
                    if mutant.duration:
                        rule["for"] = mutant.duration
        documents.append(_dumped([group for group in groups if group["rules"]]))
    return documents[0], documents[1]


def _dumped(groups: list[dict[str, Any]]) -> str:
    return str(yaml.safe_dump({"groups": groups}, width=4096, sort_keys=False))
