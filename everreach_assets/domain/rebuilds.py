"""When a platform's strategy is rebuilt: once ten posts have outcomes that no strategy has taken into account.

The count comes from the ledger in Postgres, never from a cursor or a run key, so a lost cursor, a deleted run or two
daemons change nothing: until a strategy has consumed the outcomes, the rebuild is asked for again.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

NEW_OUTCOMES = 10
"""Distinct posts with new outcomes that make a rebuild worthwhile."""

FIRST_BACKOFF = dt.timedelta(seconds=30)
LONGEST_BACKOFF = dt.timedelta(hours=1)


@dataclass(frozen=True)
class LatestRuns:
    """What Dagster knows of a platform's rebuilds.

    Attributes:
        is_active: one is queued or running.
        failures: how many failed since the last that succeeded.
        failed_at: when the last of those ended.
    """

    is_active: bool = False
    failures: int = 0
    failed_at: dt.datetime | None = None


@dataclass(frozen=True)
class Decision:
    """The platforms to rebuild now, and for each of the others why not."""

    rebuild: list[str]
    waiting: dict[str, str]


def backoff(failures: int) -> dt.timedelta:
    """How long to leave a platform alone after that many failures in a row: 30 s, doubled each time, up to an hour."""
    doublings: int = min(max(failures, 1) - 1, 10)
    return min(FIRST_BACKOFF * (1 << doublings), LONGEST_BACKOFF)


def decide(new_outcomes: Mapping[str, int], runs: Mapping[str, LatestRuns], now: dt.datetime) -> Decision:
    """Which platforms to rebuild.

    Args:
        new_outcomes: distinct posts with outcomes that no strategy has consumed, by platform.
        runs: of the platforms that have enough of them.
    """
    rebuild: list[str] = []
    waiting: dict[str, str] = {}
    for platform, new in sorted(new_outcomes.items()):
        latest = runs.get(platform, LatestRuns())
        if new < NEW_OUTCOMES:
            waiting[platform] = f"{new} of {NEW_OUTCOMES} new outcomes on {platform}"
        elif latest.is_active:
            waiting[platform] = f"{new} new outcomes on {platform}, a rebuild is under way"
        elif latest.failed_at is not None and now < latest.failed_at + backoff(latest.failures):
            again = latest.failed_at + backoff(latest.failures)
            waiting[platform] = (
                f"{new} new outcomes on {platform}, {latest.failures} rebuilds failed; again at {again:%H:%M:%S} UTC"
            )
        else:
            rebuild.append(platform)
    return Decision(rebuild, waiting)
