"""`make dashboards`: write each dashboard to grafana/."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from everreach_assets.dashboards.embedding import embedding
from everreach_assets.dashboards.overview import overview
from everreach_assets.dashboards.pipelines import pipelines
from everreach_assets.dashboards.sync import sync

FOLDER = Path(__file__).resolve().parents[2] / "grafana"


def files() -> dict[str, str]:
    """The text of each file of grafana/ by its name."""
    boards = (overview(), embedding(), sync(), pipelines())
    return {f"{each.uid}.json": json.dumps(each, cls=JSONEncoder, indent=2, sort_keys=True) + "\n" for each in boards}


def main() -> None:
    """Write every dashboard into its file of grafana/, and say which."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"grafana/{name}")  # noqa: T201 - what the command has to say


if __name__ == "__main__":
    main()
