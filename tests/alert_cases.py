"""What each alert does with which series: the cases that `prometheus/tests/*.yml` are written from.

`python -m tests.alert_cases` writes them, `tests/unit/test_alert_rules.py` compares. A case holds the values around one
edge: series that must fire beside series that must not. The expected labels and texts are written out here; of the
rules only summary, severity and link are read, which are static.

Every metric of the service is given twice, as two exporters of one database would show it: an alert that added them up
would fail. Samples lie on the steps of the evaluation, so windows are exact (up to Prometheus 2.55: from 3.0 on, a
window leaves out its start).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parent.parent / "prometheus"
STEP_SECONDS = {"15s": 15, "1m": 60, "5m": 300, "10m": 600, "1h": 3600}

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Firing:
    """An alert that is expected: its labels beside severity, and what its description says."""

    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Series, and when which alerts fire.

    Attributes:
        series: values by selector, in promtool's notation (`1000x30 900x30`).
        firing: what fires, by seconds since the start; nothing else of this alert does.
        step: between samples and between evaluations.
        interval: between samples, where it differs.
    """

    alert: str
    name: str
    series: Mapping[str, str]
    firing: Mapping[int, Sequence[Firing]]
    step: str = "1m"
    interval: str = ""


def pair(labels: str, description: str) -> Firing:
    """A firing alert with labels written as `a=b,c=d`."""
    return Firing(description, dict(each.split("=") for each in labels.split(",")) if labels else {})


def age(seconds: int, count: int, step: int = MINUTE) -> str:
    """An instant that is always the same number of seconds ago."""
    return f"-{seconds}+{step}x{count}"


def edge(
    alert: str,
    name: str,
    series: Mapping[str, str],
    firing: Sequence[Firing],
    *,
    after: int,
    onset: int = 0,
    step: str = "1m",
    until: int | None = None,
) -> Case:
    """The condition holds from `onset` on: silent a step before `after` has passed, firing then.

    Args:
        until: the last instant at which it fires; a step later it does not.
    """
    seconds = STEP_SECONDS[step]
    expected: dict[int, Sequence[Firing]] = {onset + after: firing}
    if onset + after:
        expected[onset + after - seconds] = []
    if until is not None:
        expected |= {until: firing, until + seconds: []}
    return Case(alert, name, series, expected, step)


def silent(alert: str, name: str, series: Mapping[str, str], *, at: int, step: str = "1m") -> Case:
    return Case(alert, name, series, {at: []}, step)


def unaligned(alert: str, name: str, series: Mapping[str, str], *, at: int = HOUR) -> Case:
    """Samples beside the steps: increase() stretches what it has seen to the end of the window, and nothing fires."""
    return Case(alert, name, series, {at: []}, "5m", "37s")


def business() -> Iterator[Case]:
    drop = "MRRDropAlert"
    stripe, paddle = 'everreach_mrr_usd{source="stripe"}', 'everreach_mrr_usd{source="paddle"}'
    yield edge(
        drop, "a drop of more than a tenth over two sources fires for a day",
        {stripe: "600x299 510x310", paddle: "400x299 389.5x310"}, [Firing("It fell by 10.05% against 24 hours ago.")],
        onset=25 * HOUR, after=HOUR, until=49 * HOUR - 300, step="5m",
    )  # fmt: skip
    for name, after in [("a drop of exactly a tenth", "900x30"), ("a drop of less than a tenth", "900.5x30")]:
        yield silent(drop, name, {stripe: f"1000x299 {after}"}, at=27 * HOUR, step="5m")
    yield edge(
        drop, "a base of 100 USD is enough", {stripe: "100x299 80x30"},
        [Firing("It fell by 20% against 24 hours ago.")], onset=25 * HOUR, after=HOUR, step="5m",
    )  # fmt: skip
    yield silent(drop, "a base below 100 USD is not", {stripe: "99.5x299 50x30"}, at=27 * HOUR, step="5m")
    yield silent(
        drop, "a source that fell silent is no drop", {stripe: "600x330", paddle: "400x299 stale"}, at=27 * HOUR,
        step="5m",
    )  # fmt: skip
    yield edge(
        drop, "a drop beside a source that fell silent is one",
        {stripe: "600x299 480x30", paddle: "400x299 stale"},
        [Firing("It fell by 20% against 24 hours ago.")], onset=25 * HOUR, after=HOUR, step="5m",
    )  # fmt: skip
    yield silent(
        drop, "customers who move to a new source are no drop",
        {stripe: "1000x299 0x30", paddle: "_x300 1000x30"}, at=27 * HOUR, step="5m",
    )  # fmt: skip
    yield silent(drop, "a first day has nothing to compare with", {stripe: "1000x20 100x50"}, at=5 * HOUR, step="5m")

    lost = "EverReachMRRSourceLost"
    yield edge(
        lost, "a source that fell silent is told for a week, the last one too",
        {stripe: "500 800 600x7 stale", paddle: "400x400"},
        [pair("source=stripe", "stripe has reported nothing for two days; its last figure was 600 USD.")],
        onset=10 * HOUR, after=HOUR, until=9 * HOUR + 7 * DAY, step="1h",
    )  # fmt: skip
    yield edge(
        lost, "the only source that fell silent is lost as well", {stripe: "600x9 stale"},
        [pair("source=stripe", "stripe has reported nothing for two days; its last figure was 600 USD.")],
        onset=10 * HOUR, after=HOUR, step="1h",
    )  # fmt: skip
    yield Case(
        lost, "an hour is one, in steps of minutes", {stripe: "600x9 stale"},
        {69 * MINUTE: [], 70 * MINUTE: [
            pair("source=stripe", "stripe has reported nothing for two days; its last figure was 600 USD.")]},
    )  # fmt: skip

    flop = "ContentFlopRateHigh"
    rate, posts = "everreach_flop_rate", "everreach_flop_window_posts"
    yield edge(
        flop, "more than seven of ten of ten posts",
        {
            f'{rate}{{platform="x",niche="business"}}': "0.705x125",
            f'{posts}{{platform="x",niche="business"}}': "10x125",
            f'{rate}{{platform="x",niche="careers"}}': "0.7x125",
            f'{posts}{{platform="x",niche="careers"}}': "20x125",
            f'{rate}{{platform="x",niche="music"}}': "0.695x125",
            f'{posts}{{platform="x",niche="music"}}': "20x125",
            f'{rate}{{platform="tiktok",niche="music"}}': "1x125",
            f'{posts}{{platform="tiktok",niche="music"}}': "9x125",
            f'{rate}{{platform="tiktok",niche="news"}}': "1x125",
        },
        [pair("platform=x,niche=business", "x, business: 70.5% of the posts of the last 30 days flopped.")],
        after=2 * HOUR,
    )  # fmt: skip


def cost() -> Iterator[Case]:
    spent, cap = "everreach_cloud_cost_month_to_date_usd", "everreach_cloud_cost_cap_usd"
    openai, neon = f'{spent}{{service="openai"}}', f'{spent}{{service="neon"}}'
    near, over = "CloudCostApproachingCap", "EverReachCloudCostCapExceeded"
    yield edge(
        near, "at 95 % over all services it fires", {openai: "200x20", neon: "180x20", cap: "400x20"},
        [Firing("This month's spending is 95% of the cap.")], after=5 * MINUTE,
    )  # fmt: skip
    yield silent(near, "below 95 % it does not", {openai: "199x20", neon: "180x20", cap: "400x20"}, at=15 * MINUTE)
    yield silent(near, "without a cap there is nothing to come close to", {openai: "500x20"}, at=15 * MINUTE)
    yield silent(near, "without spending there is nothing that comes close", {cap: "400x20"}, at=15 * MINUTE)
    yield edge(
        over, "at the cap it fires", {openai: "200x20", neon: "200x20", cap: "400x20"},
        [Firing("This month's spending is 400.00 USD.")], after=2 * MINUTE,
    )  # fmt: skip
    yield edge(
        over, "a new month begins at nothing, and it ends", {openai: "401x9 1x20", cap: "400x30"},
        [Firing("This month's spending is 401.00 USD.")], after=2 * MINUTE, until=9 * MINUTE,
    )  # fmt: skip
    yield silent(over, "below the cap it does not", {openai: "399.99x20", cap: "400x20"}, at=15 * MINUTE)
    yield silent(over, "without a cap nothing exceeds it", {openai: "500x20"}, at=15 * MINUTE)

    # January 1970 has 744 hours: at a dollar an hour, a month costs 744.
    projected = "EverReachCloudCostProjectedOverCap"
    yield edge(
        projected, "above the cap, from the fourth day on", {openai: "0+1.0003x90", cap: "744x90"},
        [Firing("At the pace so far the month will cost 744 USD.")], onset=3 * DAY, after=6 * HOUR, step="1h",
    )  # fmt: skip
    yield Case(
        projected, "the month is that of its minutes", {openai: "500x500", cap: "744x500"},
        {78 * HOUR + 50 * MINUTE: [Firing("At the pace so far the month will cost 4719 USD.")]}, "10m",
    )  # fmt: skip
    yield silent(projected, "at the cap", {openai: "0+1x90", cap: "744x90"}, at=84 * HOUR, step="1h")
    yield silent(projected, "below the cap", {openai: "0+0.9997x90", cap: "744x90"}, at=84 * HOUR, step="1h")
    yield silent(projected, "without a cap", {openai: "0+9x90"}, at=84 * HOUR, step="1h")
    yield silent(
        projected, "in the first three days a large bill says nothing", {openai: "300x60", cap: "744x60"}, at=60 * HOUR,
        step="1h",
    )  # fmt: skip

    failover, events = "CloudFailoverFrequent", "everreach_failover_events_total"
    yield edge(
        failover, "three in 24 hours, until the first is a day old", {events: "0x1 1x273 2x4 3x100"},
        [Firing("It moved 3 times.")], onset=281 * 300, after=300, until=DAY + 300, step="5m",
    )  # fmt: skip
    yield unaligned(failover, "two are not three, though they read 2.01", {events: "0x10 1x50 2x200"})
    yield edge(failover, "five minutes, in steps of one", {events: "0x4 3x20"}, [Firing("It moved 3 times.")],
               onset=5 * MINUTE, after=5 * MINUTE)  # fmt: skip
    yield silent(failover, "without the counter", {"up": "1x20"}, at=HOUR, step="5m")


def embedding() -> Iterator[Case]:
    errors, calls = "everreach_embedding_errors_total", "everreach_embedding_api_calls_total"

    def series(provider: str, called: str, failed: str) -> dict[str, str]:
        half = f'{{provider="{provider}",'
        return {f'{calls}{half}model="a"}}': called, f'{errors}{half}error_class="server"}}': failed}

    rate = "EverReachEmbeddingErrorRateHigh"
    yield edge(
        rate, "more than one of twenty calls of a provider fail",
        series("openai", "0+10000x30", "0+504x30") | series("voyage", "0+10000x30", "0+500x30")
        | series("local", "0+10000x30", "0+496x30"),
        [pair("provider=openai", "openai: 5.04% of the calls of the last hour failed.")], onset=MINUTE,
        after=10 * MINUTE,
    )  # fmt: skip
    yield edge(
        rate, "21 calls are enough, 20 are not, and models and classes of errors are added up",
        series("openai", "0x4 20x90", "0x4 21x90") | series("voyage", "0x4 20x90", "0x4 20x90")
        | {f'{calls}{{provider="openai",model="b"}}': "0x4 1x90"}
        | {f'{errors}{{provider="openai",error_class="auth"}}': "0x4 0x90"},
        [pair("provider=openai", "openai: 100% of the calls of the last hour failed.")],
        onset=5 * MINUTE, after=10 * MINUTE, until=HOUR + 4 * MINUTE,
    )  # fmt: skip
    yield Case(
        rate, "errors are those of one hour",
        series("openai", "0+20x150", "0x64 60x90")
        | {f'{errors}{{provider="openai",error_class="auth"}}': "0x64 40x90"},
        {
            70 * MINUTE: [],
            124 * MINUTE: [pair("provider=openai", "openai: 8.333% of the calls of the last hour failed.")],
            125 * MINUTE: [],
        },
    )  # fmt: skip
    yield unaligned(rate, "twenty calls are not 21, though they read 20.2", series("openai", "0x40 20x90", "0x40 9x90"))
    yield unaligned(
        rate, "2 of 40 are one of twenty, though they read 2.02", series("openai", "0x40 40x90", "0x40 2x90")
    )
    yield silent(rate, "calls without a counter of errors", {f'{calls}{{provider="openai",model="a"}}': "0+9x30"},
                 at=20 * MINUTE)  # fmt: skip

    used, quota = "everreach_embedding_daily_calls", "everreach_embedding_daily_quota"
    nearly = "EverReachEmbeddingQuotaNearlyExhausted"
    yield edge(
        nearly, "more than nine tenths",
        {
            f'{used}{{provider="openai"}}': "9001x9", f'{quota}{{provider="openai"}}': "10000x9",
            f'{used}{{provider="voyage"}}': "9000x9", f'{quota}{{provider="voyage"}}': "10000x9",
            f'{used}{{provider="other"}}': "8999x9", f'{quota}{{provider="other"}}': "10000x9",
            f'{used}{{provider="local"}}': "99999x9",
        },
        [pair("provider=openai", "openai: 90.01% of the quota until UTC midnight is used.")], after=5 * MINUTE,
    )  # fmt: skip

    size, without = "everreach_vector_index_size", "everreach_vector_index_null_count"
    rows = "EverReachVectorRowsWithoutEmbedding"
    yield edge(
        rows, "more than one of a hundred, and all where there is no vector yet",
        {
            f'{without}{{collection="content_embeddings"}}': "1005x65",
            f'{size}{{collection="content_embeddings",backend="chroma"}}': "98995x65",
            f'{without}{{collection="outcome_embeddings"}}': "1x65",
            f'{size}{{collection="outcome_embeddings",backend="chroma"}}': "99x65",
            f'{without}{{collection="prospect_embeddings"}}': "995x65",
            f'{size}{{collection="prospect_embeddings",backend="chroma"}}': "99005x65",
            f'{without}{{collection="lesson_embeddings"}}': "4x65",
            f'{size}{{collection="other",backend="chroma"}}': "9x65",
        },
        [
            pair("collection=content_embeddings",
                 "content_embeddings: 1.005% of the documents cannot be found by search."),
            pair("collection=lesson_embeddings", "lesson_embeddings: 100% of the documents cannot be found by search."),
        ],
        after=HOUR,
    )  # fmt: skip

    slow, bucket = "EverReachVectorQueryLatencyHigh", "everreach_vector_query_latency_seconds_bucket"

    def buckets(backend: str, fast: int, all_: int, collection: str = "content_embeddings") -> dict[str, str]:
        counts = {"0.1": 0, "0.25": fast, "0.5": all_, "+Inf": all_}
        labels = f'backend="{backend}",collection="{collection}"'
        counted = {f"{bucket.removesuffix('bucket')}count{{{labels}}}": f"0x4 {all_}x90"}
        return counted | {f'{bucket}{{{labels},le="{le}"}}': f"0x4 {count}x90" for le, count in counts.items()}

    yield edge(
        slow, "the slowest twentieth takes longer than a quarter of a second, for an hour",
        buckets("chroma", 9499, 10_000) | buckets("pgvector", 9500, 10_000) | buckets("other", 9501, 10_000),
        [pair("backend=chroma", "chroma: 5 % of the searches of the last hour took longer than 250.5ms.")],
        onset=5 * MINUTE, after=15 * MINUTE, until=HOUR + 4 * MINUTE,
    )  # fmt: skip
    yield edge(
        slow, "twenty searches are enough, nineteen are not, over all collections",
        buckets("chroma", 0, 10) | buckets("chroma", 10, 10, "outcome_embeddings") | buckets("pgvector", 0, 19),
        [pair("backend=chroma", "chroma: 5 % of the searches of the last hour took longer than 475ms.")],
        onset=5 * MINUTE, after=15 * MINUTE,
    )  # fmt: skip
    yield edge(
        slow, "twenty within an hour",
        {key: values.replace("0x4 0x90", "0x90").replace("0x4 29x90", "0x4 10x24 29x60")
         for key, values in buckets("chroma", 0, 29).items()},
        [pair("backend=chroma", "chroma: 5 % of the searches of the last hour took longer than 487.5ms.")],
        onset=30 * MINUTE, after=15 * MINUTE, until=HOUR + 4 * MINUTE,
    )  # fmt: skip
    moments = {"0.1": "0x90", "0.25": "0x39 100x60", "0.5": "0x4 20x34 120x60", "+Inf": "0x4 20x34 120x60"}
    yield Case(
        slow, "the slow ones of the last hour",
        {f'{bucket}{{backend="chroma",collection="other",le="{le}"}}': values for le, values in moments.items()}
        | {f'{bucket.removesuffix("bucket")}count{{backend="chroma",collection="other"}}': moments["+Inf"]},
        {
            64 * MINUTE: [
                pair("backend=chroma", "chroma: 5 % of the searches of the last hour took longer than 425ms.")
            ],
            65 * MINUTE: [],
        },
    )  # fmt: skip
    yield silent(slow, "no search", {"up": "1x30"}, at=25 * MINUTE)

    waiting = "everreach_embedding_heal_pending_rows"
    yield edge(
        "EverReachEmbeddingsNotHealed", "a row that waits for two hours, and not one that was healed meanwhile",
        {
            f'{waiting}{{collection="content_embeddings"}}': "1x130",
            f'{waiting}{{collection="outcome_embeddings"}}': "900x60 0 900x69",
            f'{waiting}{{collection="lesson_embeddings"}}': "0x130",
        },
        [pair("collection=content_embeddings",
              "content_embeddings: 1 vectors wait to be embedded in the space in force.")],
        after=2 * HOUR,
    )  # fmt: skip

    shrank = "EverReachVectorIndexShrank"
    yield edge(
        shrank, "more than a fifth less than within a day",
        {
            f'{size}{{collection="content_embeddings",backend="chroma"}}': "1000x11 799x160",
            f'{size}{{collection="outcome_embeddings",backend="chroma"}}': "1000x11 800x160",
            f'{size}{{collection="lesson_embeddings",backend="chroma"}}': "1000x11 801x160",
            f'{size}{{collection="prospect_embeddings",backend="chroma"}}': "1000x11 stale",
        },
        [pair("collection=content_embeddings,backend=chroma", "content_embeddings on chroma is down to 799 vectors.")],
        onset=2 * HOUR, after=600, until=2 * HOUR - 600 + DAY, step="10m",
    )  # fmt: skip
    yield edge(
        shrank, "ten minutes, in steps of one", {f'{size}{{collection="other",backend="chroma"}}': "9x9 1x30"},
        [pair("collection=other,backend=chroma", "other on chroma is down to 1 vectors.")], onset=600, after=600,
    )  # fmt: skip

    yield from above_zero(
        "EverReachVectorIndexPending", "everreach_vector_index_pending_rows", "{}: 1 changes wait.", after=3 * HOUR,
        step="10m",
    )  # fmt: skip

    low, cache = "EverReachEmbeddingCacheHitRatioLow", "everreach_embedding_cache"

    def looked_up(hits: str, misses: str) -> dict[str, str]:
        return {f"{cache}_hits_total": hits, f"{cache}_misses_total": misses}

    yield edge(
        low, "fewer than one of ten texts of a day", looked_up("0x4 199x170", "0x4 1801x170"),
        [Firing("Of the texts of the last 24 hours it had 9.95%.")],
        onset=3000, after=HOUR, until=2400 + DAY, step="10m",
    )  # fmt: skip
    yield silent(low, "one of ten", looked_up("0x4 200x20", "0x4 1800x20"), at=3 * HOUR, step="10m")
    yield silent(low, "more than one of ten", looked_up("0x4 201x20", "0x4 1799x20"), at=3 * HOUR, step="10m")
    yield edge(
        low, "a thousand texts are enough", looked_up("0x4 99x20", "0x4 901x20"),
        [Firing("Of the texts of the last 24 hours it had 9.9%.")], onset=3000, after=HOUR, step="10m",
    )  # fmt: skip
    yield silent(low, "999 texts are not", looked_up("0x4 9x20", "0x4 990x20"), at=3 * HOUR, step="10m")
    yield edge(
        low, "hits are those of a day", looked_up("0x4 200x200", "0x80 1001x120"),
        [Firing("Of the texts of the last 24 hours it had 0%.")], onset=3000 + DAY, after=HOUR, step="10m",
    )  # fmt: skip

    recall = "everreach_vector_self_recall_ratio"
    yield edge(
        "EverReachVectorSelfRecallLow", "fewer than 95 of 100 find themselves",
        {
            f'{recall}{{collection="content_embeddings"}}': "0.945x20",
            f'{recall}{{collection="outcome_embeddings"}}': "0.95x20",
            f'{recall}{{collection="lesson_embeddings"}}': "0.955x20",
        },
        [pair("collection=content_embeddings",
              "content_embeddings: of the sampled vectors 94.5% find themselves.")],
        after=15 * MINUTE,
    )  # fmt: skip


def sync() -> Iterator[Case]:
    stale, success = "EverReachSyncStale", "everreach_sync_last_success_timestamp_seconds"
    pending = "everreach_sync_oldest_pending_timestamp_seconds"
    text = "nothing has reached the cloud for 30m 1s."
    yield edge(
        stale, "no success for more than half an hour",
        {
            f'{success}{{collection="content_embeddings"}}': age(1801, 20),
            f'{success}{{collection="outcome_embeddings"}}': age(1800, 20),
            f'{success}{{collection="lesson_embeddings"}}': age(1799, 20),
        },
        [pair("collection=content_embeddings", f"content_embeddings: {text}")], after=15 * MINUTE,
    )  # fmt: skip
    yield edge(
        stale, "changes have waited for more than half an hour, and no sync ever succeeded",
        {
            f'{pending}{{collection="content_embeddings"}}': age(1801, 20),
            f'{pending}{{collection="outcome_embeddings"}}': age(1800, 20),
            f'{pending}{{collection="lesson_embeddings"}}': age(1799, 20),
        },
        [pair("collection=content_embeddings", f"content_embeddings: {text}")], after=15 * MINUTE,
    )  # fmt: skip
    yield edge(
        "EverReachLocalOnlyDataInCloud", "one row is one too many, at once",
        {
            'everreach_cloud_local_only_docs{collection="prospect_embeddings"}': "0x4 1x9",
            'everreach_cloud_local_only_docs{collection="other"}': "0x19",
        },
        [pair("collection=prospect_embeddings", "prospect_embeddings: 1 rows.")], onset=5 * MINUTE, after=0,
    )  # fmt: skip
    yield from above_zero(
        "EverReachSyncDrift", "everreach_sync_drift_docs", "{}: 1 rows differ.", after=25 * HOUR, step="10m"
    )
    yield from above_zero(
        "EverReachSyncDeadLetters", "everreach_sync_dead_letters", "{}: 1 rows wait for a person.", after=15 * MINUTE
    )


def above_zero(alert: str, metric: str, text: str, *, after: int, step: str = "1m") -> Iterator[Case]:
    """One is too many, for some time."""
    count = after // STEP_SECONDS[step] + 9
    yield edge(
        alert, "one is too many, and none is not",
        {
            f'{metric}{{collection="content_embeddings"}}': f"0x4 1x{count}",
            f'{metric}{{collection="outcome_embeddings"}}': f"0x{count}",
        },
        [pair("collection=content_embeddings", text.format("content_embeddings"))],
        onset=5 * STEP_SECONDS[step], after=after, step=step,
    )  # fmt: skip


def retention() -> Iterator[Case]:
    yield from above_zero(
        "EverReachRetentionOverdue", "everreach_retention_overdue_docs",
        "{}: 1 documents should have gone a day ago.", after=DAY, step="10m",
    )  # fmt: skip

    stale, success = "EverReachRetentionStale", "everreach_retention_last_success_timestamp_seconds"
    yield edge(
        stale, "longer than fifty hours", {success: age(180_001, 9, 600)},
        [Firing("Nothing was purged, and nothing found to be, for 2d 2h 0m 1s.")], after=HOUR, step="10m",
    )  # fmt: skip
    for seconds in (180_000, 179_999):
        yield silent(stale, f"{seconds} seconds", {success: age(seconds, 9, 600)}, at=80 * MINUTE, step="10m")

    spike = "EverReachPurgeSpike"
    purged, size = "everreach_retention_purged_total", "everreach_vector_index_size"

    def series(collection: str, gone: str, vectors: str) -> dict[str, str]:
        return {
            f'{purged}{{collection="{collection}",reason="expired"}}': gone,
            f'{purged}{{collection="{collection}",reason="other"}}': "0x200",
            f'{size}{{collection="{collection}",backend="chroma"}}': vectors,
        }

    yield edge(
        spike, "more than a fifth within a day",
        series("content_embeddings", "0x4 200x200", "1000x200")
        | series("outcome_embeddings", "0x4 200x200", "1000x200")
        | series("lesson_embeddings", "0x4 199x200", "1000x200")
        | {f'{purged}{{collection="content_embeddings",reason="other"}}': "0x4 1x200"}
        | {f'{purged}{{collection="other",reason="expired"}}': "0x4 999x200"},
        [pair("collection=content_embeddings", "content_embeddings: 201 documents were purged.")],
        onset=3000, after=600, until=2400 + DAY, step="10m",
    )  # fmt: skip
    yield edge(
        spike, "a hundred are enough, ninety-nine are not",
        series("content_embeddings", "0x4 100x20", "400x20") | series("outcome_embeddings", "0x4 99x20", "400x20"),
        [pair("collection=content_embeddings", "content_embeddings: 100 documents were purged.")],
        onset=3000, after=600, step="10m",
    )  # fmt: skip
    yield edge(
        spike, "ten minutes, in steps of one", series("content_embeddings", "0x4 100x30", "100x30"),
        [pair("collection=content_embeddings", "content_embeddings: 100 documents were purged.")],
        onset=5 * MINUTE, after=10 * MINUTE,
    )  # fmt: skip
    yield unaligned(
        spike, "200 are a fifth of 1000, though they read 200.4",
        series("content_embeddings", "0x40 200x300", "1000x340"),
    )  # fmt: skip
    yield edge(
        spike, "a fifth of what there was within a day", series("content_embeddings", "0x99 170x150", "1000x5 830x250"),
        [pair("collection=content_embeddings", "content_embeddings: 170 documents were purged.")],
        onset=6 * 600 + DAY, after=600, step="10m",
    )  # fmt: skip


def strategy() -> Iterator[Case]:
    waiting, made = "everreach_outcomes_since_rebuild", "everreach_strategy_last_rebuild_timestamp_seconds"
    yield edge(
        "EverReachStrategyRebuildOverdue", "ten are due",
        {
            f'{waiting}{{platform="linkedin"}}': "10x70",
            f'{waiting}{{platform="x"}}': "9x70",
            f'{made}{{platform="tiktok"}}': "0x70",
        },
        [pair("platform=linkedin", "linkedin: 10 posts have outcomes that the strategy does not know.")], after=HOUR,
    )  # fmt: skip
    attempts = "everreach_strategy_rebuild_attempts"
    yield edge(
        "EverReachStrategyRebuildFailing", "five attempts came to nothing",
        {
            f'{attempts}{{platform="linkedin"}}': "4x9 5x30",
            f'{attempts}{{platform="x"}}': "4x40",
            f'{attempts}{{platform="tiktok"}}': "5x9 0x30",
        },
        [pair("platform=linkedin", "linkedin: 5 attempts made no strategy.")], onset=10 * MINUTE, after=10 * MINUTE,
    )  # fmt: skip
    stale = "EverReachStrategyStale"
    yield edge(
        stale, "older than eight days though there are new outcomes",
        {
            f'{made}{{platform="linkedin"}}': age(691201, 9, HOUR), f'{waiting}{{platform="linkedin"}}': "1x9",
            f'{made}{{platform="x"}}': age(691200, 9, HOUR), f'{waiting}{{platform="x"}}': "1x9",
            f'{made}{{platform="tiktok"}}': age(691199, 9, HOUR), f'{waiting}{{platform="tiktok"}}': "1x9",
            f'{made}{{platform="reddit"}}': age(700000, 9, HOUR), f'{waiting}{{platform="reddit"}}': "0x9",
            f'{made}{{platform="threads"}}': age(700000, 9, HOUR),
            f'{waiting}{{platform="youtube"}}': "1x9",
        },
        [pair("platform=linkedin", "linkedin: it was made 8d 0h 0m 1s ago.")], after=HOUR, step="1h",
    )  # fmt: skip
    yield edge(
        stale, "the outcomes must have waited for eight days", {
            f'{made}{{platform="x"}}': age(3000000, 220, HOUR), f'{waiting}{{platform="x"}}': "0x9 1x250",
        },
        [pair("platform=x", "x: it was made 34d 17h 20m 0s ago.")],
        onset=10 * HOUR + 8 * DAY, after=HOUR, step="1h",
    )  # fmt: skip
    yield edge(
        stale, "an hour is one, in steps of minutes",
        {f'{made}{{platform="x"}}': age(3000000, 70), f'{waiting}{{platform="x"}}': "1x70"},
        [pair("platform=x", "x: it was made 34d 17h 20m 0s ago.")], after=HOUR,
    )  # fmt: skip


def dagster() -> Iterator[Case]:
    beat = "dagster_daemon_last_heartbeat_timestamp_seconds"
    yield edge(
        "DagsterDaemonHeartbeatStale", "longer than ten minutes",
        {
            f'{beat}{{daemon_type="SENSOR"}}': age(601, 9),
            f'{beat}{{daemon_type="SCHEDULER"}}': age(600, 9),
            f'{beat}{{daemon_type="MONITORING"}}': age(599, 9),
        },
        [pair("daemon_type=SENSOR", "SENSOR: last seen 10m 1s ago.")], after=5 * MINUTE,
    )  # fmt: skip
    stuck, queued = "DagsterQueuedRunStuck", "dagster_oldest_queued_run_timestamp_seconds"
    yield edge(stuck, "longer than a quarter of an hour", {queued: age(901, 20)},
               [Firing("The oldest has waited for 15m 1s.")], after=15 * MINUTE)  # fmt: skip
    yield silent(stuck, "a quarter of an hour", {queued: age(900, 20)}, at=20 * MINUTE)
    yield silent(stuck, "less than a quarter of an hour", {queued: age(899, 20)}, at=20 * MINUTE)
    yield silent(stuck, "an empty queue has no oldest run", {"up": "1x20"}, at=20 * MINUTE)

    tick, status = "dagster_sensor_last_tick_timestamp_seconds", "dagster_sensor_status"
    yield edge(
        "DagsterSensorTickStale", "longer than ten minutes, where the sensor is on",
        {
            f'{tick}{{sensor_name="a"}}': age(601, 9), f'{status}{{sensor_name="a"}}': "1x9",
            f'{tick}{{sensor_name="b"}}': age(600, 9), f'{status}{{sensor_name="b"}}': "1x9",
            f'{tick}{{sensor_name="c"}}': age(599, 9), f'{status}{{sensor_name="c"}}': "1x9",
            f'{tick}{{sensor_name="off"}}': age(9999, 9), f'{status}{{sensor_name="off"}}': "0x9",
            f'{tick}{{sensor_name="unknown"}}': age(9999, 9),
        },
        [pair("sensor_name=a", "a: last tick 10m 1s ago.")], after=5 * MINUTE,
    )  # fmt: skip
    made, allowed = "dagster_asset_last_materialization_timestamp_seconds", "dagster_asset_freshness_sla_seconds"
    yield edge(
        "DagsterAssetStale", "older than its own limit",
        {
            f'{made}{{asset_key="a"}}': age(1201, 15), f'{allowed}{{asset_key="a"}}': "1200x15",
            f'{made}{{asset_key="b"}}': age(1200, 15), f'{allowed}{{asset_key="b"}}': "1200x15",
            f'{made}{{asset_key="c"}}': age(1199, 15), f'{allowed}{{asset_key="c"}}': "1200x15",
            f'{made}{{asset_key="without a limit"}}': age(9999, 15),
            f'{allowed}{{asset_key="never made"}}': "1200x15",
        },
        [pair("asset_key=a", "a: made 20m 1s ago.")], after=10 * MINUTE,
    )  # fmt: skip

    rate, runs = "DagsterRunFailureRate", "dagster_completed_runs_total"

    def ended(job: str, *, success: int, failure: int, canceled: int = 0) -> dict[str, str]:
        counts = {"success": success, "failure": failure, "canceled": canceled}
        return {f'{runs}{{job_name="{job}",status="{status}"}}': f"0x4 {count}x60" for status, count in counts.items()}

    yield edge(
        rate, "more than two of five, without those that were cancelled, for six hours",
        ended("a", success=299, failure=201, canceled=500) | ended("b", success=300, failure=200)
        | ended("c", success=301, failure=199),
        [pair("job_name=a", "a: 40.2% of the runs of the last six hours failed.")],
        onset=3000, after=600, until=2400 + 6 * HOUR, step="10m",
    )  # fmt: skip
    yield edge(
        rate, "five runs are enough, four and cancelled ones are not",
        ended("a", success=2, failure=3) | ended("b", success=0, failure=4, canceled=9),
        [pair("job_name=a", "a: 60% of the runs of the last six hours failed.")], onset=3000, after=600, step="10m",
    )  # fmt: skip
    yield edge(
        rate, "ten minutes, in steps of one", ended("a", success=0, failure=5),
        [pair("job_name=a", "a: 100% of the runs of the last six hours failed.")], onset=300, after=600,
    )  # fmt: skip
    check = "dagster_asset_check_failing"
    yield edge(
        "DagsterAssetCheckFailing", "a check that fails, for a quarter of an hour",
        {
            f'{check}{{asset_key="a",check_name="is_whole"}}': "1x20",
            f'{check}{{asset_key="a",check_name="is_there"}}': "0x20",
        },
        [pair("asset_key=a,check_name=is_whole", "a: is_whole.")], after=15 * MINUTE,
    )  # fmt: skip


def meta() -> Iterator[Case]:
    yield Case(
        "Watchdog", "always", {},
        {each: [Firing("This alert always fires. The relay turns it into one message a day.")] for each in (0, 600)},
    )  # fmt: skip

    down, text = "EverReachExporterDown", "Until they can, the other alerts are blind."
    one = 'up{job="everreach",instance="one"}'
    other = 'up{job="prometheus",instance="p"}'
    yield edge(down, "a scrape that fails", {one: "0x9", other: "0x9"}, [pair("job=everreach,instance=one", text)],
               after=2 * MINUTE)  # fmt: skip
    yield edge(down, "no target at all", {other: "1x9"}, [pair("job=everreach", text)], after=2 * MINUTE)
    yield silent(down, "a scrape that works", {one: "1x9", other: "0x9"}, at=5 * MINUTE)

    store = "EverReachMetricStoreDown"
    yield edge(
        store, "the database does not answer",
        {'everreach_exporter_up{job="everreach",instance="a"}': "0x9",
         'everreach_exporter_up{job="everreach",instance="b"}': "1x9"},
        [pair("job=everreach,instance=a",
              "a answers without the metrics that are rows: the other alerts are blind.")], after=2 * MINUTE,
    )  # fmt: skip
    yield edge(
        "EverReachExporterCollectorFailing", "a part that fails",
        {'everreach_exporter_collector_success{job="everreach",instance="a",collector="dagster"}': "0x20",
         'everreach_exporter_collector_success{job="everreach",instance="a",collector="rows"}': "1x20"},
        [pair("job=everreach,instance=a,collector=dagster", "The part dagster is missing on a.")], after=10 * MINUTE,
    )  # fmt: skip

    missing = "EverReachKeyMetricMissing"
    always = {
        "everreach_cloud_cost_cap_usd": "",
        "everreach_cloud_cost_month_to_date_usd": '{service="openai"}',
        "everreach_cloud_cost_usd_total": '{service="openai",action="embed"}',
        "everreach_failover_events_total": "",
        "dagster_daemon_last_heartbeat_timestamp_seconds": '{daemon_type="SENSOR"}',
    }
    passing = {
        "everreach_flop_rate": '{platform="x",niche="music"}',
        "everreach_cloud_local_only_docs": '{collection="prospect_embeddings"}',
    }

    def gone(metric: str) -> Firing:
        return pair(f"metric={metric}", f"{metric} has no series.")

    yield edge(missing, "those that must always be there", {"up": "1x20"}, [gone(each) for each in always],
               after=15 * MINUTE)  # fmt: skip
    yield silent(missing, "all are there", {f"{name}{labels}": "1x20" for name, labels in always.items()},
                 at=18 * MINUTE)  # fmt: skip
    yield Case(
        missing,
        "those that were there within a week",
        {f"{name}{labels}": "1x400" for name, labels in always.items()}
        | {f"{name}{labels}": "1x9 stale" for name, labels in passing.items()},
        {
            9 * HOUR: [],
            11 * HOUR: [gone(each) for each in passing],
            9 * HOUR + 7 * DAY: [gone(each) for each in passing],
            10 * HOUR + 7 * DAY: [],
        },
        step="1h",
    )

    dispatch = "EverReachAlertDispatchFailing"

    def attempts(refused: str, retried: str) -> dict[str, str]:
        name = "everreach_alert_dispatch_total"
        return {f'{name}{{result="refused"}}': refused, f'{name}{{result="retried"}}': retried,
                f'{name}{{result="accepted"}}': "0+9x90"}  # fmt: skip

    yield edge(
        dispatch, "a message was refused", attempts("0x4 1x90", "0x4 10x90"),
        [pair("result=refused", "1 attempts of the last hour were refused.")],
        onset=5 * MINUTE, after=2 * MINUTE, until=HOUR + 4 * MINUTE,
    )  # fmt: skip
    yield edge(
        dispatch, "more than ten attempts had to be repeated", attempts("0x95", "0x4 11x90"),
        [pair("result=retried", "11 attempts of the last hour were retried.")],
        onset=5 * MINUTE, after=2 * MINUTE, until=HOUR + 4 * MINUTE,
    )  # fmt: skip
    yield unaligned(dispatch, "ten are not eleven, though they read 10.1", attempts("0x300", "0x40 10x300"))
    beat, lost = "everreach_alert_heartbeat_timestamp_seconds", "EverReachAlertHeartbeatMissing"
    yield edge(lost, "longer than a quarter of an hour", {beat: age(901, 9)},
               [Firing("The last heartbeat came 15m 1s ago.")], after=5 * MINUTE)  # fmt: skip
    yield silent(lost, "a quarter of an hour", {beat: age(900, 9)}, at=8 * MINUTE)
    yield silent(lost, "less than a quarter of an hour", {beat: age(899, 9)}, at=8 * MINUTE)
    yield silent(lost, "before the first heartbeat", {"up": "1x9"}, at=8 * MINUTE)


def own_health() -> Iterator[Case]:
    other = 'up{job="prometheus",instance="p"}'
    p, a = '{job="prometheus",instance="p"}', '{job="alertmanager",instance="a"}'
    for alert, metric, where, which in [
        ("PrometheusBadConfig", "prometheus_config_last_reload_successful", p, "p"),
        ("AlertmanagerBadConfig", "alertmanager_config_last_reload_successful", a, "a"),
    ]:
        yield edge(
            alert, "the last reload failed, and then one succeeded", {f"{metric}{where}": "1x4 0x30 1x9"},
            [pair(where.strip("{}").replace('"', ""), f"{which} failed to reload.")],
            onset=10 * MINUTE, after=10 * MINUTE, until=35 * MINUTE,
        )  # fmt: skip
        yield silent(alert, "the last reload succeeded", {f"{metric}{where}": "1x30"}, at=25 * MINUTE)
        yield silent(alert, "nothing is known of a reload", {"up": "1x30"}, at=25 * MINUTE)

    rules, failures = "PrometheusRuleFailures", "prometheus_rule_evaluation_failures_total"
    group = '{job="prometheus",instance="p",rule_group="g"}'
    named = "job=prometheus,instance=p,rule_group=g"
    yield edge(
        rules, "failures that go on for a quarter of an hour", {f"{failures}{group}": "0x4 1x4 2x30"},
        [pair(named, "1 evaluations of g failed.")],
        onset=5 * MINUTE, after=15 * MINUTE, until=24 * MINUTE,
    )  # fmt: skip
    yield silent(rules, "one failure passes", {f"{failures}{group}": "0x4 1x40"}, at=20 * MINUTE)
    yield silent(rules, "no failure", {f"{failures}{group}": "5x40"}, at=30 * MINUTE)

    lonely, known = "PrometheusWithoutAlertmanager", "prometheus_notifications_alertmanagers_discovered"
    yield edge(
        lonely, "none is known, and then one is", {f"{known}{p}": "1x4 0x30 1x9"},
        [pair("job=prometheus,instance=p", "p has nowhere to send alerts.")],
        onset=10 * MINUTE, after=10 * MINUTE, until=35 * MINUTE,
    )  # fmt: skip
    yield silent(lonely, "one is known", {f"{known}{p}": "1x30"}, at=25 * MINUTE)

    dead = "AlertmanagerDown"
    yield edge(dead, "it does not answer", {f"up{a}": "0x9", other: "0x9"},
               [pair("job=alertmanager,instance=a", "No alert becomes a message.")], after=5 * MINUTE)  # fmt: skip
    yield edge(dead, "there is none", {other: "1x9"},
               [pair("job=alertmanager", "No alert becomes a message.")], after=5 * MINUTE)  # fmt: skip
    yield silent(dead, "it answers", {f"up{a}": "1x9", other: "0x9"}, at=8 * MINUTE)

    failing, failed = "AlertmanagerNotificationsFailing", "alertmanager_notifications_failed_total"
    hook = '{job="alertmanager",instance="a",integration="webhook"}'
    other_reason = '{job="alertmanager",instance="a",integration="webhook",reason="other"}'  # from 0.26 on
    yield edge(
        failing, "messages that cannot be handed over",
        {f"{failed}{hook}": "0x4 1x40", f"{failed}{other_reason}": "0x4 2x40"},
        [pair("instance=a,integration=webhook", "3 messages to webhook failed.")],
        onset=5 * MINUTE, after=5 * MINUTE, until=19 * MINUTE,
    )  # fmt: skip
    yield edge(
        failing, "one message is enough", {f"{failed}{hook}": "0x4 1x40"},
        [pair("instance=a,integration=webhook", "1 messages to webhook failed.")], onset=5 * MINUTE, after=5 * MINUTE,
    )  # fmt: skip
    yield silent(failing, "none failed", {f"{failed}{hook}": "7x40"}, at=30 * MINUTE)


def all_cases() -> list[Case]:
    groups = (business, cost, embedding, sync, retention, strategy, dagster, meta, own_health)
    return [case for group in groups for case in group()] + list(nothing_at_all())


def nothing_at_all() -> Iterator[Case]:
    """Without any series only those fire that say so."""
    speaks = {"Watchdog", "EverReachExporterDown", "EverReachKeyMetricMissing", "AlertmanagerDown"}
    for alert in alerts():
        if alert not in speaks:
            yield silent(alert, "without any series it is silent", {}, at=HOUR, step="10m")


@functools.cache
def rule_groups(name: str) -> list[dict[str, Any]]:
    """The groups of a file of rules."""
    return list(yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"])


@functools.cache
def alerts() -> Mapping[str, dict[str, Any]]:
    """The alert rules by name."""
    return {rule["alert"]: rule for group in rule_groups("alerts.yml") for rule in group["rules"]}


def document(cases: Sequence[Case], rule_files: Sequence[str], groups: Sequence[str]) -> str:
    """promtool's file for cases of one step; without the order of the groups it would draw one."""
    (step,) = {case.step for case in cases}
    return yaml.safe_dump(
        {
            "rule_files": list(rule_files),
            "evaluation_interval": step,
            "group_eval_order": list(groups),
            "tests": [_test(case) for case in cases],
        },
        sort_keys=False,
        width=4096,
        allow_unicode=True,
    )


def by_step(cases: Sequence[Case]) -> dict[str, list[Case]]:
    return {step: found for step in STEP_SECONDS if (found := [case for case in cases if case.step == step])}


def _test(case: Case) -> dict[str, Any]:
    return {
        "name": f"{case.alert}: {case.name}",
        "interval": case.interval or case.step,
        "input_series": [
            {"series": shown, "values": values}
            for selector, values in case.series.items()
            for shown in _exporters(selector)
        ],
        "alert_rule_test": [
            {
                "eval_time": f"{at}s",
                "alertname": case.alert,
                "exp_alerts": [_expected(case.alert, each) for each in firing],
            }
            for at, firing in sorted(case.firing.items())
        ],
    }


def _exporters(selector: str) -> Iterator[str]:
    """The series as two exporters show it; one that names its job is taken as it is."""
    name, _, labels = selector.rstrip("}").partition("{")
    if 'job="' in labels or not name.startswith(("everreach_", "dagster_")):
        yield selector
        return
    for instance in ("one", "two"):
        yield f'{name}{{{labels}{"," if labels else ""}job="everreach",instance="{instance}"}}'


def _expected(alert: str, firing: Firing) -> dict[str, Any]:
    rule = alerts()[alert]
    static = rule["annotations"]
    return {
        "exp_labels": {"severity": rule["labels"]["severity"], **firing.labels},
        "exp_annotations": {
            "summary": static["summary"],
            "description": firing.description,
            "runbook_url": static["runbook_url"],
        },
    }


def files() -> dict[Path, str]:
    """The files of prometheus/tests with their contents."""
    header = "# Written by `python -m tests.alert_cases` from tests/alert_cases.py: change that, not this.\n"
    rules = ["recording.yml", "alerts.yml"]
    groups = [group["name"] for each in rules for group in rule_groups(each)]
    return {
        PROMETHEUS / "tests" / f"alerts_every_{step}.yml": header
        + document(cases, [f"../{each}" for each in rules], groups)
        for step, cases in by_step(all_cases()).items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
