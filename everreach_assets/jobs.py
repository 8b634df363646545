"""What runs together. `memory_refresh_job` brings everything up to date but strategies, which belong to one platform.

A strategy's run labels and embeds first: the outcomes that made it due are part of it whatever else ran before.
"""

import dagster as dg

from everreach_assets.cloud_sync import SYNCED
from everreach_assets.partitions import platforms, shards, weeks
from resources.sources import TABLES

STRATEGIES = dg.AssetKey(["feedback", "strategies"])

memory_refresh_job = dg.define_asset_job(
    "memory_refresh_job",
    selection=dg.AssetSelection.groups("vectors")
    | dg.AssetSelection.assets(
        *(["sources", noun] for noun in TABLES),  # by key: a group's selection leaves out what is only observed
        ["feedback", "outcome_classifications"],
    )
    | dg.AssetSelection.checks(dg.AssetCheckKey(STRATEGIES, "every_strategy_is_fresh")),
    description="Label new outcomes, embed new and changed texts, mend the indexes.",
)

strategy_rebuild_job = dg.define_asset_job(
    "strategy_rebuild_job",
    selection=dg.AssetSelection.assets(
        ["feedback", "outcome_classifications"],
        ["vectors", "content_embeddings"],
        ["vectors", "outcome_embeddings"],
        ["feedback", "strategies"],
    ).without_checks()  # the hourly job compares whole indexes; here somebody waits for the strategy
    | dg.AssetSelection.checks(dg.AssetCheckKey(STRATEGIES, "every_strategy_cites_its_outcomes")),
    partitions_def=platforms,
    description="Label and embed what is new, then rebuild one platform's strategy.",
)

weekly_changes_job = dg.define_asset_job(
    "weekly_changes_job",
    selection=dg.AssetSelection.assets(["feedback", "weekly_changes"]),
    partitions_def=weeks,
    description="List what changed in a week on each platform, and say it where dispatch is configured.",
)

heal_embeddings_job = dg.define_asset_job(
    "heal_embeddings_job",
    selection=dg.AssetSelection.assets(["spaces", "heal_embeddings"]),
    description="Bring vectors of a backup provider back into the space in force.",
)

embedding_migration_job = dg.define_asset_job(
    "embedding_migration_job",
    selection=dg.AssetSelection.assets(["spaces", "migration_shards"]),
    partitions_def=shards,
    description="Fill a sixteenth of the space that a migration moves to.",
)

retention_job = dg.define_asset_job(
    "retention_job",
    selection=dg.AssetSelection.groups("retention"),
    description="Plan what has expired, and purge it. By hand it is a dry run.",
)

cloud_sync_job = dg.define_asset_job(
    "cloud_sync_job",
    selection=dg.AssetSelection.groups("cloud").without_checks(),  # a comparison of everything belongs to the other job
    description="Send the cloud the changes that it has not confirmed.",
)

cloud_parity_job = dg.define_asset_job(
    "cloud_parity_job",
    selection=dg.AssetSelection.checks(
        *(dg.AssetCheckKey(dg.AssetKey(["cloud", name]), "the_cloud_equals_what_may_leave") for name in SYNCED)
    ),
    description="Compare the cloud, row by row, with what may be in it.",
)
