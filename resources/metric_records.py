"""Durable metrics: what the project's work and other services record, as rows that outlive every process.

What belongs here: the statements on the tables of sql/migrations/0008_metrics.sql. What does not: which metrics there
are (`domain/metric_catalogue.py`) and how they are exposed (`everreach_assets/service/`).

Two ways to record, and which is right:
- a *result* (rows embedded, purged, synced) in the transaction of the work: it counts exactly what was committed;
- *spending* (calls, tokens, money) at once and by itself, so that it is counted also where the work is rolled back.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.types.json import Jsonb

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metric_catalogue import CATALOGUE, METRICS, OTHER, VALUE_SETS, Metric
from resources.database import Connection

LABEL_VALUE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}")
NEVER_ALLOWED = frozenset({"total", OTHER})
VALUES_OF_A_SET = 50
RECORD_ID_MAX_BYTES = 200
RECORD_ID_AGE = dt.timedelta(days=30)
"""A caller that is not sure whether it was heard asks again within minutes or days, not months."""


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


@dataclass(frozen=True)
class Buckets:
    """A histogram's observations by bucket, not cumulated, the last above every bound; and their sum."""

    counts: Sequence[float]
    sum: float


@dataclass(frozen=True)
class Sample:
    """One series and its value now."""

    metric: str
    labels: Mapping[str, str]
    value: float | Buckets


def record(connection: Connection, records: Sequence[Record], *, record_id: str | None = None) -> bool:
    """Record all of them in one statement, in the transaction of the connection if it is in one.

    Args:
        record_id: names this recording: the same again within 30 days adds nothing. A provider's request id, or run,
            step and number.

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


def replace_gauges(
    connection: Connection, metric: str, values: Sequence[Record], *, within: Mapping[str, str] | None = None
) -> None:
    """Set the gauge for these labels and forget it for all others, in the transaction of the connection.

    Args:
        within: of the others, only those with these labels are forgotten.
    """
    connection.execute(
        "DELETE FROM metric_gauges WHERE metric = %s AND labels @> %s", (metric, Jsonb(dict(within or {})))
    )
    if values:
        record(connection, values)


def record_from_outside(connection: Connection, records: Sequence[Record], *, record_id: str | None = None) -> bool:
    """`record` for callers that are not this project: only what is declared as theirs.

    Raises:
        InvalidInput: as `record`; also for a metric that the project's own work counts, which would be counted twice.
    """
    for each in records:
        metric = CATALOGUE.get(each.metric)
        if metric is not None and metric.source != "outside":
            theirs = ", ".join(each.name for each in METRICS if each.source == "outside")
            raise InvalidInput(f"{metric.name}: it is not recorded from outside, only {theirs} are")
    if record_id is not None and not _is_record_id(record_id):
        raise InvalidInput(f"record_id is not 1 to {RECORD_ID_MAX_BYTES} bytes that can be printed")
    return record(connection, records, record_id=record_id)


def forget_old_record_ids(connection: Connection) -> int:
    """Forget the ids of recordings older than `RECORD_ID_AGE`; answers how many. It reads the table, once a day."""
    return connection.execute("DELETE FROM metric_record_ids WHERE recorded_at < now() - %s", (RECORD_ID_AGE,)).rowcount


def _is_record_id(text: str) -> bool:
    return text.isprintable() and 0 < len(text.encode()) <= RECORD_ID_MAX_BYTES


def allow_value(connection: Connection, value_set: str, value: str) -> bool:
    """Add a value to a closed set, and zeros to the counters whose labels it belongs to; False where it was there.

    Raises:
        InvalidInput: no such set, the set is full, or the value is outside the grammar of label values.
    """
    if value_set not in VALUE_SETS:
        raise InvalidInput(f"{value_set!r}: there is no such set; there are {', '.join(sorted(VALUE_SETS))}")
    if not LABEL_VALUE.fullmatch(value) or value in NEVER_ALLOWED:
        raise InvalidInput(
            f"{value[:80]!a}: a label's value is 1 to 64 characters of a-z, A-Z, 0-9, '_', '.', ':' and '-', starting "
            "with a letter or digit; 'total' would double every sum"
        )
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('metric_label_values'))")  # two at once count alike
        known = value_sets(connection)
        if value in known[value_set]:
            return False
        if len(known[value_set]) >= VALUES_OF_A_SET:
            raise InvalidInput(f"{value_set}: it holds {VALUES_OF_A_SET} values already, and each one makes series")
        connection.execute("INSERT INTO metric_label_values (value_set, value) VALUES (%s, %s)", (value_set, value))
        known[value_set].append(value)
        concerned = [each for each in METRICS if value_set in each.labels.values()]
        _insert_zeros(connection, concerned, known)
    return True


def value_sets(connection: Connection) -> dict[str, list[str]]:
    """The closed sets as they are now, with what an operator has allowed and without `other`; values in their order."""
    rows = connection.execute(
        "SELECT value_set, array_agg(value ORDER BY value) FROM metric_label_values WHERE value <> %s GROUP BY 1",
        (OTHER,),
    )
    return dict(rows.fetchall())


def _insert_zeros(connection: Connection, metrics: Iterable[Metric], value_sets: Mapping[str, Sequence[str]]) -> None:
    connection.cursor().executemany(
        "INSERT INTO metric_counters (metric, labels, value) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
        [(each.name, Jsonb(labels)) for each in metrics for labels in each.seeds(value_sets)],
    )


def stored(connection: Connection) -> list[Sample]:
    """Every recorded series, but for gauges that nobody has set for longer than they may be believed."""
    samples = [
        Sample(metric, labels, value)
        for metric, labels, value in connection.execute(
            "SELECT metric, labels, value::float8 FROM metric_counters ORDER BY metric, labels"
        )
    ]
    for metric, labels, value, age_seconds in connection.execute(
        "SELECT metric, labels, value, extract(epoch FROM now() - set_at)::float8 FROM metric_gauges"
        " ORDER BY metric, labels"
    ):
        declared = CATALOGUE.get(metric)
        if declared and (declared.max_age_seconds is None or age_seconds <= declared.max_age_seconds):
            samples.append(Sample(metric, labels, value))
    samples += [
        Sample(metric, labels, Buckets(counts, total))
        for metric, labels, counts, total in connection.execute(
            "SELECT metric, labels, counts::float8[], sum FROM metric_histograms ORDER BY metric, labels"
        )
    ]
    # Rows of a metric, or of labels, that the catalogue no longer has are history.
    return [
        each
        for each in samples
        if each.metric in CATALOGUE and each.labels.keys() == CATALOGUE[each.metric].labels.keys()
    ]


def cursor_position(connection: Connection, name: str) -> dt.datetime | None:
    """How far a watcher of that name has come; None where it has not begun."""
    row = connection.execute("SELECT position FROM metric_cursors WHERE name = %s", (name,)).fetchone()
    return row[0] if row else None


def move_cursor(connection: Connection, name: str, position: dt.datetime) -> None:
    """Note how far the watcher has come; of two watchers, the one that is farther counts."""
    connection.execute(
        "INSERT INTO metric_cursors AS known (name, position) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE"
        " SET position = greatest(known.position, excluded.position)",
        (name, position),
    )


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
        _insert_zeros(connection, recorded, value_sets(connection))
