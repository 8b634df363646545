"""`build_definitions`: the one place that sees every asset, check, job, schedule, sensor and resource.

What does not belong here: any of them.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from everreach_assets import checks, jobs, schedules
from everreach_assets.assets.cloud import content_copy, lesson_copy, outcome_copy
from everreach_assets.assets.embeddings import (
    content_embeddings,
    lesson_embeddings,
    outcome_embeddings,
    prospect_embeddings,
)
from everreach_assets.assets.outcome_classifications import outcome_classifications
from everreach_assets.assets.retention import plans, purges
from everreach_assets.assets.sources import sources
from everreach_assets.assets.spaces import heal_embeddings, migration_shards
from everreach_assets.assets.strategies import strategies
from everreach_assets.assets.weekly_changes import weekly_changes
from everreach_assets.classification import load_label_rules
from everreach_assets.domain.label_rules import LabelRules
from everreach_assets.lost_runs import process_tag
from everreach_assets.memory import open_database, open_embedder, open_retention, open_vector_db
from everreach_assets.retention import RetentionRules
from resources.alert_messages import News
from resources.cloud_store import Cloud, open_cloud
from resources.database import Database
from resources.embedder import Embedder
from resources.embedding_cache import EmbeddingCache, open_cache
from resources.settings import Settings
from resources.vector_db import VectorDB
from resources.wording import Wording, open_wording
from sensors.strategy_rebuild_sensor import strategy_rebuild_sensor


@dg.resource
def database_resource(context: dg.InitResourceContext) -> Iterator[Database]:
    """The Postgres that holds the truth. A run that opens it notes its process, so that a killed one is found."""
    if context.run and context.instance:
        context.instance.add_run_tags(context.run.run_id, process_tag(context.run.run_id))
    with open_database(Settings()) as database:
        yield database


@dg.resource(required_resource_keys={"database"})
def embedder_resource(context: dg.InitResourceContext) -> Iterator[Embedder]:
    """Scrubs and embeds."""
    opened = open_embedder(Settings(), context.resources.database, run_id=context.run_id or "command")
    with contextlib.closing(opened) as embedder:
        yield embedder


@dg.resource(required_resource_keys={"database"})
def embedding_cache_resource(context: dg.InitResourceContext) -> Iterator[EmbeddingCache]:
    """The cache of vectors, for who erases from it; the embedder has its own hold of it."""
    with contextlib.closing(open_cache(Settings(), context.resources.database)) as cache:
        yield cache


@dg.resource(required_resource_keys={"database", "embedder"})
def vector_db_resource(context: dg.InitResourceContext) -> Iterator[VectorDB]:
    """The vector collections and their index."""
    opened = open_vector_db(Settings(), context.resources.database, context.resources.embedder)
    with contextlib.closing(opened) as vector_db:
        yield vector_db


@dg.resource
def retention_resource(_: dg.InitResourceContext) -> RetentionRules:
    """How long documents are kept, where archives go, and whether purges are allowed."""
    return open_retention(Settings())


@dg.resource
def label_rules_resource(_: dg.InitResourceContext) -> LabelRules:
    """What the posts of each platform are judged by."""
    return load_label_rules(Settings().rules_file)


@dg.resource
def wording_resource(_: dg.InitResourceContext) -> Wording:
    """The language model that phrases claims, where one is configured."""
    return open_wording(Settings())


@dg.resource
def cloud_resource(_: dg.InitResourceContext) -> Iterator[Cloud]:
    """The configured cloud, or none; it is connected to when it is first needed."""
    with contextlib.closing(open_cloud(Settings())) as cloud:
        yield cloud


@dg.resource
def news_resource(_: dg.InitResourceContext) -> News:
    """Whether news are sent: only where the operator named dispatch."""
    return News(is_sent=Settings().dispatch_url is not None)


def build_definitions(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything that Dagster runs.

    Args:
        resource_overrides: objects to use instead of the resources made from the settings, by resource key.
    """
    return dg.Definitions(
        assets=[
            sources,
            outcome_classifications,
            content_embeddings,
            outcome_embeddings,
            prospect_embeddings,
            lesson_embeddings,
            heal_embeddings,
            migration_shards,
            strategies,
            weekly_changes,
            plans,
            purges,
            content_copy,
            outcome_copy,
            lesson_copy,
        ],
        asset_checks=[
            checks.every_outcome_is_in_one_label_history,
            checks.every_strategy_cites_its_outcomes,
            checks.every_strategy_is_fresh,
            checks.every_purged_document_is_gone,
            *checks.index_checks,
            *checks.parity_checks,
        ],
        jobs=[
            jobs.memory_refresh_job,
            jobs.strategy_rebuild_job,
            jobs.weekly_changes_job,
            jobs.cloud_sync_job,
            jobs.cloud_parity_job,
            jobs.retention_job,
            jobs.heal_embeddings_job,
            jobs.embedding_migration_job,
        ],
        schedules=[
            schedules.memory_refresh_schedule,
            schedules.strategy_refresh_schedule,
            schedules.weekly_changes_schedule,
            schedules.cloud_sync_schedule,
            schedules.cloud_parity_schedule,
            schedules.retention_schedule,
            schedules.heal_embeddings_schedule,
            schedules.embedding_migration_schedule,
        ],
        sensors=[strategy_rebuild_sensor],
        resources={
            "database": database_resource,
            "embedder": embedder_resource,
            "embedding_cache": embedding_cache_resource,
            "vector_db": vector_db_resource,
            "retention": retention_resource,
            "label_rules": label_rules_resource,
            "cloud": cloud_resource,
            "news": news_resource,
            "wording": wording_resource,
        }
        | dict(resource_overrides or {}),
        # Steps of seconds: a process for each would spend most of its time on imports.
        executor=dg.in_process_executor,
    )
