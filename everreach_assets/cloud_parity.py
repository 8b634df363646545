"""Compare the cloud with what may be in it, row by row, and mend what differs.

The sync itself never compares: it trusts what the cloud confirmed. This proves that trust, once a day. What does not
belong here: sending (`cloud_sync.py`); a mended row is one that the next sync sends.
"""

from dataclasses import dataclass, field

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.sync import Held, allowed_metadata, may_leave, same_metadata, should_sync
from resources import metric_records, sync_lease, sync_ledger
from resources.cloud_store import Cloud
from resources.database import Database
from resources.metric_records import Record
from resources.sync_ledger import Confirmed

MOST_EXTRA = 0.5
"""A cloud of which more than this share is unknown here is rather another database's than full of leftovers."""


@dataclass(frozen=True)
class ParityReport:
    """What the cloud holds against what it should hold, for one collection.

    Attributes:
        rows: in the cloud.
        missing: ids that it confirmed and does not hold.
        stale: ids that it holds in another revision, or otherwise than it confirmed.
        extra: ids that it holds and this database does not, with their revisions.
        forbidden: rows that must never be there, by collection; ids of this collection that must stay here included.
        pending: changes that the next sync sends; they are no difference.
    """

    collection: str
    rows: int
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    extra: dict[str, int] = field(default_factory=dict)
    forbidden: dict[str, int] = field(default_factory=dict)
    pending: int = 0

    @property
    def differences(self) -> int:
        return len(self.missing) + len(self.stale) + len(self.extra)

    @property
    def is_equal(self) -> bool:
        return not self.differences and not any(self.forbidden.values())

    def __str__(self) -> str:
        counts = f"{len(self.missing):,} missing, {len(self.stale):,} stale, {len(self.extra):,} extra"
        verdict = "as confirmed" if not self.differences else counts
        forbidden = sum(self.forbidden.values())
        return f"{self.collection}: {self.rows:,} rows in the cloud, {verdict}, {self.pending:,} pending" + (
            f"; {forbidden:,} ROWS THAT MUST NOT BE THERE ({', '.join(sorted(self.forbidden))})" if forbidden else ""
        )


def compare(collection: str, *, database: Database, cloud: Cloud) -> ParityReport:
    """Compare every row of the collection, and look for what must not be in the cloud; both counts become gauges.

    Raises:
        InvalidInput: no cloud is configured.
        Unavailable: the cloud or the database did not answer.
    """
    with database.connection() as connection:
        is_known = sync_lease.knows_address(connection, cloud.address_sha256)
        before, leaving_before = sync_ledger.confirmed_rows(connection, collection)
    held = cloud.listing(collection)
    forbidden = cloud.forbidden()
    with database.connection() as connection:  # twice: what changed while the cloud was read is no difference
        after, leaving = sync_ledger.confirmed_rows(connection, collection)
        pending = sync_ledger.count_pending(connection, collection)
    if kept := [doc_id for doc_id in held if not should_sync(collection, doc_id)]:
        forbidden[collection] = len(kept)
    steady = {doc_id: each for doc_id, each in after.items() if before.get(doc_id) == each and is_known}
    report = ParityReport(
        collection,
        len(held),
        missing=sorted(
            doc_id for doc_id, each in steady.items() if each.acked_vector_sha256 is not None and doc_id not in held
        ),
        stale=sorted(
            doc_id
            for doc_id, each in steady.items()
            if each.acked_vector_sha256 is not None
            and doc_id in held
            and not _is_as_confirmed(collection, each, held[doc_id])
        ),
        extra={
            doc_id: row.rev
            for doc_id, row in sorted(held.items())
            if not {doc_id} & (before.keys() | after.keys() | leaving_before | leaving)
        },
        forbidden=forbidden,
        pending=pending,
    )
    _record(database, report)
    return report


def mend(report: ParityReport, *, database: Database, cloud: Cloud, even_most: bool = False) -> int:
    """Note what differs, so that the next sync sends or removes it, and remove at once what must not be there; answers
    how many rows that were.

    Args:
        even_most: remove extra rows also where they are most of what the cloud holds.

    Raises:
        Refused: most of what the cloud holds is unknown here: an empty or another database must not empty it.
    """
    if not even_most and len(report.extra) > MOST_EXTRA * report.rows:
        raise Refused(
            f"{report.collection}: {len(report.extra):,} of the {report.rows:,} rows in the cloud at {cloud.address} "
            "are unknown to this database, so it may be another database's copy: nothing was changed. If they are "
            "leftovers, add --even-most"
        )
    with database.transaction() as connection:
        sync_ledger.doubt(connection, report.collection, [*report.missing, *report.stale])
        if report.extra:
            sync_ledger.note_removal(connection, report.collection, report.extra)
    return report.differences + cloud.erase_forbidden()


def _is_as_confirmed(collection: str, row: Confirmed, held: Held) -> bool:
    if held.vector_sha256 != row.acked_vector_sha256:
        return False
    if row.acked_rev is None:  # confirmed under other rules, and yet to be judged again
        return True
    if held.rev != row.acked_rev:
        return False
    return row.rev != row.acked_rev or same_metadata(held.metadata, allowed_metadata(collection, row.metadata))


def _record(database: Database, report: ParityReport) -> None:
    local_only = [
        Record("everreach_cloud_local_only_docs", report.forbidden.get(name, 0), {"collection": name})
        for name in COLLECTIONS
        if name == report.collection or not may_leave(name)
    ]
    unknown = sum(rows for name, rows in report.forbidden.items() if name not in COLLECTIONS)
    with database.transaction() as connection:
        metric_records.record(
            connection,
            [
                *local_only,
                Record("everreach_cloud_local_only_docs", unknown, {"collection": "other"}),
                Record("everreach_sync_drift_docs", report.differences, {"collection": report.collection}),
            ],
        )
