"""Partitions. A platform becomes one when its first post is there; nobody lists them by hand.

Partitions are for what is rebuilt one by one. Posts and outcomes are rows, not partitions: their ids are unbounded.
"""

import dagster as dg

platforms = dg.DynamicPartitionsDefinition(name="platforms")
