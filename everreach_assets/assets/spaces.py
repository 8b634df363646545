"""What brings vectors into the space that they should be in: `spaces/heal_embeddings`, `spaces/migration_shards`."""

import dagster as dg

from everreach_assets import healing, migration
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION
from everreach_assets.partitions import shards
from everreach_assets.retries import retrying_when_unavailable
from resources import spaces
from resources.database import Database
from resources.embedder import Embedder
from resources.vector_db import VectorDB

VECTORS = [["vectors", name] for name in COLLECTIONS]


@dg.asset(
    key=["spaces", "heal_embeddings"],
    deps=VECTORS,
    group_name="spaces",
    owners=["team:everreach"],
    code_version=SCRUBBER_VERSION,
    kinds={"postgres", "chroma"},
    pool="embedder_api",
)
def heal_embeddings(
    database: dg.ResourceParam[Database],
    embedder: dg.ResourceParam[Embedder],
    vector_db: dg.ResourceParam[VectorDB],
) -> dg.MaterializeResult[None]:
    """One row is a vector that a backup provider made during an outage, brought back into the space in force.

    Runs where any waits; what the provider does not answer for waits on. Also removes spaces kept long enough.
    """
    with retrying_when_unavailable():
        reports = healing.heal(database=database, embedder=embedder, vector_db=vector_db)
        removed = migration.remove_expired(database=database, vector_db=vector_db)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(each.healed for each in reports),
            "waiting": sum(each.waiting for each in reports),
            "removed_of_kept_spaces": removed,
            "summary": "\n".join(str(each) for each in reports),
        }
    )


@dg.asset(
    key=["spaces", "migration_shards"],
    deps=VECTORS,
    partitions_def=shards,
    group_name="spaces",
    owners=["team:everreach"],
    code_version=SCRUBBER_VERSION,
    kinds={"postgres"},
    pool="embedder_api",
)
def migration_shards(
    context: dg.AssetExecutionContext,
    database: dg.ResourceParam[Database],
    embedder: dg.ResourceParam[Embedder],
) -> dg.MaterializeResult[None]:
    """One row is a vector of the space that a migration fills. A partition is a sixteenth of the ids, by their hash.

    A run takes one or a range of them. Where no migration is under way there is nothing to fill.
    'everreach embedding switch' ends a migration.
    """
    with retrying_when_unavailable():
        with database.connection() as connection:
            names = spaces.migrating(connection)
        filled = [
            migration.fill(name, database=database, embedder=embedder, shard=int(shard))
            for shard in context.partition_keys
            for name in names
        ]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(each.filled for each in filled),
            "remaining": sum(
                {each.collection: each.remaining for each in filled}.values()
            ),  # as the last shard left it
            "summary": "\n".join(str(each) for each in filled) or "no migration is under way",
        }
    )
