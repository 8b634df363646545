"""What must hold after a materialisation; each check is named after the property and tests nothing else."""

import dagster as dg

from everreach_assets.cloud_parity import compare
from everreach_assets.cloud_sync import SYNCED
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.freshness import STALE_AFTER
from resources import outcomes as outcome_rows
from resources import rebuilds
from resources import strategies as strategy_rows
from resources.cloud_store import Cloud
from resources.database import Database
from resources.retention import purges as retention_purges
from resources.vector_db import VectorDB


@dg.asset_check(asset=["feedback", "outcome_classifications"])
def every_outcome_is_in_one_label_history(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Each post with a labelled outcome has exactly one current label (invariant I1)."""
    with database.connection() as connection:
        wrong = outcome_rows.posts_without_one_label(connection)
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"posts_without_one_label": wrong})


@dg.asset_check(asset=["feedback", "strategies"])
def every_strategy_cites_its_outcomes(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Each post that a strategy in force cites exists, so that a person can open it."""
    with database.connection() as connection:
        missing = strategy_rows.cited_posts_that_are_gone(connection)
    return dg.AssetCheckResult(passed=missing == 0, metadata={"cited_posts_that_are_gone": missing})


@dg.asset_check(asset=["feedback", "strategies"])
def every_strategy_is_fresh(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """No platform has an outcome that has waited for its strategy for more than eight days."""
    with database.connection() as connection:
        stale = rebuilds.stale(connection, STALE_AFTER)
    return dg.AssetCheckResult(
        passed=not stale,
        metadata={"stale_platforms": len(stale)}
        | {platform: f"since {since:%Y-%m-%d}" for platform, since in stale.items()},
    )


@dg.asset_check(asset=["retention", "purges"])
def every_purged_document_is_gone(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """No document that was purged, and not restored, has a vector of its text."""
    with database.connection() as connection:
        stored = retention_purges.purged_documents_that_are_stored(connection)
    return dg.AssetCheckResult(passed=stored == 0, metadata={"purged_documents_that_are_stored": stored})


def _every_vector_is_in_the_index(collection: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=["vectors", collection], name="every_vector_is_in_the_index")
    def check(vector_db: dg.ResourceParam[VectorDB]) -> dg.AssetCheckResult:
        """The index holds each vector of Postgres in the same revision, and none besides (invariant I2)."""
        report = vector_db.check_index(collection)
        return dg.AssetCheckResult(
            passed=report.is_whole,
            description=str(report),
            metadata={
                "rows": report.rows,
                "missing": len(report.missing),
                "stale": len(report.stale),
                "extra": len(report.extra),
                "fault": report.fault,
            },
        )

    return check


RECALL_SAMPLE = 50
LEAST_RECALL = 0.99


def _every_sampled_vector_finds_itself(collection: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=["vectors", collection], name="every_sampled_vector_finds_itself")
    def check(vector_db: dg.ResourceParam[VectorDB]) -> dg.AssetCheckResult:
        """The index answers with a vector when it is asked for just that vector (99 of 100 at least)."""
        found, asked = vector_db.self_recall(collection, RECALL_SAMPLE)
        return dg.AssetCheckResult(passed=found >= LEAST_RECALL * asked, metadata={"found": found, "asked": asked})

    return check


index_checks = [
    *(_every_vector_is_in_the_index(name) for name in COLLECTIONS),
    *(_every_sampled_vector_finds_itself(name) for name in COLLECTIONS),
]


def _the_cloud_equals_what_may_leave(collection: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=["cloud", collection], name="the_cloud_equals_what_may_leave", pool="cloud_api")
    def check(database: dg.ResourceParam[Database], cloud: dg.ResourceParam[Cloud]) -> dg.AssetCheckResult:
        """The cloud holds each row as it confirmed it, none besides, and nothing that must stay here (invariant I5)."""
        if not cloud.is_configured:
            return dg.AssetCheckResult(passed=True, description="no cloud is configured")
        report = compare(collection, database=database, cloud=cloud)
        return dg.AssetCheckResult(
            passed=report.is_equal,
            description=str(report),
            metadata={
                "rows": report.rows,
                "missing": len(report.missing),
                "stale": len(report.stale),
                "extra": len(report.extra),
                "forbidden": sum(report.forbidden.values()),
                "pending": report.pending,
            },
        )

    return check


parity_checks = [_the_cloud_equals_what_may_leave(name) for name in SYNCED]
