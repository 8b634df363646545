"""When a platform's strategy is rebuilt: once ten posts have outcomes that no strategy has taken into account.

What was counted and what was asked for comes from the ledger in Postgres, never from a cursor, a run key or Dagster's
runs, so a lost cursor, a deleted run or two daemons change nothing: until a strategy has consumed the outcomes, the
rebuild is asked for again.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass

NEW_OUTCOMES = 10
"""Distinct posts with new outcomes that make a rebuild worthwhile."""

QUICK_ATTEMPTS = 5
"""Within eight minutes: a server that starts again is back by then. What is broken for longer waits for a person, who
is told; once an hour it is asked for again, since nothing may be lost for ever by a cap."""

FIRST_BACKOFF = dt.timedelta(seconds=30)
LONG_BACKOFF = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Progress:
    """What the ledger knows of a platform.

    Attributes:
        new_outcomes: distinct posts with outcomes that no strategy has consumed.
        since_strategy: the last strategy that was built; None where there is none yet.
        attempts: rebuilds that were asked for since that strategy.
        waited: since the last of them was asked for; None where there was none.
    """

    new_outcomes: int
    since_strategy: int | None = None
    attempts: int = 0
    waited: dt.timedelta | None = None

    @property
    def is_due(self) -> bool:
        """Whether enough outcomes are new, whatever is under way."""
        return self.new_outcomes >= NEW_OUTCOMES

    @property
    def rest(self) -> dt.timedelta:
        """How long to wait before it is asked for again; zero or less: not any longer.

        A negative `waited` means that the database's clock was set back: waiting until it catches up could take days.
        """
        if self.waited is None or self.waited < dt.timedelta(0):
            return dt.timedelta(0)
        return backoff(self.attempts) - self.waited


@dataclass(frozen=True)
class Decision:
    """The platforms to rebuild now, and for each of the others why not."""

    rebuild: list[str]
    waiting: dict[str, str]


def backoff(attempts: int) -> dt.timedelta:
    """How long after that many attempts the next one is made: 30 s, doubled each time; from the fifth on, an hour."""
    return LONG_BACKOFF if attempts >= QUICK_ATTEMPTS else FIRST_BACKOFF * (1 << max(attempts - 1, 0))


def decide(progress: Mapping[str, Progress], under_way: Collection[str]) -> Decision:
    """Which platforms to rebuild.

    Args:
        progress: of every platform that has a new outcome.
        under_way: platforms for which a rebuild is queued or running.
    """
    rebuild: list[str] = []
    waiting: dict[str, str] = {}
    for platform, known in sorted(progress.items()):
        counted = f"{known.new_outcomes} new outcomes on {platform} {_since(known)}"
        if not known.is_due:
            waiting[platform] = f"{known.new_outcomes} of {NEW_OUTCOMES} new outcomes on {platform} {_since(known)}"
        elif platform in under_way:
            waiting[platform] = f"{counted}: a rebuild is under way"
        elif known.rest > dt.timedelta(0):
            times = "once" if known.attempts == 1 else f"{known.attempts} times"
            waiting[platform] = f"{counted}: asked for {times}; again in {known.rest.total_seconds():.0f} s"
        else:
            rebuild.append(platform)
    return Decision(rebuild, waiting)


def _since(known: Progress) -> str:
    return "without a strategy yet" if known.since_strategy is None else f"since strategy {known.since_strategy}"
