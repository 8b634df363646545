"""The alert relay: from Alertmanager's webhook to messages of dispatch, without loss and without repetition.

    Alertmanager -> POST /api/v1/alerts -> a row in alert_messages -> AlertSender -> dispatch -> Telegram

Alertmanager tries again after a 5xx and after nothing else: 200 is said when the row is committed, and not before.
The sender works through the rows, also those of a process that was killed.

What does not belong here: the texts (`domain/alert_messages.py`), the rows (`resources/alert_messages.py`), the call
(`resources/dispatch.py`).
"""

import datetime as dt
import logging
import random
import threading
from collections.abc import Callable
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from everreach_assets.domain.alert_messages import (
    HEARTBEAT_LOST_AFTER,
    WATCHDOG,
    Notification,
    read_notification,
)
from everreach_assets.domain.errors import EverReachError
from everreach_assets.service.auth import carries_one_of
from everreach_assets.service.bodies import json_body
from everreach_assets.service.lanes import Lane
from resources import alert_messages
from resources.alert_messages import Message
from resources.alert_token import alert_token
from resources.database import Connection, Database
from resources.dispatch import Answer, Dispatch
from resources.settings import Settings

LEASE = dt.timedelta(seconds=60)
"""A message that was claimed and not settled is free again after that: longer than a call may take (10 s)."""

PACE_SECONDS = 1.0
"""Telegram takes one message a second for a chat (https://core.telegram.org/bots/faq#my-bot-is-hitting-limits)."""

LOOK_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 300.0
GIVE_UP_AFTER = dt.timedelta(hours=24)
"""Older news is told by Alertmanager's own reminders."""

logger = logging.getLogger(__name__)


def utc_now() -> dt.datetime:
    """The time, with its zone; the relay's clock where no other is given."""
    return dt.datetime.now(dt.UTC)


def relay_routes(
    settings: Settings, database: Database, lane: Lane, *, now: Callable[[], dt.datetime] = utc_now
) -> list[Route]:
    """The routes of the relay.

    Args:
        lane: whose threads ask the database.
        now: the clock.
    """
    relay = _Relay(settings, database, lane, now)
    return [
        Route("/api/v1/alerts", relay.receive, methods=["POST"]),
        Route("/api/v1/alerts/heartbeat", relay.heartbeat, methods=["GET"]),
    ]


class _Relay:
    def __init__(self, settings: Settings, database: Database, lane: Lane, now: Callable[[], dt.datetime]) -> None:
        self._settings = settings
        self._database = database
        self._lane = lane
        self._now = now

    async def receive(self, request: Request) -> Response:
        """Take a notification in. 200 says that its message is committed, or was before."""
        self._check(request)
        with self._lane.place():
            notification = read_notification(await json_body(request))
            return JSONResponse({"queued": await self._lane.run(partial(self._take_in, notification))})

    async def heartbeat(self, _: Request) -> Response:
        """Whether alerting is alive: 503 when it is not, for a watch that is none of ours."""
        with self._lane.place():
            last = await self._lane.run(self._last_heartbeat_at)
        is_alive = last is not None and self._now() - last < HEARTBEAT_LOST_AFTER
        return JSONResponse(
            {"is_alive": is_alive, "last_heartbeat_at": last.isoformat() if last else None},
            status_code=200 if is_alive else 503,
        )

    def _check(self, request: Request) -> None:
        """Let the request pass if it carries the token; it is read anew, since its file may be changed.

        Raises:
            HTTPException: 401.
        """
        token = alert_token(self._settings)
        if not carries_one_of(request, [token] if token else []):
            raise HTTPException(
                401,
                "the token is missing or wrong: let Alertmanager's credentials_file be <EVERREACH_HOME>/alert-token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _take_in(self, notification: Notification) -> bool:
        beats = [alert for alert in notification.alerts if alert.name == WATCHDOG and alert.status == "firing"]
        others = [alert for alert in notification.alerts if alert not in beats]
        is_queued = False
        with self._database.transaction() as connection:
            if beats:
                is_queued = alert_messages.take_in_heartbeat(connection, self._now())
            if others:
                rest = notification.model_copy(update={"alerts": others})
                is_queued |= alert_messages.take_in(connection, rest, self._now())
        return is_queued

    def _last_heartbeat_at(self) -> dt.datetime | None:
        with self._database.connection() as connection:
            return alert_messages.last_heartbeat_at(connection)


class AlertSender:
    """A thread that hands messages over, one after the other, as long as the block lasts.

    Args:
        pace_seconds: between two messages.
    """

    def __init__(self, settings: Settings, database: Database, *, pace_seconds: float = PACE_SECONDS) -> None:
        self._database = database
        self._dispatch = Dispatch(settings.alert_dispatch_url)
        self._pace_seconds = pace_seconds
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alert-sender", daemon=True)

    def __enter__(self) -> "AlertSender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping.set()
        self._thread.join()  # a call under way ends by itself within its ten seconds
        self.close()

    def close(self) -> None:
        """Close the connection to dispatch, of a sender whose thread was not started."""
        self._dispatch.close()

    def _run(self) -> None:
        is_idle = False
        while not self._is_stopping.wait(LOOK_SECONDS if is_idle else self._pace_seconds):
            try:
                is_idle = not self.send_next()
            except EverReachError as error:  # the database is away: the rows are not
                logger.warning("alert messages wait: %s", error)
                is_idle = True
            except Exception:
                logger.exception("an alert message could not be handled; it stays in the queue")
                is_idle = True

    def send_next(self, now: Callable[[], dt.datetime] = utc_now) -> bool:
        """Hand over the next message; False if none was due.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._database.transaction() as connection:
            alert_messages.take_in_silence(connection, now())
        with self._database.connection() as connection:
            message = alert_messages.claim(connection, now(), LEASE)
        if message is None:
            return False
        answer = self._dispatch.send(message.text, message.message_id)  # no connection is held meanwhile
        with self._database.connection() as connection:
            self._settle(connection, message, answer, now())
        return True

    @staticmethod
    def _settle(connection: Connection, message: Message, answer: Answer, now: dt.datetime) -> None:
        if answer.result == "retried" and now - message.received_at < GIVE_UP_AFTER:
            seconds = answer.pause_seconds or _wait_seconds(message.attempts)
            alert_messages.settle(
                connection, message, "retried", now,
                again_at=now + dt.timedelta(seconds=seconds), holds_all=answer.pause_seconds is not None,
            )  # fmt: skip
            logger.warning("alert message %d waits %.0f s: %s", message.message_id, seconds, answer.reason)
        elif answer.is_accepted:
            alert_messages.settle(connection, message, "accepted", now)
        else:
            alert_messages.settle(connection, message, "refused", now)
            logger.error("alert message %d will not be sent: %s", message.message_id, answer.reason)


def _wait_seconds(attempts: int) -> float:
    """Two seconds, four, eight, up to five minutes; less by chance, so that two senders do not keep step."""
    return min(2.0 ** min(attempts, 10), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
