"""The breaker's state machine: when a provider is left alone, and who may try it again."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.circuit_breaker import FAILURES_TO_OPEN, FIRST_PAUSE, LONGEST_PAUSE, Breaker

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def after_failures(number: int, breaker: Breaker | None = None) -> Breaker:
    made = breaker or Breaker()
    for _ in range(number):
        made = made.failed(NOW)
    return made


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    assert after_failures(FAILURES_TO_OPEN - 1).state(NOW) == "closed"
    assert after_failures(FAILURES_TO_OPEN).state(NOW) == "open"
    assert after_failures(1, after_failures(FAILURES_TO_OPEN - 1).succeeded()).state(NOW) == "closed"


def test_a_request_that_fails_until_its_deadline_opens_it_at_once() -> None:
    assert Breaker().failed(NOW, is_final=True).state(NOW) == "open"


def test_it_admits_nobody_while_open_and_one_when_the_pause_is_over() -> None:
    opened = Breaker().failed(NOW, is_final=True)
    assert not opened.admits(NOW + FIRST_PAUSE - dt.timedelta(seconds=1))
    due = NOW + FIRST_PAUSE
    assert opened.state(due) == "half_open"
    assert opened.admits(due)
    assert not opened.probed(due).admits(due)
    assert opened.probed(due).admits(due + dt.timedelta(minutes=2))  # the one who tried was killed


@pytest.mark.parametrize(("times", "seconds"), [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (40, 600)])
def test_the_pause_doubles_up_to_ten_minutes(times: int, seconds: int) -> None:
    assert Breaker(5, NOW, times).retry_at == NOW + dt.timedelta(seconds=seconds)


def test_a_failed_try_opens_it_for_longer_and_a_success_closes_it() -> None:
    opened = Breaker().failed(NOW, is_final=True)
    again = opened.probed(NOW + FIRST_PAUSE).failed(NOW + FIRST_PAUSE)
    assert again.retry_at == NOW + 3 * FIRST_PAUSE
    assert again.probe_until is None
    assert again.succeeded() == Breaker()


def test_attempts_that_were_under_way_when_it_opened_do_not_prolong_the_pause() -> None:
    opened = after_failures(FAILURES_TO_OPEN)
    assert after_failures(10, opened).retry_at == opened.retry_at


STEPS = st.lists(st.tuples(st.sampled_from(["fail", "final", "succeed", "probe"]), st.integers(0, 700)), max_size=40)


@given(STEPS)
def test_it_never_stays_open_for_ever_and_never_pauses_for_longer_than_ten_minutes(
    steps: list[tuple[str, int]],
) -> None:
    breaker, now = Breaker(), NOW
    for step, seconds in steps:
        now += dt.timedelta(seconds=seconds)
        match step:
            case "fail":
                breaker = breaker.failed(now)
            case "final":
                breaker = breaker.failed(now, is_final=True)
            case "succeed":
                breaker = breaker.succeeded()
            case "probe" if breaker.admits(now) and breaker.state(now) == "half_open":
                breaker = breaker.probed(now)
        assert (breaker.state(now) == "closed") == (breaker.opened_at is None)
        assert breaker.admits(now + LONGEST_PAUSE)
        if step == "succeed":
            assert breaker == Breaker()
