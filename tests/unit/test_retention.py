"""The policy of retention, the hash of a plan, and the guards: no server."""

import datetime as dt
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.retention import (
    LONGEST_PAUSE,
    STEADY_FOR,
    TIMES,
    Counts,
    PlanItem,
    approval_reason,
    clock_fault,
    plan_hash,
    read_policy,
)
from everreach_assets.retention import DEFAULT_POLICY_FILE, load_policy

SHIPPED = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


# --- the policy -------------------------------------------------------------------------------------------------


def test_the_shipped_policy_keeps_what_the_documentation_says() -> None:
    policy = load_policy(None)
    assert {name: [str(rule) for rule in policy.rules(name)] for name in COLLECTIONS} == {
        "content_embeddings": ["730 days by published_at (label viral or flop)", "365 days by published_at"],
        "outcome_embeddings": ["1,460 days by recorded_at (label viral or flop)", "730 days by recorded_at"],
        "prospect_embeddings": ["90 days by first_seen_at"],
        "lesson_embeddings": ["kept"],
    }
    assert policy.archive_days == 30


def test_every_collection_has_times_to_be_aged_by() -> None:
    assert set(TIMES) == set(COLLECTIONS)


@pytest.mark.parametrize("days", ["0", "-1", "36501", "1.5", "'365'", "true", "null", "forever", "[1]", ".inf"])
def test_an_age_that_is_none_is_refused_with_its_key(days: str) -> None:
    wrong = SHIPPED.replace("max_age_days: 90", f"max_age_days: {days}")
    with pytest.raises(InvalidInput, match=r"prospect_embeddings\.max_age_days: .*a whole number of days from 1 to"):
        read_policy(wrong, "mine.yaml")


@pytest.mark.parametrize("days", ["1", "36500", "never"])
def test_the_least_and_the_greatest_age_are_taken(days: str) -> None:
    assert read_policy(SHIPPED.replace("max_age_days: 90", f"max_age_days: {days}"), "mine.yaml")


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (
            "prospect_embeddings:",
            "prospect_embedding:",
            r"prospect_embeddings: Field required; prospect_embedding: Ext",
        ),
        ("max_age_days: 90", "max_age: 90", r"prospect_embeddings\.max_age_days: Field required"),
        ("label: [viral, flop], max_age_days: 730", "lable: [viral], max_age_days: 730", r"exceptions\.0\.lable"),
        ("label: [viral, flop], max_age_days: 730", "label: [virl], max_age_days: 730", r"exceptions\.0\.label\.0"),
        ("{label: [viral, flop], max_age_days: 730}", "{max_age_days: 730}", "names at least one of label"),
        ("{label: [viral, flop], max_age_days: 730}", "{account: [ann], max_age_days: 7}", "written platform:account"),
        ("{label: [viral, flop], max_age_days: 730}", "{platform: [X], max_age_days: 7}", "platform is no such name"),
        ("by: published_at", "by: recorded_at", r"content_embeddings\.by: one of published_at, first_seen_at; got"),
        ("max_age_days: 90", "max_age_days: 90\n  max_age_days: 900", "'max_age_days' stands twice"),
        ("max_age_days: 90", "max_age_days: 90\n  exceptions: [{label: [hit], max_age_days: 7}]", "only posts have"),
        ("archive_days: 30", "archive_days: never", "an archive is not kept for ever"),
        ("archive_days: 30", "archive_days: 0", "archive_days: "),
    ],
)
def test_a_slip_in_the_policy_is_refused_and_named(was: str, becomes: str, message: str) -> None:
    assert was in SHIPPED
    with pytest.raises(InvalidInput, match=message) as caught:
        read_policy(SHIPPED.replace(was, becomes, 1), "mine.yaml")
    assert str(caught.value).startswith("retention policy mine.yaml: ")


@pytest.mark.parametrize("text", ["", "{}", "[]", "a: [", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"retention policy mine\.yaml"):
        read_policy(text, "mine.yaml")


def test_the_version_is_that_of_the_meaning_and_not_of_the_text() -> None:
    policy = read_policy(SHIPPED, "a")
    assert read_policy("# a remark\n" + SHIPPED, "b").version == policy.version
    assert read_policy(SHIPPED.replace("max_age_days: 90", "max_age_days: 91"), "c").version != policy.version


# --- the hash ---------------------------------------------------------------------------------------------------

ITEMS = st.builds(
    PlanItem,
    collection=st.sampled_from(sorted(COLLECTIONS)),
    doc_id=st.text(min_size=1, max_size=8),
    rev=st.none() | st.integers(1, 10**9),
    row_updated_at=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    reason=st.text(max_size=8),
    expired_at=st.datetimes(timezones=st.just(dt.UTC)),
)


@given(st.lists(ITEMS, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_items_does_not_matter(items: list[PlanItem], shuffle: random.Random) -> None:
    shuffled = items.copy()
    shuffle.shuffle(shuffled)
    assert plan_hash("1", shuffled) == plan_hash("1", items)


@given(st.lists(ITEMS, max_size=6), st.lists(ITEMS, max_size=6))
def test_other_items_have_another_hash(one: list[PlanItem], other: list[PlanItem]) -> None:
    same = sorted(map(repr, one)) == sorted(map(repr, other))
    assert (plan_hash("1", one) == plan_hash("1", other)) == same


def test_the_hash_is_of_the_policy_too_and_does_not_depend_on_the_zone() -> None:
    item = PlanItem("content_embeddings", "x:1", 3, None, "365 days", NOON)
    abroad = PlanItem("content_embeddings", "x:1", 3, None, "365 days", NOON.astimezone(dt.timezone(5 * DAY / 24)))
    assert plan_hash("1", [item]) == plan_hash("1", [abroad])
    assert plan_hash("1", [item]) != plan_hash("2", [item])


# --- the guards -------------------------------------------------------------------------------------------------


def plan_of(expired: int, documents: int) -> list[Counts]:
    return [
        Counts("content_embeddings", {"expired": expired, "young": documents - expired}),
        Counts("lesson_embeddings", {"young": 5}),
    ]


@pytest.mark.parametrize(
    ("expired", "documents", "needs_approval"),
    [
        (0, 0, False),
        (20, 20, False),  # the floor
        (21, 21, True),
        (50, 1_000, False),  # five per cent
        (51, 1_000, True),
        (1_000, 100_000, False),
        (1_001, 100_000, True),
    ],
)
def test_a_plan_that_takes_much_at_once_needs_approval(expired: int, documents: int, needs_approval: bool) -> None:
    assert bool(approval_reason(plan_of(expired, documents))) == needs_approval


def test_the_rows_of_all_collections_are_counted_together() -> None:
    halves = [Counts(name, {"expired": 501, "young": 99_499}) for name in ("content_embeddings", "outcome_embeddings")]
    assert approval_reason(halves) == "it would purge 1,002 documents, more than 1,000"
    assert not approval_reason(halves[:1])


@pytest.mark.parametrize(
    ("readings", "is_trusted"),
    [
        ([], True),
        ([NOON], True),
        ([NOON - LONGEST_PAUSE], True),
        ([NOON - LONGEST_PAUSE - dt.timedelta(microseconds=1)], False),
        ([NOON - 14 * DAY, NOON], False),  # off for a fortnight, or a clock that jumped: not yet
        ([NOON - 14 * DAY, NOON - dt.timedelta(minutes=1), NOON], False),  # planning twice is no proof
        ([NOON - 14 * DAY, NOON - STEADY_FOR], True),  # it has run on
        ([NOON - 14 * DAY, NOON - DAY], True),
        ([NOON + dt.timedelta(seconds=1)], False),  # it went back
        ([NOON + 3650 * DAY, NOON - dt.timedelta(hours=1)], False),  # set right an hour ago
        ([NOON + 3650 * DAY, NOON - DAY], True),
    ],
)
def test_after_a_jump_the_clock_must_run_on_for_a_while(readings: list[dt.datetime], is_trusted: bool) -> None:
    assert (clock_fault(NOON, readings, None) == "") == is_trusted


def test_a_clock_before_the_last_purge_is_not_trusted() -> None:
    assert "before the last purge" in clock_fault(NOON, [NOON - DAY], NOON + dt.timedelta(microseconds=1))
    assert not clock_fault(NOON, [NOON - DAY], NOON)
