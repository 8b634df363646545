"""When a strategy is rebuilt."""

import datetime as dt

import pytest

from everreach_assets.domain.rebuilds import QUICK_ATTEMPTS, Progress, backoff, decide


def asked(attempts: int, seconds_ago: float, new: int = 10) -> Progress:
    return Progress(new, since_strategy=41, attempts=attempts, waited=dt.timedelta(seconds=seconds_ago))


def test_seven_outcomes_do_not_rebuild_and_the_reason_says_since_when_they_count() -> None:
    decision = decide({"x": Progress(7, since_strategy=41)}, set())
    assert decision.rebuild == []
    assert decision.waiting == {"x": "7 of 10 new outcomes on x since strategy 41"}


def test_before_the_first_strategy_the_reason_says_that_there_is_none() -> None:
    assert decide({"x": Progress(9)}, set()).waiting == {"x": "9 of 10 new outcomes on x without a strategy yet"}


@pytest.mark.parametrize("new", [10, 11, 12, 25, 1_000])
def test_ten_outcomes_or_more_rebuild_once(new: int) -> None:
    decision = decide({"x": Progress(new)}, set())
    assert decision.rebuild == ["x"]
    assert decision.waiting == {}


def test_each_platform_is_decided_by_itself_and_in_the_order_of_names() -> None:
    decision = decide({"x": Progress(10), "tiktok": Progress(3, 7), "facebook": Progress(12)}, set())
    assert decision.rebuild == ["facebook", "x"]
    assert decision.waiting == {"tiktok": "3 of 10 new outcomes on tiktok since strategy 7"}


@pytest.mark.parametrize("known", [Progress(25, 41), asked(1, 7_200, 25)])
def test_a_rebuild_under_way_is_not_asked_for_again(known: Progress) -> None:
    decision = decide({"x": known}, {"x"})
    assert decision.rebuild == []
    assert decision.waiting == {"x": "25 new outcomes on x since strategy 41: a rebuild is under way"}


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 3_600), (6, 3_600), (500, 3_600), (0, 30)]
)
def test_the_backoff_doubles_and_is_an_hour_once_the_quick_attempts_are_used_up(attempts: int, seconds: int) -> None:
    assert backoff(attempts) == dt.timedelta(seconds=seconds)


def test_the_quick_attempts_are_made_within_eight_minutes() -> None:
    assert sum((backoff(attempts) for attempts in range(1, QUICK_ATTEMPTS)), dt.timedelta()) <= dt.timedelta(minutes=8)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 30), (3, 120), (20, 3_600)])
def test_what_came_to_nothing_is_asked_for_again_when_its_backoff_has_passed(attempts: int, seconds: int) -> None:
    assert decide({"x": asked(attempts, seconds - 1)}, set()).rebuild == []
    assert decide({"x": asked(attempts, seconds)}, set()).rebuild == ["x"]


@pytest.mark.parametrize(("attempts", "times"), [(1, "once; again in 10 s"), (2, "2 times; again in 40 s")])
def test_the_reason_says_how_often_it_was_asked_for_and_when_it_is_again(attempts: int, times: str) -> None:
    waiting = decide({"x": asked(attempts, 20, 12)}, set()).waiting
    assert waiting == {"x": f"12 new outcomes on x since strategy 41: asked for {times}"}


def test_a_clock_that_was_set_back_does_not_hold_a_rebuild_up() -> None:
    assert decide({"x": asked(1, -86_400)}, set()).rebuild == ["x"]


def test_too_few_outcomes_are_the_reason_whatever_was_asked_for() -> None:
    assert decide({"x": asked(1, 0, 9)}, set()).waiting == {"x": "9 of 10 new outcomes on x since strategy 41"}


def test_nothing_new_decides_nothing() -> None:
    decision = decide({}, set())
    assert (decision.rebuild, decision.waiting) == ([], {})
