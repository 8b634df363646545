"""The errors that callers may catch.

    EverReachError
    ├── InvalidInput          the caller's data or settings are wrong: fix them, a retry will not help
    │   ├── InvalidVector     wrong width, NaN, infinite or zero
    │   └── NotFound          what is asked for is not there
    ├── Refused               a rule of the project forbids it (egress, unsafe versions)
    ├── QuotaExhausted        the day's calls of a provider are used up: no failure, the rest waits for the next day
    └── Unavailable           a server or provider did not answer: safe to try again, nothing was lost

Every message names the offending item and the next step. None carries a text that may hold personal data.
"""

import datetime as dt


class EverReachError(Exception):
    """Root of the errors that this project raises on purpose."""


class InvalidInput(EverReachError, ValueError):
    """The caller's data or settings are wrong; a retry will not help."""


class InvalidVector(InvalidInput):
    """A vector of the wrong width, or with NaN, infinite or only zero components."""


class NotFound(InvalidInput):
    """What is asked for is not there."""


class Refused(EverReachError):
    """A rule of the project forbids it."""


class QuotaExhausted(EverReachError):
    """The day's calls of a provider are used up. What is left to do waits for the next day, and nothing has failed.

    Attributes:
        provider: whose quota it is.
        reset_at: when the next day's begins.
    """

    def __init__(self, provider: str, daily_quota: int, reset_at: dt.datetime) -> None:
        super().__init__(
            f"{provider}: the {daily_quota:,} calls of the day are used up; the rest waits until "
            f"{reset_at:%Y-%m-%d %H:%M} UTC, or raise EMBEDDING_DAILY_QUOTA"
        )
        self.provider = provider
        self.daily_quota = daily_quota
        self.reset_at = reset_at

    def __reduce__(self) -> tuple[type["QuotaExhausted"], tuple[str, int, dt.datetime]]:
        return type(self), (self.provider, self.daily_quota, self.reset_at)  # an exception is pickled by its message


class Unavailable(EverReachError):
    """A server or provider did not answer; safe to try again."""
