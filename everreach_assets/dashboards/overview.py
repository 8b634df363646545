"""The first page: does the business do well, does it cost what it may, does everything work."""

from grafana_foundation_sdk.models import dashboard

from everreach_assets.dashboards.panels import (
    ABOVE_ZERO,
    DAY,
    RATE_INTERVAL,
    UP,
    Panel,
    Query,
    above,
    age,
    bars,
    below,
    board,
    events,
    graph,
    increase,
    number,
    quantile,
    quantiles,
    rate,
    series,
    table,
    total,
)

MRR = "everreach_mrr_usd"
COST = "everreach_cloud_cost_month_to_date_usd"
CAP = "everreach_cloud_cost_cap_usd"
DISPATCH = "everreach_dispatch_duration_seconds"
FIRING = 'ALERTS{alertstate="firing", alertname!="Watchdog"}'
"""Prometheus's own series; it has the labels of the alert and not those of our target."""
FLOP_POSTS = 10
"""With fewer posts the rate says little: one post that flopped is a rate of 1."""

MRR_CHANGE = (
    f"sum({series(MRR)} and on (source) {series(MRR)} offset 1d)"
    f" / sum({series(MRR)} offset 1d and on (source) {series(MRR)}) - 1"
)
COST_SHARE = f"{total(COST)} / max({series(CAP)})"


def overview() -> dashboard.Dashboard:
    """The dashboard that a person opens first: the business, the cost, and whether everything works."""
    return board(
        "everreach-overview",
        "EverReach: overview",
        "Revenue, reach, cost, dispatch, and whether everything works.",
        {
            "Now": _now(),
            "Business": _business(),
            "Cloud cost": _cost(),
            "Dispatch": _dispatch(),
            "Health": [*_service_health(), *_alerting_health(), *_what_runs()],
        },
        filters=["platform"],
        since="now-7d",
    )


def _now() -> list[Panel]:
    return [
        number("MRR", "Monthly recurring revenue of all sources.", "currencyUSD", total(MRR), decimals=0),
        number(
            "MRR change (24h)",
            "Against the day before, of the sources that report at both times: one that stops reporting is no drop.",
            "percentunit",
            MRR_CHANGE,
            steps=below(0, -0.1),
            empty="no value of a day ago",
            alerts=["MRRDropAlert", "EverReachMRRSourceLost"],
        ),
        number("Followers", "Followers on the chosen platforms.", "short", total("everreach_followers")),
        number("Active agents", "Agents that are active now.", "short", f"max({series('everreach_aag_active')})"),
        Panel(
            "dial",
            "Month's cost of the cap",
            "Cloud cost since the first of the UTC month, as a share of CLOUD_COST_CAP_USD.",
            "percentunit",
            [Query(COST_SHARE)],
            4,
            4,
            above(0.8, 0.95),
            0,
            1,
            alerts=["CloudCostApproachingCap", "EverReachCloudCostCapExceeded"],
        ),
        number(
            "Firing alerts",
            "Alerts that fire now; the heartbeat (Watchdog) always does and is left out.",
            "short",
            f"count({FIRING}) or vector(0)",
            steps=ABOVE_ZERO,
        ),
    ]


def _business() -> list[Panel]:
    return [
        bars("MRR by source", "The total is the upper edge.", "currencyUSD", Query(total(MRR, "source"), "{{source}}")),
        graph(
            "Followers by platform",
            "As the platforms report them.",
            "short",
            Query(total("everreach_followers", "platform"), "{{platform}}"),
        ),
        graph(
            "Flop rate",
            f"Share of flops among the posts of 30 days; niches with fewer than {FLOP_POSTS} posts are left out.",
            "percentunit",
            Query(
                f"{series('everreach_flop_rate')} and on (platform, niche)"
                f" {series('everreach_flop_window_posts')} >= {FLOP_POSTS}",
                "{{platform}} {{niche}}",
            ),
            steps=above(0.25, 0.4),
            maximum=1,
            alerts=["ContentFlopRateHigh"],
        ),
        graph(
            "Reach against the year before",
            "The last 90 days as a multiple of each account's frozen anchor, the median over its platform's accounts. "
            "Labels follow a slow decline and hide it; this does not.",
            "short",
            Query(series("everreach_reach_vs_anchor_ratio"), "{{platform}}"),
        ),
        bars(
            "Direct messages (24h)",
            "Messages sent in the 24 hours before.",
            "short",
            Query(increase("everreach_dms_sent_total", DAY, "platform"), "{{platform}}"),
        ),
        bars(
            "Labels given (24h)",
            "Posts labelled in the 24 hours before; a post whose label changes counts again.",
            "short",
            Query(increase("everreach_posts_classified_total", DAY, "classification"), "{{classification}}"),
        ),
        graph(
            "Age of the strategies",
            "Time since the strategy in force was made.",
            "s",
            Query(age("everreach_strategy_last_rebuild_timestamp_seconds", "platform"), "{{platform}}"),
            alerts=["EverReachStrategyStale"],
        ),
    ]


def _cost() -> list[Panel]:
    return [
        graph(
            "Month to date",
            "Cost by service since the first of the UTC month, their sum, and the cap.",
            "currencyUSD",
            Query(total(COST, "service"), "{{service}}"),
            Query(total(COST), "all"),
            Query(f"max({series(CAP)})", "cap"),
            width=10,
        ),
        bars(
            "Cost of a day",
            "By service and action, in the 24 hours before. The month's cost is kept in rows of its own: it is exact.",
            "currencyUSD",
            Query(increase("everreach_cloud_cost_usd_total", DAY, "service", "action"), "{{service}} {{action}}"),
            width=10,
        ),
        number(
            "Projected month",
            "If every day of the month cost what the days so far did.",
            "currencyUSD",
            f"{total(COST)} * days_in_month() / day_of_month()",
            decimals=0,
            alerts=["EverReachCloudCostProjectedOverCap"],
        ),
    ]


def _dispatch() -> list[Panel]:
    return [
        graph(
            "Dispatch time",
            "From an action's dispatch to its answer, all actions together.",
            "s",
            *quantiles(DISPATCH, RATE_INTERVAL),
        ),
        graph(
            "Dispatch time by service",
            "p95, by the service that was asked.",
            "s",
            Query(quantile(0.95, DISPATCH, RATE_INTERVAL, "service"), "{{service}}"),
        ),
        bars(
            "Dispatches",
            "Actions a second, by service.",
            "ops",
            Query(rate(f"{DISPATCH}_count", "service"), "{{service}}"),
            width=4,
        ),
        number(
            "Failovers (24h)",
            "Times that work moved to a backup cloud.",
            "short",
            events("everreach_failover_events_total", DAY),
            steps=above(1, 3),
            alerts=["CloudFailoverFrequent"],
        ),
    ]


def _service_health() -> list[Panel]:
    return [
        number(
            "Service",
            "1 where the last scrape was answered.",
            "bool_yes_no",
            'min(up{job=~"$job", instance=~"$instance"})',
            steps=UP,
            alerts=["EverReachExporterDown"],
        ),
        number(
            "Database",
            "1 where the database answered the last scrape.",
            "bool_yes_no",
            f"min({series('everreach_exporter_up')})",
            steps=UP,
            alerts=["EverReachMetricStoreDown"],
        ),
        number(
            "Scrape",
            "Time that the service took for the last scrape.",
            "s",
            f"max({series('everreach_exporter_scrape_duration_seconds')})",
            steps=above(1, 3),
        ),
        number(
            "Oldest daemon heartbeat",
            "Time since the daemon of Dagster that was silent longest gave a sign of life; usual is under a minute.",
            "s",
            f"max(time() - {series('dagster_daemon_last_heartbeat_timestamp_seconds')})",
            steps=above(120, 600),
            alerts=["DagsterDaemonHeartbeatStale"],
        ),
    ]


def _alerting_health() -> list[Panel]:
    return [
        number(
            "Last alert accepted",
            "Time since dispatch last took a message of the alert relay.",
            "s",
            age("everreach_alert_dispatch_last_success_timestamp_seconds"),
            empty="none yet",
        ),
        number(
            "Alert messages refused (24h)",
            "Messages that dispatch refused for good.",
            "short",
            events("everreach_alert_dispatch_total", DAY, result="refused"),
            steps=ABOVE_ZERO,
            alerts=["EverReachAlertDispatchFailing"],
        ),
        table(
            "Alerts that fire",
            "By name and severity.",
            Query(f"count by (alertname, severity) ({FIRING})", column="alerts", unit="short"),
            names={"alertname": "alert", "severity": "severity"},
            width=8,
            empty="none",
        ),
        bars(
            "Alert messages",
            "Handed to dispatch in the 24 hours before, by its answer.",
            "short",
            Query(increase("everreach_alert_dispatch_total", DAY, "result"), "{{result}}"),
        ),
    ]


def _what_runs() -> list[Panel]:
    return [
        table(
            "Parts of the scrape",
            "1 where that part of the service's answer was complete.",
            Query(
                f"min by (collector) ({series('everreach_exporter_collector_success')})",
                column="ok",
                unit="bool_yes_no",
            ),
            names={"collector": "part"},
            width=4,
            steps=UP,
        ),
        table(
            "Version",
            "What runs.",
            Query(
                f"max by (version, instance) ({series('everreach_exporter_build_info')})",
                column="runs",
                unit="bool_yes_no",
            ),
            names={"version": "version", "instance": "instance"},
            width=4,
        ),
    ]
