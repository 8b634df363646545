"""What providers charge for embedding, by the day from which a price holds.

A new price is a new line: calls of the past were paid at the price of their day. A model that is not named here has no
price: its tokens are counted, its cost is not.
"""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """USD for a million tokens, from a UTC day on."""

    provider: str
    model: str
    since: dt.date
    usd: float


PRICES = (
    # https://openai.com/index/new-embedding-models-and-api-updates/
    Price("openai", "text-embedding-3-small", dt.date(2024, 1, 25), 0.02),
    Price("openai", "text-embedding-3-large", dt.date(2024, 1, 25), 0.13),
    # https://docs.voyageai.com/docs/pricing
    Price("voyage", "voyage-3.5", dt.date(2025, 5, 20), 0.06),
    Price("voyage", "voyage-3.5-lite", dt.date(2025, 5, 20), 0.02),
)


def cost_usd(provider: str, model: str, tokens: int, day: dt.date) -> float | None:
    """What the tokens cost on that day; None where no price is known."""
    prices = [each for each in PRICES if (each.provider, each.model) == (provider, model) and each.since <= day]
    return tokens * max(prices, key=lambda each: each.since).usd / 1e6 if prices else None
