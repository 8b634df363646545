"""The calls of embedding providers, counted as they are made: whatever becomes of the work, they were spent.

What belongs here: one transaction for each call, with the day's count, the metrics and the cost ledger; and reading the
ledger. What does not: the calls themselves (`resources/providers/`), what a day may have (`embedding_quota.py`), and
prices (`domain/embedding_prices.py`).
"""

import datetime as dt
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from everreach_assets.domain.embedding_prices import PriceTable, read_prices
from resources import metric_records, spending
from resources.database import Connection, Database
from resources.embedding_quota import EXHAUSTED, EmbeddingQuota
from resources.metric_buffer import MetricBuffer
from resources.metric_records import Record
from resources.providers import LOCAL, ProviderCall
from resources.settings import PROJECT_FOLDER
from resources.spending import Spender, Spent

PRICES_FILE = PROJECT_FOLDER / "everreach_assets" / "embedding_prices.yaml"

Booked = tuple[ProviderCall, Spender, Spent]


@functools.cache
def shipped_prices() -> PriceTable:
    """The price table that the project ships.

    Raises:
        InvalidInput: it is none.
    """
    return read_prices(PRICES_FILE.read_text(encoding="utf-8"), PRICES_FILE.name)


class ProviderCalls:
    """Records each call that it is given.

    A call over the network is written before its answer is used. One of the local provider costs nothing and may be
    part of a search, so it is written in the background.

    Args:
        quota: whose promises the calls are drawn from; it must be the one that promised them.
        spender: on whose account calls are that nobody spends on (`spending.spending`).
    """

    def __init__(
        self,
        database: Database,
        quota: EmbeddingQuota,
        *,
        prices: PriceTable | None = None,
        spender: Spender | None = None,
    ) -> None:
        self._database = database
        self._quota = quota
        self._prices = prices or shipped_prices()
        self._spender = spender or Spender()
        self._local: MetricBuffer[Booked] = MetricBuffer(self._write)

    def __call__(self, call: ProviderCall) -> None:
        """Record the call.

        Raises:
            Unavailable: the database did not answer.
        """
        spent = self._spent(call)
        spending.count_call(call.provider, call.model, spent)
        booked = (call, spending.current_spender() or self._spender, spent)
        if call.provider == LOCAL:
            self._local.add(booked)
        else:
            self._write([booked])

    def close(self) -> None:
        """Write what is left."""
        self._local.flush()

    def _spent(self, call: ProviderCall) -> Spent:
        spent = Spent(calls=1, texts=call.texts, tokens=call.tokens)
        if not call.tokens:
            return spent
        today = dt.datetime.now(dt.UTC).date()
        cost = self._prices.cost_pico_usd(call.provider, call.model, call.tokens, today)
        return replace(spent, unpriced_tokens=call.tokens) if cost is None else replace(spent, cost_pico_usd=cost)

    def _write(self, booked: Sequence[Booked]) -> None:
        with self._database.transaction() as connection:
            beyond = [
                Record(EXHAUSTED, over, {"provider": provider})
                for provider, made in sorted(Counter(call.provider for call, _, _ in booked).items())
                if (over := self._quota.count(connection, provider, made))
            ]
            _write_costs(connection, booked)
            records = [record for call, _, spent in booked for record in _records(call, spent)]
            metric_records.record(connection, [*beyond, *records])


def _write_costs(connection: Connection, booked: Sequence[Booked]) -> None:
    sums: dict[tuple[str, str, str, str], Spent] = {}
    for call, spender, spent in booked:
        key = (spender.run_id, spender.asset, call.provider, call.model)
        sums[key] = sums.get(key, Spent()) + spent
    connection.cursor().executemany(
        """
        INSERT INTO embedding_costs AS known (day, run_id, asset, provider, model,
                                              calls, texts, tokens, unpriced_tokens, cost_pico_usd)
        VALUES ((now() AT TIME ZONE 'UTC')::date, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (day, run_id, asset, provider, model) DO UPDATE
        SET calls = known.calls + excluded.calls, texts = known.texts + excluded.texts,
            tokens = known.tokens + excluded.tokens, unpriced_tokens = known.unpriced_tokens + excluded.unpriced_tokens,
            cost_pico_usd = known.cost_pico_usd + excluded.cost_pico_usd
        """,
        [
            (*key, each.calls, each.texts, each.tokens, each.unpriced_tokens, each.cost_pico_usd)
            for key, each in sorted(sums.items())  # two writers lock in one order
        ],
    )


def _records(call: ProviderCall, spent: Spent) -> Iterator[Record]:
    of_model = {"provider": call.provider, "model": call.model}
    yield Record("everreach_embedding_api_calls_total", 1, of_model)
    yield Record("everreach_embedding_api_latency_seconds", call.seconds, of_model)
    if call.error is not None:
        yield Record("everreach_embedding_errors_total", 1, {"provider": call.provider, "error_class": call.error})
    if call.tokens:
        yield Record("everreach_embedding_tokens_total", call.tokens, of_model)
    if spent.cost_pico_usd:
        usd = spent.cost_pico_usd / 1e12
        yield Record("everreach_embedding_cost_usd_total", usd, of_model)
        yield Record("everreach_cloud_cost_usd_total", usd, {"service": call.provider, "action": "embed"})


@dataclass(frozen=True)
class CostRow:
    """A line of the ledger: what one spender's calls of one model came to on a UTC day."""

    day: dt.date
    spender: Spender
    provider: str
    model: str
    spent: Spent


def costs(connection: Connection, days: int) -> list[CostRow]:
    """The ledger of the last days, today's included, the newest day first."""
    rows = connection.execute(
        """
        SELECT day, run_id, asset, provider, model, calls, texts, tokens, unpriced_tokens, cost_pico_usd::bigint
        FROM embedding_costs WHERE day > (now() AT TIME ZONE 'UTC')::date - %s
        ORDER BY day DESC, run_id, asset, provider, model
        """,
        (days,),
    )
    return [
        CostRow(day, Spender(run_id, asset), provider, model, Spent(calls, texts, tokens, unpriced, cost))
        for day, run_id, asset, provider, model, calls, texts, tokens, unpriced, cost in rows
    ]
