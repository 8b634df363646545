"""When a strategy is rebuilt."""

import datetime as dt

import pytest

from everreach_assets.domain.rebuilds import LatestRuns, backoff, decide

NOW = dt.datetime(2026, 3, 2, 12, 0, tzinfo=dt.UTC)


def failed(times: int, seconds_ago: float) -> LatestRuns:
    return LatestRuns(failures=times, failed_at=NOW - dt.timedelta(seconds=seconds_ago))


def test_nine_outcomes_do_not_rebuild() -> None:
    decision = decide({"x": 9}, {}, NOW)
    assert decision.rebuild == []
    assert decision.waiting == {"x": "9 of 10 new outcomes on x"}


@pytest.mark.parametrize("new", [10, 11, 5_000])
def test_ten_outcomes_or_more_rebuild_once(new: int) -> None:
    decision = decide({"x": new}, {}, NOW)
    assert decision.rebuild == ["x"]
    assert decision.waiting == {}


def test_each_platform_is_decided_by_itself_and_in_the_order_of_names() -> None:
    decision = decide({"x": 10, "tiktok": 3, "facebook": 12}, {}, NOW)
    assert decision.rebuild == ["facebook", "x"]
    assert decision.waiting == {"tiktok": "3 of 10 new outcomes on tiktok"}


def test_a_rebuild_under_way_is_not_asked_for_again() -> None:
    decision = decide({"x": 25}, {"x": LatestRuns(is_active=True)}, NOW)
    assert decision.rebuild == []
    assert decision.waiting == {"x": "25 new outcomes on x, a rebuild is under way"}


def test_an_active_run_after_failures_is_waited_for_too() -> None:
    runs = LatestRuns(is_active=True, failures=1, failed_at=NOW - dt.timedelta(hours=9))
    assert decide({"x": 10}, {"x": runs}, NOW).rebuild == []


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (7, 1_920), (8, 3_600), (9, 3_600), (500, 3_600), (0, 30)],
)
def test_the_backoff_doubles_up_to_an_hour(failures: int, seconds: int) -> None:
    assert backoff(failures) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 30), (3, 120), (20, 3_600)])
def test_a_failed_rebuild_is_asked_for_again_when_its_backoff_has_passed(failures: int, seconds: int) -> None:
    assert decide({"x": 10}, {"x": failed(failures, seconds - 1)}, NOW).rebuild == []
    assert decide({"x": 10}, {"x": failed(failures, seconds)}, NOW).rebuild == ["x"]


def test_the_reason_says_when_it_is_tried_again() -> None:
    decision = decide({"x": 12}, {"x": failed(2, 20)}, NOW)
    assert decision.waiting == {"x": "12 new outcomes on x, 2 rebuilds failed; again at 12:00:40 UTC"}


def test_too_few_outcomes_are_the_reason_whatever_the_runs_did() -> None:
    assert decide({"x": 9}, {"x": failed(1, 0)}, NOW).waiting == {"x": "9 of 10 new outcomes on x"}


def test_nothing_new_decides_nothing() -> None:
    decision = decide({}, {}, NOW)
    assert (decision.rebuild, decision.waiting) == ([], {})
