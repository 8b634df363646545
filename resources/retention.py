"""Retention in Postgres: holds, plans and their items, receipts, tombstones, and the purge of rows.

Which documents a policy selects is one SQL expression (`_verdicts`), used by the plan, by the dry run and inside the
statement that deletes: what is shown is what goes. What does not belong here: the policy itself and the guards
(`domain/retention.py`), archives (`archives.py`), the order of the steps (`everreach_assets/retention.py`).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import Vector as StoredEmbedding
from psycopg import sql
from psycopg.types.json import Jsonb

from everreach_assets.domain.collections import COLLECTIONS, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.retention import Counts, PlanItem, RetentionPolicy
from resources import embedding_cache, vector_store
from resources.database import Connection
from resources.metric_records import Record, record, replace_gauges

PURGE_LOCK = "everreach retention purge"
LOCK_SECONDS = 60
"""How long a chunk waits for writers of vectors, who wait behind it. The building of an index may take longer; then the
purge says so, and is run again."""

CLOCK_READINGS = 50
PLANS_KEPT_WITH_ITEMS = dt.timedelta(days=2)
"""A plan may be carried out for a day. After that its items are of no use; its counts and receipts stay."""

PURGED, OVERDUE, HELD = (f"everreach_retention_{each}" for each in ("purged_total", "overdue_docs", "held_docs"))
LAST_SUCCESS = "everreach_retention_last_success_timestamp_seconds"


@dataclass(frozen=True)
class Hold:
    """What must be kept, and why."""

    hold_id: int
    scope: str
    collection: str | None
    doc_id: str | None
    platform: str | None
    account: str | None
    reason: str
    placed_by: str
    placed_at: dt.datetime

    @property
    def subject(self) -> str:
        account = f"{self.platform}:{self.account}" if self.account else self.platform
        named = [each for each in (self.collection, self.doc_id, account) if each]
        return " ".join([self.scope, *named])


@dataclass(frozen=True)
class Plan:
    """What a policy would purge, as of `created_at` by the database's clock."""

    plan_id: int
    plan_hash: str
    policy_version: str
    counts: Sequence[Counts]
    created_at: dt.datetime

    @property
    def documents(self) -> int:
        return sum(each["expired"] for each in self.counts)


@dataclass(frozen=True)
class Receipt:
    """What a purge did with one collection.

    Attributes:
        archive: name of the file; `archive_sha256` is None until it was written and verified.
    """

    receipt_id: int
    plan_id: int
    plan_hash: str
    collection: str
    planned: int
    purged: int
    is_approved: bool
    archive: str
    archive_sha256: str | None
    archived: int | None
    started_at: dt.datetime
    ended_at: dt.datetime | None
    archive_removed_at: dt.datetime | None


@dataclass(frozen=True)
class Ages:
    """The ages of a collection's documents.

    Attributes:
        documents: by age in whole days.
        by: the time that they are aged by.
        max_days: the age that most of them may reach; None: any.
    """

    documents: Mapping[int, int]
    by: str
    max_days: int | None


# --- Holds ---


def place_hold(
    connection: Connection,
    scope: str,
    *,
    reason: str,
    placed_by: str,
    collection: str | None = None,
    doc_id: str | None = None,
    platform: str | None = None,
    account: str | None = None,
) -> int:
    """Keep what the scope covers, whatever its age; answers the hold's number.

    Raises:
        InvalidInput: the scope and what is named do not fit, or reason or name are empty or too long.
    """
    try:
        row = connection.execute(
            "INSERT INTO retention_holds (scope, collection, doc_id, platform, account, reason, placed_by)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING hold_id",
            (scope, collection, doc_id, platform, account, reason, placed_by),
        ).fetchone()
    except (psycopg.errors.CheckViolation, psycopg.DataError) as error:
        raise InvalidInput(
            "the hold is refused: name what its scope needs and nothing else, a reason of 1 to 500 characters, and who "
            f"places it ({error.diag.constraint_name or error.diag.message_primary})"
        ) from error
    assert row is not None  # noqa: S101 - INSERT ... RETURNING has a row
    return int(row[0])


def lift_holds(connection: Connection, hold_ids: Sequence[int], lifted_by: str) -> int:
    """End those holds; answers how many were in force. They stay on record."""
    return connection.execute(
        "UPDATE retention_holds SET lifted_at = now(), lifted_by = %s WHERE hold_id = ANY(%s) AND lifted_at IS NULL",
        (lifted_by, list(hold_ids)),
    ).rowcount


def holds(connection: Connection) -> list[Hold]:
    """The holds in force, oldest first."""
    rows = connection.execute(
        "SELECT hold_id, scope, collection, doc_id, platform, account, reason, placed_by, placed_at"
        " FROM retention_holds WHERE lifted_at IS NULL ORDER BY hold_id"
    )
    return [Hold(*row) for row in rows]


def is_purged(connection: Connection, doc_id: str) -> bool:
    """Whether the document was purged from a collection and has not come back."""
    row = connection.execute("SELECT EXISTS (SELECT FROM retention_tombstones WHERE doc_id = %s)", (doc_id,)).fetchone()
    return bool(row and row[0])


# --- The clock ---


def now(connection: Connection) -> dt.datetime:
    """The time of the database, at which the transaction began."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row[0]  # type: ignore[no-any-return]


def clock_readings(connection: Connection) -> list[dt.datetime]:
    """What the clock said at each plan, in their order."""
    return [each for (each,) in connection.execute("SELECT read_at FROM retention_clock ORDER BY seq")]


def last_purge_at(connection: Connection) -> dt.datetime | None:
    """When the purge before ended, by the clock of then."""
    row = connection.execute(
        "SELECT ended_at FROM retention_receipts WHERE ended_at IS NOT NULL ORDER BY receipt_id DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def _note_clock(connection: Connection) -> None:
    connection.execute("INSERT INTO retention_clock DEFAULT VALUES")
    connection.execute(
        "DELETE FROM retention_clock WHERE seq <= (SELECT max(seq) FROM retention_clock) - %s", (CLOCK_READINGS,)
    )


# --- Plans ---


def begin_plan(connection: Connection, policy: RetentionPolicy) -> Plan:
    """Find what the policy would purge now and store it, yet without a hash (`finish_plan`).

    The connection must be in a transaction of its own: all of the plan is as of one moment.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT set_config('enable_nestloop', 'off', true)")  # as in documents.comparison
    _note_clock(connection)
    _forget_old_items(connection)
    row = connection.execute(
        "INSERT INTO retention_plans (plan_hash, policy_version, counts) VALUES ('', %s, '{}')"
        " RETURNING plan_id, created_at",
        (policy.version,),
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT ... RETURNING has a row
    plan_id, as_of = row
    counts = []
    for collection in COLLECTIONS:
        verdicts, parameters = _verdicts(policy, collection, as_of)
        found = connection.execute(
            sql.SQL(
                """
                WITH verdicts AS MATERIALIZED ({verdicts}), planned AS (
                    INSERT INTO retention_plan_items
                        (plan_id, collection, doc_id, rev, row_updated_at, reason, expired_at)
                    SELECT %(plan_id)s, %(collection)s, doc_id, rev, row_updated_at, reason, expired_at
                    FROM verdicts WHERE verdict = 'expired'
                )
                SELECT verdict, count(*) FROM verdicts GROUP BY verdict
                """
            ).format(verdicts=verdicts),
            parameters | {"plan_id": plan_id},
        ).fetchall()
        counts.append(Counts(collection, dict(found)))
    connection.execute("ANALYZE retention_plan_items")
    return Plan(plan_id, "", policy.version, counts, as_of)


def finish_plan(connection: Connection, plan: Plan, plan_hash: str) -> Plan:
    """Give the plan its hash and publish what it found."""
    connection.execute(
        "UPDATE retention_plans SET plan_hash = %s, counts = %s WHERE plan_id = %s",
        (plan_hash, Jsonb({each.collection: dict(each.by_verdict) for each in plan.counts}), plan.plan_id),
    )
    _set_overdue(connection, {each.collection: each["expired"] for each in plan.counts})
    replace_gauges(
        connection,
        HELD,
        [Record(HELD, each["held"] + each["cited"], {"collection": each.collection}) for each in plan.counts],
    )
    if not plan.documents:
        note_success(connection)
    return Plan(plan.plan_id, plan_hash, plan.policy_version, plan.counts, plan.created_at)


def items(connection: Connection, plan_id: int, limit: int | None = None) -> list[PlanItem]:
    """The plan's documents, or the first of each collection, in the order in which they expired."""
    rows = connection.execute(
        """
        SELECT collection, doc_id, rev, row_updated_at, reason, expired_at FROM (
            SELECT *, row_number() OVER (PARTITION BY collection ORDER BY expired_at, doc_id) AS place
            FROM retention_plan_items WHERE plan_id = %(plan_id)s) AS items
        WHERE place <= coalesce(%(limit)s, place) ORDER BY collection, expired_at, doc_id
        """,
        {"plan_id": plan_id, "limit": limit},
    )
    return [PlanItem(*row) for row in rows]


def find_plan(connection: Connection, plan_hash: str | None = None) -> Plan | None:
    """The newest plan, or the newest with that hash."""
    row = connection.execute(
        "SELECT plan_id, plan_hash, policy_version, counts, created_at FROM retention_plans"
        " WHERE plan_hash = coalesce(%s, plan_hash) ORDER BY plan_id DESC LIMIT 1",
        (plan_hash,),
    ).fetchone()
    if row is None:
        return None
    plan_id, found_hash, version, counts, created_at = row
    return Plan(plan_id, found_hash, version, [Counts(name, counts.get(name, {})) for name in COLLECTIONS], created_at)


def ages(connection: Connection, policy: RetentionPolicy, collection: str) -> Ages:
    """The ages of the documents of the collection, as far as they are known."""
    rule = policy.rules(collection)[-1]
    rows = connection.execute(
        sql.SQL(
            "SELECT floor(extract(epoch FROM now() - {by}) / 86400)::integer AS days, count(*) FROM retention_documents"
            " WHERE collection = %s AND {by} <= now() AND isfinite({by}) GROUP BY days ORDER BY days"
        ).format(by=sql.Identifier(rule.by)),
        (collection,),
    )
    return Ages(dict(rows.fetchall()), rule.by, None if rule.max_age is None else rule.max_age.days)


def _forget_old_items(connection: Connection) -> None:
    connection.execute(
        """
        DELETE FROM retention_plan_items USING retention_plans AS plans
        WHERE plans.plan_id = retention_plan_items.plan_id AND plans.created_at < now() - %s
        """,
        (PLANS_KEPT_WITH_ITEMS,),
    )


def _verdicts(
    policy: RetentionPolicy, collection: str, as_of: dt.datetime, only: Sequence[str] | None = None
) -> tuple[sql.Composed, dict[str, object]]:
    """A query of what is to become of each document of the collection, and its parameters.

    A document is expired on evidence only: its time is known, is not in the future, and is before the cutoff. Exactly
    at the cutoff it is kept. Of several reasons to keep it the first is told.

    Args:
        policy: how long documents are kept.
        collection: one of `COLLECTIONS`.
        as_of: the time that ages are counted to.
        only: ids to look at, instead of all.
    """
    rules = policy.rules(collection)
    parameters: dict[str, object] = {
        "collection": collection,
        "as_of": as_of,
        "ages": [rule.max_age for rule in rules],
        "reasons": [str(rule) for rule in rules],
    }
    cases = []
    for number, rule in enumerate(rules[:-1], start=1):
        tests = []
        for name, values in rule.conditions.items():
            parameters[f"{name}_{number}"] = list(values)
            tests.append(
                sql.SQL("documents.{} = ANY({}::text[])").format(
                    sql.Identifier(name), sql.Placeholder(f"{name}_{number}")
                )
            )
        cases.append(sql.SQL("WHEN {} THEN {}").format(sql.SQL(" AND ").join(tests), sql.Literal(number)))
    last = sql.Literal(len(rules))
    if only is not None:
        parameters["only"] = list(only)
    query = sql.SQL(
        """
        SELECT documents.doc_id, documents.rev, documents.row_updated_at, (%(reasons)s::text[])[chosen.rule] AS reason,
               documents.{by} + rules.max_age AS expired_at,
               CASE
                   WHEN rules.max_age IS NULL THEN 'young'
                   WHEN documents.{by} IS NULL OR NOT isfinite(documents.{by}) THEN 'unknown_age'
                   WHEN documents.{by} > %(as_of)s THEN 'future'
                   WHEN documents.{by} + rules.max_age >= %(as_of)s THEN 'young'
                   WHEN {is_held} THEN 'held'
                   WHEN documents.doc_id IN (SELECT doc_id FROM strategy_citations) THEN 'cited'
                   WHEN EXISTS (
                       SELECT FROM outcome_snapshots AS fresh
                       WHERE fresh.platform = documents.platform AND fresh.post_id = documents.post_id
                           AND fresh.strategy_id IS NULL AND fresh.metrics <> '{{}}') THEN 'pending_outcome'
                   ELSE 'expired'
               END AS verdict
        FROM retention_documents AS documents
        CROSS JOIN LATERAL (SELECT {rule} AS rule) AS chosen
        CROSS JOIN LATERAL (SELECT (%(ages)s::interval[])[chosen.rule] AS max_age) AS rules
        WHERE documents.collection = %(collection)s {only}
        """
    ).format(
        by=sql.Identifier(rules[-1].by),
        rule=sql.SQL("CASE {} ELSE {} END").format(sql.SQL(" ").join(cases), last) if cases else last,
        is_held=IS_HELD,
        only=sql.SQL("" if only is None else "AND documents.doc_id = ANY(%(only)s)"),
    )
    return query, parameters


IS_HELD = sql.SQL(
    """(EXISTS (
        SELECT FROM retention_holds AS hold WHERE hold.lifted_at IS NULL AND hold.scope = 'document'
            AND hold.doc_id = documents.doc_id
            AND coalesce(hold.collection, documents.collection) = documents.collection
    ) OR EXISTS (
        SELECT FROM retention_holds AS hold WHERE hold.lifted_at IS NULL AND hold.scope <> 'document'
            AND (hold.scope = 'everything'
                OR hold.scope = 'collection' AND hold.collection = documents.collection
                OR hold.scope = 'platform' AND hold.platform = documents.platform
                OR hold.scope = 'account' AND hold.platform || ':' || hold.account = documents.account)
    ))"""
)
"""Whether a hold covers the row `documents`: collection, doc_id, platform, account (as `platform:account`)."""


# --- Purges ---


def only_purger(connection: Connection) -> bool:
    """Take the lock that one purge or restore at a time holds, for as long as the connection lives or until
    `let_others_purge`; answers whether it was free."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (PURGE_LOCK,)).fetchone()
    return bool(row and row[0])


def let_others_purge(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", (PURGE_LOCK,))


def receipts(connection: Connection, plan_id: int | None = None) -> list[Receipt]:
    """The receipts of a plan, or all, oldest first."""
    return _receipts(connection, "plan_id = coalesce(%s, plan_id)", plan_id)


def receipt_of_archive(connection: Connection, archive: str) -> Receipt | None:
    """The receipt that names the archive."""
    found = _receipts(connection, "archive = %s", archive)
    return found[-1] if found else None


def _receipts(connection: Connection, condition: str, parameter: object) -> list[Receipt]:
    rows = connection.execute(
        sql.SQL(
            "SELECT receipt_id, plan_id, plan_hash, collection, planned, purged, is_approved, archive, archive_sha256,"
            " archived, started_at, ended_at, archive_removed_at FROM retention_receipts WHERE {} ORDER BY receipt_id"
        ).format(sql.SQL(condition)),
        (parameter,),
    )
    return [Receipt(*row) for row in rows]


def open_receipt(connection: Connection, plan: Plan, collection: str, *, archive: str, is_approved: bool) -> Receipt:
    """Note that the purge of a collection begins, or find that it had begun."""
    connection.execute(
        """
        INSERT INTO retention_receipts (plan_id, plan_hash, collection, planned, is_approved, archive)
        SELECT %(plan_id)s, %(plan_hash)s, %(collection)s, count(*), %(is_approved)s, %(archive)s
        FROM retention_plan_items WHERE plan_id = %(plan_id)s AND collection = %(collection)s
        ON CONFLICT (plan_id, collection) DO NOTHING
        """,
        {
            "plan_id": plan.plan_id,
            "plan_hash": plan.plan_hash,
            "collection": collection,
            "is_approved": is_approved,
            "archive": archive,
        },
    )
    return next(each for each in receipts(connection, plan.plan_id) if each.collection == collection)


def note_archive(connection: Connection, receipt: Receipt, *, sha256: str, rows: int) -> None:
    """Note that the archive is written and verified; from here on its rows may be deleted."""
    connection.execute(
        "UPDATE retention_receipts SET archive_sha256 = %s, archived = %s WHERE receipt_id = %s",
        (sha256, rows, receipt.receipt_id),
    )


def close_receipt(connection: Connection, receipt: Receipt, overdue: int | None = None) -> None:
    """Note that the purge of the collection has ended.

    Args:
        overdue: what is still there although it should go; None where that is not known.
    """
    connection.execute("UPDATE retention_receipts SET ended_at = now() WHERE receipt_id = %s", (receipt.receipt_id,))
    if overdue is not None:
        record(connection, [Record(OVERDUE, overdue, {"collection": receipt.collection})])


def broken_off(connection: Connection, plan: Plan) -> list[Receipt]:
    """Receipts of other plans that never ended: their process was killed."""
    return [each for each in receipts(connection) if each.ended_at is None and each.plan_id != plan.plan_id]


def note_success(connection: Connection) -> None:
    """Note that retention has nothing left to do."""
    record(connection, [Record(LAST_SUCCESS, now(connection).timestamp())])


def known_targets(connection: Connection, collection: str, indexes: Sequence[str]) -> list[str]:
    """Who is told of a purge: the indexes in force, the cloud, and every other target that the ledger knows.

    An index that answers no longer, since another backend was chosen, may still hold what was purged.
    """
    known = connection.execute("SELECT DISTINCT target FROM vector_deliveries WHERE collection = %s", (collection,))
    return sorted({*vector_store.ledger_targets(collection, indexes), *(target for (target,) in known)})


def eligible(connection: Connection, policy: RetentionPolicy, plan: Plan, collection: str) -> list[str]:
    """Of the plan's documents, those that a purge would delete now, in the order of their ids."""
    query, parameters = _eligible(policy, plan, collection)
    return [
        doc_id
        for doc_id, *_ in connection.execute(query + sql.SQL(' ORDER BY verdicts.doc_id COLLATE "C"'), parameters)
    ]


def archive_lines(
    connection: Connection, policy: RetentionPolicy, plan: Plan, collection: str, doc_ids: Sequence[str]
) -> list[str]:
    """Of those documents each that would be purged now, with all that goes, as a line of JSON.

    The line is made by Postgres and is read by it again, so that no number or time is rounded on the way.
    """
    query, parameters = _eligible(policy, plan, collection, doc_ids)
    rows = connection.execute(
        sql.SQL(
            """
            SELECT jsonb_build_object(
                'doc_id', eligible.doc_id,
                'reason', eligible.reason,
                'expired_at', eligible.expired_at,
                'embedding', translate(encode(vector_send(stored.embedding), 'base64'), E'\\n', ''),
                'vector', CASE WHEN stored.id IS NOT NULL THEN jsonb_build_object(
                    'id', stored.id, 'metadata', stored.metadata, 'created_at', stored.created_at,
                    'updated_at', stored.updated_at, 'space_id', stored.space_id, 'rev', stored.rev,
                    'text_sha256', stored.text_sha256, 'scrubber_version', stored.scrubber_version) END,
                'person', to_jsonb(people))::text
            FROM ({eligible}) AS eligible
            LEFT JOIN vector_embeddings AS stored
                ON stored.collection = %(collection)s AND stored.doc_id = eligible.doc_id
            LEFT JOIN prospects AS people
                ON %(collection)s = %(prospects)s AND people.prospect_id = eligible.doc_id
            ORDER BY eligible.doc_id COLLATE "C"
            """
        ).format(eligible=query),
        parameters | {"prospects": PROSPECTS.name},
    )
    return [line for (line,) in rows]


def delete_expired(
    connection: Connection,
    policy: RetentionPolicy,
    plan: Plan,
    receipt: Receipt,
    doc_ids: Sequence[str],
    targets: Sequence[str],
) -> int:
    """Delete those of the documents that are still as planned, still expired and not held; answers how many.

    Vectors, rows of people, ledger, tombstones, cached vectors, receipt and metric change in the transaction of the
    connection, or not at all. A cache outside it is told afterwards (`EmbeddingCache.finish_erasures`).

    Args:
        connection: in a transaction.
        policy: that of the plan.
        plan: whose documents.
        receipt: of the collection.
        doc_ids: those of a verified archive, so that nothing goes that is not in it.
        targets: `known_targets`.

    Raises:
        Unavailable: others wrote vectors for longer than a purge waits.
    """
    _lock_out_writers(connection)
    query, parameters = _eligible(policy, plan, receipt.collection, doc_ids)
    row = connection.execute(
        sql.SQL(
            """
            WITH expired AS MATERIALIZED (
                SELECT doc_id, nextval('vector_revisions') AS rev FROM ({eligible}) AS eligible
            ), vectors AS (
                DELETE FROM vector_embeddings AS stored USING expired
                WHERE stored.collection = %(collection)s AND stored.doc_id = expired.doc_id
                RETURNING stored.text_sha256
            ), people AS (
                DELETE FROM prospects USING expired
                WHERE %(collection)s = %(prospects)s AND prospects.prospect_id = expired.doc_id
                RETURNING prospects.text_sha256
            ), noted AS ({noted}), marked AS (
                INSERT INTO retention_tombstones (collection, doc_id, receipt_id)
                SELECT %(collection)s, doc_id, %(receipt_id)s FROM expired
                ON CONFLICT (collection, doc_id) DO UPDATE SET receipt_id = excluded.receipt_id, purged_at = now()
            )
            UPDATE retention_receipts SET purged = purged + (SELECT count(*) FROM expired)
            WHERE receipt_id = %(receipt_id)s RETURNING (SELECT count(*) FROM expired), ARRAY(
                SELECT text_sha256 FROM vectors UNION SELECT text_sha256 FROM people)
            """
        ).format(eligible=query, noted=vector_store.noted("expired", is_deletion=True)),
        parameters | {"prospects": PROSPECTS.name, "targets": list(targets), "receipt_id": receipt.receipt_id},
    ).fetchone()
    purged, text_hashes = row or (0, [])
    embedding_cache.erase_in(connection, text_hashes)
    if purged:
        record(connection, [Record(PURGED, purged, {"collection": receipt.collection, "reason": "expired"})])
    return int(purged)


def _eligible(
    policy: RetentionPolicy, plan: Plan, collection: str, only: Sequence[str] | None = None
) -> tuple[sql.Composed, dict[str, object]]:
    """A query of the plan's documents that are as they were planned and expired still, as of the time of the plan."""
    verdicts, parameters = _verdicts(policy, collection, plan.created_at, only)
    query = sql.SQL(
        """
        SELECT verdicts.doc_id, verdicts.reason, verdicts.expired_at
        FROM ({verdicts}) AS verdicts
        JOIN retention_plan_items AS items
            ON items.plan_id = %(plan_id)s AND items.collection = %(collection)s AND items.doc_id = verdicts.doc_id
        WHERE verdicts.verdict = 'expired'
            AND (verdicts.rev, verdicts.row_updated_at) IS NOT DISTINCT FROM (items.rev, items.row_updated_at)
        """
    ).format(verdicts=verdicts)
    return query, parameters | {"plan_id": plan.plan_id}


def _lock_out_writers(connection: Connection) -> None:
    """Let nobody place a hold, replace a strategy, or write vectors or people, until the transaction ends.

    Who comes meanwhile waits, and then sees the tombstones. Without it a hold, or a vector that an embedding run has
    just made, could slip in between the look at the rows and their end. Reading goes on.

    Raises:
        Unavailable: others wrote for longer than a purge waits.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_SECONDS}s",))
    try:
        connection.execute(
            "LOCK TABLE actp_feedback_strategy, prospects, retention_holds, vector_embeddings"
            " IN SHARE ROW EXCLUSIVE MODE"
        )
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"vectors were written for more than {LOCK_SECONDS} seconds without a pause; what was done until now is on "
            "record, run the same again"
        ) from error


def _set_overdue(connection: Connection, overdue: Mapping[str, int]) -> None:
    replace_gauges(
        connection, OVERDUE, [Record(OVERDUE, count, {"collection": name}) for name, count in overdue.items()]
    )


# --- Archives ---


def archives_to_remove(connection: Connection, older_than: dt.timedelta) -> list[Receipt]:
    """Receipts whose archive has reached its age and holds nothing that is on hold."""
    rows = connection.execute(
        sql.SQL(
            """
            SELECT receipt_id FROM retention_receipts AS receipts
            WHERE ended_at < now() - %s AND archive_sha256 IS NOT NULL AND archive_removed_at IS NULL
                AND NOT EXISTS (
                    SELECT FROM retention_tombstones AS purged
                    LEFT JOIN actp_feedback_posts AS posts
                        ON posts.platform = split_part(purged.doc_id, ':', 1)
                        AND posts.post_id = substr(purged.doc_id, strpos(purged.doc_id, ':') + 1)
                    CROSS JOIN LATERAL (
                        SELECT purged.collection, purged.doc_id, posts.platform,
                               posts.platform || ':' || posts.account AS account) AS documents
                    WHERE purged.receipt_id = receipts.receipt_id AND {is_held})
            """
        ).format(is_held=IS_HELD),
        (older_than,),
    ).fetchall()
    wanted = {receipt_id for (receipt_id,) in rows}
    return [each for each in receipts(connection) if each.receipt_id in wanted]


def note_archive_removed(connection: Connection, receipt: Receipt) -> None:
    connection.execute(
        "UPDATE retention_receipts SET archive_removed_at = now() WHERE receipt_id = %s", (receipt.receipt_id,)
    )


def restore(
    connection: Connection,
    receipt: Receipt,
    lines: Mapping[str, str],
    embeddings: Mapping[str, bytes],
    *,
    targets: Sequence[str],
    restored_by: str,
) -> list[str]:
    """Bring purged documents back as they were, each with a hold, in the transaction of the connection.

    A document that has come back in another way meanwhile is left as it is. Without the hold the next purge would take
    what was restored, for it is as old as before.

    Args:
        lines: of the archive, by document.
        embeddings: binary form of the vectors of those documents that had one.

    Returns:
        The ids of what was restored.
    """
    _lock_out_writers(connection)
    doc_ids = sorted(lines)
    restored = [
        doc_id
        for (doc_id,) in connection.execute(
            """
            DELETE FROM retention_tombstones AS purged
            WHERE receipt_id = %(receipt_id)s AND doc_id = ANY(%(doc_ids)s)
                AND NOT EXISTS (SELECT FROM vector_embeddings AS stored
                                WHERE stored.collection = purged.collection AND stored.doc_id = purged.doc_id)
                AND NOT EXISTS (SELECT FROM prospects AS people
                                WHERE purged.collection = %(prospects)s AND people.prospect_id = purged.doc_id)
            RETURNING doc_id
            """,
            {"receipt_id": receipt.receipt_id, "doc_ids": doc_ids, "prospects": PROSPECTS.name},
        )
    ]
    with_vector = sorted(doc_id for doc_id in restored if doc_id in embeddings)
    parameters: dict[str, Any] = {
        "collection": receipt.collection,
        "lines": [lines[doc_id] for doc_id in with_vector],
        "embeddings": [StoredEmbedding.from_binary(embeddings[doc_id]) for doc_id in with_vector],
        "targets": list(targets),
    }
    connection.execute(
        sql.SQL(
            """
            WITH written AS (
                INSERT INTO vector_embeddings
                    (id, collection, doc_id, embedding, metadata, created_at, updated_at, space_id, text_sha256,
                     scrubber_version)
                SELECT (vector ->> 'id')::uuid, %(collection)s, line ->> 'doc_id', embedding, vector -> 'metadata',
                       (vector ->> 'created_at')::timestamptz, (vector ->> 'updated_at')::timestamptz,
                       vector ->> 'space_id', (vector ->> 'text_sha256')::bytea, vector ->> 'scrubber_version'
                FROM unnest(%(lines)s::jsonb[], %(embeddings)b::vector[]) AS given (line, embedding),
                     LATERAL (SELECT line -> 'vector' AS vector) AS parts
                RETURNING doc_id, rev
            )
            {noted}
            """
        ).format(noted=vector_store.noted("written")),
        parameters,
    )
    if receipt.collection == PROSPECTS.name:
        connection.execute(
            "INSERT INTO prospects SELECT (jsonb_populate_record(NULL::prospects, line -> 'person')).*"
            " FROM unnest(%s::jsonb[]) AS line",
            ([lines[doc_id] for doc_id in restored],),
        )
    connection.cursor().executemany(
        "INSERT INTO retention_holds (scope, collection, doc_id, reason, placed_by)"
        " VALUES ('document', %s, %s, %s, %s)",
        [(receipt.collection, doc_id, f"restored from {receipt.archive}", restored_by) for doc_id in restored],
    )
    return restored


def purged_documents_that_are_stored(connection: Connection) -> int:
    """Documents with a tombstone that have a vector of their text nevertheless; 0 is right."""
    row = connection.execute(
        "SELECT count(*) FROM retention_tombstones JOIN vector_embeddings USING (collection, doc_id)"
        " WHERE text_sha256 IS NOT NULL"
    ).fetchone()
    return int(row[0]) if row else 0
