"""The errors that callers may catch.

    EverReachError
    ├── InvalidInput          the caller's data or settings are wrong: fix them, a retry will not help
    │   └── InvalidVector     wrong width, NaN, infinite or zero
    ├── Refused               a rule of the project forbids it (egress, unsafe versions)
    └── Unavailable           a server or provider did not answer: safe to try again, nothing was lost

Every message names the offending item and the next step. None carries a text that may hold personal data.
"""


class EverReachError(Exception):
    """Root of the errors that this project raises on purpose."""


class InvalidInput(EverReachError, ValueError):
    """The caller's data or settings are wrong; a retry will not help."""


class InvalidVector(InvalidInput):
    """A vector of the wrong width, or with NaN, infinite or only zero components."""


class Refused(EverReachError):
    """A rule of the project forbids it."""


class Unavailable(EverReachError):
    """A server or provider did not answer; safe to try again."""
