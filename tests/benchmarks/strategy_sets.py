"""Labelled outcomes of the shared sets and of the sample, as a strategy is built from them.

What belongs here: files to outcomes, without a database. What does not: what is measured on them (`strategies.py`).
"""

import datetime as dt
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.mapping_files import load_mapping
from everreach_assets.domain.mappings import RowMapper
from everreach_assets.domain.metrics import normalise_metrics
from everreach_assets.domain.outcomes import Classification, ObservedPost, classify
from everreach_assets.domain.sample import make_sample
from everreach_assets.domain.scrubbing import Scrubber
from resources.row_files import RowFile

MAPPINGS = Path(__file__).parents[2] / "docs" / "mappings"
FOLDERS = {
    "facebook": "facebook_pages_2016",
    "reddit": "reddit_top_2013",
    "x": "twitter_538_2017",
    "youtube": "youtube_trending_20181101",
}
Fields = dict[str, object]


def shared_folder() -> Path:
    """Where the shared sets are expected."""
    return Path(os.environ.get("EVERREACH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def outcome_sets(folder: Path, *, sample_seed: int | None = None) -> dict[str, list[LabelledOutcome]]:
    """Labelled outcomes by set: each shared set that is in the folder, then the sample's platforms."""
    sets = {
        name: labelled_outcomes(name, _shared_rows(folder / each, name))
        for name, each in FOLDERS.items()
        if (folder / each).is_dir()
    }
    sample = list(_sample_rows(*([] if sample_seed is None else [sample_seed])))
    for platform in sorted({str(fields["platform"]) for fields, _ in sample}):
        sets[f"sample {platform}"] = labelled_outcomes(
            platform, ((fields, metrics) for fields, metrics in sample if fields["platform"] == platform)
        )
    return sets


def labelled_outcomes(platform: str, rows: Iterable[tuple[Fields, dict[str, float]]]) -> list[LabelledOutcome]:
    """The posts that could be compared with others; of a post in several rows, the one observed last counts."""
    latest: dict[str, tuple[Fields, dict[str, float]]] = {}
    for fields, metrics in rows:
        known = latest.get(str(fields["post_id"]))
        if known is None or _seconds(known[0]["observed_at"]) <= _seconds(fields["observed_at"]):
            latest[str(fields["post_id"])] = (known[0] | fields if known else fields), metrics
    posts = [
        ObservedPost(
            post_id,
            str(fields.get("account") or ""),
            str(fields.get("post_type") or ""),
            _seconds(fields.get("published_at") or fields["observed_at"]),
            number,
            metrics,
        )
        for number, (post_id, (fields, metrics)) in enumerate(latest.items())
    ]
    scrubber = Scrubber()
    return [
        _outcome(platform, latest[each.post_id][0], each, scrubber)
        for each in classify(posts)
        if each.score is not None
    ]


def _outcome(platform: str, fields: Fields, found: Classification, scrubber: Scrubber) -> LabelledOutcome:
    published_at = fields.get("published_at")
    if found.metric is None or found.value is None or found.score is None:
        raise ValueError(f"{found.post_id} was compared with nothing")
    return LabelledOutcome(
        doc_id=f"{platform}:{found.post_id}",
        account=str(fields.get("account") or ""),
        post_type=str(fields.get("post_type") or ""),
        niche=str(fields.get("niche") or ""),
        text=scrubber.scrub(str(fields.get("text") or "")).text,
        published_at=published_at if isinstance(published_at, dt.datetime) else None,
        label=found.label,
        metric=found.metric,
        value=found.value,
        score=found.score,
        spread=_spread(found),
    )


def _spread(found: Classification) -> float:
    """Of the reference, which a classification does not state yet: from ln(1 + value) = median + score * spread."""
    if not found.score or found.value is None or not found.multiple:
        return 1.0
    return abs(math.log(found.multiple) / found.score) or 1.0


def _shared_rows(folder: Path, name: str) -> Iterator[tuple[Fields, dict[str, float]]]:
    rule = load_mapping(MAPPINGS / f"{name}.yaml")
    for path in sorted(folder.glob("*.csv")):
        mapper = RowMapper("posts", rule)
        with RowFile(path, encoding=rule.encoding, **({"delimiter": rule.delimiter} if rule.delimiter else {})) as file:
            for record in file.records():
                if record.fault is None:
                    mapped = mapper.map(record.row)
                    yield dict(mapped.fields), dict(mapped.metrics)


def _sample_rows(*seed: int) -> Iterator[tuple[Fields, dict[str, float]]]:
    sample = make_sample(*seed)
    posts = {(row["platform"], row["post_id"]): row for row in sample.posts}
    for row in (*sample.posts, *sample.outcomes):
        post = posts[row["platform"], row["post_id"]]
        metrics, _ = normalise_metrics({k: v for k, v in row.items() if isinstance(v, int | float)})
        yield (
            {
                "post_id": post["post_id"],
                "platform": post["platform"],
                "account": post["account"],
                "post_type": post["post_type"],
                "niche": post["niche"],
                "text": post["text"],
                "published_at": dt.datetime.fromisoformat(str(post["published_at"])),
                "observed_at": dt.datetime.fromisoformat(str(row["observed_at"])),
            },
            dict(metrics),
        )


def _seconds(at: object) -> float:
    return at.timestamp() if isinstance(at, dt.datetime) else 0.0
