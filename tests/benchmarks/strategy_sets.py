"""Labelled outcomes of the shared sets and of the sample, labelled by the product on a Postgres of its own.

What belongs here: files to labelled outcomes. What does not: what is measured on them (`labels.py`, `strategies.py`).
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.mapping_files import load_mapping
from everreach_assets.domain.sample import SEED, write_sample
from everreach_assets.domain.scrubbing import Scrubber
from resources import outcomes, strategies
from resources.database import Database
from resources.intake import ingest_file
from tests.benchmarks.servers import fresh_servers

MAPPINGS = Path(__file__).parents[2] / "docs" / "mappings"
FOLDERS = {
    "facebook": "facebook_pages_2016",
    "reddit": "reddit_top_2013",
    "x": "twitter_538_2017",
    "youtube": "youtube_trending_20181101",
}


def shared_folder() -> Path:
    """Where the shared sets are expected."""
    return Path(os.environ.get("EVERREACH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def ingest_shared(database: Database, folder: Path) -> Iterator[str]:
    """Take in each shared set that is in the folder; its platform, when that is done."""
    for platform, name in FOLDERS.items():
        files = sorted((folder / name).glob("*.csv"))
        for path in files:
            ingest_file(database, "posts", path, load_mapping(MAPPINGS / f"{platform}.yaml"))
        if files:
            yield platform


def outcome_sets(folder: Path, *, sample_seed: int = SEED) -> dict[str, list[LabelledOutcome]]:
    """Labelled outcomes by set: each shared set that is in the folder, then the sample's platforms."""
    with fresh_servers() as settings, Database(settings.database_url()) as database:
        platforms = list(ingest_shared(database, folder))
        shared = _labelled(database)
    with (
        fresh_servers() as settings,
        Database(settings.database_url()) as database,
        tempfile.TemporaryDirectory(prefix="everreach-bench-") as sample,
    ):
        files = write_sample(Path(sample), sample_seed)
        for kind in ("posts", "outcomes"):
            ingest_file(database, kind, files[kind])
        return {name: shared[name] for name in platforms} | {
            f"sample {platform}": found for platform, found in _labelled(database).items()
        }


def _labelled(database: Database) -> dict[str, list[LabelledOutcome]]:
    """What strategies are built from, by platform."""
    classify_new_outcomes(database)
    scrubber = Scrubber()
    with database.connection() as connection:
        return {
            platform: [
                replace(each, text=scrubber.scrub(each.text).text)
                for each in strategies.labelled_outcomes(connection, platform)
            ]
            for platform in sorted(outcomes.label_counts(connection))
        }
