"""What can go wrong with a provider's call, in one vocabulary for all of them.

What does not belong here: what is done about it (`resources/provider_requests.py`).
"""

import contextlib
import datetime as dt
import email.utils
import enum
import math
from collections.abc import Mapping


class Fault(enum.StrEnum):
    """The kinds of faults."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    AUTH = "auth"
    QUOTA_USED_UP = "quota"
    BAD_REQUEST = "bad_request"
    REFUSED = "refused"
    NOT_THE_PROTOCOL = "protocol"

    @property
    def error_class(self) -> str:
        """The class under which it is counted (`embedding_error` in domain/metric_catalogue.py)."""
        return {Fault.QUOTA_USED_UP: "rate_limited", Fault.REFUSED: "bad_request", Fault.NOT_THE_PROTOCOL: "other"}.get(
            self, self.value
        )

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self in (Fault.TIMEOUT, Fault.RATE_LIMITED, Fault.SERVER)

    @property
    def may_be_an_input(self) -> bool:
        """Whether one text of the request may be to blame, and the others be fine."""
        return self in (Fault.BAD_REQUEST, Fault.NOT_THE_PROTOCOL)


class ProviderFault(Exception):
    """A call that gave no vectors. It holds no word of the provider: that may quote the text that was sent, or the key.

    Attributes:
        seconds_asked_for: that the provider wants to be left alone for; None where it does not say.
    """

    def __init__(self, fault: Fault, what: str, seconds_asked_for: float | None = None) -> None:
        super().__init__(f"{fault} ({what})")
        self.fault = fault
        self.what = what
        self.seconds_asked_for = seconds_asked_for


def fault_of_status(status: int, headers: Mapping[str, str], *, is_quota_used_up: bool = False) -> ProviderFault:
    """The fault that an HTTP status above 399 stands for."""
    what = f"HTTP {status}"
    if is_quota_used_up or status == 402:
        return ProviderFault(Fault.QUOTA_USED_UP, what)
    if status == 429:
        return ProviderFault(Fault.RATE_LIMITED, what, seconds_asked_for(headers))
    if status >= 500:
        return ProviderFault(Fault.SERVER, what, seconds_asked_for(headers))
    if status in (401, 403):
        return ProviderFault(Fault.AUTH, what)
    # 413 and 422 are what embedding servers answer to a text that is too long, or that they cannot tokenize.
    return ProviderFault(Fault.BAD_REQUEST if status in (400, 413, 422) else Fault.REFUSED, what)


def seconds_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After states, as a number or as a date (RFC 9110, 10.2.3); None where it does not."""
    stated = headers.get("retry-after", "")
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = (email.utils.parsedate_to_datetime(stated) - dt.datetime.now(dt.UTC)).total_seconds()
    with contextlib.suppress(ValueError):
        seconds = float(stated)
    return seconds if seconds > 0 else None
