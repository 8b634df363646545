"""The synthetic sample: its size, its patterns, and that it never changes by itself."""

import csv
import hashlib
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mappings import RowMapper
from everreach_assets.domain.sample import (
    ACCOUNTS,
    METRIC_RATES,
    NOISE_HASHTAG,
    PATTERNS,
    Row,
    Sample,
    make_sample,
    write_sample,
)

FIRST_WORDS = {"how_to": "How to ", "story": "True story: "}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample()


def test_it_has_the_size_that_the_first_run_promises(sample: Sample) -> None:
    assert len(sample.posts) >= 600
    assert {post["platform"] for post in sample.posts} == {"x", "instagram", "linkedin", "tiktok", "youtube"}
    assert len({(post["platform"], post["account"]) for post in sample.posts}) == 12
    assert len({(post["platform"], post["post_id"]) for post in sample.posts}) == len(sample.posts)
    assert (len(sample.prospects), len(sample.lessons)) == (60, 20)


def test_accounts_differ_a_hundredfold() -> None:
    scales = [account.scale for account in ACCOUNTS]
    assert max(scales) / min(scales) == 100


def test_texts_are_short_and_hardly_ever_repeat(sample: Sample) -> None:
    texts = [str(post["text"]) for post in sample.posts]
    assert len(set(texts)) > 0.97 * len(texts)
    assert all(30 < len(text) < 300 for text in texts)
    assert not any("{" in text for text in texts)


def style_of(text: str) -> str:
    for style, start in FIRST_WORDS.items():
        if text.startswith(start):
            return style
    if re.match(r"\d ", text):
        return "count"
    return "question" if "?" in text else "other"


def residuals(sample: Sample, platform: str) -> list[tuple[Row, float]]:
    """Each post of a platform with the log of its audience over its account's median."""
    audience = next(iter(METRIC_RATES[platform]))
    posts = [post for post in sample.posts if post["platform"] == platform]
    medians = {
        account: np.median([float(str(post[audience])) for post in posts if post["account"] == account])
        for account in {post["account"] for post in posts}
    }
    return [(post, float(np.log(float(str(post[audience])) / medians[post["account"]]))) for post in posts]


@pytest.mark.parametrize("platform", sorted(PATTERNS))
def test_each_platform_hides_a_pattern_that_can_be_found(sample: Sample, platform: str) -> None:
    pattern = PATTERNS[platform]
    inside: list[float] = []
    outside: list[float] = []
    for post, value in residuals(sample, platform):
        published_at = datetime.fromisoformat(str(post["published_at"]))
        is_in = pattern.matches(style_of(str(post["text"])), str(post["post_type"]), published_at)
        (inside if is_in else outside).append(value)
    assert len(inside) >= 15
    factor = np.exp(np.mean(inside) - np.mean(outside))
    assert 0.7 * pattern.factor < factor < 1.4 * pattern.factor


def test_the_hashtag_does_nothing(sample: Sample) -> None:
    values = [(NOISE_HASHTAG in str(post["text"]), value) for p in PATTERNS for post, value in residuals(sample, p)]
    tagged = [value for has_tag, value in values if has_tag]
    untagged = [value for has_tag, value in values if not has_tag]
    assert len(tagged) > 100
    assert abs(np.mean(tagged) - np.mean(untagged)) < 0.15


def test_counts_never_fall_from_one_observation_to_the_next(sample: Sample) -> None:
    posts = {(post["platform"], post["post_id"]): post for post in sample.posts}
    assert 1 < (len(sample.posts) + len(sample.outcomes)) / len(sample.posts) < 3
    for outcome in sample.outcomes:
        first = posts[outcome["platform"], outcome["post_id"]]
        assert str(outcome["observed_at"]) > str(first["observed_at"])
        for name in METRIC_RATES[str(outcome["platform"])]:
            assert int(str(outcome[name])) >= int(str(first[name]))


def test_no_person_in_it_can_be_real(sample: Sample) -> None:
    for prospect in sample.prospects:
        assert str(prospect["email"]).endswith("@example.com")
        assert re.fullmatch(r"\+1 415 555 01\d\d", str(prospect["phone"]))


def test_the_files_are_the_same_bytes_each_time_and_need_no_mapping(tmp_path: Path) -> None:
    first, second = write_sample(tmp_path / "a"), write_sample(tmp_path / "b")
    for kind, path in first.items():
        digests = {hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, second[kind])}
        assert len(digests) == 1
    with first["posts"].open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [RowMapper("posts", None).map(row) for row in reader]
    assert all(row.metrics and row.attributes == {"synthetic": "yes"} for row in rows)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_text("mine")
    with pytest.raises(InvalidInput, match=r"posts\.csv already"):
        write_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["posts.csv"]
    assert (tmp_path / "posts.csv").read_text() == "mine"
    with pytest.raises(InvalidInput, match="name a folder that can be written"):
        write_sample(tmp_path / "posts.csv" / "folder")


def test_another_seed_gives_another_sample_with_the_same_people_rules() -> None:
    assert make_sample(1).posts != make_sample(2).posts
