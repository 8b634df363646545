"""`make schema`: write docs/strategy.schema.json, the JSON schema of a stored strategy, from its models."""

import json
from pathlib import Path

from everreach_assets.domain.strategy_model import Strategy

FILE = Path(__file__).resolve().parents[1] / "docs" / "strategy.schema.json"


def schema_text() -> str:
    """What belongs in the file."""
    return json.dumps(Strategy.model_json_schema(mode="serialization"), indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write the file, and say which."""
    FILE.write_text(schema_text(), encoding="utf-8")
    print(f"docs/{FILE.name}")  # noqa: T201 - what the command has to say


if __name__ == "__main__":
    main()
