"""Short texts for the benchmark of embedding: real posts where the shared data sets are, else the project's sample."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mapping_files import load_mapping
from everreach_assets.domain.mappings import RowMapper
from everreach_assets.domain.sample import make_sample
from resources.row_files import RowFile
from resources.settings import PROJECT_FOLDER
from tests.benchmarks.vectors import banking77_train

LONGEST_CHARACTERS = 500
SETS = {
    "twitter_538_2017": "x",
    "facebook_pages_2016": "facebook",
    "reddit_top_2013": "reddit",
    "youtube_trending_20181101": "youtube",
}
"""Folders of the shared data, and the mapping of each."""


@dataclass(frozen=True)
class TextSet:
    """Distinct texts.

    Attributes:
        origin: what they are, in words.
        changed: other texts, one for each hundredth of the first ones.
    """

    origin: str
    texts: list[str]
    changed: list[str]


def text_set(rows: int) -> TextSet:
    """So many texts: of real posts as long as there are any, then of the sample."""
    data = banking77_train().parents[1]
    real = dict.fromkeys(text for text in _real_posts(data) if text.strip() and len(text) <= LONGEST_CHARACTERS)
    changed = -(-rows // 100)
    texts = list(islice(dict.fromkeys(islice(_all(real), 3 * (rows + changed))), rows + changed))
    of_posts = min(len(real), rows)
    origin = f"{of_posts:,} distinct texts of real posts of at most {LONGEST_CHARACTERS} characters"
    return TextSet(f"{origin}, {rows - of_posts:,} of the project's sample", texts[:rows], texts[rows:])


def _all(real: dict[str, None]) -> Iterator[str]:
    return chain(real, (str(post["text"]) for seed in count() for post in make_sample(seed).posts))


def _real_posts(data: Path) -> Iterator[str]:
    for folder, mapping in SETS.items():
        rule = load_mapping(PROJECT_FOLDER / "docs" / "mappings" / f"{mapping}.yaml")
        mapper = RowMapper("posts", rule)
        for path in sorted((data / folder).glob("*.csv")):
            with RowFile(path, encoding=rule.encoding, delimiter=rule.delimiter) as file:
                for record in file.records():
                    try:
                        if record.fault is None:
                            yield str(mapper.map(record.row).fields["text"])
                    except InvalidInput:
                        continue
