"""Retention: plan what has expired, purge a plan, restore from an archive.

What belongs here: the order of the steps. A purge is plan, guards, archive, verify, delete in chunks, receipt; killed
anywhere, the same call goes on from there. What does not: which documents expire (`resources/retention/plans.py`), the
policy and the guards (`domain/retention.py`), the files (`resources/archives.py`).
"""

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.retention import (
    PLAN_MAX_AGE,
    PlanItem,
    RetentionPolicy,
    approval_reason,
    clock_fault,
    plan_hash,
    read_policy,
)
from resources import archives, metric_records
from resources.database import Connection, Database
from resources.embedding_cache import EmbeddingCache
from resources.retention import clock, measures, plans, purges, receipts, restores
from resources.retention.plans import Ages, Plan
from resources.retention.receipts import Receipt
from resources.vector_db import VectorDB

DEFAULT_POLICY_FILE = Path(__file__).with_name("retention.yaml")

CHUNK_DOCUMENTS = 500
"""Writers of vectors wait while a chunk is deleted: some tens of milliseconds."""

WAIT_SECONDS = 60
"""How long a chunk waits for writers of vectors, who wait behind it. The building of an index may take longer; then the
purge says so, and is run again."""


@dataclass(frozen=True)
class RetentionRules:
    """What the settings say about retention.

    Attributes:
        archives: the folder of the archives.
        may_purge: the kill switch: False refuses every purge.
        chunk_documents: so many are deleted in one transaction.
        wait_seconds: how long a chunk waits for writers of vectors.
    """

    policy: RetentionPolicy
    archives: Path
    may_purge: bool = True
    chunk_documents: int = CHUNK_DOCUMENTS
    wait_seconds: int = WAIT_SECONDS


@dataclass(frozen=True)
class PurgeReport:
    """What a purge did, or in a dry run would do.

    Attributes:
        purged: documents by collection.
        kept: documents that were planned and are held, cited or changed by now.
        needs_approval: why a real purge would need approval; empty where it does not, or has it.
        receipts: none in a dry run.
    """

    plan: Plan
    purged: dict[str, int]
    kept: int
    is_dry_run: bool
    needs_approval: str
    receipts: Sequence[Receipt]

    @property
    def documents(self) -> int:
        return sum(self.purged.values())

    def __str__(self) -> str:
        done = "would be purged" if self.is_dry_run else "purged"
        return f"{self.documents:,} documents {done}, {self.kept:,} of the plan kept"


@dataclass(frozen=True)
class RestoreReport:
    """What came back from an archive, and what was left: there already, or never purged from it."""

    collection: str
    restored: list[str]
    left: int


def load_policy(path: Path | None) -> RetentionPolicy:
    """The policy of that file, or the one that the project ships.

    Raises:
        InvalidInput: there is no such file, or it is no policy.
    """
    file = path or DEFAULT_POLICY_FILE
    try:
        return read_policy(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"retention policy {file}: {error}; set RETENTION_POLICY_FILE to a file that exists"
        ) from error


def make_plan(policy: RetentionPolicy, *, database: Database) -> Plan:
    """Store what the policy would purge now; no document is purged. Old ids of recordings are forgotten with it."""
    with database.connection() as connection:
        metric_records.forget_old_record_ids(connection)
    with database.transaction() as connection:
        plan = plans.begin(connection, policy)
        return plans.finish(connection, plan, plan_hash(policy.version, plans.items(connection, plan.plan_id)))


def planned_items(plan: Plan, limit: int, *, database: Database) -> list[PlanItem]:
    """The first documents of the plan in each collection."""
    with database.connection() as connection:
        return plans.items(connection, plan.plan_id, limit)


def known_ages(policy: RetentionPolicy, *, database: Database) -> dict[str, Ages]:
    """How old the documents of each collection are, and how old they may become."""
    with database.connection() as connection:
        return {name: plans.ages(connection, policy, name) for name in COLLECTIONS}


def purge(
    rules: RetentionRules,
    *,
    database: Database,
    vector_db: VectorDB,
    cache: EmbeddingCache | None = None,
    approved_plan_hash: str = "",
    dry_run: bool = True,
) -> PurgeReport:
    """Carry out a plan: the one that a person approved of by its hash, or the newest.

    A plan that was carried out already is not carried out again; what the index has yet to hear is delivered.

    Args:
        rules: policy, archives and kill switch.
        database: the truth.
        vector_db: whose index is told at once; other targets of the ledger are told by their own runs.
        cache: of vectors, told at once where it is outside the database; without it, whoever uses it next tells it.
        approved_plan_hash: names the plan, and says that a person has looked at it.
        dry_run: delete nothing, and say what would go.

    Raises:
        InvalidInput: there is no such plan.
        Refused: the plan is too old, of another policy, too large without approval; the clock jumped; purges are
            switched off; an archive is not what was written. Nothing was deleted.
        Unavailable: the index did not answer, after the purge; or others wrote for too long. Run the same again.
    """
    with database.connection() as connection:
        plan = _plan(connection, rules.policy, approved_plan_hash)
        if dry_run:
            purged = {
                each.collection: len(purges.eligible(connection, rules.policy, plan, each.collection))
                for each in plan.counts
            }
            reason = "" if approved_plan_hash else approval_reason(plan.counts)
            return PurgeReport(plan, purged, plan.documents - sum(purged.values()), True, reason, ())
    if not rules.may_purge:
        raise Refused("purges are switched off (EVERREACH_DESTRUCTIVE=0); set it to 1 to allow them")
    with database.connection() as connection, purges.alone(connection):
        is_done = {each.collection for each in receipts.of_plan(connection, plan.plan_id) if each.ended_at is not None}
        if not all(each.collection in is_done for each in plan.counts if each["expired"]):
            _refuse_unless_safe(connection, plan, is_approved=bool(approved_plan_hash))
        archives.remove_partial(rules.archives)
        for receipt in receipts.broken_off(connection, plan):
            receipts.end(connection, receipt)
        for counts in plan.counts:
            if counts["expired"] and counts.collection not in is_done:
                _purge_collection(
                    connection, rules, plan, counts.collection, bool(approved_plan_hash), vector_db.targets
                )
        _remove_old_archives(connection, rules)
        measures.note_success(connection)
        written = receipts.of_plan(connection, plan.plan_id)
    if cache is not None:
        cache.finish_erasures()
    for receipt in written:
        vector_db.deliver(receipt.collection)
    purged = {receipt.collection: receipt.purged for receipt in written}
    return PurgeReport(plan, purged, plan.documents - sum(purged.values()), False, "", written)


def restore(
    path: Path, *, database: Database, vector_db: VectorDB, restored_by: str, doc_ids: Sequence[str] | None = None
) -> RestoreReport:
    """Bring back what was purged into the archive, or those documents of it, each with a hold.

    Raises:
        InvalidInput: no archive of this database, or an id that it does not hold.
        Refused: the archive is not what was written.
        Unavailable: the index did not answer, after the restore; the next run tells it.
    """
    with database.connection() as connection, purges.alone(connection):
        receipt = receipts.of_archive(connection, path.name)
        if receipt is None or receipt.archive_sha256 is None:
            raise InvalidInput(f"archive {path.name}: this database has no receipt of a purge into it")
        archive = archives.verify(path, receipt.archive_sha256)
        wanted = set(archive.doc_ids if doc_ids is None else doc_ids)
        if unknown := sorted(wanted - set(archive.doc_ids)):
            raise InvalidInput(f"archive {path.name} does not hold {unknown[0]!r} ({len(unknown)} such ids)")
        targets = purges.known_targets(connection, receipt.collection, vector_db.targets)
        restored: list[str] = []
        lines = zip(archive.doc_ids, archives.read(path), strict=True)
        chosen = ((doc_id, line) for doc_id, line in lines if doc_id in wanted)
        while chunk := dict(itertools.islice(chosen, CHUNK_DOCUMENTS)):
            embeddings = {doc_id: vector for doc_id, line in chunk.items() if (vector := archives.embedding(line))}
            with connection.transaction():
                restored += restores.restore(
                    connection,
                    receipt,
                    chunk,
                    embeddings,
                    targets=targets,
                    restored_by=restored_by,
                    wait_seconds=WAIT_SECONDS,
                )
    vector_db.deliver(receipt.collection)
    return RestoreReport(receipt.collection, restored, len(wanted) - len(restored))


def _plan(connection: Connection, policy: RetentionPolicy, approved_plan_hash: str) -> Plan:
    plan = plans.find(connection, approved_plan_hash or None)
    if plan is None:
        named = f"with the hash {approved_plan_hash[:80]!a}" if approved_plan_hash else "yet"
        raise InvalidInput(f"there is no plan {named}; 'everreach retention plan' makes one and prints its hash")
    if plan.policy_version != policy.version:
        raise Refused(f"plan {plan.plan_hash[:12]} was made under another policy; make a new plan")
    age = clock.now(connection) - plan.created_at
    if not dt.timedelta(0) <= age <= PLAN_MAX_AGE:
        raise Refused(
            f"plan {plan.plan_hash[:12]} was made at {plan.created_at:%Y-%m-%d %H:%M} UTC: a plan may be carried out "
            f"for {PLAN_MAX_AGE.total_seconds() / 3600:.0f} hours; make a new one"
        )
    return plan


def _refuse_unless_safe(connection: Connection, plan: Plan, *, is_approved: bool) -> None:
    """Who approved of the plan by its hash has seen its numbers and dates, whatever the guards think of them."""
    if is_approved:
        return
    approve = f"look at it with 'everreach retention plan', and approve of it by its hash: {plan.plan_hash}"
    if reason := approval_reason(plan.counts):
        raise Refused(f"plan {plan.plan_hash[:12]} needs approval: {reason}; {approve}")
    fault = clock_fault(clock.now(connection), clock.readings(connection), receipts.last_purge_at(connection))
    if fault:
        raise Refused(
            f"the database's clock cannot be trusted with a purge: {fault}. If it is right, the plan of tomorrow is "
            f"carried out by itself; for this one, {approve}"
        )


def _purge_collection(
    connection: Connection,
    rules: RetentionRules,
    plan: Plan,
    collection: str,
    is_approved: bool,
    indexes: Sequence[str],
) -> None:
    name = f"{plan.created_at:%Y%m%dT%H%M%SZ}-{plan.plan_hash[:12]}-{plan.plan_id}-{collection}.jsonl.gz"
    receipt = receipts.begin(connection, plan, collection, archive=name, is_approved=is_approved)
    path = rules.archives / receipt.archive
    if receipt.purged:
        archive = archives.verify(path, receipt.archive_sha256)
    else:  # whatever a killed purge has left there, nothing rests on it yet
        archive = archives.write(
            path,
            _lines(connection, rules, plan, collection),
            {
                "collection": collection,
                "plan_hash": plan.plan_hash,
                "policy_version": plan.policy_version,
                "planned_at": plan.created_at.isoformat(),
            },
        )
        receipts.note_archive(connection, receipt, sha256=archive.sha256, rows=len(archive.doc_ids))
    targets = purges.known_targets(connection, collection, indexes)
    for start in range(0, len(archive.doc_ids), rules.chunk_documents):
        chunk = archive.doc_ids[start : start + rules.chunk_documents]
        with connection.transaction():
            purges.delete_expired(connection, rules.policy, plan, receipt, chunk, targets, rules.wait_seconds)
    with connection.transaction():
        overdue = len(purges.eligible(connection, rules.policy, plan, collection))
        receipts.end(connection, receipt, overdue)


def _lines(connection: Connection, rules: RetentionRules, plan: Plan, collection: str) -> Iterator[str]:
    doc_ids = purges.eligible(connection, rules.policy, plan, collection)
    for start in range(0, len(doc_ids), rules.chunk_documents):
        chunk = doc_ids[start : start + rules.chunk_documents]
        yield from purges.archive_lines(connection, rules.policy, plan, collection, chunk)


def _remove_old_archives(connection: Connection, rules: RetentionRules) -> None:
    for receipt in receipts.archives_to_remove(connection, dt.timedelta(days=rules.policy.archive_days)):
        archives.remove(rules.archives / receipt.archive)
        receipts.note_archive_removed(connection, receipt)
