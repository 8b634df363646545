"""The circuit breakers of the providers, in rows that all processes share.

Each provider has two. A query waits for less time than a batch, and many come at once: what they find too slow may
serve a batch well, so their failures open a breaker of their own. While the provider's is open, queries rest as well.

What belongs here: reading and writing the rows. What does not: when a breaker opens (`domain/circuit_breaker.py`).
"""

import contextlib
import datetime as dt
from collections.abc import Iterator

from everreach_assets.domain.circuit_breaker import Breaker
from resources.database import Connection, Database
from resources.metric_records import Record, record
from resources.providers.protocol import Purpose

COLUMNS = "failures, opened_at, times_opened, probe_until"


class CircuitBreakers:
    """The breakers, by provider. The clock is the database's: processes on two machines must agree.

    A request costs two reads of one row, and a write only where something changes.

    Args:
        backed_up: the providers that have a backup: where their breaker opens, work moves to another provider.
    """

    def __init__(self, database: Database, backed_up: frozenset[str] = frozenset()) -> None:
        self._database = database
        self._backed_up = backed_up

    def seconds_until_due(self, provider: str, purpose: Purpose = "document") -> float:
        """0 where the provider may be asked or tried now, else the seconds until it may be tried."""
        return max(self._seconds_until_due(each) for each in {provider, _row(provider, purpose)})

    def _seconds_until_due(self, row: str) -> float:
        with self._database.connection() as connection:
            breaker, now = _read(connection, row)
        if breaker.admits(now):
            return 0.0
        due_at = max(each for each in (breaker.retry_at, breaker.probe_until) if each is not None)
        return (due_at - now).total_seconds()

    def is_closed(self, provider: str) -> bool:
        with self._database.connection() as connection:
            breaker, now = _read(connection, provider)
        return breaker.state(now) == "closed"

    def admit(self, provider: str, purpose: Purpose = "document") -> bool:
        """Whether the caller may ask the provider now. Of several who find it half-open, one may."""
        if purpose == "query" and self._seconds_until_due(provider) > 0:
            return False
        row = _row(provider, purpose)
        with self._database.connection() as connection:
            breaker, now = _read(connection, row)
        if breaker.state(now) == "closed":
            return True
        with self._changing(row) as (connection, breaker, now):
            is_admitted = breaker.admits(now)
            if is_admitted and breaker.state(now) == "half_open":
                _write(connection, row, breaker.probed(now))
        return is_admitted

    def note_failure(self, provider: str, purpose: Purpose = "document", *, is_final: bool = False) -> None:
        """Note an attempt without an answer (`Breaker.failed`)."""
        row = _row(provider, purpose)
        with self._changing(row) as (connection, breaker, now):
            after = breaker.failed(now, is_final=is_final)
            _write(connection, row, after)
            if row == provider and after.times_opened > breaker.times_opened:
                _record_opening(
                    connection, provider, is_failover=breaker.times_opened == 0 and provider in self._backed_up
                )

    def note_success(self, provider: str) -> None:
        """Note an answer, to whomever: the provider is there. Nothing is written where nothing was amiss."""
        for row in (provider, _row(provider, "query")):
            with self._database.connection() as connection:
                breaker, _ = _read(connection, row)
            if breaker != Breaker():
                with self._changing(row) as (connection, breaker, _now):
                    _write(connection, row, breaker.succeeded())

    @contextlib.contextmanager
    def _changing(self, row: str) -> Iterator[tuple[Connection, Breaker, dt.datetime]]:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT INTO embedding_breakers (provider, {COLUMNS}) VALUES (%s, 0, NULL, 0, NULL)"  # noqa: S608
                " ON CONFLICT DO NOTHING",
                (row,),
            )
            yield connection, *_read(connection, row, for_update=True)


def _row(provider: str, purpose: Purpose) -> str:
    return f"{provider}/queries" if purpose == "query" else provider


def _record_opening(connection: Connection, provider: str, *, is_failover: bool) -> None:
    records = [Record("everreach_embedding_breaker_openings_total", labels={"provider": provider})]
    if is_failover:  # once for an outage, not for each time that the provider was tried in vain
        records.append(Record("everreach_failover_events_total"))
    record(connection, records)


def _read(connection: Connection, provider: str, *, for_update: bool = False) -> tuple[Breaker, dt.datetime]:
    """The breaker, and the time. Without a row it is closed, whatever the time."""
    row = connection.execute(
        f"SELECT {COLUMNS}, clock_timestamp() FROM embedding_breakers WHERE provider = %s"  # noqa: S608
        f"{' FOR UPDATE' if for_update else ''}",
        (provider,),
    ).fetchone()
    return (Breaker(*row[:-1]), row[-1]) if row else (Breaker(), dt.datetime.min.replace(tzinfo=dt.UTC))


def _write(connection: Connection, provider: str, breaker: Breaker) -> None:
    connection.execute(
        "UPDATE embedding_breakers SET failures = %s, opened_at = %s, times_opened = %s, probe_until = %s"
        " WHERE provider = %s",
        (breaker.failures, breaker.opened_at, breaker.times_opened, breaker.probe_until, provider),
    )
