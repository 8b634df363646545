"""Every metric of the project: the one list that exporter, rules, dashboards and docs are checked against.

What belongs here: names as exposed, types, help, labels with the closed sets of their values, buckets, and where the
numbers come from. What does not: storing them (`resources/metric_records.py`) and exposing them
(`everreach_assets/service/`).

Names follow https://prometheus.io/docs/practices/naming/: base units, counters end in `_total`. A label's value always
comes from a closed set; a value outside it is counted under `other`, so no caller can make a series.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from everreach_assets.domain.collections import COLLECTIONS

MetricType = Literal["counter", "gauge", "histogram"]

Source = Literal["recorded", "outside", "database", "dagster", "service"]
"""Where the numbers come from: `recorded` by the project's own work and `outside` by other services, both durable rows;
`database` by SQL at the scrape; `dagster` from its instance; `service` is the process that is scraped."""

OTHER = "other"
SEEDED_SERIES = 150
"""A counter with no more label sets than this starts every one of them at 0: Prometheus never sees the first increment
of a series that is born with it (`increase` of a counter born at 4 is 0)."""

VALUE_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "platform": (
            "bluesky", "facebook", "instagram", "linkedin", "mastodon", "pinterest", "reddit", "threads", "tiktok", "x",
            "youtube",
        ),
        "niche": (
            "beauty", "business", "careers", "cooking", "education", "fashion", "finance", "fitness", "gaming",
            "health", "marketing", "music", "news", "parenting", "politics", "science", "sport", "technology", "travel",
        ),
        "label": ("viral", "hit", "average", "underperform", "flop", "insufficient_data"),
        "collection": tuple(COLLECTIONS),
        "backend": ("chroma", "pgvector"),
        "mrr_source": ("stripe", "paddle", "shopify", "paypal", "invoice"),
        "cloud_service": (
            "anthropic", "aws", "chroma_cloud", "gcp", "neon", "openai", "pinecone", "supabase", "vercel", "voyage",
        ),
        "cloud_action": ("backup", "compute", "embed", "llm", "query", "storage", "sync", "transfer"),
        "dispatch_service": ("browser", "cloud", "crm", "email", "local_terminal", "publisher"),
        "dispatch_action": (
            "dm.send", "email.send", "post.publish", "post.schedule", "profile.read", "telegram.send",
        ),
        "env": ("production", "staging", "development"),
        "provider": ("http", "local", "openai", "voyage"),
        "embedding_model": (
            "hashing-char-3-5", "text-embedding-3-large", "text-embedding-3-small", "voyage-3.5", "voyage-3.5-lite",
        ),
        "embedding_error": ("timeout", "rate_limited", "auth", "bad_request", "server", "dimension"),
        "fallback_reason": ("index_short", "query_not_embedded"),
        "document_outcome": ("embedded", "unchanged", "not_embedded", "deleted"),
        "intake_kind": ("posts", "outcomes", "prospects", "lessons", "api"),
        "rebuild_result": ("rebuilt", "held", "unchanged"),
        "wording_result": ("kept", "dropped", "failed"),
        "sync_result": ("pushed", "updated", "deleted", "conflict", "failed"),
        "sync_block": ("local_only", "metadata"),
        "redaction": ("email", "phone", "name"),
        "purge_reason": ("expired",),
        "relay_result": ("accepted", "refused", "retried"),
        "job": (
            "memory_refresh_job", "strategy_rebuild_job", "cloud_sync_job", "cloud_parity_job", "retention_job",
            "heal_embeddings_job", "embedding_migration_job", "weekly_changes_job",
        ),
        "run_result": ("success", "failure", "canceled"),
    }
)  # fmt: skip
"""The closed sets by name. An operator adds values with `everreach metrics allow SET VALUE`."""

FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
API_SECONDS = tuple(0.01 * 2**power for power in range(14))
"""OpenTelemetry's advice for a model's call (semantic conventions, gen_ai.client.operation.duration)."""
DISPATCH_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""The contract's 0.1, 0.5, 1, 5 and 30, and more between and above: p95 of constant 45 s must not read 30."""
BATCH_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

MINUTES, HOURS = 60.0, 3600.0


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as exposed; a counter's ends in `_total`.
        labels: each with the name of the set that its values come from (`VALUE_SETS`), or a set that the code itself
            closes: jobs, sensors and assets of Dagster.
        buckets: of a histogram, upper bounds in the metric's unit.
        max_age_seconds: of a recorded gauge: an older value is withheld, so that `absent()` sees the silence.
    """

    name: str
    type: MetricType
    help: str
    source: Source
    labels: Mapping[str, str] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    max_age_seconds: float | None = None

    @property
    def is_recorded(self) -> bool:
        """Kept as durable rows, which anybody may add to who may write to the database."""
        return self.source in ("recorded", "outside")

    def seeds(self, value_sets: Mapping[str, Sequence[str]] = VALUE_SETS) -> Iterator[dict[str, str]]:
        """The label sets that a recorded counter starts at 0; none where there would be too many."""
        if self.type != "counter" or not self.is_recorded:
            return
        values = [(*value_sets[value_set], OTHER) for value_set in self.labels.values()]
        combinations = list(itertools.islice(itertools.product(*values), SEEDED_SERIES + 1))
        if len(combinations) <= SEEDED_SERIES:
            yield from (dict(zip(self.labels, each, strict=True)) for each in combinations)


def _counter(name: str, help_: str, source: Source = "recorded", /, **labels: str) -> Metric:
    return Metric(name, "counter", help_, source, labels)


def _gauge(
    name: str, help_: str, source: Source = "recorded", max_age: float | None = None, /, **labels: str
) -> Metric:
    return Metric(name, "gauge", help_, source, labels, max_age_seconds=max_age)


def _histogram(
    name: str, help_: str, buckets: tuple[float, ...], source: Source = "recorded", /, **labels: str
) -> Metric:
    return Metric(name, "histogram", help_, source, labels, buckets)


COLLECTION = {"collection": "collection"}

METRICS: tuple[Metric, ...] = (
    # The business, recorded by other services
    _gauge("everreach_mrr_usd", "Monthly recurring revenue by source; the total is their sum.", "outside",
           48 * HOURS, source="mrr_source"),
    _gauge("everreach_followers", "Followers of the accounts of a platform.", "outside", 48 * HOURS,
           platform="platform"),
    _gauge("everreach_aag_active", "Agents that are active now.", "outside", 15 * MINUTES),
    _counter("everreach_cloud_cost_usd_total", "Money spent on cloud services, recorded with each call or bill.",
             "outside", service="cloud_service", action="cloud_action"),
    _histogram("everreach_dispatch_duration_seconds", "Time from an action's dispatch to its answer.", DISPATCH_SECONDS,
               "outside", service="dispatch_service", action="dispatch_action", env="env"),
    _counter("everreach_dms_sent_total", "Direct messages sent.", "outside", platform="platform"),
    _counter("everreach_failover_events_total", "Times that work moved to a backup: another cloud, or another provider "
             "of embeddings (once for an outage).", "outside"),
    _gauge("everreach_cloud_cost_month_to_date_usd", "Money spent on a cloud service since the first of the UTC month.",
           "database", service="cloud_service"),
    _gauge("everreach_cloud_cost_cap_usd", "What a month may cost (setting CLOUD_COST_CAP_USD).", "service"),
    # Feedback
    _gauge("everreach_flop_rate", "Share of flops among the labelled posts of the last 30 days.", "recorded",
           26 * HOURS, platform="platform", niche="niche"),
    _gauge("everreach_flop_window_posts", "Labelled posts of the last 30 days: what everreach_flop_rate is a share of.",
           "recorded", 26 * HOURS, platform="platform", niche="niche"),
    _gauge("everreach_reach_vs_anchor_ratio", "Settled posts of the last 90 days as a multiple of their account's "
           "frozen year before: the median over a platform's accounts.", "recorded", 26 * HOURS, platform="platform"),
    _counter("everreach_posts_classified_total", "Labels given to posts; a post whose label changes counts again.",
             platform="platform", classification="label"),
    _gauge("everreach_outcomes_since_rebuild", "Posts with outcomes that no strategy took into account yet.",
           "database", platform="platform"),
    _gauge("everreach_outcomes_until_rebuild", "Further posts with new outcomes until the strategy is rebuilt.",
           "database", platform="platform"),
    _gauge("everreach_strategy_rebuild_attempts", "Rebuilds asked for since the last strategy, where one is due.",
           "database", platform="platform"),
    _counter("everreach_strategy_rebuilds_total", "Rebuilds of strategies, by what came of them.",
             platform="platform", result="rebuild_result"),
    _counter("everreach_strategy_wordings_total", "Claims that a language model was to phrase, by what came of it.",
             result="wording_result"),
    _gauge("everreach_strategy_last_rebuild_timestamp_seconds", "When the strategy in force was made.", "database",
           platform="platform"),
    # Intake
    _counter("everreach_ingest_processed_total", "Rows read, those that were rejected included.", source="intake_kind"),
    _counter("everreach_ingest_rejected_total", "Rows that went to the dead letters.", source="intake_kind"),
    _histogram("everreach_ingest_batch_duration_seconds", "Time of the intake of a file.", BATCH_SECONDS,
               source="intake_kind"),
    _gauge("everreach_ingest_last_success_timestamp_seconds", "When a file, or one outcome, was last taken in.",
           source="intake_kind"),
    _gauge("everreach_ingest_dead_letters", "Rows in the dead letters, waiting for a person; counted up to 10,000.",
           "database", source="intake_kind"),
    # Embedding and vectors
    _counter("everreach_embedding_api_calls_total", "Calls of a provider, every attempt, those that failed too.",
             provider="provider", model="embedding_model"),
    _counter("everreach_embedding_errors_total", "Provider calls that failed, by class of error.",
             provider="provider", error_class="embedding_error"),
    _counter("everreach_embedding_tokens_total", "Tokens that a provider charges for.",
             provider="provider", model="embedding_model"),
    _counter("everreach_embedding_cost_usd_total", "Price of those tokens at the time of the call.",
             provider="provider", model="embedding_model"),
    _histogram("everreach_embedding_api_latency_seconds", "Time of a provider call.", API_SECONDS,
               provider="provider", model="embedding_model"),
    _gauge("everreach_embedding_daily_calls", "Provider calls since UTC midnight.", "database", provider="provider"),
    _gauge("everreach_embedding_daily_quota", "Provider calls that a day may have (setting EMBEDDING_DAILY_QUOTA).",
           "service", provider="provider"),
    _gauge("everreach_embedding_quota_reset_timestamp_seconds", "When the daily count starts again.", "service"),
    _gauge("everreach_embedding_quota_remaining", "Calls that the day still has, neither made nor promised.",
           "database", provider="provider"),
    _counter("everreach_embedding_quota_exhausted_total", "Calls that the quota refused, or that were made beyond it.",
             provider="provider"),
    _counter("everreach_embedding_cache_hits_total", "Texts whose vector was in the cache."),
    _counter("everreach_embedding_cache_misses_total", "Texts whose vector was not in the cache."),
    _counter("everreach_embedding_cache_errors_total", "Times that the cache did not answer."),
    _gauge("everreach_embedding_cache_entries", "Vectors in the cache that Postgres holds.", "database"),
    _gauge("everreach_embedding_cache_pending_erasures", "Erased texts that the cache, being away, has yet to forget.",
           "database"),
    _counter("everreach_embedding_breaker_openings_total", "Times that a provider failed so often that it was left "
             "alone for a while.", provider="provider"),
    _gauge("everreach_embedding_breaker_open", "1 where the provider is left alone, or is to be tried again.",
           "database", provider="provider"),
    _counter("everreach_embedding_failover_texts_total", "Texts that the backup embedded, by the backup.",
             provider="provider"),
    _gauge("everreach_embedding_dead_letters", "Texts that a provider has no vector for, counted up to 10,000.",
           "database", collection="collection"),
    _gauge("everreach_vector_index_size", "Vectors that the index holds, counted by each run of its asset.",
           collection="collection", backend="backend"),
    _gauge("everreach_vector_index_null_count", "Documents without a vector: nothing was left to embed, or it failed.",
           collection="collection"),
    _gauge("everreach_embedding_space_rows", "Vectors by what made them, counted by each run of their asset.",
           collection="collection", provider="provider", model="embedding_model"),
    _gauge("everreach_embedding_heal_pending_rows",
           "Vectors that a backup made and that wait for the provider in force, counted up to 100,000.", "database",
           collection="collection"),
    _gauge("everreach_vector_index_pending_rows", "Changes that the index has not acknowledged; counted up to 100,000.",
           "database", collection="collection"),
    _gauge("everreach_vector_self_recall_ratio", "Share of sampled vectors that a search with themselves finds.",
           "recorded", 26 * HOURS, collection="collection"),
    _histogram("everreach_vector_query_latency_seconds", "Time of a search.", FAST_SECONDS,
               backend="backend", collection="collection"),
    _counter("everreach_vector_fallback_total", "Searches that Postgres answered, because index or provider could not.",
             reason="fallback_reason"),
    _counter("everreach_backfill_rows_total", "Documents that an embedding run came upon, by what became of them.",
             collection="collection", status="document_outcome"),
    _gauge("everreach_backfill_remaining_rows", "Documents that the embedding run under way has yet to embed.",
           collection="collection"),
    _histogram("everreach_backfill_batch_duration_seconds", "Time to scrub, embed and store a batch of documents.",
               BATCH_SECONDS, collection="collection"),
    _counter("everreach_pii_redactions_total", "Spans that the scrubber took out of texts.", entity="redaction"),
    # Cloud sync and retention
    _counter("everreach_sync_docs_total", "Rows sent to the cloud, by what became of them.",
             collection="collection", result="sync_result"),
    _counter("everreach_sync_blocked_total", "Rows and metadata that the egress gate kept on this machine.",
             collection="collection", reason="sync_block"),
    _gauge("everreach_sync_last_success_timestamp_seconds", "When a sync last ended with nothing left.",
           collection="collection"),
    _gauge("everreach_sync_pending_docs", "Changes that the cloud has not acknowledged; counted up to 20,000.",
           "database", collection="collection"),
    _gauge("everreach_sync_oldest_pending_timestamp_seconds",
           "Since when the oldest of the first 1,000 of those has waited.",
           "database", collection="collection"),
    _gauge("everreach_sync_dead_letters", "Rows that the cloud refused again and again; counted up to 10,000.",
           "database", collection="collection"),
    _gauge("everreach_sync_drift_docs", "Rows of which cloud and machine disagreed at the last parity check.",
           "recorded", 26 * HOURS, collection="collection"),
    _gauge("everreach_cloud_local_only_docs", "Rows in the cloud that must never be there: 0, or somebody is called.",
           "recorded", 26 * HOURS, collection="collection"),
    _counter("everreach_retention_purged_total", "Documents purged.", collection="collection", reason="purge_reason"),
    _gauge("everreach_retention_overdue_docs", "Documents that the last plan wanted to purge and that are still there.",
           collection="collection"),
    _gauge("everreach_retention_held_docs", "Expired documents that a hold or a strategy in force keeps.",
           collection="collection"),
    _gauge("everreach_retention_last_success_timestamp_seconds", "When a purge, or a plan of nothing, last ended."),
    # Dagster
    _gauge("dagster_active_runs", "Runs that are queued or under way; counted up to 1,000.", "dagster",
           job_name="job", status="status"),
    _gauge("dagster_oldest_queued_run_timestamp_seconds", "Since when the oldest queued run has waited.", "dagster"),
    _counter("dagster_completed_runs_total", "Runs that ended.", job_name="job", status="run_result"),
    _gauge("dagster_last_run_duration_seconds", "Duration of a job's last run.", "dagster", job_name="job"),
    _gauge("dagster_daemon_last_heartbeat_timestamp_seconds", "Last sign of life of a daemon.", "dagster",
           daemon_type="daemon"),
    _gauge("dagster_sensor_status", "1 where the sensor is on.", "dagster", sensor_name="sensor"),
    _gauge("dagster_sensor_last_tick_status", "1 where the last tick did not fail.", "dagster", sensor_name="sensor"),
    _gauge("dagster_sensor_last_tick_timestamp_seconds", "Last tick.", "dagster", sensor_name="sensor"),
    _gauge("dagster_schedule_status", "1 where the schedule is on.", "dagster", schedule_name="schedule"),
    _gauge("dagster_schedule_last_tick_status", "1 where the last tick did not fail.", "dagster",
           schedule_name="schedule"),
    _gauge("dagster_schedule_last_tick_timestamp_seconds", "Last tick.", "dagster", schedule_name="schedule"),
    _gauge("dagster_asset_last_materialization_timestamp_seconds", "When the asset was last made.", "dagster",
           asset_key="asset"),
    _gauge("dagster_asset_freshness_sla_seconds", "How old the asset may become.", "dagster", asset_key="asset"),
    _gauge("dagster_asset_check_failing", "1 where the last evaluation of the check failed.", "dagster",
           asset_key="asset", check_name="check"),
    # The exporter and the alert relay
    _gauge("everreach_exporter_up", "1 where the database answered this scrape.", "service"),
    _gauge("everreach_exporter_collector_success", "1 where that part of the scrape succeeded.", "service",
           collector="collector"),
    _gauge("everreach_exporter_scrape_duration_seconds", "Time of this scrape.", "service"),
    _gauge("everreach_exporter_build_info", "1; what runs.", "service", version="version"),
    _counter("everreach_alert_dispatch_total", "Alert messages handed to dispatch, by its answer.",
             result="relay_result"),
    _gauge("everreach_alert_dispatch_last_success_timestamp_seconds", "When dispatch last accepted a message."),
    _gauge("everreach_alert_heartbeat_timestamp_seconds", "When the alert that always fires last reached the relay."),
)  # fmt: skip

CATALOGUE: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in METRICS})
