"""What a call cost on its day, to the last millionth of a millionth of a dollar."""

import datetime as dt
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.embedding_prices import PriceTable, read_prices
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metric_catalogue import VALUE_SETS
from resources.provider_calls import shipped_prices
from resources.spending import Spent

TODAY = dt.date(2026, 3, 1)
SMALL = ("openai", "text-embedding-3-small")


def table(*prices: tuple[str, str], model: str = "m") -> PriceTable:
    lines = [
        f"- {{provider: p, model: {model}, since: {since}, usd_per_million_tokens: {usd}, source: https://p.test/}}"
        for since, usd in prices
    ]
    return read_prices("prices:\n" + "\n".join(lines), "test.yaml")


def test_a_million_tokens_cost_the_price() -> None:
    assert shipped_prices().cost_pico_usd(*SMALL, 1_000_000, TODAY) == 20_000 * 1_000_000
    assert shipped_prices().cost_pico_usd("openai", "text-embedding-3-large", 500_000, TODAY) == 65_000 * 1_000_000


def test_a_call_is_priced_at_the_price_of_its_day() -> None:
    prices = table(("2026-02-01", "0.01"), ("2024-01-01", "0.02"))
    days = [dt.date(2026, 1, 31), dt.date(2026, 2, 1), dt.date(2026, 3, 1)]
    assert [prices.cost_pico_usd("p", "m", 1, day) for day in days] == [20_000, 10_000, 10_000]


@pytest.mark.parametrize(
    ("provider", "model", "day"),
    [
        ("openai", "of-somebody-else", TODAY),
        ("local", "hashing-char-3-5", TODAY),
        ("openai", "text-embedding-3-small", dt.date(2020, 1, 1)),
    ],
)
def test_what_has_no_price_has_no_cost(provider: str, model: str, day: dt.date) -> None:
    assert shipped_prices().cost_pico_usd(provider, model, 1_000, day) is None


@given(st.lists(st.integers(0, 300_000), max_size=50), st.decimals("0", "999999", places=6))
def test_many_small_calls_cost_what_one_of_their_sum_does(calls: list[int], usd: object) -> None:
    prices = table(("2024-01-01", f"'{usd}'"))
    costs = [prices.cost_pico_usd("p", "m", tokens, TODAY) or 0 for tokens in calls]
    spent = sum((Spent(tokens=tokens, cost_pico_usd=cost) for tokens, cost in zip(calls, costs, strict=True)), Spent())
    exact = Fraction(str(usd)) * sum(calls)  # in micro-dollars: the price is for a million tokens
    assert spent.cost_pico_usd == exact * 1_000_000
    assert abs(spent.cost_micro_usd - exact) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prices: [", "not YAML"),
        ("prices: 3", "prices"),
        ("costs: []", "costs"),
        ("prices: [{provider: p, model: m, since: 2024-01-01, usd_per_million_tokens: 1}]", "source"),
        ("prices: [{provider: p, model: m, since: May, usd_per_million_tokens: 1, source: 'https://p.test'}]", "since"),
        (
            "prices: [{provider: p, model: m, since: 2024-01-01, usd_per_million_tokens: -1, source: 'https://p.test'}]",
            "usd_per_million_tokens",
        ),
        (
            "prices: [{provider: p, model: m, since: 2024-01-01, usd_per_million_tokens: 0.0000001,"
            " source: 'https://p.test'}]",
            "usd_per_million_tokens",
        ),
    ],
)
def test_a_wrong_table_is_refused_by_name_and_key(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=rf"prices test\.yaml: .*{problem}"):
        read_prices(text, "test.yaml")


def test_two_prices_from_one_day_on_are_refused() -> None:
    with pytest.raises(InvalidInput, match="two prices from one day on"):
        table(("2024-01-01", "1"), ("2024-01-01", "2"))


def test_every_priced_model_can_be_shown() -> None:
    assert {each.model for each in shipped_prices().prices} <= set(VALUE_SETS["embedding_model"])
    assert {each.provider for each in shipped_prices().prices} <= set(VALUE_SETS["provider"])
