"""Durable metrics: what the project's work and other services record, as rows that outlive every process.

What belongs here: the statements on the tables of sql/migrations/0008_metrics.sql. What does not: which metrics there
are (`domain/metric_catalogue.py`) and how they are exposed (`everreach_assets/service/`).

Two ways to record, and which is right:
- a *result* (rows embedded, purged, synced) in the transaction of the work: it counts exactly what was committed;
- *spending* (calls, tokens, money) at once and by itself, so that it is counted also where the work is rolled back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.types.json import Jsonb

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metric_catalogue import METRICS, OTHER, VALUE_SETS
from resources.database import Connection


@dataclass(frozen=True)
class Record:
    """An amount to add to a counter, a gauge's new value, or an observation of a histogram.

    Attributes:
        value: one number, or for a histogram several.
        labels: every label of the metric; a value outside its closed set counts as `other`.
    """

    metric: str
    value: float | Sequence[float] = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        key, value = ("value", self.value) if isinstance(self.value, int | float) else ("values", list(self.value))
        return {"metric": self.metric, "labels": dict(self.labels), key: value}


def record(connection: Connection, records: Sequence[Record], *, record_id: str | None = None) -> bool:
    """Record all of them in one statement, in the transaction of the connection if it is in one.

    Args:
        record_id: names this recording: the same again adds nothing. A provider's request id, or run, step and number.

    Returns:
        False where that record_id was recorded before.

    Raises:
        InvalidInput: there is no such metric or label, or the value is no number for it; nothing was recorded.
    """
    try:
        row = connection.execute(
            "SELECT record_metrics(%s, %s)", (Jsonb([each.as_json() for each in records]), record_id)
        ).fetchone()
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.CheckViolation, psycopg.DataError) as error:
        raise InvalidInput(f"metrics: {error.diag.message_primary or error}") from error
    return bool(row and row[0])


def replace_gauges(connection: Connection, metric: str, values: Sequence[Record]) -> None:
    """Set the gauge for these labels and forget it for all others, in the transaction of the connection."""
    connection.execute("DELETE FROM metric_gauges WHERE metric = %s", (metric,))
    if values:
        record(connection, values)


def publish_catalogue(connection: Connection) -> None:
    """Bring the catalogue, the closed sets and the zeros of new counters into the database; part of every migration.

    Values that an operator has allowed stay.
    """
    recorded = [each for each in METRICS if each.is_recorded]
    with connection.transaction():
        cursor = connection.cursor()
        cursor.executemany(  # counts of other buckets cannot be carried over
            "DELETE FROM metric_histograms USING metric_catalogue AS known WHERE metric_histograms.metric = %s"
            " AND known.metric = %s AND known.buckets IS DISTINCT FROM %s::double precision[]",
            [(each.name, each.name, list(each.buckets)) for each in recorded if each.buckets],
        )
        cursor.executemany(
            "INSERT INTO metric_catalogue (metric, type, value_sets, buckets) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (metric) DO UPDATE SET value_sets = excluded.value_sets, buckets = excluded.buckets",
            [(each.name, each.type, Jsonb(dict(each.labels)), list(each.buckets) or None) for each in recorded],
        )
        cursor.executemany(
            "INSERT INTO metric_label_values (value_set, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [(name, value) for name, values in VALUE_SETS.items() for value in (*values, OTHER)],
        )
        cursor.executemany(
            "INSERT INTO metric_counters (metric, labels, value) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
            [(each.name, Jsonb(labels)) for each in recorded for labels in each.seeds()],
        )
