"""The calls of embedding providers, counted as they are made: whatever becomes of the work, they were spent.

What does not belong here: the calls themselves (`resources/providers/`), and prices (`domain/embedding_prices.py`).
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence

from everreach_assets.domain.embedding_prices import cost_usd
from resources import metric_records
from resources.database import Connection, Database
from resources.metric_buffer import MetricBuffer
from resources.metric_records import Record
from resources.providers import LOCAL, ProviderCall


class ProviderCalls:
    """Records each call that it is given.

    A call over the network is written before its answer is used. One of the local provider costs nothing and may be
    part of a search, so it is written in the background.

    Args:
        daily_quota: calls of a provider in a UTC day; what goes beyond is counted by itself.
    """

    def __init__(self, database: Database, daily_quota: int) -> None:
        self._database = database
        self._daily_quota = daily_quota
        self._local: MetricBuffer[ProviderCall] = MetricBuffer(self._write)

    def __call__(self, call: ProviderCall) -> None:
        """Record the call.

        Raises:
            Unavailable: the database did not answer.
        """
        if call.provider == LOCAL:
            self._local.add(call)
        else:
            self._write([call])

    def close(self) -> None:
        """Write what is left."""
        self._local.flush()

    def _write(self, calls: Sequence[ProviderCall]) -> None:
        with self._database.transaction() as connection:
            beyond = [
                Record("everreach_embedding_quota_exhausted_total", over, {"provider": provider})
                for provider, made in sorted(Counter(call.provider for call in calls).items())
                if (over := self._beyond_quota(connection, provider, made))
            ]
            today = dt.datetime.now(dt.UTC).date()
            records = [record for call in calls for record in _records(call, today)]
            metric_records.record(connection, [*beyond, *records])

    def _beyond_quota(self, connection: Connection, provider: str, made: int) -> int:
        """Count the calls of the day; how many of these were over the quota."""
        row = connection.execute(
            "INSERT INTO embedding_call_days AS known (day, provider, calls)"
            " VALUES ((now() AT TIME ZONE 'UTC')::date, %s, %s)"
            " ON CONFLICT (day, provider) DO UPDATE SET calls = known.calls + excluded.calls RETURNING calls",
            (provider, made),
        ).fetchone()
        assert row is not None  # noqa: S101 - INSERT ... RETURNING of one row has one row
        return 0 if provider == LOCAL else max(0, min(made, row[0] - self._daily_quota))


def _records(call: ProviderCall, today: dt.date) -> Iterator[Record]:
    of_model = {"provider": call.provider, "model": call.model}
    yield Record("everreach_embedding_api_calls_total", 1, of_model)
    yield Record("everreach_embedding_api_latency_seconds", call.seconds, of_model)
    if call.error is not None:
        yield Record("everreach_embedding_errors_total", 1, {"provider": call.provider, "error_class": call.error})
    if call.tokens:
        yield Record("everreach_embedding_tokens_total", call.tokens, of_model)
        cost = cost_usd(call.provider, call.model, call.tokens, today)
        if cost is not None:
            yield Record("everreach_embedding_cost_usd_total", cost, of_model)
            yield Record("everreach_cloud_cost_usd_total", cost, {"service": call.provider, "action": "embed"})
