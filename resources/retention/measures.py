"""What retention says of itself on /metrics, written in the transaction of the work."""

from collections.abc import Mapping

from resources.database import Connection
from resources.metric_records import Record, record, replace_gauges
from resources.retention import clock

PURGED, OVERDUE, HELD = (f"everreach_retention_{each}" for each in ("purged_total", "overdue_docs", "held_docs"))
LAST_SUCCESS = "everreach_retention_last_success_timestamp_seconds"


def note_purged(connection: Connection, collection: str, documents: int) -> None:
    """Count documents that were deleted."""
    record(connection, [Record(PURGED, documents, {"collection": collection, "reason": "expired"})])


def note_overdue(connection: Connection, collection: str, documents: int) -> None:
    """Say how many documents of the collection are there although they should go."""
    record(connection, [Record(OVERDUE, documents, {"collection": collection})])


def note_plan(connection: Connection, overdue: Mapping[str, int], held: Mapping[str, int]) -> None:
    """Say of each collection how many documents should go, and how many would if nothing kept them."""
    for metric, by_collection in ((OVERDUE, overdue), (HELD, held)):
        records = [Record(metric, count, {"collection": name}) for name, count in by_collection.items()]
        replace_gauges(connection, metric, records)


def note_success(connection: Connection) -> None:
    """Note that retention has nothing left to do."""
    record(connection, [Record(LAST_SUCCESS, clock.now(connection).timestamp())])
