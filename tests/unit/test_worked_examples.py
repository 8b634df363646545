"""The worked examples of the documentation, computed anew."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from everreach_assets.domain.claims import MINIMUM_EFFECTIVE
from everreach_assets.domain.comparisons import side
from everreach_assets.domain.label_references import MAD_TO_SIGMA, SMALLEST_SPREAD, deviation, median
from everreach_assets.domain.outcomes import Classification, ObservedPost, classify

DOCS = Path(__file__).parents[2] / "docs"
LABELS = (DOCS / "outcomes.md").read_text(encoding="utf-8")
STRATEGIES = (DOCS / "strategies.md").read_text(encoding="utf-8")

DAY = 86_400.0
TEN_VIDEOS = (900.0, 1_100.0, 1_000.0, 1_300.0, 800.0, 1_200.0, 950.0, 1_050.0, 700.0, 1_400.0)
LOGS = sorted(math.log1p(views) for views in TEN_VIDEOS)


def video(number: int, views: float, post_type: str = "video") -> ObservedPost:
    return ObservedPost(f"p{number:02d}", "ann", post_type, number * DAY, number, {"views": views}, 7 * DAY)


def eleventh(views: float) -> Classification:
    return classify(video(number, each) for number, each in enumerate((*TEN_VIDEOS, views)))[-1]


def row(views: int) -> list[str]:
    """The cells of the young account's table in which the eleventh video has so many views."""
    found = re.search(rf"^\| {views:,} \| (.*) \|$", LABELS, re.MULTILINE)
    assert found is not None
    return found[1].split(" | ")


@pytest.mark.parametrize("views", [5_000, 1_800, 800, 350])
def test_the_eleventh_video_of_a_young_account_is_labelled_as_its_row_says(views: int) -> None:
    score, multiple, label = row(views)
    found = eleventh(views)
    assert score.split(" = ")[-1] == f"{found.score:+.2f}".replace("-", "−")  # noqa: RUF001 - as it is typeset
    assert multiple.split(" = ")[-1] == f"{found.multiple:.2f}"
    assert label.split(" (")[0] == f"`{found.label}`"


@pytest.mark.parametrize(
    "sentence",
    [
        f"with {', '.join(f'{views:,.0f}' for views in TEN_VIDEOS[:-1])} and {TEN_VIDEOS[-1]:,.0f} views at 7 days",
        f"The median of y is {median(LOGS):.4f}, so the typical video has {math.expm1(median(LOGS)):,.0f} views.",
        f"The MAD is {deviation(LOGS):.4f};",
        f"1.4826 × {deviation(LOGS):.4f} = {MAD_TO_SIGMA * deviation(LOGS):.3f} is below {SMALLEST_SPREAD},",  # noqa: RUF001
        f"so the spread is {eleventh(5_000).spread}.",
        f"({math.log1p(5_000):.4f} − {median(LOGS):.4f}) / {eleventh(5_000).spread} = ",  # noqa: RUF001
        f"`{eleventh(5_000).reason}`",
    ],
)
def test_a_young_account_is_worked_out_as_the_code_does(sentence: str) -> None:
    assert sentence in " ".join(LABELS.split())


def test_a_few_posts_of_a_type_are_compared_with_as_many_views_as_stated() -> None:
    images = [video(number, 10.0, "image") for number in range(30)]
    videos = [video(30 + number, 1_000.0) for number in range(11)]
    found = classify([*images, *videos])[-1]
    stated = re.search(r"compared with \(10 ln 1,001 \+ 10 ln 11\) / 20, that is with (\d+) views", LABELS)
    assert stated is not None
    assert round((found.value or 0) / (found.multiple or 1)) == int(stated[1])


@pytest.mark.parametrize(("age_days", "label"), [(1, "average"), (7, "flop")])
def test_a_post_of_105_views_is_judged_by_its_age_as_stated(age_days: int, label: str) -> None:
    a_day, a_week = {"views": 100.0}, {"views": 1_000.0}
    history = [
        ObservedPost(f"p{number}", "ann", "video", number * DAY, number, a_week, 7 * DAY, earlier=((DAY, a_day),))
        for number in range(10)
    ]
    latest = ObservedPost("p10", "ann", "video", 20 * DAY, 10, {"views": 105.0}, age_days * DAY)
    found = classify([*history, latest])[-1]
    assert (found.label, found.same_age) == (label, True)
    assert "One with 105 views is `average` at 24 h, and a `flop` if it still has 105 after a week." in LABELS


def test_four_posts_with_a_hook_are_as_many_and_weigh_as_much_as_stated() -> None:
    found = side(np.array([1.0, 0.8, 0.9, 0.9]), np.array([1.0, 1.0, 0.5, 0.5]), np.array([0, 1, 2, 2]))
    page = " ".join(STRATEGIES.split())
    assert f"/ 2.5 = {found.mean:.1f}, n = {found.n}, n_eff = 2.5^2 / 2.25 = {found.n_effective:.2f}." in page
    effect = found.mean - 0.2
    assert f"the effect is {effect:.1f}: e^{effect:.1f} = {math.exp(effect):.1f} times." in page
    assert found.n_effective < MINIMUM_EFFECTIVE == 8
    assert "Under eight effective posts it is `explore`." in page
