"""What a person reads of alerts: whole, escaped, within Telegram's limit, the graver first."""

import datetime as dt
import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.alert_messages import (
    MESSAGE_LENGTH,
    Notification,
    alive_state,
    alive_text,
    dispatch_body,
    lost_state,
    lost_text,
    message_text,
    read_notification,
    telegram_length,
    without_late_news,
)
from everreach_assets.domain.errors import InvalidInput

NOON = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)


def alert(name: str = "CloudCostApproachingCap", **changes: Any) -> dict[str, Any]:
    labels = {"alertname": name, "severity": changes.pop("severity", "warning"), **changes.pop("labels", {})}
    annotations = {
        "summary": "Cloud cost comes close to the month's cap.",
        "description": changes.pop("description", "This month's spending is 97% of the cap."),
        "runbook_url": f"docs/runbooks.md#{name.lower()}",
    }
    fingerprint = hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16]
    return {
        "status": "firing", "labels": labels, "annotations": annotations, "startsAt": "2026-11-21T12:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z", "fingerprint": fingerprint, **changes,
    }  # fmt: skip


def body(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "4", "groupKey": '{}:{alertname="A"}', "status": "firing", "receiver": "relay", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://x", "truncatedAlerts": 0,
        "alerts": list(alerts), **changes,
    }  # fmt: skip


def notification(*alerts: dict[str, Any], **changes: Any) -> Notification:
    return read_notification(body(*alerts, **changes))


def test_an_alert_is_told_with_what_how_grave_since_when_and_what_to_do() -> None:
    assert message_text(notification(alert())) == (
        "<b>EverReach: 1 firing</b>\n\n"
        "FIRING warning: <b>CloudCostApproachingCap</b>\n"
        "Cloud cost comes close to the month's cap.\n"
        "This month's spending is 97% of the cap.\n"
        "Since 2026-11-21 12:00 UTC\n"
        "docs/runbooks.md#cloudcostapproachingcap"
    )


def test_a_resolved_alert_is_marked_and_says_until_when() -> None:
    ended = alert(status="resolved", endsAt="2026-11-21T14:30:00+01:00")
    text = message_text(notification(ended, status="resolved"))
    assert text.startswith("<b>EverReach: 1 resolved</b>\n\nRESOLVED warning: <b>CloudCostApproachingCap</b>")
    assert text.endswith("Since 2026-11-21 12:00 UTC, until 2026-11-21 13:30 UTC")


def test_what_fires_comes_before_what_has_ended_and_the_graver_before_the_rest() -> None:
    text = message_text(
        notification(
            alert("Ended", severity="critical", status="resolved"),
            alert("Small", severity="info"),
            alert("Odd", severity="unheard-of"),
            alert("Grave", severity="critical"),
            alert("Middle"),
        )
    )
    assert re.findall(r"<b>(\w+)</b>", text) == ["Grave", "Middle", "Small", "Odd", "Ended"]
    assert text.startswith("<b>EverReach: 4 firing, 1 resolved</b>")


def test_forty_alerts_are_packed_whole_and_the_rest_is_counted() -> None:
    text = message_text(notification(*(alert(labels={"collection": str(each)}) for each in range(40))))
    assert telegram_length(text) <= MESSAGE_LENGTH
    shown = text.count("FIRING warning")
    assert 15 < shown < 40
    assert text.count("docs/runbooks.md#") == shown
    assert text.endswith(f"\n\n+{40 - shown} more")


def test_one_more_alert_would_not_have_fitted() -> None:
    text = message_text(notification(*(alert(labels={"collection": str(each)}) for each in range(40))))
    block = text.split("\n\n")[1]
    assert telegram_length(text) + telegram_length(block) + 2 > MESSAGE_LENGTH


def test_addresses_and_numbers_that_somebody_put_into_an_alert_do_not_leave() -> None:
    said = "Ask ann@mail.com or call (415) 867-5309.\n\nBest regards,\nAnn Lee"
    text = message_text(notification(alert("Of ann@mail.com and Bob Ray", description=said)), ["Bob Ray"])
    assert "Ask [EMAIL] or call [PHONE]. Best regards, [NAME]" in text
    assert "Of [EMAIL] and [NAME]" in text


def test_alerts_that_alertmanager_left_out_are_counted_too() -> None:
    assert message_text(notification(alert(), truncatedAlerts=7)).endswith("\n\n+7 more")


def test_the_length_counts_as_telegram_does() -> None:
    assert (telegram_length("abc"), telegram_length("ö"), telegram_length("🔥")) == (3, 1, 2)


def test_emoji_do_not_make_a_message_too_long() -> None:
    text = message_text(notification(*(alert(description="🔥" * 690, labels={"a": str(each)}) for each in range(9))))
    assert telegram_length(text) <= MESSAGE_LENGTH
    assert "+7 more" in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<a href='http://evil'>click</a> & <b>", "&lt;a href='http://evil'&gt;click&lt;/a&gt; &amp; &lt;b&gt;"),
        ("one\nRESOLVED critical: all is well", "one RESOLVED critical: all is well"),
        ("right\u202eto left\x00", "right to left"),
    ],
)
def test_what_an_alert_says_cannot_pose_as_part_of_the_message(said: str, shown: str) -> None:
    assert shown in message_text(notification(alert(description=said))).split("\n")


@given(
    st.lists(st.tuples(st.text(max_size=3000), st.text(max_size=300), st.sampled_from(["firing", "resolved"])),
             min_size=1, max_size=30)
)  # fmt: skip
def test_whatever_alerts_say_the_message_fits_and_holds_only_our_own_tags(said: list[tuple[str, str, str]]) -> None:
    alerts = [alert(name, description=text, status=status) for text, name, status in said]
    text = message_text(notification(*alerts))
    assert 0 < telegram_length(text) <= MESSAGE_LENGTH
    assert set(re.findall(r"<[^>]*>?", text)) == {"<b>", "</b>"}
    assert text.count("<b>") == text.count("</b>")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (None, "body"), ([], "body"), ("text", "body"), ({}, "version"),
        (body(alert(), version="5"), "version"), (body(), "alerts"), (body(alert(), groupKey=""), "groupKey"),
        (body(alert(), groupKey="x" * 2001), "groupKey"), (body(alert(status="maybe")), "alerts.0.status"),
        (body(alert(startsAt="2026-11-21T12:00:00")), "alerts.0.startsAt"), (body(alert(labels={"a": 1})), "alerts.0"),
        (body(alert(fingerprint="'); DROP TABLE")), "alerts.0.fingerprint"),
        (body(alert(), truncatedAlerts=-1), "truncatedAlerts"), (body(alert(), groupKey="a\0b"), "groupKey"),
        (body(alert(), groupKey="\ud800"), "groupKey"),
    ],
)  # fmt: skip
def test_what_is_no_notification_is_refused_by_the_name_of_the_field(wrong: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_notification(wrong)
    assert field in str(refused.value)
    assert "DROP TABLE" not in str(refused.value)


def test_a_start_that_comes_after_its_end_is_no_news() -> None:
    ended = notification(alert(status="resolved"))
    started = notification(alert())
    assert without_late_news(started, ended.states) is None
    assert without_late_news(ended, ended.states) == ended
    both = notification(alert(), alert("Another"))
    fresh = without_late_news(both, ended.states)
    assert fresh is not None
    assert [each.name for each in fresh.alerts] == ["Another"]


def test_an_alert_that_fires_anew_is_news() -> None:
    ended = notification(alert(status="resolved"))
    again = notification(alert(startsAt="2026-11-21T13:00:00Z"))
    assert without_late_news(again, ended.states) == again


def test_states_do_not_depend_on_order_or_zone() -> None:
    first, second = alert(), alert("Another")
    shifted = alert(startsAt="2026-11-21T13:00:00+01:00")
    assert notification(first, second).states == notification(second, shifted).states


def test_a_day_of_the_heartbeat_begins_at_eight() -> None:
    before, after = NOON.replace(hour=7, minute=59), NOON.replace(hour=8)
    assert alive_state(before) == alive_state(before - dt.timedelta(hours=20))
    assert alive_state(before) != alive_state(after) == alive_state(NOON)


def test_a_silence_is_named_by_its_last_heartbeat() -> None:
    assert lost_state(NOON) == lost_state(NOON.astimezone(dt.timezone(dt.timedelta(hours=5))))
    assert lost_state(NOON) != lost_state(NOON + dt.timedelta(seconds=1))
    assert "since 2026-11-21 12:00 UTC" in lost_text(NOON)
    assert "Messages in the last 24 hours: 3." in alive_text(NOON, 3)


def test_dispatch_is_told_what_to_do_and_can_know_a_repetition() -> None:
    assert dispatch_body("hello", 7) == {
        "action": "telegram.send", "text": "hello", "parse_mode": "HTML", "id": "everreach-alert-7"
    }  # fmt: skip
