"""Which values are taken as counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.metrics import ALIASES, MAX_COUNT, METRICS, normalise_metrics


def test_numbers_and_texts_of_numbers_are_counts() -> None:
    metrics, reason = normalise_metrics({"views": " 5406 ", "likes": 12, "score": "1e3", "shares": 0.5, "clicks": 0})
    assert (metrics, reason) == ({"views": 5406, "likes": 12, "score": 1000, "shares": 0.5, "clicks": 0}, None)


@pytest.mark.parametrize("unknown", [None, "", "  ", -1, "-1", -1.0, "-1.0"])
def test_a_hidden_count_is_unknown_and_not_zero(unknown: object) -> None:
    assert normalise_metrics({"views": 3, "comments": unknown}) == ({"views": 3}, None)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (-2, "negative"),
        ("-3", "negative"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        ("1e400", "not finite"),
        ("nan", "not a plain number"),
        ("1,234", "not a plain number"),
        ("1_234", "not a plain number"),
        ("12K", "not a plain number"),
        ("\uff11\uff12", "not a plain number"),
        pytest.param("1" * 5000, "not a plain number", id="5000 digits"),
        (10**14 + 1, "larger than 1e+14"),
        pytest.param(10**400, "larger than 1e+14", id="400 digits"),
        (True, "not a number"),
        ([3], "not a number"),
    ],
)
def test_what_is_no_count_refuses_the_row_and_names_the_metric(value: object, why: str) -> None:
    metrics, reason = normalise_metrics({"views": 3, "likes": value})
    assert metrics == {}
    assert reason is not None
    assert reason.startswith("metric 'likes' is ")
    assert why in reason


def test_a_reason_never_quotes_the_value() -> None:
    _, reason = normalise_metrics({"likes": "ann@example.com"})
    assert reason is not None
    assert "ann" not in reason


def test_a_name_outside_the_set_is_refused_with_the_names_that_are_in_it() -> None:
    _, reason = normalise_metrics({"lykes": 3})
    assert reason is not None
    assert "'lykes'" in reason
    assert all(name in reason for name in METRICS)


def test_a_platforms_own_word_becomes_the_one_name() -> None:
    assert normalise_metrics({"retweets": 3, "favorites": 4, "replies": 5})[0] == {
        "shares": 3,
        "likes": 4,
        "comments": 5,
    }
    assert set(ALIASES.values()) <= METRICS.keys()
    assert not ALIASES.keys() & METRICS.keys()


def test_one_count_under_two_names_is_refused() -> None:
    assert normalise_metrics({"likes": 3, "favorites": 4})[1] == "metric 'favorites' states 'likes' a second time"


@given(st.dictionaries(st.sampled_from(sorted(METRICS)), st.one_of(st.none(), st.integers(), st.floats(), st.text())))
def test_every_row_gives_counts_in_range_or_a_reason(raw: dict[str, object]) -> None:
    metrics, reason = normalise_metrics(raw)
    assert not (metrics and reason)
    assert all(0 <= value <= MAX_COUNT for value in metrics.values())
    assert normalise_metrics(metrics) == (metrics, None)
