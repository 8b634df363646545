"""Alertmanager's notifications as messages for a person: what they say, and which of them say the same.

What belongs here: reading the body (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config, version
4), choosing and packing the text, counting its length as Telegram does. What does not: keeping messages
(`resources/alert_messages.py`) and handing them over (`resources/dispatch.py`).
"""

import datetime as dt
import html
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.printing import printable_line
from everreach_assets.domain.scrubbing import Scrubber

MESSAGE_LENGTH = 4096
"""Telegram's limit, in UTF-16 units after its formatting is read; here the formatting counts too."""

LINE_LENGTH = 700
"""Of one summary or description: five alerts fit into a message, whatever they say."""

GROUP_KEY_LENGTH = 2000
MAX_ALERTS = 10_000

WATCHDOG = "Watchdog"
HEARTBEAT_GROUP = "heartbeat"
"""The group of the messages about alerting itself; Alertmanager's own keys start with a brace."""

NEWS_GROUP = "weekly-changes"

HEARTBEAT_LOST_AFTER = dt.timedelta(minutes=15)
"""Alertmanager repeats the Watchdog every five minutes: three are missing."""

DAY_BEGINS_AT = dt.timedelta(hours=8)
"""When the daily message comes, in UTC: nobody is woken by it in Europe, nor by its absence."""

SEVERITIES = ("critical", "warning", "info", "none")

State = Literal["firing", "resolved"]


class Alert(BaseModel):
    """One alert of a notification."""

    model_config = ConfigDict(frozen=True)

    status: State
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: AwareDatetime = Field(alias="startsAt")
    ends_at: AwareDatetime | None = Field(None, alias="endsAt")
    fingerprint: str = Field(min_length=1, max_length=64, pattern=r"^[0-9a-zA-Z]+$")

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "an alert without a name")

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "none")

    def state(self, status: State | None = None) -> str:
        """The alert and what it does, as one text that no other alert has; in another state if one is given."""
        return f"{self.fingerprint} {self.starts_at.astimezone(dt.UTC).isoformat()} {status or self.status}"


class Notification(BaseModel):
    """What Alertmanager says of one group of alerts."""

    model_config = ConfigDict(frozen=True)

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1, max_length=GROUP_KEY_LENGTH)
    status: State
    alerts: list[Alert] = Field(min_length=1, max_length=MAX_ALERTS)
    left_out: int = Field(0, alias="truncatedAlerts", ge=0)

    @field_validator("group_key")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not value.isprintable():  # Alertmanager quotes it; the database takes neither NUL nor half a character
            raise ValueError("it holds a control character")
        return value

    @property
    def states(self) -> list[str]:
        return sorted(alert.state() for alert in self.alerts)


def read_notification(body: Any) -> Notification:
    """The notification in a body.

    Raises:
        InvalidInput: it is none; the message names the fields and repeats no value.
    """
    try:
        return Notification.model_validate(body)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:5]]
        raise InvalidInput(
            f"no notification of Alertmanager, version 4 ({'; '.join(faults)}): send what its webhook_config sends"
        ) from None


def without_late_news(notification: Notification, told: Collection[str]) -> Notification | None:
    """The notification without alerts that fire though their end was told already; None if nothing is left.

    Two Alertmanagers, or a repeated call, can bring the news of a start after that of its end.

    Args:
        told: states of the group's earlier messages.
    """
    fresh = [
        alert for alert in notification.alerts if alert.status == "resolved" or alert.state("resolved") not in told
    ]
    if not fresh:
        return None
    return notification.model_copy(update={"alerts": fresh})


def message_text(notification: Notification, known_names: Collection[str] = ()) -> str:
    """One message for the whole group, at most 4,096 UTF-16 units of Telegram's HTML.

    Alerts that fire come first, the graver ones before the others. As many as fit are told whole, the rest is counted.
    Our rules hold no text of people. Whatever else sends alerts here may, so each text is scrubbed.

    Args:
        known_names: of people, which are scrubbed wherever they stand.
    """
    scrubber = Scrubber(known_names)
    alerts = sorted(notification.alerts, key=_order)
    blocks = [_block(alert, scrubber) for alert in alerts]
    header = f"<b>EverReach: {_counted(alerts)}</b>"
    return packed(header, blocks, notification.left_out)


def packed(header: str, blocks: Sequence[str], left_out: int = 0) -> str:
    """One message: as many of the blocks as fit whole, the rest counted, those that were left out before included."""
    for shown in range(len(blocks), 0, -1):
        rest = len(blocks) - shown + left_out
        text = "\n\n".join([header, *blocks[:shown], *([f"+{rest:,} more"] if rest else [])])
        if telegram_length(text) <= MESSAGE_LENGTH:
            return text
    raise AssertionError("one block fits: each of its lines is cut")


def alive_text(now: dt.datetime, accepted: int) -> str:
    """The daily sign of life.

    Args:
        accepted: messages that dispatch has taken in the last 24 hours.
    """
    return (
        f"<b>EverReach: alerting works</b>\nThe heartbeat came from Prometheus through Alertmanager at "
        f"{now.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC. Messages in the last 24 hours: {accepted:,}."
    )


def lost_text(last_heartbeat_at: dt.datetime) -> str:
    """What is said when the heartbeat stays away."""
    return (
        "<b>EverReach: ALERTING IS DEAD</b>\nNo heartbeat has come from Prometheus through Alertmanager since "
        f"{last_heartbeat_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC. Until it does, no alert reaches you.\n"
        "docs/runbooks.md#watchdog"
    )


def alive_state(now: dt.datetime) -> str:
    """Names the daily message: one for each day, which begins at eight."""
    return f"alive {(now.astimezone(dt.UTC) - DAY_BEGINS_AT).date()}"


def lost_state(last_heartbeat_at: dt.datetime) -> str:
    """Names the message about a silence: one for each silence."""
    return f"lost {last_heartbeat_at.astimezone(dt.UTC).isoformat()}"


def dispatch_body(text: str, message_id: int) -> Mapping[str, str]:
    """What dispatch is sent; the id is the same at every attempt, so that it can know a repetition."""
    return {"action": "telegram.send", "text": text, "parse_mode": "HTML", "id": f"everreach-alert-{message_id}"}


def telegram_length(text: str) -> int:
    """The length as Telegram counts: in UTF-16 units, two for most emoji."""
    return len(text.encode("utf-16-le")) // 2


def _order(alert: Alert) -> tuple[bool, int, str, str]:
    severity = SEVERITIES.index(alert.severity) if alert.severity in SEVERITIES else len(SEVERITIES)
    return alert.status == "resolved", severity, alert.name, alert.state()


def _counted(alerts: Sequence[Alert]) -> str:
    firing = sum(alert.status == "firing" for alert in alerts)
    parts = [(firing, "firing"), (len(alerts) - firing, "resolved")]
    return ", ".join(f"{count:,} {state}" for count, state in parts if count)


def _block(alert: Alert, scrubber: Scrubber) -> str:
    def line(text: str, length: int = LINE_LENGTH) -> str:
        return one_line(scrubbed(text, scrubber), length)

    lines = [f"{alert.status.upper()} {line(alert.severity, 40)}: <b>{line(alert.name, 100)}</b>"]
    lines += [line(alert.annotations[name]) for name in ("summary", "description") if alert.annotations.get(name)]
    times = f"Since {alert.starts_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    if alert.status == "resolved" and alert.ends_at:
        times += f", until {alert.ends_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    lines.append(times)
    if alert.status == "firing" and alert.annotations.get("runbook_url"):
        lines.append(line(alert.annotations["runbook_url"], 200))
    return "\n".join(lines)


def scrubbed(text: str, scrubber: Scrubber) -> str:
    """The text without personal data."""
    try:
        return scrubber.scrub(text).text
    except Refused:
        return "(left out: the scrubber refuses it)"


def one_line(text: str, length: int) -> str:
    """The text on one line, cut, without characters that control or reverse it, and escaped for Telegram's HTML."""
    plain = printable_line(text)
    if len(plain) > length:
        plain = f"{plain[: length - 1]}…"
    return html.escape(plain, quote=False)
