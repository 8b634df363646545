"""Cloud sync, privacy, retention: what left the machine, what must not, what was deleted."""

from grafana_foundation_sdk.models import dashboard

from everreach_assets.dashboards.panels import (
    ABOVE_ZERO,
    DAY,
    Panel,
    Query,
    above,
    age,
    bars,
    board,
    events,
    graph,
    increase,
    number,
    series,
    total,
)

LOCAL_ONLY = "everreach_cloud_local_only_docs"


def sync() -> dashboard.Dashboard:
    """The dashboard of the copy in the cloud, of what may not leave, and of retention."""
    return board(
        "everreach-sync",
        "EverReach: sync, privacy and retention",
        "What the cloud has yet to take, what stays on the machine, and what is purged.",
        {"Now": _now(), "Cloud sync": _cloud(), "Privacy": _privacy(), "Retention": _retention()},
        filters=["collection"],
        since="now-7d",
    )


def _now() -> list[Panel]:
    return [
        number(
            "Local-only rows in the cloud",
            "Rows in the cloud that must never be there, by the last parity check. Anything but 0 is an incident.",
            "short",
            total(LOCAL_ONLY),
            steps=ABOVE_ZERO,
            empty="no parity check yet",
            alerts=["EverReachLocalOnlyDataInCloud"],
        ),
        number("Pending", "Changes that the cloud has not taken.", "short", total("everreach_sync_pending_docs")),
        number(
            "Oldest pending change",
            "How long the oldest of them has waited.",
            "s",
            f"max(time() - {series('everreach_sync_oldest_pending_timestamp_seconds')})",
            steps=above(7200, 86400),
            empty="none pending",
            alerts=["EverReachSyncStale"],
        ),
        number(
            "Refused by the cloud",
            "Rows that it refused again and again, and that wait for a person.",
            "short",
            total("everreach_sync_dead_letters"),
            steps=ABOVE_ZERO,
            alerts=["EverReachSyncDeadLetters"],
        ),
        number(
            "Overdue for purging",
            "Documents that the last plan wanted to purge and that are still there.",
            "short",
            total("everreach_retention_overdue_docs"),
            steps=ABOVE_ZERO,
            alerts=["EverReachRetentionOverdue"],
        ),
        number(
            "Last purge",
            "Time since a purge, or a plan of nothing, ended.",
            "s",
            age("everreach_retention_last_success_timestamp_seconds"),
            steps=above(93600, 180000),
            empty="none yet",
            alerts=["EverReachRetentionStale"],
        ),
    ]


def _cloud() -> list[Panel]:
    return [
        graph(
            "Pending changes",
            "Changes that the cloud has not acknowledged.",
            "short",
            Query(total("everreach_sync_pending_docs", "collection"), "{{collection}}"),
        ),
        graph(
            "Time since the last whole sync",
            "Since a sync ended with nothing left.",
            "s",
            Query(age("everreach_sync_last_success_timestamp_seconds", "collection"), "{{collection}}"),
            alerts=["EverReachSyncStale"],
        ),
        graph(
            "Drift",
            "Rows of which cloud and machine disagreed at the last parity check.",
            "short",
            Query(total("everreach_sync_drift_docs", "collection"), "{{collection}}"),
            alerts=["EverReachSyncDrift"],
        ),
        bars(
            "Rows sent (24h)",
            "In the 24 hours before, by what became of them.",
            "short",
            Query(increase("everreach_sync_docs_total", DAY, "result"), "{{result}}"),
            width=12,
        ),
        bars(
            "Rows sent by collection (24h)",
            "The same, by collection.",
            "short",
            Query(increase("everreach_sync_docs_total", DAY, "collection"), "{{collection}}"),
            width=12,
        ),
    ]


def _privacy() -> list[Panel]:
    return [
        graph(
            "Local-only rows in the cloud, by collection",
            "Must be 0 everywhere.",
            "short",
            Query(total(LOCAL_ONLY, "collection"), "{{collection}}"),
            steps=ABOVE_ZERO,
            alerts=["EverReachLocalOnlyDataInCloud"],
        ),
        bars(
            "Kept on this machine (24h)",
            "Rows and metadata that the egress gate held back in the 24 hours before.",
            "short",
            Query(increase("everreach_sync_blocked_total", DAY, "collection", "reason"), "{{collection}} {{reason}}"),
        ),
        bars(
            "Redactions (24h)",
            "Spans that the scrubber took out of texts in the 24 hours before.",
            "short",
            Query(increase("everreach_pii_redactions_total", DAY, "entity"), "{{entity}}"),
        ),
    ]


def _retention() -> list[Panel]:
    return [
        bars(
            "Purged (24h)",
            "Documents purged in the 24 hours before.",
            "short",
            Query(events("everreach_retention_purged_total", DAY, "collection", "reason"), "{{collection}} {{reason}}"),
            alerts=["EverReachPurgeSpike"],
        ),
        graph(
            "Overdue",
            "Documents that the last plan wanted to purge and that are still there.",
            "short",
            Query(total("everreach_retention_overdue_docs", "collection"), "{{collection}}"),
            alerts=["EverReachRetentionOverdue"],
        ),
        graph(
            "Held",
            "Expired documents that a hold or a strategy in force keeps.",
            "short",
            Query(total("everreach_retention_held_docs", "collection"), "{{collection}}"),
        ),
    ]
