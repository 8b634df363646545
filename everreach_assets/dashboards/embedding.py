"""Embedding: calls, quota, cost, the index, and the run that fills it."""

from grafana_foundation_sdk.models import dashboard

from everreach_assets.dashboards.panels import (
    ABOVE_ZERO,
    DAY,
    HOUR,
    RANGE,
    Panel,
    Query,
    above,
    bars,
    below,
    board,
    events,
    graph,
    increase,
    number,
    quantiles,
    rate,
    series,
    total,
)

CALLS = "everreach_embedding_api_calls_total"
DAILY_CALLS = "everreach_embedding_daily_calls"
HITS = "everreach_embedding_cache_hits_total"
COST = "everreach_embedding_cost_usd_total"
REMAINING = "everreach_backfill_remaining_rows"
ROWS = "everreach_backfill_rows_total"
SIZE = "everreach_vector_index_size"
NULLS = "everreach_vector_index_null_count"


def embedding() -> dashboard.Dashboard:
    """The dashboard of the embedding providers, the index and the runs that fill it."""
    return board(
        "everreach-embedding",
        "EverReach: embedding",
        "Calls, quota and cost of the embedding providers, the vector index, and the runs that fill it.",
        {
            "Quota": _quota(),
            "Cost": _cost(),
            "Provider": _provider(),
            "Cache": _cache(),
            "Index": [*_index(), *_what_the_index_takes()],
            "Backfill": _backfill(),
        },
        filters=["collection"],
    )


def _quota() -> list[Panel]:
    return [
        graph(
            "Quota Remaining",
            "Calls that the day still has, by provider: neither made nor promised to a process.",
            "short",
            Query(f"min by (provider) ({series('everreach_embedding_quota_remaining')})", "{{provider}}"),
            alerts=["EverReachEmbeddingQuotaNearlyExhausted"],
        ),
        graph(
            "Daily Embedding Calls",
            "Calls since UTC midnight, every attempt.",
            "short",
            Query(total(DAILY_CALLS, "provider"), "{{provider}}"),
        ),
        number(
            "Quota Exceeded (24h)",
            "Calls that the daily quota refused, or that were made beyond it, in the 24 hours before.",
            "short",
            events("everreach_embedding_quota_exhausted_total", DAY),
            steps=ABOVE_ZERO,
        ),
        number(
            "Quota starts again in",
            "Time until UTC midnight.",
            "s",
            f"min({series('everreach_embedding_quota_reset_timestamp_seconds')}) - time()",
        ),
    ]


def _cost() -> list[Panel]:
    return [
        bars(
            "Est. Embedding Cost",
            "Price of the tokens, each at the time of its call, over the time range that is shown up to each point.",
            "currencyUSD",
            Query(increase(COST, RANGE, "provider", "model"), "{{provider}} {{model}}"),
        ),
        bars(
            "Tokens",
            "Tokens that a provider charges for, in the hour before.",
            "short",
            Query(increase("everreach_embedding_tokens_total", HOUR, "provider", "model"), "{{provider}} {{model}}"),
        ),
        number(
            "Cost of the range",
            "All providers, over the time range that is shown.",
            "currencyUSD",
            increase(COST, RANGE),
            decimals=4,
        ),
        number(
            "Cost per 1,000 documents",
            "Over the time range that is shown; empty where nothing was embedded.",
            "currencyUSD",
            f"1000 * {increase(COST, RANGE)} / ({increase(ROWS, RANGE, status='embedded')} > 0)",
            decimals=4,
            empty="nothing embedded",
        ),
    ]


def _provider() -> list[Panel]:
    return [
        graph("API Call Rate", "Calls a second, by provider.", "reqps", Query(rate(CALLS, "provider"), "{{provider}}")),
        graph(
            "API Latency",
            "Time of a provider call, over the hour before.",
            "s",
            *quantiles("everreach_embedding_api_latency_seconds", HOUR, "provider"),
        ),
        bars(
            "Embedding Errors",
            "Calls that failed in the hour before, by class of error.",
            "short",
            Query(increase("everreach_embedding_errors_total", HOUR, "error_class"), "{{error_class}}"),
            alerts=["EverReachEmbeddingErrorRateHigh"],
        ),
        graph(
            "Providers left alone",
            "1 where a provider failed so often that it is not asked, or only tried; its backup works meanwhile.",
            "short",
            Query(f"max by (provider) ({series('everreach_embedding_breaker_open')})", "{{provider}}"),
            maximum=1,
        ),
        bars(
            "Breaker openings",
            "Times that a provider was left alone in the day before.",
            "short",
            Query(increase("everreach_embedding_breaker_openings_total", DAY, "provider"), "{{provider}}"),
        ),
        bars(
            "Failover",
            "Texts that the backup embedded in the hour before; they wait to be healed.",
            "short",
            Query(increase("everreach_embedding_failover_texts_total", HOUR, "provider"), "{{provider}}"),
        ),
        graph(
            "Embedding dead letters",
            "Texts that a provider refuses or answers falsely: everreach embedding dead-letters.",
            "short",
            Query(total("everreach_embedding_dead_letters", "collection"), "{{collection}}"),
            steps=ABOVE_ZERO,
        ),
    ]


def _cache() -> list[Panel]:
    hits, misses = increase(HITS, HOUR), increase("everreach_embedding_cache_misses_total", HOUR)
    return [
        graph(
            "Cache Hit Ratio",
            "Share of the texts of the hour before whose vector was in the cache; empty where nothing was embedded.",
            "percentunit",
            Query(f"{hits} / ({hits} + {misses} > 0)", "hits"),
            maximum=1,
            alerts=["EverReachEmbeddingCacheHitRatioLow"],
        ),
        graph(
            "Cached Vectors",
            "Vectors in the cache that Postgres holds.",
            "short",
            Query(f"max({series('everreach_embedding_cache_entries')})", "vectors"),
        ),
        number(
            "Cache Errors (24h)",
            "Times that the cache did not answer in the 24 hours before: texts were paid for again.",
            "short",
            events("everreach_embedding_cache_errors_total", DAY),
            steps=ABOVE_ZERO,
        ),
        number(
            "Erasures that wait",
            "Erased texts that the cache, being away, has yet to forget.",
            "short",
            f"max({series('everreach_embedding_cache_pending_erasures')})",
            steps=ABOVE_ZERO,
        ),
    ]


def _index() -> list[Panel]:
    return [
        graph(
            "Vectors in Index",
            "Counted by each run of the collection's asset.",
            "short",
            Query(f"max by (collection, backend) ({series(SIZE)})", "{{collection}} {{backend}}"),
            alerts=["EverReachVectorIndexShrank"],
        ),
        graph(
            "Rows Without Embeddings",
            "Documents without a vector: scrubbing left nothing of the text, or embedding it failed.",
            "short",
            Query(total(NULLS, "collection"), "{{collection}}"),
            alerts=["EverReachVectorRowsWithoutEmbedding"],
        ),
        graph(
            "Share without embedding",
            "Of the documents that could have one.",
            "percentunit",
            Query(
                f"{total(NULLS, 'collection')} / ({total(NULLS, 'collection')} + {total(SIZE, 'collection')} > 0)",
                "{{collection}}",
            ),
            maximum=1,
        ),
        graph(
            "Vector Query Latency",
            "Time of a search, over the hour before.",
            "s",
            *quantiles("everreach_vector_query_latency_seconds", HOUR, "backend"),
            alerts=["EverReachVectorQueryLatencyHigh"],
        ),
        bars(
            "Vector Fallbacks",
            "Searches that Postgres answered, because index or provider could not, in the hour before.",
            "short",
            Query(increase("everreach_vector_fallback_total", HOUR, "reason"), "{{reason}}"),
        ),
        graph(
            "Self-recall",
            "Share of sampled vectors that a search with themselves finds: below 1 the index has lost rows or quality.",
            "percentunit",
            Query(f"min by (collection) ({series('everreach_vector_self_recall_ratio')})", "{{collection}}"),
            steps=below(0.99, 0.95),
            maximum=1,
            alerts=["EverReachVectorSelfRecallLow"],
        ),
    ]


def _what_the_index_takes() -> list[Panel]:
    return [
        graph(
            "Changes the index has yet to take",
            "Rows of Postgres that the index has not acknowledged.",
            "short",
            Query(total("everreach_vector_index_pending_rows", "collection"), "{{collection}}"),
            alerts=["EverReachVectorIndexPending"],
        ),
        graph(
            "Vectors waiting to be healed",
            "Made by a backup during an outage, or left by a change of the model.",
            "short",
            Query(total("everreach_embedding_heal_pending_rows", "collection"), "{{collection}}"),
            alerts=["EverReachEmbeddingsNotHealed"],
        ),
        graph(
            "Vectors by space",
            "What made the vectors that searches look at; of each collection one space is in force.",
            "short",
            Query(
                f"sum by (collection, provider, model) ({series('everreach_embedding_space_rows')})",
                "{{collection}} {{provider}}/{{model}}",
            ),
        ),
        bars(
            "Redactions",
            "Spans that the scrubber took out of texts in the hour before.",
            "short",
            Query(increase("everreach_pii_redactions_total", HOUR, "entity"), "{{entity}}"),
        ),
        bars(
            "Documents by outcome",
            "What became of the documents that runs came upon, in the hour before.",
            "short",
            Query(increase(ROWS, HOUR, "status"), "{{status}}"),
        ),
    ]


def _backfill() -> list[Panel]:
    most = f"sum by (collection) (max_over_time({series(REMAINING)}[{DAY}]))"
    return [
        graph(
            "Backfill Progress",
            "Of the documents that the run had to embed, those that it has embedded; 1 where nothing is left.",
            "percentunit",
            Query(f"1 - {total(REMAINING, 'collection')} / clamp_min({most}, 1)", "{{collection}}"),
            maximum=1,
        ),
        graph(
            "Documents left",
            "What the run under way has yet to embed.",
            "short",
            Query(total(REMAINING, "collection"), "{{collection}}"),
        ),
        graph(
            "Backfill Batch Duration",
            "Time to scrub, embed and store a batch, over the hour before.",
            "s",
            *quantiles("everreach_backfill_batch_duration_seconds", HOUR),
            steps=above(60, 300),
        ),
    ]
