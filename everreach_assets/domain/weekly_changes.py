"""What changed on a platform in a week: outcomes, shares of labels, strategies, claims that are new or gone.

What belongs here: comparing the claims, and the words. What does not: reading them (`resources/weekly_changes.py`) and
handing the message over (`resources/alert_messages.py`).
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from everreach_assets.domain.alert_messages import one_line, packed, scrubbed
from everreach_assets.domain.metric_catalogue import VALUE_SETS
from everreach_assets.domain.scrubbing import Scrubber

WEEK_VERSION = "1"
"""Raise it when the same rows may come to another week."""

CLAIMS_OF_A_MESSAGE = 5
"""Of a platform, new and gone each: three platforms that changed fit into a message whole."""

LINE_LENGTH = 300


@dataclass(frozen=True)
class BuiltStrategy:
    """A strategy that was built in the week.

    Attributes:
        is_held: it was not better than the one in force, which stayed; `reason` says why.
    """

    strategy_id: int
    is_held: bool = False
    reason: str = ""

    def __str__(self) -> str:
        if not self.is_held:
            return f"{self.strategy_id} came into force"
        return f"{self.strategy_id} held" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class PlatformWeek:
    """A platform's week.

    Attributes:
        posts: distinct posts with outcomes that were recorded in it.
        labels, labels_before: posts that got a label in it, and in the week before, by label.
        strategies: that were built in it, oldest first.
        claims, claims_before: of the strategy in force at its end and at its beginning, as they are stored.
    """

    platform: str
    posts: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    labels_before: Mapping[str, int] = field(default_factory=dict)
    strategies: Sequence[BuiltStrategy] = ()
    claims: Sequence[Mapping[str, Any]] = ()
    claims_before: Sequence[Mapping[str, Any]] = ()

    @property
    def has_news(self) -> bool:
        return bool(self.posts or self.labels or self.strategies)

    @property
    def new_claims(self) -> list[str]:
        """What the strategy says now and did not say a week ago."""
        return _missing(self.claims, self.claims_before)

    @property
    def gone_claims(self) -> list[str]:
        """What it said a week ago and does not say now."""
        return _missing(self.claims_before, self.claims)

    @property
    def shares(self) -> str:
        """Of each label among the posts labelled in the week, with the share of the week before."""
        count, before = sum(self.labels.values()), sum(self.labels_before.values())
        return ", ".join(
            f"{label.replace('_', ' ')} {self.labels.get(label, 0) / count:.0%}"
            + (f" (was {self.labels_before.get(label, 0) / before:.0%})" if before else "")
            for label in VALUE_SETS["label"]
            if count and (self.labels.get(label) or self.labels_before.get(label))
        )


def week_name(week_ends_at: dt.datetime) -> str:
    """The week as one text that no other week has."""
    return f"the week to {week_ends_at:%Y-%m-%d}"


def message(weeks: Sequence[PlatformWeek], week_ends_at: dt.datetime, known_names: Collection[str] = ()) -> str | None:
    """One message of Telegram's HTML about every platform with news; None where there is none.

    Words of claims come from scrubbed texts; they are scrubbed again, since more people may be known now.

    Args:
        known_names: of people.
    """
    scrubber = Scrubber(known_names)

    def line(text: str) -> str:
        return one_line(scrubbed(text, scrubber), LINE_LENGTH)

    blocks = []
    for week in weeks:
        if not week.has_news:
            continue
        lines = [f"<b>{line(week.platform)}</b>: {week.posts:,} posts with new outcomes"]
        lines += [line(f"labels: {week.shares}")] if week.labels else []
        lines += [line(f"strategy {built}") for built in week.strategies[-3:]]
        for said, claims in (("new", week.new_claims), ("gone", week.gone_claims)):
            lines += [line(f"{said}: {claim}") for claim in claims[:CLAIMS_OF_A_MESSAGE]]
            rest = len(claims) - CLAIMS_OF_A_MESSAGE
            lines += [f"{said}: {rest:,} more"] if rest > 0 else []
        blocks.append("\n".join(lines))
    return packed(f"<b>EverReach: {week_name(week_ends_at)}</b>", blocks) if blocks else None


def _missing(claims: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]]) -> list[str]:
    known = {_words(claim) for claim in among}
    return [words for words in dict.fromkeys(map(_words, claims)) if words not in known]


def _words(claim: Mapping[str, Any]) -> str:
    direction = claim.get("direction") or ("more" if claim["effect"] > 0 else "less")
    return f"{'try' if direction == 'try' else f'do {direction}'}: {claim['trait']} ({claim['evidence']})"
