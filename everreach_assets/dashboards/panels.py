"""How a panel, a query and a dashboard of ours are built: one look, and no metric that the catalogue does not declare.

What belongs here: the forms that all dashboards share. What does not: what they show.
"""

import itertools
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import gauge as gauge_builders
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from everreach_assets.domain.metric_catalogue import CATALOGUE, Metric

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""A variable and not `__inputs`: file provisioning leaves those unresolved (grafana/grafana#10786)."""

GRID_COLUMNS = 24
TAG = "everreach"
FILTERS = {"platform": "Platform", "collection": "Collection"}
"""Labels that a dashboard may offer as a variable, with the word over the list."""

TARGET_LABELS = ("job", "instance")
"""Labels that Prometheus gives to every series of a target."""

RATE_INTERVAL = "$__rate_interval"
RANGE = "$__range"
DAY = "24h"
HOUR = "1h"
"""The window of what runs count in batches: shorter than the time between two runs, most of it would be empty."""

QUANTILES = (0.5, 0.95, 0.99)


# PromQL


def series(name: str, **only: str) -> str:
    """The selector of a metric: of this job and instance, and of the chosen platform or collection where it has one.

    Args:
        only: further labels with the one value that is wanted.

    Raises:
        KeyError: the catalogue has no such metric.
    """
    metric = _metric(name)
    chosen = [
        f'{label}=~"${label}"'
        for label in ("job", "instance", *FILTERS)
        if label in {*metric.labels, "job", "instance"}
    ]
    chosen += [f'{label}="{value}"' for label, value in only.items()]
    return f"{name}{{{', '.join(chosen)}}}"


def _metric(name: str) -> Metric:
    base, _, part = name.rpartition("_")
    is_part = part in ("bucket", "sum", "count") and base in CATALOGUE and CATALOGUE[base].type == "histogram"
    return CATALOGUE[base if is_part else name]


def _by(*labels: str) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def total(name: str, *labels: str) -> str:
    """The sum of a gauge by these labels."""
    return f"sum{_by(*labels)}({series(name)})"


def increase(name: str, window: str, *labels: str, **only: str) -> str:
    """What a counter grew by in the window, by these labels."""
    return f"sum{_by(*labels)}(increase({series(name, **only)}[{window}]))"


def events(name: str, window: str, *labels: str, **only: str) -> str:
    """Like `increase`, in whole events: extrapolation makes 2.003 of 2."""
    return f"sum{_by(*labels)}(round(increase({series(name, **only)}[{window}])))"


def rate(name: str, *labels: str) -> str:
    """What a counter grows by in a second."""
    return f"sum{_by(*labels)}(rate({series(name)}[{RATE_INTERVAL}]))"


def age(name: str, *labels: str) -> str:
    """Seconds since the instant that a gauge holds."""
    return f"time() - max{_by(*labels)}({series(name)})"


def quantile(share: float, histogram: str, window: str, *labels: str) -> str:
    """A quantile of what was observed in the window."""
    change = "rate" if window == RATE_INTERVAL else "increase"
    return f"histogram_quantile({share}, sum{_by('le', *labels)}({change}({series(f'{histogram}_bucket')}[{window}])))"


@dataclass(frozen=True)
class Query:
    """One expression.

    Attributes:
        legend: of its series; `{{label}}` stands for a label's value.
        column: of a table, the name of the column of its values.
    """

    expr: str
    legend: str = ""
    column: str = ""
    unit: str = ""


def quantiles(histogram: str, window: str, *labels: str) -> list[Query]:
    """p50, p95 and p99."""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    return [
        Query(quantile(share, histogram, window, *labels), f"p{share * 100:.0f} {legend}".strip())
        for share in QUANTILES
    ]


# Panels


Steps = Sequence[tuple[float | None, str]]

PLAIN: Steps = ((None, "blue"),)
ABOVE_ZERO: Steps = ((None, "green"), (1, "red"))
UP: Steps = ((None, "red"), (1, "green"))


def above(amber: float, red: float) -> Steps:
    """Colours of a value that is better the lower it is: amber and red from these values on."""
    return (None, "green"), (amber, "orange"), (red, "red")


def below(amber: float, red: float) -> Steps:
    """Colours of a value that is better the higher it is: amber below the one value, red below the other."""
    return (None, "red"), (red, "orange"), (amber, "green")


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        unit: a name of Grafana's own list of units.
        steps: from which value on which colour; of a graph they are drawn as lines.
        alerts: the rules of prometheus/alerts.yml that watch the same thing.
    """

    kind: Literal["graph", "bars", "number", "dial", "table"]
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 8
    steps: Steps = PLAIN
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    empty: str | None = None
    alerts: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    width: int = 4,
    steps: Steps = PLAIN,
    decimals: int | None = None,
    empty: str | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """One figure, with its course behind it. `empty` stands there where the expression has no result."""
    return Panel(
        "number",
        title,
        description,
        unit,
        [Query(expr)],
        width,
        4,
        steps,
        decimals=decimals,
        empty=empty,
        alerts=alerts,
    )


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    steps: Steps = PLAIN,
    maximum: float | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """Lines over time, from zero."""
    return Panel("graph", title, description, unit, queries, width, 8, steps, 0, maximum, alerts=alerts)


def bars(title: str, description: str, unit: str, *queries: Query, width: int = 8, alerts: Sequence[str] = ()) -> Panel:
    """Stacked areas over time: parts of a whole."""
    return Panel("bars", title, description, unit, queries, width, 8, minimum=0, alerts=alerts)


def table(
    title: str,
    description: str,
    *queries: Query,
    names: Mapping[str, str],
    width: int = 12,
    steps: Steps = PLAIN,
    empty: str | None = None,
    alerts: Sequence[str] = (),
) -> Panel:
    """One row for each label set now. `names` are the headings of the labels; a query gives its column and unit."""
    unit = queries[0].unit
    return Panel("table", title, description, unit, queries, width, 8, steps, empty=empty, alerts=alerts, names=names)


_Builder = timeseries_builders.Panel | stat_builders.Panel | gauge_builders.Panel | table_builders.Panel


def _build(panel: Panel) -> _Builder:
    builders_of: dict[str, Callable[[Panel], _Builder]] = {
        "graph": _lines,
        "bars": _lines,
        "number": _figure,
        "dial": _dial,
        "table": _table,
    }
    builder = builders_of[panel.kind](panel)
    description = panel.description
    if panel.alerts:
        description += f" Alerts: {', '.join(panel.alerts)} (docs/runbooks.md)."
    builder.title(panel.title).description(description).datasource(DATASOURCE).unit(panel.unit)
    builder.thresholds(_thresholds(panel.steps))
    if panel.minimum is not None:
        builder.min(panel.minimum)
    if panel.maximum is not None:
        builder.max(panel.maximum)
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.empty is not None:
        builder.no_value(panel.empty)
    for ref_id, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        builder.with_target(_target(query, ref_id, is_table=panel.kind == "table"))
    return builder


def _lines(panel: Panel) -> timeseries_builders.Panel:
    builder = (
        timeseries_builders.Panel()
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .show_points(common.VisibilityMode.AUTO)
        .fill_opacity(30 if panel.kind == "bars" else 5)
    )
    if panel.kind == "bars":
        builder.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if panel.steps is not PLAIN:
        builder.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return builder


def _figure(panel: Panel) -> stat_builders.Panel:
    return (
        stat_builders.Panel()
        .reduce_options(_last())
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    )


def _dial(panel: Panel) -> gauge_builders.Panel:
    return (
        gauge_builders.Panel()
        .reduce_options(_last())
        .show_threshold_markers(True)
        .color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    )


def _table(panel: Panel) -> table_builders.Panel:
    """One row for each label set, one column for each query."""
    columns = {f"Value #{ref_id}": query for ref_id, query in zip(string.ascii_uppercase, panel.queries, strict=False)}
    if len(columns) == 1:
        columns = {"Value": panel.queries[0]}
    builder = table_builders.Panel().with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    builder.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "renameByName": {name: query.column for name, query in columns.items()} | dict(panel.names),
            },
        )
    )
    for query in panel.queries:
        properties = [dashboard.DynamicConfigValue(id_val="unit", value=query.unit)]
        builder.override_by_name(query.column, properties)
    return builder


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _target(query: Query, ref_id: str, *, is_table: bool) -> prometheus_builders.Dataquery:
    target = prometheus_builders.Dataquery().datasource(DATASOURCE).ref_id(ref_id).expr(query.expr)
    if is_table:
        return target.instant().format(PromQueryFormat.TABLE)
    return target.range().legend_format(query.legend or "__auto")


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in steps])
    )


# Dashboards


def board(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Sequence[Panel]],
    *,
    filters: Iterable[str] = (),
    since: str = "now-24h",
) -> dashboard.Dashboard:
    """A dashboard: each row's panels from left to right, as many in a line as fit.

    Args:
        uid: what links and imports find it by, and the name of its file.
        filters: the labels of `FILTERS` that it offers as variables.
        since: the time range at first.
    """
    built = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()  # a change belongs into the source: the next provisioning would undo any other
        .time(since, "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("EverReach")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .variables([_datasource_variable(), *_target_variables(), *map(_filter_variable, filters)])
    )
    numbers, top = itertools.count(1), 0
    for name, panels in rows.items():
        built.with_row(builders.Row(name).id(next(numbers)).grid_pos(_place(0, top, GRID_COLUMNS, 1)))
        left, line_top, line_height = 0, top + 1, 0
        for panel in panels:
            if left + panel.width > GRID_COLUMNS:
                left, line_top, line_height = 0, line_top + line_height, 0
            place = _place(left, line_top, panel.width, panel.height)
            built.with_panel(_build(panel).id(next(numbers)).grid_pos(place))
            left, line_height = left + panel.width, max(line_height, panel.height)
        top = line_top + line_height
    return built.build()


def _place(left: int, top: int, width: int, height: int) -> dashboard.GridPos:
    return dashboard.GridPos(x=left, y=top, w=width, h=height)


def _datasource_variable() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _target_variables() -> list[builders.QueryVariable]:
    every = "everreach_exporter_up"  # the one series that is there whatever fails
    return [
        _query_variable("job", "Job", f"label_values({every}, job)"),
        _query_variable("instance", "Instance", f'label_values({every}{{job=~"$job"}}, instance)'),
    ]


FILTER_SOURCES = {"platform": "everreach_posts_classified_total", "collection": "everreach_vector_index_size"}


def _filter_variable(label: str) -> builders.QueryVariable:
    return _query_variable(label, FILTERS[label], f'label_values({FILTER_SOURCES[label]}{{job=~"$job"}}, {label})')


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": f"{name}-variable"})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
