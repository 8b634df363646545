"""What works on each platform: `feedback/strategies`."""

from typing import Any

import dagster as dg

from everreach_assets.domain.rebuilds import NEW_OUTCOMES
from everreach_assets.domain.strategies import BUILDER_VERSION
from everreach_assets.freshness import WEEKLY
from everreach_assets.partitions import platforms
from everreach_assets.retries import retrying_when_unavailable
from everreach_assets.strategy_builder import Rebuild, rebuild_strategy
from resources.database import Database
from resources.embedder import Embedder
from resources.vector_db import VectorDB
from resources.wording import Wording


class StrategyConfig(dg.Config):
    """How many posts must have new outcomes for the strategy to be rebuilt; 1 rebuilds at the first."""

    minimum_new_outcomes: int = NEW_OUTCOMES


@dg.asset(
    key=["feedback", "strategies"],
    deps=[["feedback", "outcome_classifications"], ["vectors", "outcome_embeddings"]],
    partitions_def=platforms,
    group_name="feedback",
    owners=["team:everreach"],
    kinds={"python", "postgres"},
    code_version=BUILDER_VERSION,
    freshness_policy=WEEKLY,
)
def strategies(
    context: dg.AssetExecutionContext,
    config: StrategyConfig,
    database: dg.ResourceParam[Database],
    embedder: dg.ResourceParam[Embedder],
    vector_db: dg.ResourceParam[VectorDB],
    wording: dg.ResourceParam[Wording],
) -> dg.MaterializeResult[None]:
    """One row is the strategy in force on a platform: claims with effect, interval, n and posts to look at.

    Partition: platform. A new one is built when ten posts have outcomes that no strategy took into account. It takes
    the place of the one in force, which goes to the archive, unless its backtest is worse: then it is kept as `held`.
    With fewer outcomes, nothing changes. A rule that two in a row make becomes a lesson.
    """
    with retrying_when_unavailable():
        rebuild = rebuild_strategy(
            context.partition_key,
            database=database,
            vector_db=vector_db,
            embedder=embedder,
            wording=wording,
            minimum_new_outcomes=config.minimum_new_outcomes,
        )
    return dg.MaterializeResult(metadata=_metadata(rebuild))


def _metadata(rebuild: Rebuild) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "dagster/partition_row_count": int(rebuild.in_force is not None),
        "new_outcomes": rebuild.new_outcomes,
        "inserted": int(rebuild.is_rebuilt),
        "held": int(rebuild.built is not None and not rebuild.is_rebuilt),
        "lessons_learned": len(rebuild.lessons.learned),
        "lessons_superseded": len(rebuild.lessons.superseded),
    }
    if rebuild.built is not None:
        counts["verdict"] = rebuild.built.reason
    shown = rebuild.in_force or rebuild.built
    if shown is None:
        return counts
    from everreach_assets.plots import claims_plot, topic_map  # noqa: PLC0415 - matplotlib takes a second

    counts |= {"strategy_id": shown.strategy_id, "summary": dg.MarkdownMetadataValue(shown.summary)}
    if content := shown.content:
        counts["effects"] = dg.MarkdownMetadataValue(claims_plot(content.claims))
        counts["topic_map"] = dg.MarkdownMetadataValue(topic_map(content.topics))
    return counts
