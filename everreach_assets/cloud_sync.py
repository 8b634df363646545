"""Send the cloud what it has not confirmed: the steps that every `cloud/*` asset and `everreach sync` take.

    ledger ── should_sync ──► batch ──► gate, revision-guarded write ──► read back ──► acknowledge what is exactly so

A batch is acknowledged in one transaction, and every step can be repeated: killed anywhere, the next sync goes on. What
belongs here: the order. What does not: what may leave (`domain/sync.py`), statements (`resources/sync_ledger.py`), the
clouds (`resources/cloud_store.py`), comparing everything (`cloud_parity.py`).
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.sync import (
    BATCH_ROWS,
    Change,
    Outgoing,
    Removal,
    allowed_metadata,
    judge,
    may_leave,
    packed,
    policy_sha256,
    should_sync,
)
from resources import metric_records, sync_lease, sync_ledger
from resources.cloud_store import Cloud, RowsRefused
from resources.database import Connection, Database
from resources.metric_records import Record
from resources.sync_lease import Lease
from resources.sync_ledger import Pending

SYNCED = tuple(name for name in COLLECTIONS if may_leave(name))
"""The collections that have a copy in the cloud."""

RESULTS = ("pushed", "updated", "deleted", "conflict", "failed")
OnProgress = Callable[[int, int], None]
"""Is told how many changes are settled, and how many there were to begin with."""


@dataclass
class SyncReport:
    """What a sync of one collection did.

    Attributes:
        results: changes by what became of them: `pushed` (new there), `updated`, `deleted`, `conflict` (the cloud
            holds a newer revision), `failed`.
        kept_rows: rows that must stay here, whatever the ledger says.
        dropped_keys: metadata that the allow-list left out.
        dead: changes that became dead letters in this sync.
        rows_held: rows that the cloud has confirmed, all in all.
        is_busy: another sync of the collection was under way, so this one did nothing.
    """

    collection: str
    results: Counter[str] = field(default_factory=Counter)
    kept_rows: int = 0
    dropped_keys: int = 0
    dead: int = 0
    sent_bytes: int = 0
    requests: int = 0
    rows_held: int = 0
    is_configured: bool = True
    is_busy: bool = False

    @property
    def unsettled(self) -> int:
        """Changes that were tried and not confirmed."""
        return self.results["conflict"] + self.results["failed"]

    def __str__(self) -> str:
        if not self.is_configured:
            return f"{self.collection}: no cloud is configured"
        if self.is_busy:
            return f"{self.collection}: another sync is under way"
        if not (self.results or self.kept_rows):
            return f"{self.collection}: nothing to send"
        counts = ", ".join(f"{self.results[result]:,} {result}" for result in RESULTS if self.results[result])
        kept = f", {self.kept_rows:,} kept here" if self.kept_rows else ""
        return f"{self.collection}: {counts or 'nothing sent'}{kept}; {self.sent_bytes:,} bytes"


@dataclass
class SyncPlan:
    """What a sync of one collection would do: changes and bytes by action."""

    collection: str
    rows: Counter[str] = field(default_factory=Counter)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    dropped_keys: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        actions = [
            f"{action} {self.rows[action]:,} ({self.sent_bytes[action]:,} bytes)"
            for action in ("send", "send metadata", "remove", "keep here")
            if self.rows[action]
        ]
        dropped = [f"leave out {self.dropped_keys:,} metadata values"] if self.dropped_keys else []
        dead = [f"dead letters: {rows:,} {error_class}" for error_class, rows in self.dead_letters.items()]
        return f"{self.collection}: {'; '.join([*actions, *dropped, *dead]) or 'nothing to send'}"


def chosen(collection: str | None) -> Sequence[str]:
    """The collection that a person named, or all that have a copy.

    Raises:
        Refused: the collection must not leave.
    """
    if collection is not None and not may_leave(collection):
        raise Refused(f"{collection!a} must stay on this machine; {', '.join(SYNCED)} may leave")
    return [collection] if collection else SYNCED


def sync_collection(
    collection: str, *, database: Database, cloud: Cloud, on_progress: OnProgress = lambda done, total: None
) -> SyncReport:
    """Bring the cloud's copy of one collection up to date.

    Raises:
        Refused: the collection must not leave, or this sync was frozen and another one has taken over.
        Unavailable: the cloud or the database did not answer. What was confirmed until then stays so.
    """
    chosen(collection)
    report = SyncReport(collection, is_configured=cloud.is_configured)
    if not cloud.is_configured:
        return report
    _meet(database, cloud)
    with sync_lease.lease(database, collection, _holder()) as lease:
        if lease is None:
            report.is_busy = True
        else:
            requests, sent = cloud.requests, cloud.sent_bytes
            _Sync(database, cloud, lease, report, on_progress).run()
            report.requests, report.sent_bytes = cloud.requests - requests, cloud.sent_bytes - sent
    with database.connection() as connection:
        report.rows_held = sync_ledger.rows_held(connection, collection)
        if not report.is_busy and not report.unsettled:
            now = sync_ledger.now(connection)
            gauge = "everreach_sync_last_success_timestamp_seconds"
            metric_records.record(connection, [Record(gauge, now, {"collection": collection})])
    return report


def plan_collection(collection: str, *, database: Database, cloud: Cloud) -> SyncPlan:
    """What a sync would do now. Nothing is sent, and nothing is written.

    Raises:
        InvalidInput: no cloud is configured.
    """
    plan = SyncPlan(collection)
    with database.connection() as connection:
        of_all = not sync_lease.knows_address(connection, cloud.address_sha256)
        plan.dead_letters = {} if of_all else sync_ledger.dead_letters(connection, collection)
        for batch in _batches(connection, collection, of_all=of_all):
            for row in batch:
                change, dropped = _change(collection, row)
                plan.dropped_keys += dropped
                action = _action(change)
                plan.rows[action] += 1
                plan.sent_bytes[action] += 0 if change is None else change.size_bytes
    return plan


class _Sync:
    """One run over a collection, from the oldest change to those that were there when it began."""

    def __init__(
        self, database: Database, cloud: Cloud, lease: Lease, report: SyncReport, on_progress: OnProgress
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._lease = lease
        self._report = report
        self._on_progress = on_progress
        self._dropped: dict[str, int] = {}

    def run(self) -> None:
        done = total = 0
        with self._database.connection() as connection:
            for rows in _batches(connection, self._lease.collection):
                total = total or max(len(rows), sync_ledger.count_pending(connection, self._lease.collection))
                self._send(rows)
                done += len(rows)
                self._on_progress(done, max(done, total))

    def _send(self, rows: Sequence[Pending]) -> None:
        """Judge the rows, send what may leave, and settle the rest."""
        known = {each.doc_id: each for each in rows}
        judged = {each.doc_id: _change(self._lease.collection, each) for each in rows}
        changes = [change for change, _ in judged.values() if change is not None]
        self._dropped = {doc_id: dropped for doc_id, (_, dropped) in judged.items()}
        self._settle_kept([known[doc_id] for doc_id, (change, _) in judged.items() if change is None])
        # What was refused before goes alone, so that it holds nobody up.
        suspects = [each for each in changes if known[each.doc_id].attempts]
        for batch in packed(each for each in changes if not known[each.doc_id].attempts):
            self._send_batch(batch, known)
        for suspect in suspects:
            self._send_batch([suspect], known)

    def _send_batch(self, batch: Sequence[Change], known: dict[str, Pending]) -> None:
        """Write, read back, acknowledge; a batch that is refused is halved until the row that spoils it is alone."""
        with self._database.connection() as connection:
            sync_lease.renew(connection, self._lease)
        collection = self._lease.collection
        try:
            self._cloud.write(collection, batch)
            held = self._cloud.held(collection, batch)
        except RowsRefused as refused:
            if len(batch) == 1:
                self._settle([], {batch[0].doc_id: refused.error_class}, known)
            else:
                middle = len(batch) // 2
                self._send_batch(batch[:middle], known)
                self._send_batch(batch[middle:], known)
            return
        verdicts = {each.doc_id: judge(each, held.get(each.doc_id)) for each in batch}
        self._settle(
            [each for each in batch if verdicts[each.doc_id] == "acknowledged"],
            {doc_id: verdict for doc_id, verdict in verdicts.items() if verdict != "acknowledged"},
            known,
        )

    def _settle(self, confirmed: Sequence[Change], failed: dict[str, str], known: dict[str, Pending]) -> None:
        """Note in one transaction what the cloud holds, what it refused, and the counts of both.

        Raises:
            Refused: another sync has taken over. What was just sent may have overtaken what it sent, so these rows
                are sent once more.
        """
        collection = self._lease.collection
        results = Counter(_result(each, known[each.doc_id]) for each in confirmed)
        results.update("conflict" if reason == "conflict" else "failed" for reason in failed.values())
        difference = sum(isinstance(each, Outgoing) - known[each.doc_id].was_sent for each in confirmed)
        difference -= sum(known[doc_id].was_sent for doc_id in failed)
        dropped = sum(self._dropped[each.doc_id] for each in confirmed)
        try:
            with self._database.transaction() as connection:
                sync_lease.renew(connection, self._lease)
                if confirmed:
                    sync_ledger.acknowledge(connection, collection, confirmed)
                dead = sync_ledger.note_failures(connection, collection, failed, known) if failed else 0
                if difference:
                    sync_ledger.add_rows_held(connection, collection, difference)
                self._count(connection, results, {"metadata": dropped})
        except Refused:
            with self._database.transaction() as connection:
                sync_ledger.doubt(connection, collection, [*(each.doc_id for each in confirmed), *failed])
            raise
        self._report.results += results
        self._report.dropped_keys += dropped
        self._report.dead += dead

    def _settle_kept(self, kept: Sequence[Pending]) -> None:
        """Note the rows that stay here."""
        if not kept:
            return
        with self._database.transaction() as connection:
            sync_lease.renew(connection, self._lease)
            sync_ledger.note_kept(connection, self._lease.collection, kept)
            self._count(connection, Counter(), {"local_only": len(kept)})
        self._report.kept_rows += len(kept)

    def _count(self, connection: Connection, results: Counter[str], blocked: Mapping[str, int]) -> None:
        collection = {"collection": self._lease.collection}
        metric_records.record(
            connection,
            [
                *(Record("everreach_sync_docs_total", n, collection | {"result": each}) for each, n in results.items()),
                *(
                    Record("everreach_sync_blocked_total", n, collection | {"reason": each})
                    for each, n in blocked.items()
                ),
            ],
        )


def _meet(database: Database, cloud: Cloud) -> None:
    """See to it that the acknowledgements are this cloud's, under these rules.

    With another address or other rules, what must not be there is removed first; then nothing counts as acknowledged.
    """
    address, policy = cloud.address_sha256, policy_sha256()
    with database.connection() as connection:
        if sync_lease.is_met(connection, address, policy):
            return
    cloud.erase_forbidden()
    sync_lease.meet(database, address, policy, SYNCED)


def _batches(connection: Connection, collection: str, *, of_all: bool = False) -> Iterator[list[Pending]]:
    """What is pending: removals first, then rows, each from the oldest on, up to the newest of now."""
    up_to = sync_ledger.newest_revision(connection)
    for removals in (True, False):
        after = 0
        while batch := sync_ledger.pending(
            connection, collection, removals=removals, after=after, up_to=up_to, limit=BATCH_ROWS, of_all=of_all
        ):
            yield batch
            after = batch[-1].rev


def _change(collection: str, row: Pending) -> tuple[Change | None, int]:
    """What may leave of the row, and how many of its metadata values may not; None where nothing may.

    A row that must stay and was sent under earlier rules becomes a removal.
    """
    if not should_sync(collection, row.doc_id):
        return (Removal(row.doc_id, row.rev) if row.was_sent else None), 0
    if row.stored is None:  # deleted, or gone by other ways than ours: the truth does not hold it
        return Removal(row.doc_id, row.rev), 0
    metadata = allowed_metadata(collection, row.stored.metadata)
    outgoing = Outgoing(
        row.doc_id, row.stored.rev, row.stored.space_id, metadata, row.stored.vector_sha256, row.stored.vector
    )
    return outgoing, len(row.stored.metadata) - len(metadata)


def _action(change: Change | None) -> str:
    match change:
        case None:
            return "keep here"
        case Removal():
            return "remove"
        case Outgoing():
            return "send" if change.vector is not None else "send metadata"


def _result(change: Change, row: Pending) -> str:
    if isinstance(change, Removal):
        return "deleted"
    return "updated" if row.was_sent else "pushed"


def _holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
