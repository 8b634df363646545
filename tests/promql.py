"""PromQL of dashboards as a syntax tree: what its expressions ask for, and which labels their results have."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import singledispatch

import promql_parser as promql
from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    LabelModifierType,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorMatchCardinality,
    VectorSelector,
)

from everreach_assets.domain.metric_catalogue import CATALOGUE, OTHER, VALUE_SETS, Metric

RATE_INTERVAL = timedelta(seconds=61)
RANGE = timedelta(seconds=21_601)
"""What Grafana's two windows become before they are parsed: lengths that nobody writes by hand."""

COUNTER_FUNCTIONS = {"rate", "irate", "increase"}
HISTOGRAM_PARTS = ("bucket", "sum", "count")
TARGET_LABELS = {"job", "instance"}
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}

PROMETHEUS_OWN = {"up": frozenset(TARGET_LABELS), "ALERTS": frozenset({"alertname", "alertstate", "severity"})}
"""Series that Prometheus makes itself, and their labels."""


def substituted(expr: str) -> str:
    """The expression with lengths for Grafana's windows; its variables stand in strings, where all parses."""
    return expr.replace("$__rate_interval", f"{RATE_INTERVAL.seconds}s").replace("$__range", f"{RANGE.seconds}s")


def parse(expr: str) -> Expr:
    """The syntax tree.

    Raises:
        ValueError: it is no PromQL.
    """
    return promql.parse(substituted(expr))


def children(node: Expr) -> list[Expr]:
    if isinstance(node, BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, Call):
        return list(node.args)
    if isinstance(node, MatrixSelector):
        return [node.vector_selector]
    if isinstance(node, AggregateExpr):
        return [node.expr]
    if isinstance(node, ParenExpr | UnaryExpr | SubqueryExpr):
        return [node.expr]
    return []


def walk(node: Expr, above: tuple[Expr, ...] = ()) -> Iterator[tuple[Expr, tuple[Expr, ...]]]:
    """Every node with those above it, the nearest last."""
    yield node, above
    for child in children(node):
        yield from walk(child, (*above, node))


@dataclass(frozen=True)
class Declared:
    """What the catalogue says of a series.

    Attributes:
        part: of a histogram: bucket, sum or count; empty for the name itself.
    """

    metric: Metric
    part: str = ""

    @property
    def is_counter(self) -> bool:
        return self.metric.type == "counter" or bool(self.part)

    @property
    def labels(self) -> set[str]:
        return {*self.metric.labels, *TARGET_LABELS, *({"le"} if self.part == "bucket" else ())}


def declared(name: str) -> Declared | None:
    if name in CATALOGUE:
        return Declared(CATALOGUE[name])
    base, _, part = name.rpartition("_")
    if part in HISTOGRAM_PARTS and base in CATALOGUE and CATALOGUE[base].type == "histogram":
        return Declared(CATALOGUE[base], part)
    return None


def selectors(node: Expr) -> Iterator[tuple[VectorSelector, tuple[Expr, ...]]]:
    for each, above in walk(node):
        if isinstance(each, VectorSelector):
            yield each, above


def wrong_values(selector: VectorSelector) -> list[str]:
    """Matchers for values that the label's closed set does not hold: such a selector finds nothing."""
    known = declared(selector.name or "")
    if known is None:
        return []
    return [
        f'{matcher.name}="{matcher.value}"'
        for matcher in selector.matchers.matchers
        if matcher.op == MatchOp.Equal
        and matcher.name in known.metric.labels
        and known.metric.labels[matcher.name] in VALUE_SETS
        and matcher.value not in (*VALUE_SETS[known.metric.labels[matcher.name]], OTHER)
    ]


def labels_of(selector: VectorSelector) -> set[str]:
    name = selector.name or ""
    if name in PROMETHEUS_OWN:
        return set(PROMETHEUS_OWN[name])
    known = declared(name)
    return known.labels if known else set()


@singledispatch
def result_labels(node: Expr) -> set[str] | None:
    """The labels that every series of the result has; None for a plain number."""
    (only,) = children(node)
    return result_labels(only)


@result_labels.register
def _of_number(node: NumberLiteral) -> None:
    return None


@result_labels.register
def _of_selector(node: VectorSelector) -> set[str]:
    return labels_of(node)


@result_labels.register
def _of_aggregation(node: AggregateExpr) -> set[str]:
    inner = result_labels(node.expr) or set()
    if node.modifier is None:
        return set()
    named = set(node.modifier.labels)
    return inner & named if node.modifier.type == AggModifierType.By else inner - named


@result_labels.register
def _of_call(node: Call) -> set[str] | None:
    if node.func.name in ("time", "scalar"):
        return None
    vectors = [labels for each in node.args if (labels := result_labels(each)) is not None]
    return (vectors[0] if vectors else set()) - ({"le"} if node.func.name == "histogram_quantile" else set())


@result_labels.register
def _of_operator(node: BinaryExpr) -> set[str] | None:
    left, right = result_labels(node.lhs), result_labels(node.rhs)
    if left is None or right is None:
        return right if left is None else left
    if str(node.op) in ("and", "unless"):
        return left
    if str(node.op) == "or" or node.modifier is None or node.modifier.matching is None:
        return left & right
    if node.modifier.card != VectorMatchCardinality.OneToOne:
        return left | set(node.modifier.group_labels or ())
    named = set(node.modifier.matching.labels)
    return named if node.modifier.matching.type == LabelModifierType.Include else left - named
