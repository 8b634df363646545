"""Who spends: on whose account provider calls and uses of the cache are booked, and what they come to.

What does not belong here: the rows that last (`provider_calls.py`), prices (`domain/embedding_prices.py`).
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spender:
    """Whose calls they are.

    Attributes:
        run_id: of Dagster's run; `command` or `service` outside of one.
        asset: such as `vectors/content_embeddings`; empty where it is for none.
    """

    run_id: str = "command"
    asset: str = ""


@dataclass(frozen=True)
class Spent:
    """What calls of one model came to.

    Attributes:
        unpriced_tokens: of the tokens, those whose price is not known.
        cost_pico_usd: of the others; 1,000,000,000,000 are a dollar.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    unpriced_tokens: int = 0
    cost_pico_usd: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.calls + other.calls,
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.unpriced_tokens + other.unpriced_tokens,
            self.cost_pico_usd + other.cost_pico_usd,
        )

    @property
    def cost_micro_usd(self) -> int:
        """In micro-dollars, rounded once, of the sum; a half goes up."""
        return (self.cost_pico_usd + 500_000) // 1_000_000


@dataclass
class Account:
    """What one spender has spent since the account was opened.

    Attributes:
        by_model: by provider and model.
        cache_hits, cache_misses: texts that were found in the cache, and those that were not.
    """

    spender: Spender
    by_model: dict[tuple[str, str], Spent] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0

    @property
    def total(self) -> Spent:
        return sum(self.by_model.values(), Spent())


_lock = threading.Lock()
_open: list[Account] = []


@contextlib.contextmanager
def spending(spender: Spender) -> Iterator[Account]:
    """Book what this process spends within the block on the account of the spender.

    Of the process, not of the thread: the calls of one asset are made by many threads, and a process makes one asset at
    a time. Within another such block the inner one is booked on.
    """
    account = Account(spender)
    with _lock:
        _open.append(account)
    try:
        yield account
    finally:
        with _lock:
            _open.remove(account)


def current_spender() -> Spender | None:
    """Whose calls these are; None where nobody has said."""
    with _lock:
        return _open[-1].spender if _open else None


def count_call(provider: str, model: str, spent: Spent) -> None:
    """Book a call."""
    with _lock:
        if _open:
            account = _open[-1]
            account.by_model[provider, model] = account.by_model.get((provider, model), Spent()) + spent


def count_cache(*, hits: int, misses: int) -> None:
    """Book a use of the cache."""
    with _lock:
        if _open:
            _open[-1].cache_hits += hits
            _open[-1].cache_misses += misses
