"""The vector collections: `vectors/*_embeddings`, one asset each, all made alike."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, PROSPECTS, Collection
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION
from everreach_assets.embedding import EmbeddingReport, embed_collection
from everreach_assets.freshness import HOURLY
from everreach_assets.reports import spent_table
from everreach_assets.retries import retrying_when_unavailable
from resources.database import Database
from resources.embedder import Embedder
from resources.vector_db import VectorDB


def _embeddings(collection: Collection, deps: Sequence[tuple[str, str]], description: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=["vectors", collection.name],
        deps=[list(key) for key in deps],
        description=description,
        group_name="vectors",
        owners=["team:everreach"],
        kinds={"postgres", "chroma"},
        code_version=SCRUBBER_VERSION,
        pool="embedder_api",
        freshness_policy=HOURLY,
    )
    def embeddings(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        embedder: dg.ResourceParam[Embedder],
        vector_db: dg.ResourceParam[VectorDB],
    ) -> dg.MaterializeResult[None]:
        with retrying_when_unavailable():
            report = embed_collection(
                collection.name, database=database, embedder=embedder, vector_db=vector_db, run_id=context.run_id
            )
        return dg.MaterializeResult(metadata=_metadata(report))

    return embeddings


content_embeddings = _embeddings(
    CONTENT,
    [("sources", "posts")],
    "One row is the vector of a post's scrubbed text. Key: `platform:post_id`. A post is embedded when its text, the "
    "embedding space or the scrubber is another one.",
)

outcome_embeddings = _embeddings(
    OUTCOMES,
    [("vectors", CONTENT.name), ("feedback", "outcome_classifications")],
    "One row is a labelled post: the vector of its text, with its label and metric as metadata. Key: "
    "`platform:post_id`. The vector is copied from `vectors/content_embeddings`: digits of metrics embed as noise.",
)

prospect_embeddings = _embeddings(
    PROSPECTS,
    [("sources", "prospects")],
    "One row is the vector of what is known of a prospect, without name, address and number. Key: prospect id. "
    "Local-only: always embedded by the local provider, never sent anywhere.",
)

lesson_embeddings = _embeddings(
    LESSONS,
    [("sources", "lessons"), ("feedback", "strategies")],
    "One row is the vector of a lesson's scrubbed text, of those that people wrote and those that strategies taught. "
    "Key: lesson id.",
)


def _metadata(report: EmbeddingReport) -> dict[str, Any]:
    spent = report.account.total
    return {
        "dagster/row_count": report.vectors,
        "summary": str(report),
        "space": report.space,
        "inserted": report.embedded,
        "skipped_unchanged": report.unchanged,
        "skipped_not_embedded": report.not_embedded,
        "waiting_for_quota": report.waiting,
        "waiting_to_heal": report.waiting_to_heal,
        "metadata_changed": report.metadata_changed,
        "deleted": report.deleted,
        "mended_in_index": report.mended_in_index,
        "redactions": dg.JsonMetadataValue(report.redactions),
        "provider_calls": spent.calls,
        "tokens": spent.tokens,
        "tokens_without_price": spent.unpriced_tokens,
        "cost_usd": spent.cost_micro_usd / 1e6,
        "cache_hits": report.account.cache_hits,
        "cache_misses": report.account.cache_misses,
        "costs": dg.MarkdownMetadataValue(spent_table(report.account.by_model)),
    }
