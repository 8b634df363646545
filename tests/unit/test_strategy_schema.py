"""The JSON schema in docs is that of the models, and a strategy of the sample meets it."""

import json

import jsonschema
import pytest

from everreach_assets.domain.strategy_model import Strategy
from everreach_assets.strategy_schema import FILE, schema_text
from tests.labelled_sample import sample_strategy

SCHEMA = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def test_the_schema_in_docs_is_what_the_models_give() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run 'make schema'"


def test_a_strategy_meets_the_schema_and_comes_back_as_it_was() -> None:
    strategy = sample_strategy("x")
    stored = strategy.model_dump(mode="json")
    jsonschema.validate(stored, SCHEMA)
    assert Strategy.model_validate(json.loads(json.dumps(stored))) == strategy


@pytest.mark.parametrize("field", [{"unknown": 1}, {"claims": [{"trait": "a"}]}, {"platform": None}])
def test_what_is_no_strategy_does_not_meet_the_schema(field: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(sample_strategy("x").model_dump(mode="json") | field, SCHEMA)
