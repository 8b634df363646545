"""A circuit breaker: when a provider that fails is left alone, and when it is tried again.

Closed: it is asked. Open, after five attempts in a row without an answer or one request that failed until its deadline:
it is not. Half-open, when the pause is over: one caller may try; its success closes the breaker, its failure opens it
for twice as long. What does not belong here: where the state is kept (`resources/circuit_breakers.py`).
"""

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "half_open", "open"]

FAILURES_TO_OPEN = 5
FIRST_PAUSE = dt.timedelta(seconds=30)
LONGEST_PAUSE = dt.timedelta(minutes=10)
PROBE_ENDS_AFTER = dt.timedelta(minutes=2)
"""A prober that was killed must not keep the others out for ever."""


@dataclass(frozen=True)
class Breaker:
    """The state of one provider's breaker.

    Attributes:
        failures: attempts without an answer since the last one with.
        opened_at: when it opened last; None where it is closed.
        times_opened: since it was last closed.
        probe_until: until when one caller tries for all.
    """

    failures: int = 0
    opened_at: dt.datetime | None = None
    times_opened: int = 0
    probe_until: dt.datetime | None = None

    @property
    def retry_at(self) -> dt.datetime | None:
        """When it may be tried again; None where it is closed."""
        if self.opened_at is None:
            return None
        doublings = min(self.times_opened - 1, 10)  # beyond, the longest pause is reached long since
        pause: dt.timedelta = min(FIRST_PAUSE * 2**doublings, LONGEST_PAUSE)
        return self.opened_at + pause

    def state(self, now: dt.datetime) -> State:
        """What it is at that moment."""
        if self.retry_at is None:
            return "closed"
        return "open" if now < self.retry_at else "half_open"

    def admits(self, now: dt.datetime) -> bool:
        """Whether the provider may be asked: closed, or half-open with nobody trying it."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and (self.probe_until is None or now >= self.probe_until))

    def probed(self, now: dt.datetime) -> "Breaker":
        """With one caller trying for all; the others wait for what comes of it."""
        return dataclasses.replace(self, probe_until=now + PROBE_ENDS_AFTER)

    def failed(self, now: dt.datetime, *, is_final: bool = False) -> "Breaker":
        """After an attempt without an answer.

        Args:
            now: when it ended.
            is_final: its request's deadline has passed, so that the provider has failed for long enough.
        """
        failures = self.failures + 1
        state = self.state(now)
        if state == "open":  # an attempt that was under way when it opened
            return dataclasses.replace(self, failures=failures)
        if state == "half_open" or is_final or failures >= FAILURES_TO_OPEN:
            return Breaker(failures, opened_at=now, times_opened=self.times_opened + 1)
        return dataclasses.replace(self, failures=failures)

    def succeeded(self) -> "Breaker":
        """After an answer, whichever it was: the provider is there."""
        return Breaker()
