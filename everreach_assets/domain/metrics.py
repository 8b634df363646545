"""The counts that platforms report about a post: their names here, and which values are taken as counts.

What belongs here: the closed set of names, the platforms' own words for them, and the check of one observation. What
does not: how a count is judged (`domain/outcomes.py`) and which column of a file holds it
(`domain/mapping_files.py`).
"""

import functools
import math
import re
from collections.abc import Mapping

METRICS = {
    "views": "times the post was watched or opened, as the platform counts them",
    "impressions": "times the post was shown",
    "reach": "people to whom the post was shown",
    "plays": "times playback began",
    "likes": "likes (X: favorites)",
    "dislikes": "dislikes",
    "reactions": "reactions of all kinds together (Facebook, LinkedIn); likes are among them",
    "loves": "Facebook's reaction of that name",
    "wows": "Facebook's reaction of that name",
    "hahas": "Facebook's reaction of that name",
    "sads": "Facebook's reaction of that name",
    "angries": "Facebook's reaction of that name",
    "comments": "comments (X: replies)",
    "shares": "times the post was passed on (X: retweets and reposts)",
    "saves": "times the post was saved (X: bookmarks)",
    "clicks": "clicks on the post's link",
    "score": "votes for less votes against (Reddit)",
    "upvotes": "votes for",
    "downvotes": "votes against",
    "followers": "followers or subscribers of the account when the post was observed",
}
"""Every metric that is stored, by its one name. A closed set: a misspelt name must not become a new metric."""

ALIASES = {
    "replies": "comments",
    "retweets": "shares",
    "reposts": "shares",
    "favorites": "likes",
    "favourites": "likes",
    "bookmarks": "saves",
    "subscribers": "followers",
}
"""Platforms' own words for the same count."""

MAX_COUNT = 10**14
"""More than any platform has ever counted; weighted sums of such counts stay exact in a float (below 2**53)."""

_NAME = re.compile(r"[a-z_]{1,40}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # no separators, no NaN, ASCII digits only


def is_count(value: object) -> bool:
    """Whether it is a number that a count can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def canonical_name(name: str) -> str | None:
    """The stored name of a metric, or None when there is no such metric."""
    return name if name in METRICS else ALIASES.get(name)


def normalise_metrics(raw: Mapping[str, object]) -> tuple[dict[str, int | float], str | None]:
    """Check one observation of a post's metrics.

    None, empty text and -1 mean "unknown" (platforms report -1 for a count that they hide): the metric is left out,
    it does not become 0.

    Args:
        raw: metric names (or aliases) to numbers, or to texts that hold one.

    Returns:
        The known metrics under their stored names and None; or an empty dict and the reason of the refusal, which
        names the metric, where it can be one, and never quotes its value: a shifted column may hold anything.
    """
    metrics: dict[str, int | float] = {}
    for name, value in raw.items():
        canonical = canonical_name(name)
        if canonical is None:
            named = f"metric {name!r}" if _NAME.fullmatch(name) else "the name of a metric"
            return {}, f"{named} is not one of {', '.join(METRICS)}"
        try:
            number = _count(value)
        except ValueError as error:
            return {}, f"metric {name!r} {error}"
        if number is None:
            continue
        if canonical in metrics:
            return {}, f"metric {name!r} states {canonical!r} a second time"
        metrics[canonical] = number
    return metrics, None


def _count(value: object) -> int | float | None:
    """The count, or None for unknown. A ValueError says what else it is."""
    return _count_in(value) if isinstance(value, str) else _checked(value)


@functools.lru_cache(maxsize=50_000)  # of 45,000 posts' counts, most are the text of another
def _count_in(text: str) -> int | float | None:
    text = text.strip()
    if not text:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None or len(text) > 40:
        raise ValueError("is not a plain number")
    return _checked(float(text) if number[1] or number[2] else int(text))


def _checked(value: object) -> int | float | None:
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not finite")
    if value < 0:
        raise ValueError("is negative")
    if value > MAX_COUNT:
        raise ValueError(f"is larger than {MAX_COUNT:.0e}")
    return int(value) if value == int(value) else float(value)
