"""The catalogue of metrics keeps the conventions that Prometheus and the databases rely on."""

import re

import pytest

from everreach_assets.domain.metric_catalogue import CATALOGUE, METRICS, OTHER, SEEDED_SERIES, VALUE_SETS, Metric
from everreach_assets.service.dagster_state import ACTIVE_RUNS
from resources.metric_queries import QUERIES

all_metrics = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)

SERIES_OF_A_METRIC = 250
"""Label sets that one metric may have at most, `other` included."""


def test_no_name_stands_twice() -> None:
    assert len(CATALOGUE) == len(METRICS)


@all_metrics
def test_names_and_types_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"(everreach|dagster)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert bool(metric.buckets) == (metric.type == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help.endswith((".", ")."))
    assert not {"le", "job", "instance", "quantile"} & metric.labels.keys()  # Prometheus gives these itself


@all_metrics
def test_labels_come_from_closed_sets_of_bounded_size(metric: Metric) -> None:
    series = 1
    for label, value_set in metric.labels.items():
        assert re.fullmatch(r"[a-z_]+", label)
        if metric.is_recorded or metric.source == "database":
            series *= len(VALUE_SETS[value_set]) + 1
    assert series <= SERIES_OF_A_METRIC or metric.type == "histogram"


@all_metrics
def test_a_counter_starts_all_its_series_at_zero_unless_they_are_too_many(metric: Metric) -> None:
    seeds = list(metric.seeds())
    assert len(seeds) <= SEEDED_SERIES
    assert bool(seeds) == (metric.type == "counter" and metric.is_recorded)
    assert all(each.keys() == metric.labels.keys() for each in seeds)


def test_no_set_holds_total_or_other_by_itself() -> None:
    for values in VALUE_SETS.values():
        assert not {"total", OTHER} & set(values)
        assert len(set(values)) == len(values)


CAPPED = re.compile(r"SELECT count\(\*\).* LIMIT (\d+)\)", re.DOTALL)
CAPS = {query.metric: int(cap[1]) for query in QUERIES if (cap := CAPPED.search(query.statement))}


@pytest.mark.parametrize(("metric", "cap"), [*CAPS.items(), ("dagster_active_runs", ACTIVE_RUNS)])
def test_the_help_of_a_count_that_stops_says_where(metric: str, cap: int) -> None:
    assert f"counted up to {cap:,}" in CATALOGUE[metric].help


def test_no_other_help_speaks_of_a_stop() -> None:
    assert {metric.name for metric in METRICS if "counted up to" in metric.help} == {*CAPS, "dagster_active_runs"}
