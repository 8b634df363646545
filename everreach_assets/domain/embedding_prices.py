"""What providers charge for embedding, by the day from which a price holds: a table, and the sum that it makes.

What does not belong here: the prices (`everreach_assets/embedding_prices.yaml`), and who reads that file
(`resources/provider_calls.py`).

Money is whole numbers. A token of `text-embedding-3-small` is 0.02 micro-dollars: rounded at every call, many small
calls would cost nothing. So costs are added up in pico-dollars, in which tokens times price is whole, and rounded once.
"""

import datetime as dt
from collections import Counter
from decimal import Decimal

import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, model_validator

from everreach_assets.domain.errors import InvalidInput


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Price(_Strict):
    """USD for a million tokens, from a UTC day on, and where it stands."""

    provider: str = Field(min_length=1)
    model: str = Field(min_length=1)
    since: dt.date
    usd_per_million_tokens: Decimal = Field(ge=0, lt=1_000_000, decimal_places=6)
    source: HttpUrl

    @property
    def pico_usd_per_token(self) -> int:
        """Whole: a price has at most six decimals, and a millionth of a millionth of a dollar has twelve."""
        return int(self.usd_per_million_tokens * 1_000_000)


class PriceTable(_Strict):
    """Prices, each from its day on."""

    prices: tuple[Price, ...]

    @model_validator(mode="after")
    def _each_day_has_one_price(self) -> "PriceTable":
        times = Counter((each.provider, each.model, each.since) for each in self.prices)
        if repeated := [key for key, number in times.items() if number > 1]:
            raise ValueError(f"{' '.join(map(str, repeated[0]))}: two prices from one day on")
        return self

    def cost_pico_usd(self, provider: str, model: str, tokens: int, day: dt.date) -> int | None:
        """What the tokens cost on that UTC day, in pico-dollars (10^-12 USD), exactly; None where no price is known."""
        known = [each for each in self.prices if (each.provider, each.model) == (provider, model) and each.since <= day]
        return tokens * max(known, key=lambda each: each.since).pico_usd_per_token if known else None


def read_prices(text: str, name: str) -> PriceTable:
    """The price table that the text of a YAML file states.

    Raises:
        InvalidInput: it is not one; the message names the file and each offending key.
    """
    try:
        return PriceTable.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise InvalidInput(f"prices {name}: not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidInput(f"prices {name}: {problems}") from None
