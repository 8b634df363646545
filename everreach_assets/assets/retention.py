"""What has expired, and what was purged: `retention/plans` and `retention/purges`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import dagster as dg

from everreach_assets import retention as steps
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.retention import PLANNER_VERSION
from everreach_assets.freshness import DAILY
from everreach_assets.reports import item_table, plan_table, receipt_table
from everreach_assets.retention import PurgeReport, RetentionRules
from everreach_assets.retries import retrying_when_unavailable
from resources.database import Database
from resources.embedding_cache import EmbeddingCache
from resources.retention.plans import Plan
from resources.vector_db import VectorDB

ITEMS_SHOWN = 5
"""Of each collection, the oldest; the database has them all."""


class PurgeConfig(dg.Config):
    """A dry run deletes nothing. A plan that takes much at once needs its hash here, from a person who looked at it."""

    dry_run: bool = True
    approved_plan_hash: str = ""


@dg.asset(
    key=["retention", "plans"],
    deps=[*(["vectors", name] for name in COLLECTIONS), ["feedback", "strategies"]],
    group_name="retention",
    owners=["team:everreach"],
    code_version=PLANNER_VERSION,
    freshness_policy=DAILY,
    kinds={"python", "postgres"},
)
def plans(
    database: dg.ResourceParam[Database], retention: dg.ResourceParam[RetentionRules]
) -> dg.MaterializeResult[None]:
    """One row is a plan: the documents that have reached the age of the policy and that nothing keeps, with a hash.

    A hold, a citation by a strategy in force or an outcome that no strategy has consumed keeps a document whatever its
    age; so does an age that is unknown or in the future. A plan deletes nothing.
    """
    from everreach_assets.plots import ages_plot  # noqa: PLC0415 - matplotlib takes a second, and few runs need it

    with retrying_when_unavailable():
        plan = steps.make_plan(retention.policy, database=database)
        shown = steps.planned_items(plan, ITEMS_SHOWN, database=database)
        ages = steps.known_ages(retention.policy, database=database)
    return dg.MaterializeResult(
        metadata={
            **_identity(plan),
            "counts": dg.MarkdownMetadataValue(plan_table(plan.counts)),
            "oldest": dg.MarkdownMetadataValue(item_table(shown)),
            "ages": dg.MarkdownMetadataValue(ages_plot(ages)),
        }
    )


@dg.asset(
    key=["retention", "purges"],
    deps=[["retention", "plans"]],
    group_name="retention",
    owners=["team:everreach"],
    code_version=PLANNER_VERSION,
    freshness_policy=DAILY,
    kinds={"python", "postgres", "chroma"},
)
def purges(
    config: PurgeConfig,
    database: dg.ResourceParam[Database],
    vector_db: dg.ResourceParam[VectorDB],
    retention: dg.ResourceParam[RetentionRules],
    embedding_cache: dg.ResourceParam[EmbeddingCache],
) -> dg.MaterializeResult[None]:
    """One row is the receipt of a purge of one collection: what was planned, archived and deleted, and when.

    It carries out the newest plan, or the one that a person approved of by its hash. In the launchpad it is a dry run;
    the daily schedule's is not. What was purged is in an archive, and `everreach retention restore` brings it back.
    """
    with retrying_when_unavailable(), _failing_for_good():
        report = steps.purge(
            retention,
            database=database,
            vector_db=vector_db,
            cache=embedding_cache,
            approved_plan_hash=config.approved_plan_hash,
            dry_run=config.dry_run,
        )
    return dg.MaterializeResult(metadata=_metadata(report))


def _identity(plan: Plan) -> dict[str, Any]:
    return {"dagster/row_count": plan.documents, "plan_hash": plan.plan_hash, "policy_version": plan.policy_version}


def _metadata(report: PurgeReport) -> dict[str, Any]:
    return {
        **_identity(report.plan),
        "dagster/row_count": report.documents,
        "summary": str(report),
        "is_dry_run": report.is_dry_run,
        "deleted": 0 if report.is_dry_run else report.documents,
        "skipped_kept": report.kept,
        "needs_approval": report.needs_approval,
        "receipts": dg.MarkdownMetadataValue(receipt_table(report.purged, report.receipts)),
    }


@contextlib.contextmanager
def _failing_for_good() -> Iterator[None]:
    """A refusal stays one however often it is tried."""
    try:
        yield
    except (InvalidInput, Refused) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
