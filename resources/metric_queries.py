"""The metrics that are read from the tables of the work itself, at every scrape: one list, one statement each.

What belongs here: statements that stay cheap however many rows there are. They use a partial index of what is still to
be done, or stop counting at a limit that the metric's help names; none counts a big table. What does not: totals,
which are recorded by the work (`resources/metric_records.py`).

A statement answers one column for each label of its metric, by name, and `value`. Labels come from closed sets here
too: what the set does not hold is folded into `other`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.metric_catalogue import CATALOGUE, OTHER
from everreach_assets.domain.rebuilds import NEW_OUTCOMES
from everreach_assets.domain.spaces import leading
from everreach_assets.domain.sync import may_leave
from resources import metric_records
from resources.database import Connection
from resources.metric_records import Sample
from resources.outcomes import PLATFORMS
from resources.providers import LOCAL
from resources.rebuilds import PROGRESS
from resources.settings import Settings
from resources.vector_store import CLOUD_TARGET

Fold = Callable[[Iterable[float]], float]


@dataclass(frozen=True)
class MetricQuery:
    """Where one metric comes from.

    Attributes:
        part: queries of one part succeed or fail together in everreach_exporter_collector_success.
        statement: with the parameters of `parameters()`.
        fold: what `other` is of several values outside the closed set; the worst of them where a sum says nothing.
    """

    part: str
    metric: str
    statement: str
    fold: Fold = sum


FRESH = f"{PLATFORMS}, fresh AS ({PROGRESS})"
"""Each platform, and what is new by the index of what is new."""

# With "ORDER BY rev" the planner takes the index of what is pending; it holds every row for that, and would read all.
WAITING = """
    SELECT pending_since FROM vector_deliveries AS ledger
    WHERE target = %(cloud)s AND ledger.collection = named.collection
        AND acked_rev IS DISTINCT FROM rev AND dead_since IS NULL
"""
SYNCED = """
    (SELECT unnest(%(synced)s::text[]) AS collection
     WHERE EXISTS (SELECT FROM clouds WHERE target = %(cloud)s)) AS named
"""
"""Nothing before the first sync: without a cloud every row is pending, and nobody waits for it."""

QUERIES: tuple[MetricQuery, ...] = (
    MetricQuery(
        "costs",
        "everreach_cloud_cost_month_to_date_usd",
        """
        SELECT known.value AS service, coalesce(usd, 0) AS value
        FROM metric_label_values AS known
        LEFT JOIN cloud_cost_months AS spent
            ON spent.service = known.value AND spent.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date
        WHERE known.value_set = 'cloud_service'
        """,
    ),
    MetricQuery(
        "feedback",
        "everreach_outcomes_since_rebuild",
        FRESH  # noqa: S608 - both are constants
        + "SELECT platform, coalesce(posts, 0) AS value FROM platforms LEFT JOIN fresh USING (platform)"
        " WHERE platform IS NOT NULL",
        fold=max,
    ),
    MetricQuery(
        "feedback",
        "everreach_outcomes_until_rebuild",
        FRESH  # noqa: S608 - both are constants
        + "SELECT platform, greatest(%(new_outcomes)s - coalesce(posts, 0), 0) AS value"
        " FROM platforms LEFT JOIN fresh USING (platform) WHERE platform IS NOT NULL",
        fold=min,
    ),
    MetricQuery(
        "feedback",
        "everreach_strategy_rebuild_attempts",
        FRESH  # noqa: S608 - both are constants
        + "SELECT platform, CASE WHEN posts >= %(new_outcomes)s THEN attempts ELSE 0 END AS value"
        " FROM platforms LEFT JOIN fresh USING (platform) WHERE platform IS NOT NULL",
        fold=max,
    ),
    MetricQuery(
        "feedback",
        "everreach_strategy_last_rebuild_timestamp_seconds",
        "SELECT platform, extract(epoch FROM created_at) AS value FROM actp_feedback_strategy",
        fold=min,
    ),
    MetricQuery(
        "intake",
        "everreach_ingest_dead_letters",
        """
        SELECT kind AS source, (SELECT count(*) FROM (
            SELECT FROM ingest_dead_letters AS letters WHERE letters.kind = kinds.kind LIMIT 10000) AS counted) AS value
        FROM unnest(ARRAY['posts', 'outcomes', 'prospects', 'lessons']) AS kinds (kind)
        """,
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_daily_calls",
        """
        SELECT known.value AS provider, coalesce(calls, 0) AS value
        FROM metric_label_values AS known
        LEFT JOIN embedding_call_days AS made
            ON made.provider = known.value AND made.day = (now() AT TIME ZONE 'UTC')::date
        WHERE known.value_set = 'provider' AND known.value <> 'other'
        """,
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_quota_remaining",
        """
        SELECT known.value AS provider, greatest(0, %(daily_quota)s - coalesce(calls, 0) - coalesce((
            SELECT sum(calls_left) FROM embedding_reservations AS promised
            WHERE promised.day = today.day AND promised.provider = known.value AND promised.expires_at > now()), 0))
            AS value
        FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS day) AS today
        CROSS JOIN metric_label_values AS known
        LEFT JOIN embedding_call_days AS made ON made.provider = known.value AND made.day = today.day
        WHERE known.value_set = 'provider' AND known.value <> ALL(%(without_quota)s)
        """,
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_cache_entries",
        "SELECT count(*) AS value FROM embedding_cache",  # bounded by EMBEDDING_CACHE_MAX_ENTRIES
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_cache_pending_erasures",
        "SELECT count(*) AS value FROM embedding_cache_erasures WHERE applied_at IS NULL AND %(cache_is_redis)s",
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_breaker_open",
        """
        SELECT known.value AS provider, (breaker.opened_at IS NOT NULL)::int AS value
        FROM metric_label_values AS known LEFT JOIN embedding_breakers AS breaker ON breaker.provider = known.value
        WHERE known.value_set = 'provider' AND known.value <> 'other'
        """,
        fold=max,
    ),
    MetricQuery(
        "embedding",
        "everreach_embedding_dead_letters",
        """
        SELECT collection, (SELECT count(*) FROM (
            SELECT FROM embedding_dead_letters AS letters WHERE letters.collection = named.collection
            LIMIT 10000) AS counted) AS value
        FROM unnest(%(collections)s::text[]) AS named (collection)
        """,
    ),
    MetricQuery(
        "vectors",
        "everreach_embedding_heal_pending_rows",
        """
        SELECT named.collection, (SELECT count(*) FROM (
            SELECT FROM embedding_spaces AS other
            JOIN vector_embeddings AS stored
                ON stored.collection = named.collection AND stored.space_id = other.space_id
            WHERE other.space_id <> in_force.space_id AND stored.text_sha256 IS NOT NULL
            LIMIT 100000) AS counted) AS value
        FROM unnest(%(collections)s::text[], %(leaders)s::text[]) AS named (collection, leader)
        JOIN collection_spaces AS in_force ON in_force.collection = named.leader
        """,
    ),
    MetricQuery(
        "vectors",
        "everreach_vector_index_pending_rows",
        """
        SELECT collection, (SELECT count(*) FROM (
            SELECT FROM vector_deliveries AS ledger
            WHERE target = ANY(%(index_targets)s) AND ledger.collection = named.collection
                AND acked_rev IS DISTINCT FROM rev
            ORDER BY rev LIMIT 100000) AS counted) AS value
        FROM unnest(%(collections)s::text[]) AS named (collection)
        """,
    ),
    MetricQuery(
        "cloud",
        "everreach_sync_pending_docs",
        f"""
        SELECT collection, (SELECT count(*) FROM ({WAITING} ORDER BY rev LIMIT 20000) AS waiting) AS value FROM {SYNCED}
        """,  # noqa: S608 - both are constants
    ),
    MetricQuery(
        "cloud",
        "everreach_sync_oldest_pending_timestamp_seconds",
        f"""
        SELECT collection, extract(epoch FROM oldest) AS value FROM {SYNCED} CROSS JOIN LATERAL (
            SELECT min(pending_since) AS oldest FROM ({WAITING} ORDER BY rev LIMIT 1000) AS waiting) AS first
        WHERE oldest IS NOT NULL
        """,  # noqa: S608 - both are constants
        fold=min,
    ),
    MetricQuery(
        "cloud",
        "everreach_sync_dead_letters",
        f"""
        SELECT collection, (SELECT count(*) FROM (
            SELECT FROM vector_deliveries AS ledger
            WHERE target = %(cloud)s AND ledger.collection = named.collection AND dead_since IS NOT NULL
            LIMIT 10000) AS dead) AS value
        FROM {SYNCED}
        """,  # noqa: S608 - a constant
    ),
)


def parameters(settings: Settings) -> dict[str, object]:
    """What the statements may refer to."""
    return {
        "cache_is_redis": settings.embedding_cache_url is not None,
        "cloud": CLOUD_TARGET,
        "collections": list(COLLECTIONS),
        "daily_quota": settings.embedding_daily_quota,
        "leaders": [leading(name) for name in COLLECTIONS],
        "index_targets": ["chroma"] if settings.vector_backend == "chroma" else [],
        "new_outcomes": NEW_OUTCOMES,
        "without_quota": [LOCAL, OTHER],
        "synced": [name for name in COLLECTIONS if may_leave(name)],
    }


@dataclass(frozen=True)
class Reading:
    """What one scrape read.

    Attributes:
        failed: parts that could not be read, with the reason. Nothing of them is among the samples.
    """

    samples: list[Sample]
    failed: Mapping[str, str]


RECORDED = "recorded"
PARTS = (RECORDED, *dict.fromkeys(query.part for query in QUERIES))


def read_all(connection: Connection, settings: Settings) -> Reading:
    """Every recorded series and every query, part by part: one that fails does not hide the others.

    Raises:
        psycopg.OperationalError: the connection broke.
    """
    values = parameters(settings)
    samples: list[Sample] = []
    failed: dict[str, str] = {}
    known: Mapping[str, Sequence[str]] = {}
    for part in PARTS:
        try:
            with connection.transaction():  # a savepoint: after an error the next part goes on
                if part == RECORDED:
                    samples += metric_records.stored(connection)
                    continue
                known = known or metric_records.value_sets(connection)
                samples += [
                    sample
                    for query in QUERIES
                    if query.part == part
                    for sample in _folded(query, connection.execute(query.statement.encode(), values), known)
                ]
        except psycopg.Error as error:
            if connection.broken:
                raise
            failed[part] = str(error).strip()
    return Reading(samples, failed)


def _folded(
    query: MetricQuery, cursor: "psycopg.Cursor[tuple[object, ...]]", known: Mapping[str, Iterable[str]]
) -> Iterator[Sample]:
    sets = {label: set(known.get(value_set, ())) for label, value_set in CATALOGUE[query.metric].labels.items()}
    names = [column.name for column in cursor.description or ()]
    folded: dict[tuple[str, ...], list[float]] = {}
    for row in cursor:
        found = dict(zip(names, row, strict=True))
        labels = tuple(str(found[label]) if str(found[label]) in allowed else OTHER for label, allowed in sets.items())
        folded.setdefault(labels, []).append(float(str(found["value"])))
    for labels, amounts in folded.items():
        yield Sample(query.metric, dict(zip(sets, labels, strict=True)), query.fold(amounts))
