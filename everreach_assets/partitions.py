"""Partitions. A platform becomes one when its first post is there; nobody lists them by hand.

Partitions are for what is rebuilt one by one. Posts and outcomes are rows, not partitions: their ids are unbounded.
"""

import dagster as dg

from resources.space_documents import SHARDS

shards = dg.StaticPartitionsDefinition([f"{shard:02d}" for shard in range(SHARDS)])
"""Parts of a migration to another embedding space, by a hash of the document's id."""

weeks = dg.WeeklyPartitionsDefinition(start_date="2025-01-06", day_offset=1, hour_offset=6, minute_offset=7)
"""Mondays 06:07 UTC, when the weekly rebuilds of Monday night are done: `feedback/weekly_changes`."""

platforms = dg.DynamicPartitionsDefinition(name="platforms")
