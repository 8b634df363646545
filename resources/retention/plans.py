"""Plans: what a policy would purge, found in one moment and stored.

Which documents a policy selects is one SQL expression (`verdicts`), used by the plan, by the dry run and inside the
statement that deletes: what is shown is what goes.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Jsonb

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.retention import Counts, PlanItem, RetentionPolicy
from resources.database import Connection
from resources.retention import clock, measures
from resources.retention.holds import IS_HELD

ITEMS_KEPT = dt.timedelta(days=2)
"""A plan may be carried out for a day. After that its items are of no use; its counts and receipts stay."""


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


def begin(connection: Connection, policy: RetentionPolicy) -> Plan:
    """Find what the policy would purge now and store it, yet without a hash (`finish`).

    The connection must be in a transaction of its own: all of the plan is as of one moment.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT set_config('enable_nestloop', 'off', true)")  # as in documents.comparison
    clock.note(connection)
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
        query, parameters = verdicts(policy, collection, as_of)
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
            ).format(verdicts=query),
            parameters | {"plan_id": plan_id},
        ).fetchall()
        counts.append(Counts(collection, dict(found)))
    connection.execute("ANALYZE retention_plan_items")
    return Plan(plan_id, "", policy.version, counts, as_of)


def finish(connection: Connection, plan: Plan, plan_hash: str) -> Plan:
    """Give the plan its hash and publish what it found."""
    connection.execute(
        "UPDATE retention_plans SET plan_hash = %s, counts = %s WHERE plan_id = %s",
        (plan_hash, Jsonb({each.collection: dict(each.by_verdict) for each in plan.counts}), plan.plan_id),
    )
    measures.note_plan(
        connection,
        overdue={each.collection: each["expired"] for each in plan.counts},
        held={each.collection: each["held"] + each["cited"] for each in plan.counts},
    )
    if not plan.documents:
        measures.note_success(connection)
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


def find(connection: Connection, plan_hash: str | None = None) -> Plan | None:
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
        (ITEMS_KEPT,),
    )


def verdicts(
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
