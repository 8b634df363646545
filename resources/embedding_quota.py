"""The daily quota of provider calls: promised before they are made, and given back where they are not.

What belongs here: the three statements on the day's count (sql/migrations/0014_embedding_quota.sql). What does not: the
calls (`provider_calls.py` counts each as it is made, through `count`), and what waits for the next day.

There is one count of a day's calls, `embedding_call_days`. A promise is of the day on which it was made, also over
midnight; that of a process that was killed ends by itself.
"""

import datetime as dt
import uuid
from dataclasses import dataclass

from everreach_assets.domain.errors import InvalidInput, QuotaExhausted
from resources import metric_records
from resources.database import Connection, Database
from resources.metric_records import Record
from resources.providers import LOCAL
from resources.settings import Settings

LIFETIME_MARGIN_SECONDS = 60.0
"""What a batch may take beyond the limits of its calls: waiting for its turn, and for the database."""

EXHAUSTED = "everreach_embedding_quota_exhausted_total"


@dataclass(frozen=True)
class Reservation:
    """Calls that may be made.

    Attributes:
        day: the UTC day whose quota they are of.
        expires_at: until then; calls that are made later may be one too many.
    """

    provider: str
    calls: int
    day: dt.date
    expires_at: dt.datetime


@dataclass(frozen=True)
class QuotaState:
    """The quota of a provider today.

    Attributes:
        daily_quota: calls that a day may have; None where there is no limit.
        current_count: calls that were made today, and those that are promised and may be made yet.
        remaining: None where there is no limit.
        exceeded: nothing remains.
        reset_at: the next UTC midnight.
    """

    daily_quota: int | None
    current_count: int
    remaining: int | None
    exceeded: bool
    reset_at: dt.datetime


class EmbeddingQuota:
    """Promises calls to this process and its threads.

    Args:
        daily_quota: calls of each provider in a UTC day; the local one has no limit.
        lifetime_seconds: how long after the last `reserve` calls may be made; longer than a batch takes with its
            retries. A killed process's calls are anybody's after that.
    """

    def __init__(self, database: Database, daily_quota: int, *, lifetime_seconds: float) -> None:
        self._database = database
        self._daily_quota = daily_quota
        self._lifetime = dt.timedelta(seconds=lifetime_seconds)
        self._holder = uuid.uuid4()

    def reserve(self, provider: str, calls: int) -> Reservation:
        """Promise so many calls, all or none, in one statement.

        Raises:
            QuotaExhausted: the day does not have so many left.
            InvalidInput: fewer than one.
            Unavailable: the database did not answer.
        """
        if calls < 1:
            raise InvalidInput(f"{calls} calls cannot be reserved: reserve one or more")
        if provider == LOCAL:
            now = dt.datetime.now(dt.UTC)
            return Reservation(provider, calls, now.date(), now + self._lifetime)
        with self._database.connection() as connection:
            row = connection.execute(
                "SELECT day, expires_at FROM reserve_embedding_calls(%s, %s, %s, %s, %s)",
                (provider, self._holder, calls, self._daily_quota, self._lifetime),
            ).fetchone()
            if row is None:
                metric_records.record(connection, [Record(EXHAUSTED, calls, {"provider": provider})])
                raise QuotaExhausted(provider, self._daily_quota, _next_midnight(_today(connection)))
        return Reservation(provider, calls, *row)

    def settle(self, reservation: Reservation, calls_made: int) -> None:
        """Give back what was promised and not made. The calls themselves were counted as they were made.

        After its time a reservation is nobody's, and nothing is given back.
        """
        unused = reservation.calls - calls_made
        if reservation.provider == LOCAL or unused <= 0:
            return
        with self._database.connection() as connection:
            connection.execute(
                "SELECT give_back_embedding_calls(%s, %s, %s, %s) WHERE clock_timestamp() < %s",
                (reservation.day, reservation.provider, self._holder, unused, reservation.expires_at),
            )

    def count(self, connection: Connection, provider: str, calls: int) -> int:
        """Count calls that were made, in the transaction of the connection, against what this process was promised.

        Returns:
            How many of them nobody had promised and are beyond the quota.
        """
        row = connection.execute(
            "SELECT calls_of_day, promised FROM count_embedding_calls(%s, %s, %s)", (provider, self._holder, calls)
        ).fetchone()
        assert row is not None  # noqa: S101 - the function answers one row
        of_day, promised = row
        return 0 if provider == LOCAL else max(0, min(calls - promised, of_day - self._daily_quota))

    def state(self, provider: str) -> QuotaState:
        """How much of today's quota is used."""
        with self._database.connection() as connection:
            today = _today(connection)
            row = connection.execute(
                """
                SELECT (coalesce(
                    (SELECT calls FROM embedding_call_days WHERE day = %(day)s AND provider = %(provider)s), 0
                ) + coalesce(
                    (SELECT sum(calls_left) FROM embedding_reservations
                     WHERE day = %(day)s AND provider = %(provider)s AND expires_at > now()), 0))::bigint
                """,
                {"day": today, "provider": provider},
            ).fetchone()
        count = int(row[0]) if row else 0
        quota = None if provider == LOCAL else self._daily_quota
        remaining = None if quota is None else max(0, quota - count)
        return QuotaState(quota, count, remaining, remaining == 0, _next_midnight(today))


def open_quota(settings: Settings, database: Database) -> EmbeddingQuota:
    """The quota that the settings state. One process has one, so that each call is drawn from its own promises."""
    longest_batch = settings.embedding_deadline_seconds + settings.embedding_timeout_seconds
    return EmbeddingQuota(
        database, settings.embedding_daily_quota, lifetime_seconds=longest_batch + LIFETIME_MARGIN_SECONDS
    )


def _today(connection: Connection) -> dt.date:
    """The UTC day by the clock of the database, which all processes share."""
    row = connection.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row[0]  # type: ignore[no-any-return]


def _next_midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
