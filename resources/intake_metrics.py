"""What the intake counts, of files and of single outcomes alike, in the transaction that takes them in."""

import time

from resources.database import Connection
from resources.metric_records import Record, record


def record_intake(
    connection: Connection, source: str, rows: int, *, rejected: int = 0, seconds: float | None = None
) -> None:
    """Count rows that were read; call it last: recorders of one source wait for each other's end.

    Args:
        source: the kind of a file, or `api`.
        rows: those that were rejected included.
        seconds: that a file took; None for a single outcome.
    """
    labels = {"source": source}
    records = [
        Record("everreach_ingest_processed_total", rows, labels),
        Record("everreach_ingest_rejected_total", rejected, labels),
        Record("everreach_ingest_last_success_timestamp_seconds", time.time(), labels),
    ]
    if seconds is not None:
        records.append(Record("everreach_ingest_batch_duration_seconds", seconds, labels))
    record(connection, records)
