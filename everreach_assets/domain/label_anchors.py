"""The account's own past as a fixed point: a slow decline moves the rolling reference with it, and not the anchor.

An anchor is the median of ln(1 + metric) over the 365 days that end 90 days before a quarter begins, of an account and
a metric. It is frozen: computed once and never again, also where snapshots of that time come later.
What does not belong here: where anchors are kept (`resources/label_states.py`).
"""

import datetime as dt
import statistics
from collections.abc import Iterable, Mapping

DAY_SECONDS = 86_400.0
ANCHOR_DAYS = 365
ANCHOR_ENDS_DAYS_BEFORE = 90
MINIMUM_OF_ANCHOR = 10

AnchorKey = tuple[str, str, dt.date]
"""Account, metric, and the first day of the quarter."""

Anchors = Mapping[AnchorKey, float]
"""Medians of ln(1 + metric)."""


def quarter_of(at: float) -> dt.date:
    """The first day of the quarter of that moment (seconds since 1970), in UTC."""
    day = dt.datetime.fromtimestamp(at, dt.UTC)
    return dt.date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)


def new_anchors(
    settled: Iterable[tuple[str, str, float, float]], frozen: Anchors
) -> dict[AnchorKey, tuple[float, int]]:
    """The anchors of the quarters in which an account published, but for those that are frozen.

    Args:
        settled: account, metric, time of publication (seconds since 1970) and ln(1 + value) of posts whose counts are
            settled.

    Returns:
        The median and the number of its posts; none where there are fewer than ten.
    """
    posts: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for account, metric, at, log in settled:
        posts.setdefault((account, metric), []).append((at, log))
    found: dict[AnchorKey, tuple[float, int]] = {}
    for (account, metric), each in posts.items():
        for quarter in {quarter_of(at) for at, _ in each}:
            key = (account, metric, quarter)
            midnight = dt.datetime.combine(quarter, dt.time(), dt.UTC).timestamp()
            end = midnight - ANCHOR_ENDS_DAYS_BEFORE * DAY_SECONDS
            logs = [log for at, log in each if end - ANCHOR_DAYS * DAY_SECONDS <= at < end]
            if key not in frozen and len(logs) >= MINIMUM_OF_ANCHOR:
                found[key] = (statistics.median(logs), len(logs))
    return found
