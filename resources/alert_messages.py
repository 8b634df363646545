"""The queue of alert messages in the database: taken in once, handed out in order, kept until dispatch has them.

What belongs here: the statements on the table of sql/migrations/0011_alert_messages.sql. What does not: the texts
(`domain/alert_messages.py`) and the calls (`resources/dispatch.py`).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.alert_messages import (
    HEARTBEAT_GROUP,
    HEARTBEAT_LOST_AFTER,
    NEWS_GROUP,
    Notification,
    alive_state,
    alive_text,
    lost_state,
    lost_text,
    message_text,
    without_late_news,
)
from resources import prospects
from resources.database import Connection
from resources.metric_records import Record, record

SAME_DELIVERY = dt.timedelta(minutes=30)
"""A call that Alertmanager believes lost comes again within two `group_interval`s (5 min), a reminder after hours."""

KEPT_FOR = dt.timedelta(days=30)
HEARTBEAT = "everreach_alert_heartbeat_timestamp_seconds"

Result = Literal["accepted", "refused", "retried"]


@dataclass(frozen=True)
class Message:
    """A message to be handed over."""

    message_id: int
    text: str
    attempts: int
    received_at: dt.datetime


@dataclass(frozen=True)
class News:
    """Whether what is no alert is sent too."""

    is_sent: bool


def take_in(connection: Connection, notification: Notification, now: dt.datetime) -> bool:
    """Queue the message of a notification, in the transaction of the connection.

    Returns:
        False where it says nothing new: the same delivery again, or only starts of alerts whose end was told.
    """
    _lock(connection, notification.group_key)
    told = _states_told(connection, notification.group_key, since=now - dt.timedelta(days=1))
    fresh = without_late_news(notification, told)
    if fresh is None:
        return False
    latest = _latest(connection, fresh.group_key)
    if latest and latest[0] == fresh.states and latest[1] > now - SAME_DELIVERY:
        return False
    _add(connection, fresh.group_key, fresh.states, message_text(fresh, prospects.names(connection)), now)
    connection.execute("DELETE FROM alert_messages WHERE ended_at < %s", (now - KEPT_FOR,))
    return True


def take_in_heartbeat(connection: Connection, now: dt.datetime) -> bool:
    """Note that alerting works, and queue a message if it is the day's first, or the first after a silence."""
    record(connection, [Record(HEARTBEAT, now.timestamp())])
    _lock(connection, HEARTBEAT_GROUP)
    state, latest = alive_state(now), _latest(connection, HEARTBEAT_GROUP)
    if latest and state in latest[0]:
        return False
    row = connection.execute(
        "SELECT count(*) FROM alert_messages WHERE result = 'accepted' AND ended_at > %s", (now - dt.timedelta(days=1),)
    ).fetchone()
    _add(connection, HEARTBEAT_GROUP, [state], alive_text(now, int(row[0]) if row else 0), now)
    return True


def take_in_silence(connection: Connection, now: dt.datetime) -> bool:
    """Queue a message if the heartbeat has stayed away for too long, once for each silence."""
    last = last_heartbeat_at(connection)
    if last is None or now - last < HEARTBEAT_LOST_AFTER:
        return False
    _lock(connection, HEARTBEAT_GROUP)
    latest = _latest(connection, HEARTBEAT_GROUP)
    if latest and lost_state(last) in latest[0]:
        return False
    _add(connection, HEARTBEAT_GROUP, [lost_state(last)], lost_text(last), now)
    return True


def take_in_news(connection: Connection, state: str, text: str, now: dt.datetime) -> bool:
    """Queue a message of the week's news, once for each state, which names the week.

    Returns:
        False where it was queued before.
    """
    _lock(connection, NEWS_GROUP)
    if state in _states_told(connection, NEWS_GROUP, since=now - KEPT_FOR):
        return False
    _add(connection, NEWS_GROUP, [state], text, now)
    return True


def last_heartbeat_at(connection: Connection) -> dt.datetime | None:
    """When the Watchdog last came through; None if it never did."""
    row = connection.execute("SELECT to_timestamp(value) FROM metric_gauges WHERE metric = %s", (HEARTBEAT,)).fetchone()
    return row[0] if row else None


def claim(connection: Connection, now: dt.datetime, lease: dt.timedelta) -> Message | None:
    """The message to send next, claimed for the time of the lease; None if none is due.

    The messages of a group go out in their order: a resolved alert is never told before it fires.
    """
    row = connection.execute(
        "UPDATE alert_messages SET attempts = attempts + 1, next_attempt_at = %(until)s WHERE message_id = ("
        " SELECT message_id FROM alert_messages AS due WHERE result IS NULL AND next_attempt_at <= %(now)s"
        " AND NOT EXISTS (SELECT FROM alert_messages AS earlier WHERE earlier.group_key = due.group_key"
        "  AND earlier.message_id < due.message_id AND earlier.result IS NULL)"
        " ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED"
        ") RETURNING message_id, text, attempts, received_at",
        {"now": now, "until": now + lease},
    ).fetchone()
    return Message(*row) if row else None


def settle(
    connection: Connection,
    message: Message,
    result: Result,
    now: dt.datetime,
    *,
    again_at: dt.datetime | None = None,
    holds_all: bool = False,
) -> None:
    """Note what came of an attempt, and count it, in one transaction.

    Args:
        again_at: when a message that was not taken is tried again.
        holds_all: dispatch asked for a pause, which holds for every message.
    """
    with connection.transaction():
        if result == "retried":
            connection.execute(
                "UPDATE alert_messages SET next_attempt_at = %s WHERE message_id = %s", (again_at, message.message_id)
            )
            if holds_all:
                connection.execute(
                    "UPDATE alert_messages SET next_attempt_at = greatest(next_attempt_at, %s) WHERE result IS NULL",
                    (again_at,),
                )
        else:
            connection.execute(
                "UPDATE alert_messages SET result = %s, ended_at = %s WHERE message_id = %s",
                (result, now, message.message_id),
            )
        counted = [Record("everreach_alert_dispatch_total", 1, {"result": result})]
        if result == "accepted":
            counted.append(Record("everreach_alert_dispatch_last_success_timestamp_seconds", now.timestamp()))
        record(connection, counted)


def _lock(connection: Connection, group_key: str) -> None:
    """Until the end of the transaction nobody else takes in a message of this group."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))", (group_key,))


def _latest(connection: Connection, group_key: str) -> tuple[list[str], dt.datetime] | None:
    row = connection.execute(
        "SELECT states, received_at FROM alert_messages WHERE group_key = %s ORDER BY message_id DESC LIMIT 1",
        (group_key,),
    ).fetchone()
    return (row[0], row[1]) if row else None


def _states_told(connection: Connection, group_key: str, since: dt.datetime) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT unnest(states) FROM alert_messages WHERE group_key = %s AND received_at > %s",
        (group_key, since),
    ).fetchall()
    return {row[0] for row in rows}


def _add(connection: Connection, group_key: str, states: Sequence[str], text: str, now: dt.datetime) -> None:
    connection.execute(
        "INSERT INTO alert_messages (group_key, states, text, received_at, next_attempt_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (group_key, list(states), text, now, now),
    )
