"""What a call cost on its day."""

import datetime as dt

import pytest

from everreach_assets.domain import embedding_prices
from everreach_assets.domain.embedding_prices import PRICES, Price, cost_usd
from everreach_assets.domain.metric_catalogue import VALUE_SETS

TODAY = dt.date(2026, 3, 1)


def test_a_million_tokens_cost_the_price() -> None:
    assert cost_usd("openai", "text-embedding-3-small", 1_000_000, TODAY) == pytest.approx(0.02)
    assert cost_usd("openai", "text-embedding-3-large", 500_000, TODAY) == pytest.approx(0.065)


def test_a_call_is_priced_at_the_price_of_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    later = Price("openai", "text-embedding-3-small", dt.date(2026, 2, 1), 0.01)
    monkeypatch.setattr(embedding_prices, "PRICES", (later, *PRICES))
    prices = [cost_usd("openai", "text-embedding-3-small", 1_000_000, dt.date(2026, month, 1)) for month in (1, 2, 3)]
    assert prices == pytest.approx([0.02, 0.01, 0.01])


@pytest.mark.parametrize(
    ("provider", "model", "day"),
    [
        ("openai", "of-somebody-else", TODAY),
        ("local", "hashing-char-3-5", TODAY),
        ("openai", "text-embedding-3-small", dt.date(2020, 1, 1)),
    ],
)
def test_what_has_no_price_has_no_cost(provider: str, model: str, day: dt.date) -> None:
    assert cost_usd(provider, model, 1_000, day) is None


def test_every_priced_model_can_be_shown() -> None:
    assert {each.model for each in PRICES} <= set(VALUE_SETS["embedding_model"])
    assert {each.provider for each in PRICES} <= set(VALUE_SETS["provider"])
