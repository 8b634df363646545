"""What must hold for a dashboard, each rule a function over its JSON.

The rules of Grafana's dashboard-linter that concern Prometheus, by their names there, and more of our own. Its counter
rule is mended: it looks at the end of the whole selector, so a counter with matchers passes it, and so do the parts of
a histogram.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from promql_parser import AggModifierType, AggregateExpr, BinaryExpr, Call, Expr, MatchOp, MatrixSelector, NumberLiteral

from tests.promql import (
    COMPARISONS,
    COUNTER_FUNCTIONS,
    PROMETHEUS_OWN,
    RANGE,
    RATE_INTERVAL,
    declared,
    labels_of,
    parse,
    result_labels,
    selectors,
    walk,
    wrong_values,
)

Board = dict[str, Any]
Check = Callable[[Board], Iterator[str]]

UNITS = {"bool_yes_no", "currencyUSD", "ops", "percentunit", "reqps", "s", "short"}
"""The units in use. Each is an id of Grafana's list (packages/grafana-data/src/valueFormats/categories.ts)."""

FILTER_LABELS = ("platform", "collection")
GUARDS = {"everreach_flop_rate": "everreach_flop_window_posts"}
"""A share says nothing without what it is a share of."""

SHORTEST_WINDOW = timedelta(hours=1)
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


def faults(board: Board) -> list[tuple[str, str]]:
    """Each broken rule with what is wrong."""
    return [(name, problem) for name, function in CHECKS.items() for problem in function(board)]


def panels(board: Board) -> list[dict[str, Any]]:
    """The panels that are no headings."""
    return [panel for panel in board.get("panels", ()) if panel["type"] != "row"]


@dataclass(frozen=True)
class Target:
    panel: dict[str, Any]
    expr: str
    legend: str
    tree: Expr

    def __str__(self) -> str:
        return f"{self.panel.get('title')!r}: {self.expr}"


def targets(board: Board) -> Iterator[Target]:
    """The targets that can be parsed."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            try:
                tree = parse(target["expr"])
            except ValueError:
                continue  # target-promql-rule names it
            yield Target(panel, target["expr"], target.get("legendFormat", ""), tree)


def variables(board: Board) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in board.get("templating", {}).get("list", ())}


# The file


@check("dashboard-uid-rule")
def _uid(board: Board) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", str(board.get("uid"))):
        yield f"uid {board.get('uid')!r} is not 1 to 40 of A-Z a-z 0-9 _ -"
    if not board.get("title"):
        yield "the title is empty: provisioning refuses the file"


@check("dashboard-inputs-rule")
def _inputs(board: Board) -> Iterator[str]:
    for key in ("__inputs", "__requires", "__elements"):
        if key in board:
            yield f"{key}: file provisioning does not resolve it"
    if board.get("id") is not None:
        yield "a numeric id belongs to one Grafana"
    if "dashboard" in board:
        yield "it is wrapped for the import API: provisioning wants the dashboard itself"


@check("uneditable-dashboard-rule")
def _uneditable(board: Board) -> Iterator[str]:
    if board.get("editable") is not False:
        yield "it can be edited, and the next provisioning would undo that"


@check("panel-id-rule")
def _ids(board: Board) -> Iterator[str]:
    ids = [panel.get("id") for panel in board.get("panels", ())]
    if not all(isinstance(each, int) and each > 0 for each in ids) or len(set(ids)) < len(ids):
        yield f"ids are missing or stand twice: {ids}"
    for panel in panels(board):
        refs = [target.get("refId") for target in panel.get("targets", ())]
        if len(set(refs)) < len(refs) or not all(re.fullmatch(r"[A-Z]", str(each)) for each in refs):
            yield f"{panel.get('title')!r}: refIds are missing or stand twice: {refs}"


@check("panel-grid-rule")
def _grid(board: Board) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in board.get("panels", ()):
        place = panel["gridPos"]
        if place["x"] < 0 or place["w"] < 1 or place["h"] < 1 or place["x"] + place["w"] > 24:
            yield f"{panel.get('title')!r} leaves the 24 columns"
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        for cell in itertools.product(columns, rows):
            if cell in taken:
                yield f"{panel.get('title')!r} lies over {taken[cell]!r}"
                break
            taken[cell] = str(panel.get("title"))


# Variables


@check("template-datasource-rule")
def _datasource_variable(board: Board) -> Iterator[str]:
    found = [each for each in variables(board).values() if each["type"] == "datasource"]
    if [(each["name"], each.get("query"), each.get("label")) for each in found] != [
        ("datasource", "prometheus", "Data source")
    ]:
        yield "there must be one data source variable: `datasource`, of Prometheus, labelled `Data source`"


def _target_variable(board: Board, name: str) -> Iterator[str]:
    wanted = {"type": "query", "label": name.title(), "multi": True, "includeAll": True, "allValue": ".+"}
    wanted["datasource"] = {"type": "prometheus", "uid": "${datasource}"}
    variable = variables(board).get(name, {})
    yield from (f"{name}: {key} must be {value!r}" for key, value in wanted.items() if variable.get(key) != value)


@check("template-job-rule")
def _job_variable(board: Board) -> Iterator[str]:
    yield from _target_variable(board, "job")


@check("template-instance-rule")
def _instance_variable(board: Board) -> Iterator[str]:
    yield from _target_variable(board, "instance")


@check("template-label-promql-rule")
def _variable_queries(board: Board) -> Iterator[str]:
    for name, variable in variables(board).items():
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        if not found:
            yield f"{name}: not of the form label_values(selector, label)"
            continue
        try:
            ((selector, _),) = selectors(parse(found[1]))
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if found[2] not in labels_of(selector):
            yield f"{name}: {selector.name} has no label {found[2]}"


@check("template-on-time-change-reload-rule")
def _reload(board: Board) -> Iterator[str]:
    for name, variable in variables(board).items():
        if variable["type"] == "query" and variable.get("refresh") != 2:
            yield f"{name} is not read anew when the time range changes"


@check("template-variable-used-rule")
def _unused(board: Board) -> Iterator[str]:
    text = " ".join(target.expr for target in targets(board))
    for name, variable in variables(board).items():
        if variable["type"] == "query" and f"${name}" not in text:
            yield f"no expression uses ${name}"
    for used in set(re.findall(r"\$(\w+)", text)) - {"__rate_interval", "__range"} - set(variables(board)):
        yield f"${used} is no variable"


# Panels


@check("panel-datasource-rule")
def _panel_datasource(board: Board) -> Iterator[str]:
    for panel in panels(board):
        for each in (panel, *panel.get("targets", ())):
            if each.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{panel.get('title')!r} does not use the data source variable"


@check("panel-title-description-rule")
def _title(board: Board) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("title") or not str(panel.get("description", "")).endswith((".", ")")):
            yield f"{panel.get('title')!r} has no title or no description in sentences"
    titles = [panel.get("title") for panel in panels(board)]
    yield from (f"{title!r} stands twice" for title in set(titles) if titles.count(title) > 1)


@check("panel-units-rule")
def _units(board: Board) -> Iterator[str]:
    for panel in panels(board):
        config = panel.get("fieldConfig", {})
        overrides = [each for one in config.get("overrides", ()) for each in one["properties"] if each["id"] == "unit"]
        found = [config.get("defaults", {}).get("unit"), *(each["value"] for each in overrides)]
        yield from (f"{panel.get('title')!r}: {unit!r} is no unit of ours" for unit in found if unit not in UNITS)


@check("panel-thresholds-rule")
def _thresholds(board: Board) -> Iterator[str]:
    for panel in panels(board):
        steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps", [])
        values = [step["value"] for step in steps]
        if not values or values[0] is not None or values[1:] != sorted(values[1:]):
            yield f"{panel.get('title')!r}: thresholds must rise from null, got {values}"


@check("panel-no-targets-rule")
def _no_targets(board: Board) -> Iterator[str]:
    yield from (f"{panel.get('title')!r} asks for nothing" for panel in panels(board) if not panel.get("targets"))


@check("panel-window-in-title-rule")
def _title_window(board: Board) -> Iterator[str]:
    for target in targets(board):
        if "(24h)" in target.panel["title"] and not re.search(r"\[(24h|1d)\]|offset (24h|1d)", target.expr):
            yield f"{target}: there is no 24h in it"


# Expressions


@check("target-promql-rule")
def _promql(board: Board) -> Iterator[str]:
    for panel in panels(board):
        for target in panel.get("targets", ()):
            try:
                parse(target["expr"])
            except ValueError as error:
                yield f"{panel.get('title')!r}: {target['expr']}: {error}"


def _required_matcher(board: Board, name: str) -> Iterator[str]:
    for target in targets(board):
        for selector, _ in selectors(target.tree):
            if name not in labels_of(selector) and selector.name in PROMETHEUS_OWN:
                continue
            wanted = (name, MatchOp.Re, f"${name}")
            if wanted not in [(each.name, each.op, each.value) for each in selector.matchers.matchers]:
                yield f'{target}: {selector} lacks {name}=~"${name}"'


@check("target-job-rule")
def _job(board: Board) -> Iterator[str]:
    yield from _required_matcher(board, "job")


@check("target-instance-rule")
def _instance(board: Board) -> Iterator[str]:
    yield from _required_matcher(board, "instance")


@check("target-filter-rule")
def _filters(board: Board) -> Iterator[str]:
    for target in targets(board):
        for selector, _ in selectors(target.tree):
            given = [(each.name, each.op, each.value) for each in selector.matchers.matchers]
            for name in FILTER_LABELS:
                offered = name in variables(board) and name in labels_of(selector)
                if offered and (name, MatchOp.Re, f"${name}") not in given:
                    yield f"{target}: {selector} ignores the variable {name}"


@check("target-catalogue-rule")
def _catalogue(board: Board) -> Iterator[str]:
    for target in targets(board):
        for selector, _ in selectors(target.tree):
            if declared(selector.name or "") is None and selector.name not in PROMETHEUS_OWN:
                yield f"{target}: {selector.name} is not in the catalogue"
                continue
            unknown = {each.name for each in selector.matchers.matchers} - labels_of(selector)
            if unknown:
                yield f"{target}: {selector.name} has no label {', '.join(sorted(unknown))}"
            yield from (f"{target}: nothing can have {value}" for value in wrong_values(selector))
        for node, _ in walk(target.tree):
            if isinstance(node, AggregateExpr) and node.modifier and node.modifier.type == AggModifierType.By:
                unknown = set(node.modifier.labels) - (result_labels(node.expr) or set())
                if unknown:
                    yield f"{target}: there is no label {', '.join(sorted(unknown))} to group by"


@check("target-counter-agg-rule")
def _counters(board: Board) -> Iterator[str]:
    for target in targets(board):
        for selector, above in selectors(target.tree):
            known = declared(selector.name or "")
            if known is None:
                continue
            is_ranged = bool(above) and isinstance(above[-1], MatrixSelector)
            function = above[-2].func.name if is_ranged and isinstance(above[-2], Call) else ""
            if known.is_counter and function not in COUNTER_FUNCTIONS:
                yield f"{target}: the counter {selector.name} is used raw"
            if not known.is_counter and function in COUNTER_FUNCTIONS:
                yield f"{target}: {function} of the gauge {selector.name}"
            if not known.is_counter and function in ("delta", "idelta", "deriv"):
                yield f"{target}: {function} extrapolates: compare with the value `offset`"


@check("target-histogram-rule")
def _histograms(board: Board) -> Iterator[str]:
    for target in targets(board):
        for selector, _ in selectors(target.tree):
            known = declared(selector.name or "")
            if known and known.metric.type == "histogram" and not known.part:
                yield f"{target}: {selector.name} has series _bucket, _sum and _count only"
        for node, _ in walk(target.tree):
            if not isinstance(node, Call) or node.func.name != "histogram_quantile":
                continue
            if not _is_sum_by_le_of_rate(node.args[1]):
                yield f"{target}: histogram_quantile needs sum by (le, ...) (rate(..._bucket[...]))"


def _is_sum_by_le_of_rate(node: Expr) -> bool:
    if not isinstance(node, AggregateExpr) or str(node.op) != "sum" or node.modifier is None:
        return False
    if node.modifier.type != AggModifierType.By or "le" not in node.modifier.labels:
        return False
    inner = node.expr
    if not isinstance(inner, Call) or inner.func.name not in COUNTER_FUNCTIONS:
        return False
    (matrix,) = inner.args
    return isinstance(matrix, MatrixSelector) and str(matrix.vector_selector.name).endswith("_bucket")


@check("target-rate-interval-rule")
def _rate_interval(board: Board) -> Iterator[str]:
    """`rate` takes $__rate_interval; what runs count in batches is shown as an increase over an hour or more."""
    for target in targets(board):
        for node, above in walk(target.tree):
            if not isinstance(node, MatrixSelector) or not isinstance(above[-1], Call):
                continue
            function, window = above[-1].func.name, node.range
            if function in ("rate", "irate") and window != RATE_INTERVAL:
                yield f"{target}: {function} should use $__rate_interval"
            if function == "increase" and window != RANGE and window < SHORTEST_WINDOW:
                yield f"{target}: an increase over less than an hour misses most runs"


@check("target-whole-events-rule")
def _whole_events(board: Board) -> Iterator[str]:
    """Extrapolation makes 2.003 of 2 events: `increase(...) > 2` fires on exactly two."""
    for target in targets(board):
        for node, _ in walk(target.tree):
            if not isinstance(node, BinaryExpr) or str(node.op) not in COMPARISONS:
                continue
            for side, other in ((node.lhs, node.rhs), (node.rhs, node.lhs)):
                if isinstance(other, NumberLiteral) and other.val != 0 and _has_bare_increase(side):
                    yield f"{target}: compare round(increase(...))"


def _has_bare_increase(node: Expr) -> bool:
    return any(
        isinstance(each, Call)
        and each.func.name == "increase"
        and not any(isinstance(one, Call) and one.func.name == "round" for one in above)
        for each, above in walk(node)
    )


@check("target-limit-rule")
def _limits(board: Board) -> Iterator[str]:
    for target in targets(board):
        for node, _ in walk(target.tree):
            if not isinstance(node, BinaryExpr) or str(node.op) not in ("+", "-"):
                continue
            for side in (node.lhs, node.rhs):
                if isinstance(side, NumberLiteral) and side.val not in (0, 1):
                    yield f"{target}: the limit {side.val:g} belongs in a metric"


@check("target-guard-rule")
def _guards(board: Board) -> Iterator[str]:
    for target in targets(board):
        names = {selector.name for selector, _ in selectors(target.tree)}
        for share, guard in GUARDS.items():
            if share in names and guard not in names:
                yield f"{target}: {share} says nothing where {guard} is small"


@check("target-legend-rule")
def _legend(board: Board) -> Iterator[str]:
    for target in targets(board):
        missing = set(re.findall(r"{{\s*(\w+)\s*}}", target.legend)) - (result_labels(target.tree) or set())
        if missing:
            yield f"{target}: the result has no label {', '.join(sorted(missing))} for the legend"
    for panel in panels(board):
        legends = [each.get("legendFormat") for each in panel.get("targets", ()) if each.get("legendFormat")]
        if len(set(legends)) < len(legends):
            yield f"{panel.get('title')!r}: two queries have one legend"
