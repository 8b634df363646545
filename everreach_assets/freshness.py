"""How old an asset may become: shown in the UI, and the limit that the alert on stale assets compares with.

Assets without a cadence of their own have no policy: being old is no fault of theirs.
"""

import datetime as dt

import dagster as dg

HOURLY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=3), warn_window=dt.timedelta(hours=2))
"""Of what `memory_refresh_schedule` makes: one run may be lost or late."""

DAILY = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=50), warn_window=dt.timedelta(hours=26))
"""Of what `retention_schedule` makes: one run may be lost or late."""

STALE_AFTER = dt.timedelta(days=8)
"""Mondays every new outcome becomes part of a strategy: one that waits for longer was forgotten."""

WEEKLY = dg.FreshnessPolicy.time_window(fail_window=STALE_AFTER, warn_window=dt.timedelta(days=7, hours=12))
"""Of what the weekly schedules make. A policy sees the last partition: `every_strategy_is_fresh` looks at each."""
