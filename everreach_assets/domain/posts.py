"""What names a post, and what is recorded about it.

What belongs here: the grammar of platforms and post ids, and the checks of one outcome and of one draft. What does not:
the statements that store a post (`resources/posts.py`).
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metrics import METRICS, normalise_metrics
from everreach_assets.domain.scrubbing import Scrubber

PLATFORM_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
POST_ID_MAX_BYTES = 95
"""A document id is `platform:post_id` and has at most 128 bytes; a platform's name takes up to 32 of them."""

FIRST_YEAR, LAST_YEAR = 1970, 9998
"""In another time zone a time may be a year earlier or later, and what Postgres takes then, Python cannot read back."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class RecordedOutcome:
    """A snapshot that is durably stored. `is_new` is false when the same one was there before."""

    seq: int
    is_new: bool


def check_platform(platform: object) -> str:
    """The platform's name itself, if it is one.

    Raises:
        InvalidInput: it is not 1 to 32 characters of a-z, 0-9 and _ that start with a letter. What it is instead is not
            repeated: a shifted column may hold anything.
    """
    if not isinstance(platform, str) or not PLATFORM_NAME.fullmatch(platform):
        raise InvalidInput(
            f"platform is {'no such name' if platform else 'empty'}: 1 to 32 characters of a-z (no capitals), 0-9 "
            "and _, starting with a letter, such as 'facebook' or 'x'"
        )
    return platform


def check_post_id(post_id: object) -> str:
    """The post id itself, if it is one.

    Raises:
        InvalidInput: empty, longer than 95 bytes, or with a character that cannot be printed.
    """
    if not isinstance(post_id, str):
        raise InvalidInput(f"post_id: a text of 1 to 95 bytes is expected, not {type(post_id).__name__}")
    if not post_id:
        raise InvalidInput("post_id is empty: a post id is a text of 1 to 95 bytes")
    if not post_id.isprintable():  # surrogates are among what cannot be printed, so the encoding below cannot fail
        raise InvalidInput("post_id holds a control or separator character")
    if len(post_id.encode()) > POST_ID_MAX_BYTES:
        raise InvalidInput(f"post_id is too long: {len(post_id.encode())} bytes, the limit is {POST_ID_MAX_BYTES}")
    return post_id


@dataclass(frozen=True)
class Outcome:
    """What one caller observed about one post. Build it with `checked_outcome`."""

    platform: str
    post_id: str
    metrics: dict[str, int | float]
    observed_at: datetime | None
    text: str
    account: str
    post_type: str
    published_at: datetime | None


def checked_outcome(
    platform: str,
    post_id: str,
    metrics: Mapping[str, object],
    *,
    now: datetime,
    observed_at: datetime | None = None,
    text: str | None = None,
    account: str | None = None,
    post_type: str | None = None,
    published_at: datetime | None = None,
) -> Outcome:
    """An outcome whose every part has been checked; `now` tells what has not happened yet.

    Raises:
        InvalidInput: it names the part that is wrong.
    """
    check_platform(platform)
    check_post_id(post_id)
    item = f"outcome of {platform}:{post_id}"
    if not isinstance(metrics, Mapping):
        raise InvalidInput(f"{item}: metrics is a mapping of names to numbers, not {type(metrics).__name__}")
    counts, reason = normalise_metrics(metrics)
    if reason is not None:
        raise InvalidInput(f"{item}: {reason}")
    if not counts:
        raise InvalidInput(f"{item}: no metric is stated: give at least one of {', '.join(METRICS)}")
    return Outcome(
        platform=platform,
        post_id=post_id,
        metrics=counts,
        observed_at=check_observed(f"{item}: observed_at", _aware(f"{item}: observed_at", observed_at), now),
        text=_storable(f"{item}: text", text),
        account=_storable(f"{item}: account", account, tag_fault),
        post_type=_storable(f"{item}: post_type", post_type, tag_fault),
        published_at=_aware(f"{item}: published_at", published_at),
    )


TAGS = frozenset({"account", "post_type", "niche"})
TAG_MAX_CHARACTERS = 200
"""Tags become metadata of vectors, and an index takes that only up to a limit."""


@functools.lru_cache(maxsize=10_000)
def tag_fault(text: str) -> str | None:
    """Why a text cannot be one of the tags, or None."""
    if len(text) > TAG_MAX_CHARACTERS:
        return f"is {len(text):,} characters long, the limit is {TAG_MAX_CHARACTERS}"
    fault = text_fault(text)
    if fault is None and not text.isdecimal() and _scrubber().scrub(text).redactions.keys() & {"email", "phone"}:
        fault = "holds an e-mail address or a telephone number, and tags go into the index in clear: leave it out"
    return fault


@functools.cache
def _scrubber() -> Scrubber:
    return Scrubber()


def text_fault(text: str) -> str | None:
    """Why a text cannot be stored, or None."""
    if not text.isascii() and _SURROGATE.search(text):
        return "holds a lone surrogate, which is no character"
    return "holds a NUL character" if "\0" in text else None


def _storable(part: str, text: str | None, fault_of: Callable[[str], str | None] = text_fault) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InvalidInput(f"{part}: a text is expected, not {type(text).__name__}")
    fault = fault_of(text)
    if fault:
        raise InvalidInput(f"{part} {fault}")
    return text


DRAFT_CHARACTERS = 20_000
"""Of a text: more than any platform takes, and scrubbed within a second."""


def check_draft(text: str, platform: str, account: str, when: datetime | None = None, post_type: str = "") -> None:
    """Check a draft, as far as that needs no database.

    Raises:
        InvalidInput: a part is wrong; it is named.
    """
    check_platform(platform)
    if len(text) > DRAFT_CHARACTERS:
        raise InvalidInput(f"the text has {len(text):,} characters: a draft has {DRAFT_CHARACTERS:,} at most")
    for name, value in (("account", account), ("post_type", post_type)):
        if fault := tag_fault(value):
            raise InvalidInput(f"{name} {fault}")
    if when is not None and when.tzinfo is None:
        raise InvalidInput("the time of publication has no time zone: write it as 2026-03-01T12:00:00Z")


CLOCK_SKEW = timedelta(minutes=5)
"""What two clocks that are kept may differ by; a forgotten time zone is a quarter of an hour at least."""


def check_observed(part: str, observed_at: datetime | None, now: datetime) -> datetime | None:
    """The time itself, unless it is yet to come: as the latest one it would hide every true observation after it.

    Raises:
        InvalidInput: it is in the future.
    """
    if observed_at is not None and observed_at > now + CLOCK_SKEW:
        raise InvalidInput(f"{part}: it is in the future: check its time zone, and the clock of this machine")
    return observed_at


def _aware(part: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidInput(f"{part}: a datetime with a time zone is expected, such as datetime.now(UTC)")
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidInput(f"{part}: the year {moment.year} is not from {FIRST_YEAR} to {LAST_YEAR}")
    return moment
