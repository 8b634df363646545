"""How long documents are kept: the policy, what a plan is, and what must hold before one may be carried out.

What belongs here: reading and checking the policy, the hash of a plan, the guards. What does not: which documents the
policy selects (`resources/retention/plans.py`: one SQL expression, so that a plan, a dry run and a purge cannot
differ), the order of the steps (`everreach_assets/retention.py`), and any clock: every time here is the database's, and
given.
"""

import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.posts import check_platform

PLANNER_VERSION = "1"
"""Raise it when the same policy may come to another plan or purge."""

MOST_DAYS = 36_500
"""A hundred years: more is a slip of the finger, and `never` says what is meant."""

TIMES: Mapping[str, tuple[str, ...]] = {
    CONTENT.name: ("published_at", "first_seen_at"),
    OUTCOMES.name: ("recorded_at", "labelled_at", "published_at", "first_seen_at"),
    PROSPECTS.name: ("first_seen_at", "updated_at"),
    LESSONS.name: ("learned_at", "first_seen_at"),
}
"""The times that a document of the collection may be aged by."""

CONDITIONS = ("label", "platform", "account")
"""What an exception may ask of a document; `account` in the form `platform:account`."""

PLAN_MAX_AGE = dt.timedelta(hours=24)
"""After a day a plan says too little about what is there now."""

UNAPPROVED_SHARE = 0.05
UNAPPROVED_FLOOR = 20
"""Documents of a collection that go without approval whatever their share: 5 % of a small collection is a handful."""
UNAPPROVED_ROWS = 1_000

LONGEST_PAUSE = dt.timedelta(hours=36)
"""A day between two plans, and half of one for a machine that was late."""

STEADY_FOR = dt.timedelta(hours=12)
"""How long a clock must have run on after a jump. A wrong clock is noticed and set right within that; a machine that
was off for a fortnight purges with the plan of the day after."""

Verdict = Literal["expired", "held", "cited", "pending_outcome", "young", "unknown_age", "future"]


def _days(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value == "never" or (is_number and 1 <= value <= MOST_DAYS):  # type: ignore[operator]
        return value
    raise ValueError(f"a whole number of days from 1 to {MOST_DAYS:,}, or never; got {value!r}")


def _finite_days(value: object) -> object:
    if value == "never":
        raise ValueError(f"a whole number of days from 1 to {MOST_DAYS:,}; an archive is not kept for ever")
    return _days(value)


Days = Annotated[int | Literal["never"], BeforeValidator(_days)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetentionException(_Strict):
    """Another age for documents that fit every condition named; a condition fits if one of its values does."""

    label: tuple[Literal["viral", "hit", "average", "underperform", "flop", "insufficient_data"], ...] = ()
    platform: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    max_age_days: Days

    @field_validator("platform")
    @classmethod
    def _platforms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_platform(each) for each in value)

    @field_validator("account")
    @classmethod
    def _accounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            platform, _, account = each.partition(":")
            check_platform(platform)
            if not account:
                raise ValueError(f"an account is written platform:account, got {each!r}")
        return value

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not any(getattr(self, name) for name in CONDITIONS):
            raise ValueError(f"an exception names at least one of {', '.join(CONDITIONS)}")
        return self


class CollectionPolicy(_Strict):
    """How long the documents of one collection are kept."""

    by: str
    max_age_days: Days
    exceptions: tuple[RetentionException, ...] = ()


@dataclass(frozen=True)
class Rule:
    """An age and whom it is for.

    Attributes:
        conditions: values by name (`CONDITIONS`), one of which a document must have; empty: every document.
        max_age: None: kept whatever its age.
    """

    by: str
    max_age: dt.timedelta | None
    conditions: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        age = "kept" if self.max_age is None else f"{self.max_age.days:,} days by {self.by}"
        named = "; ".join(f"{name} {' or '.join(values)}" for name, values in self.conditions.items())
        return f"{age} ({named})" if named else age


class RetentionPolicy(_Strict):
    """The whole policy. Every collection is named, so that none is forgotten by a slip in its name."""

    content_embeddings: CollectionPolicy
    outcome_embeddings: CollectionPolicy
    prospect_embeddings: CollectionPolicy
    lesson_embeddings: CollectionPolicy
    archive_days: Annotated[int, BeforeValidator(_finite_days)] = Field(default=30)

    @model_validator(mode="after")
    def _each_is_aged_by_a_time_that_it_has(self) -> Self:
        for name, times in TIMES.items():
            policy: CollectionPolicy = getattr(self, name)
            if policy.by not in times:
                raise ValueError(f"{name}.by: one of {', '.join(times)}; got {policy.by!r}")
            if policy.exceptions and name not in (CONTENT.name, OUTCOMES.name):
                raise ValueError(f"{name}.exceptions: only posts have labels, platforms and accounts")
        return self

    def rules(self, collection: str) -> list[Rule]:
        """The rules of the collection; the first that fits a document counts, and the last fits every one."""
        policy: CollectionPolicy = getattr(self, collection)
        rules = [
            Rule(
                policy.by,
                _age(each.max_age_days),
                {name: values for name in CONDITIONS if (values := getattr(each, name))},
            )
            for each in policy.exceptions
        ]
        return [*rules, Rule(policy.by, _age(policy.max_age_days), {})]

    @property
    def version(self) -> str:
        """Another one for another policy, however the file is written."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def _age(days: int | str) -> dt.timedelta | None:
    return dt.timedelta(days=days) if isinstance(days, int) else None


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word: of two ages for one collection, one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_policy(text: str, name: str) -> RetentionPolicy:
    """The policy that the text of a YAML file states.

    Raises:
        InvalidInput: it is not one; the message names the file and each offending key.
    """
    try:
        content = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise InvalidInput(f"retention policy {name}: not YAML ({' '.join(str(error).split())})") from error
    try:
        return RetentionPolicy.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = "; ".join(_problem(each) for each in error.errors())
        raise InvalidInput(f"retention policy {name}: {problems}. Nothing is purged before it is corrected") from None


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])


@dataclass(frozen=True)
class PlanItem:
    """A document to purge, as it was when the plan was made.

    Attributes:
        rev: revision of its vector; None where it has none.
        row_updated_at: of the row that goes with it (prospects); None where none does.
        reason: the rule by which it expired.
        expired_at: when it reached the age.
    """

    collection: str
    doc_id: str
    rev: int | None
    row_updated_at: dt.datetime | None
    reason: str
    expired_at: dt.datetime


def plan_hash(policy_version: str, items: Iterable[PlanItem]) -> str:
    """What a plan wants to do, in 64 digits: the same items under the same policy, in any order, have the same hash."""

    def line(item: PlanItem) -> str:
        updated = item.row_updated_at and item.row_updated_at.astimezone(dt.UTC).isoformat()
        expired = item.expired_at.astimezone(dt.UTC).isoformat()
        return json.dumps([item.collection, item.doc_id, item.rev, updated, item.reason, expired])

    digest = hashlib.sha256(f"retention plan 1 {policy_version}\n".encode())
    for each in sorted(map(line, items)):
        digest.update(f"{each}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Counts:
    """The documents of a collection by what a plan found about them."""

    collection: str
    by_verdict: Mapping[Verdict, int]

    @property
    def documents(self) -> int:
        return sum(self.by_verdict.values())

    def __getitem__(self, verdict: Verdict) -> int:
        return self.by_verdict.get(verdict, 0)


def approval_reason(plan: Sequence[Counts]) -> str:
    """Why a person has to approve of the plan; empty where it may be carried out without.

    A policy with a wrong number, or a clock that is off, shows as a plan that takes much at once.
    """
    total = sum(each["expired"] for each in plan)
    if total > UNAPPROVED_ROWS:
        return f"it would purge {total:,} documents, more than {UNAPPROVED_ROWS:,}"
    for each in plan:
        if each["expired"] > max(UNAPPROVED_FLOOR, UNAPPROVED_SHARE * each.documents):
            return (
                f"it would purge {each['expired']:,} of the {each.documents:,} documents of {each.collection}, more "
                f"than {UNAPPROVED_SHARE:.0%}"
            )
    return ""


def clock_fault(now: dt.datetime, readings: Sequence[dt.datetime], last_purge_at: dt.datetime | None) -> str:
    """Why the clock cannot be trusted with a purge; empty where it can.

    A clock that jumps ahead makes everything old. It may also be that nothing ran for a while; the two look alike at
    first, so after a jump either way nothing is purged until the clock has run on for 12 hours.

    Args:
        now: of the database.
        readings: what its clock said at each plan, in the order of the plans.
        last_purge_at: what it said at the end of the purge before.
    """
    if last_purge_at is not None and now < last_purge_at:
        return f"it says {_utc(now)}, which is before the last purge ({_utc(last_purge_at)})"
    times = [*readings, now]
    for earlier, later in reversed(list(itertools.pairwise(times))):
        if not dt.timedelta(0) <= later - earlier <= LONGEST_PAUSE:
            return (
                f"it went from {_utc(earlier)} to {_utc(later)} between two plans" if now - later < STEADY_FOR else ""
            )
    return ""


def _utc(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
