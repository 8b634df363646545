"""What is said of a week."""

import datetime as dt
import re
from typing import Any

from everreach_assets.domain.alert_messages import MESSAGE_LENGTH, telegram_length
from everreach_assets.domain.weekly_changes import BuiltStrategy, PlatformWeek, message

MONDAY = dt.datetime(2026, 11, 23, 6, 7, tzinfo=dt.UTC)


def claim(trait: str, effect: float = 0.5, evidence: str = "rule", **more: Any) -> dict[str, Any]:
    return {"trait": trait, "effect": effect, "evidence": evidence, **more}


def test_a_claim_is_new_or_gone_by_what_it_says() -> None:
    week = PlatformWeek(
        "x",
        claims_before=[claim("a question"), claim("a link", -0.5), claim("short"), claim("tuesdays")],
        claims=[claim("short", -0.1), claim("a question", 0.9), claim("tuesdays", evidence="hypothesis")],
    )
    assert week.new_claims == ["do less: short (rule)", "do more: tuesdays (hypothesis)"]
    assert week.gone_claims == ["do less: a link (rule)", "do more: short (rule)", "do more: tuesdays (rule)"]


def test_a_claim_that_names_its_direction_is_taken_at_its_word() -> None:
    week = PlatformWeek("x", claims=[claim("a topic", 0.0, "explore", direction="try", claim_id="topic-1")])
    assert week.new_claims == ["try: a topic (explore)"]


def test_shares_are_of_the_week_with_those_of_the_week_before() -> None:
    week = PlatformWeek("x", labels={"viral": 1, "average": 3}, labels_before={"flop": 1, "average": 1})
    assert week.shares == "viral 25% (was 0%), average 75% (was 50%), flop 0% (was 50%)"
    assert PlatformWeek("x", labels={"insufficient_data": 2}).shares == "insufficient data 100%"
    assert PlatformWeek("x", labels_before={"flop": 1}).shares == ""


def test_the_message_tells_each_platform_with_news() -> None:
    weeks = [
        PlatformWeek(
            "linkedin", 34, {"average": 2}, {},
            [BuiltStrategy(41), BuiltStrategy(42, True, "no better than chance: AUC 0.51")],
            [claim("a question")], [claim("long & winding", -1)],
        ),
        PlatformWeek("tiktok", claims=[claim("quiet")], claims_before=[claim("quiet")]),
        PlatformWeek("x", 3),
    ]  # fmt: skip
    assert message(weeks, MONDAY) == (
        "<b>EverReach: the week to 2026-11-23</b>\n\n"
        "<b>linkedin</b>: 34 posts with new outcomes\n"
        "labels: average 100%\n"
        "strategy 41 came into force\n"
        "strategy 42 held (no better than chance: AUC 0.51)\n"
        "new: do more: a question (rule)\n"
        "gone: do less: long &amp; winding (rule)\n\n"
        "<b>x</b>: 3 posts with new outcomes"
    )


def test_a_week_without_news_is_no_message() -> None:
    assert message([PlatformWeek("x", claims=[claim("quiet")])], MONDAY) is None
    assert message([], MONDAY) is None


def test_however_much_changed_the_message_fits_and_counts_what_is_left_out() -> None:
    claims = [claim(f"trait {number} {'😀' * 400}") for number in range(40)]
    text = message([PlatformWeek(f"platform_{number}", 1, claims=claims) for number in range(30)], MONDAY)
    assert text is not None
    assert telegram_length(text) <= MESSAGE_LENGTH
    assert re.search(r"\n\n\+\d\d more$", text)
    assert "new: 35 more" in text


def test_personal_data_in_the_words_of_a_claim_or_a_reason_is_not_told() -> None:
    week = PlatformWeek(
        "x", 1, strategies=[BuiltStrategy(7, True, "as zoe@example.com said")],
        claims=[claim("topic zebediah quux"), claim("topic call +1 415 555 2671 now")],
    )  # fmt: skip
    text = message([week], MONDAY, known_names=["Zebediah Quux"]) or ""
    assert "[EMAIL]" in text
    assert "[PHONE]" in text
    assert "zebediah" not in text.lower()
