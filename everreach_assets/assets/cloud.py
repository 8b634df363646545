"""The copy in the cloud: `cloud/*_embeddings`, one asset for each collection that may leave, all made alike."""

from typing import Any

import dagster as dg

from everreach_assets.cloud_sync import SyncReport, sync_collection
from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, Collection
from everreach_assets.domain.sync import POLICY_VERSION
from everreach_assets.retries import retrying_when_unavailable
from resources.cloud_store import Cloud
from resources.database import Database


def _copy(collection: Collection) -> dg.AssetsDefinition:
    @dg.asset(
        key=["cloud", collection.name],
        deps=[["vectors", collection.name]],
        description=f"One row is the copy of a row of `vectors/{collection.name}` in the cloud: vector and "
        "allow-listed metadata, no text. Only changes that the cloud has not confirmed are sent. Without a configured "
        "cloud it does nothing.",
        group_name="cloud",
        owners=["team:everreach"],
        kinds={"postgres", "chroma"},
        code_version=POLICY_VERSION,
        pool="cloud_api",
    )
    def copy(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], cloud: dg.ResourceParam[Cloud]
    ) -> dg.MaterializeResult[None]:
        with retrying_when_unavailable():
            report = sync_collection(
                collection.name,
                database=database,
                cloud=cloud,
                on_progress=lambda done, total: context.log.info(f"{done:,} of {total:,} changes settled"),
            )
        return dg.MaterializeResult(metadata=_metadata(report))

    return copy


content_copy, outcome_copy, lesson_copy = (_copy(each) for each in (CONTENT, OUTCOMES, LESSONS))


def _metadata(report: SyncReport) -> dict[str, Any]:
    return {
        "dagster/row_count": report.rows_held,
        "summary": str(report),
        "inserted": report.results["pushed"],
        "updated": report.results["updated"],
        "deleted": report.results["deleted"],
        "conflicts": report.results["conflict"],
        "failed": report.results["failed"],
        "became_dead_letters": report.dead,
        "kept_here": report.kept_rows,
        "metadata_left_out": report.dropped_keys,
        "sent_bytes": report.sent_bytes,
        "requests": report.requests,
    }
