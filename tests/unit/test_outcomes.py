"""Labels of posts: formulas by hand, thresholds on both sides, and that only earlier posts count."""

import dataclasses
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everreach_assets.domain.label_rules import PlatformRules
from everreach_assets.domain.outcomes import Classification, ObservedPost, classify

DAY = 86_400.0


def post(number: int, views: float | None = None, **changes: object) -> ObservedPost:
    """The post of that day."""
    plain = ObservedPost(
        f"p{number:05d}", "ann", "video", number * DAY, number, {} if views is None else {"views": views}
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def history(*views: float) -> list[ObservedPost]:
    return [post(number, each) for number, each in enumerate(views)]


def last(posts: list[ObservedPost]) -> Classification:
    """The classification of the post published last."""
    return classify(posts)[-1]


def judged(earlier: list[float], value: float, metric: str = "views") -> Classification:
    posts = [post(number, metrics={metric: each}) for number, each in enumerate([*earlier, value])]
    return last(posts)


# --- formulas by hand -------------------------------------------------------------------------------------------


def test_score_and_multiple_are_as_worked_out_by_hand() -> None:
    """1 + views: 100 five times and 1000 five times. The median of the logs is ln sqrt(100 * 1000), typical 315.2278.

    Each log lies ln(sqrt 10) = 1.151293 from it: spread 1.4826 * 1.151293 = 1.706907. For 3,000 views:
    z = (ln 3001 - ln 316.2278) / 1.706907 = 1.318314; multiple = 3000 / 315.2278 = 9.516928.
    """
    result = judged([99.0] * 5 + [999.0] * 5, 3_000.0)
    assert result.score == pytest.approx(1.318314, abs=2e-6)
    assert result.multiple == pytest.approx(9.516928, abs=2e-6)
    assert (result.label, result.metric, result.value, result.reference_posts) == ("hit", "views", 3_000.0, 10)
    assert result.spread == pytest.approx(1.706907, abs=2e-6)
    assert result.reason == "9.52 times the typical views of 10 earlier video posts of the account at 7d (z +1.32)"


@pytest.mark.parametrize(
    ("earlier", "value", "label"),
    [
        # A steady history: the spread is its floor, 0.25, and the multiples decide.
        (1_000, 3_000, "viral"),
        (1_000, 2_999, "hit"),
        (1_000, 1_500, "hit"),
        (1_000, 1_499, "average"),
        (1_000, 1_000, "average"),
        (100, 85, "average"),  # ln(86 / 101) / 0.25 = -0.643
        (100, 84, "underperform"),  # ln(85 / 101) / 0.25 = -0.690
        (100, 51, "underperform"),
        (100, 50, "flop"),
        (100, 0, "flop"),
        # A tiny account's best day: three times the median is not enough below the floor.
        (300, 999, "hit"),
        (300, 1_000, "viral"),
    ],
)
def test_the_multiples_decide_on_a_steady_account(earlier: float, value: float, label: str) -> None:
    assert judged([earlier] * 10, value).label == label


UNSTEADY = [99.0] * 5 + [9_999.0] * 5
MEDIAN, SPREAD = math.log(1_000), 1.4826 * math.log(10)


@pytest.mark.parametrize(
    ("score", "inside", "outside"),
    [
        (2.0, "viral", "hit"),
        (1.0, "hit", "average"),
        (-0.67, "underperform", "average"),
        (-1.28, "flop", "underperform"),
    ],
)
def test_the_scores_decide_on_an_unsteady_account(score: float, inside: str, outside: str) -> None:
    bound = math.expm1(MEDIAN + score * SPREAD)
    towards_the_median = -1 if score > 0 else 1
    assert judged(UNSTEADY, bound - towards_the_median * bound * 1e-4).label == inside
    assert judged(UNSTEADY, bound + towards_the_median * bound * 1e-4).label == outside


@pytest.mark.parametrize(
    ("typical", "times"), [(typical, times) for typical in (7, 100, 333, 12_345) for times in (3.0, 1.5, 0.5)]
)
def test_a_multiple_that_is_reached_exactly_counts(typical: int, times: float) -> None:
    """The logarithm and back again must not cost the last digit."""
    exact, label = typical * times, {3.0: {"viral", "hit"}, 1.5: {"hit"}, 0.5: {"flop"}}[times]
    result = judged([float(typical)] * 10, exact)
    assert result.multiple == times
    assert result.label in label


def test_the_percentile_counts_half_of_the_ties() -> None:
    """Of ten posts four are below and four are equal: (4 + 4 / 2) / 10."""
    assert judged([10.0] * 4 + [20.0] * 4 + [30.0] * 2, 20.0).percentile == 0.6
    assert judged([10.0] * 10, 10.0).percentile == 0.5
    assert (judged([10.0] * 10, 9.0).percentile, judged([10.0] * 10, 11.0).percentile) == (0.0, 1.0)


def test_the_floor_of_interactions_is_their_own() -> None:
    assert judged([10.0] * 10, 49.0, "likes").label == "hit"
    assert judged([10.0] * 10, 50.0, "likes").label == "viral"


def test_nothing_is_no_flop_where_the_typical_post_has_nothing() -> None:
    assert judged([0.0] * 10, 0.0).label == "average"
    assert judged([0.0] * 8 + [500.0] * 2, 0.0).label == "average"
    assert judged([0.0] * 10, 5_000.0).label == "viral"
    assert judged([0.0] * 10, 5_000.0).multiple == 5_000.0  # of one view: there is no median to divide by


# --- what a post is judged by -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"views": 10, "likes": 3}, ("views", 10.0)),
        ({"plays": 1, "reach": 2, "impressions": 3}, ("impressions", 3.0)),
        ({"views": 0, "likes": 0}, ("views", 0.0)),
        ({"views": 0, "likes": 99}, ("interactions", 99.0)),  # nobody likes what nobody saw: the 0 is no count
        ({"likes": 5, "comments": 4, "shares": 3, "saves": 2, "clicks": 1}, ("interactions", 5 + 8 + 9 + 6 + 1.0)),
        ({"reactions": 7, "likes": 5, "comments": 1}, ("interactions", 9.0)),
        ({"score": 12, "comments": 2}, ("interactions", 16.0)),
        ({"followers": 1_000}, None),
        ({"dislikes": 5, "angries": 2}, None),
        ({}, None),
    ],
)
def test_reach_comes_before_interactions(metrics: dict[str, float], expected: tuple[str, float] | None) -> None:
    found = PlatformRules().primary(metrics)
    assert (found and found[:2]) == expected


def test_a_post_without_a_usable_metric_says_so_and_is_no_reference() -> None:
    posts = [*history(*[100.0] * 4), post(9, metrics={"followers": 5}), post(10, 100.0)]
    *_, unknown, after = classify(posts)
    assert (unknown.label, unknown.metric, unknown.reason) == ("insufficient_data", None, "no usable metric is known")
    assert after.label == "insufficient_data"


def test_views_are_never_compared_with_interactions() -> None:
    posts = [post(number, metrics={"likes": 5}) for number in range(30)] + [post(30, 10_000.0)]
    assert last(posts).label == "insufficient_data"


# --- which posts are the reference ------------------------------------------------------------------------------


def test_four_earlier_posts_of_an_account_are_too_few_and_five_are_enough() -> None:
    assert judged([100.0] * 4, 100.0).label == "insufficient_data"
    assert judged([100.0] * 4, 100.0).reason == "fewer than 5 earlier posts of the account and 20 of the platform"
    assert judged([100.0] * 5, 100.0).label == "average"


def test_nineteen_posts_of_other_accounts_are_too_few_and_twenty_are_enough() -> None:
    others = [post(number, 100.0, account=f"bob{number}") for number in range(20)]
    assert last([*others[:19], post(90, 100.0, account="eve")]).label == "insufficient_data"
    found = last([*others, post(90, 100.0, account="eve")])
    assert (found.label, found.level, found.reference_posts) == ("average", "platform", 20)


def test_a_type_with_thirty_posts_is_compared_with_itself_alone() -> None:
    images = [post(number, 10.0, post_type="image") for number in range(30)]
    videos = [post(30 + number, 1_000.0) for number in range(30)]
    others = [post(60 + number, 50_000.0, account="bob") for number in range(30)]
    found = last([*images, *videos, *others, post(95, 1_000.0)])
    assert (found.level, found.multiple, found.spread) == ("type", 1.0, 0.25)
    assert found.reason.startswith("1.00 times the typical views of 30 earlier video posts of the account at 7d (z")


def test_a_few_posts_of_a_type_are_pooled_with_the_account_by_hand() -> None:
    """Ten videos of 1,000 beside thirty images of 10: (10 ln 1001 + 10 ln 11) / 20 is the centre, the median of 40
    being ln 11, and the spread its floor."""
    images = [post(number, 10.0, post_type="image") for number in range(30)]
    videos = [post(30 + number, 1_000.0) for number in range(10)]
    found = last([*images, *videos, post(90, 1_000.0)])
    centre = (math.log(1_001) + math.log(11)) / 2
    assert found.multiple == pytest.approx(1_000 / math.expm1(centre), abs=1e-5)
    assert (found.level, found.reference_posts) == ("type", 10)


def test_a_newcomer_is_compared_with_its_niche_pooled_with_the_platform_by_hand() -> None:
    """Twenty posts of 100 in its niche beside forty of 10,000: (20 ln 101 + 10 ln 10,001) / 30 is the centre."""
    others = [post(number, 100.0, account=f"bob{number}", niche="cooking") for number in range(20)]
    others += [post(20 + number, 10_000.0, account=f"eve{number}") for number in range(40)]
    found = last([*others, post(90, 100.0, account="new", niche="cooking")])
    centre = (20 * math.log(101) + 10 * math.log(10_001)) / 30
    assert found.multiple == pytest.approx(100 / math.expm1(centre), abs=1e-6)
    assert (found.level, found.reference_posts) == ("niche", 20)
    elsewhere = last([*others, post(90, 100.0, account="new", niche="knitting")])
    assert (elsewhere.level, elsewhere.reference_posts, elsewhere.multiple) == ("platform", 60, 0.01)


@pytest.mark.parametrize("size", [0.01, 100.0, 10_000.0])
def test_a_thin_account_of_any_size_is_judged_by_its_own_level(size: float) -> None:
    """Its ordinary posts are no hits because it is large, and no flops because it is small."""
    random = np.random.default_rng(7)
    posts = [
        post(
            number,
            float(1_000 * scale * random.lognormal(0, 0.5)),
            account=f"a{account}",
            post_id=f"{account}-{number}",
        )
        for account, scale in enumerate(random.lognormal(0, 1.5, 12))
        for number in range(20)
    ]
    newcomer = [post(30 + number, 1_000 * size * random.lognormal(0, 0.5), account="new") for number in range(25)]
    labels = [each.label for each in classify([*posts, *newcomer])[-20:]]
    assert labels.count("viral") + labels.count("flop") <= 4
    assert labels.count("average") >= 8


def test_thirty_posts_of_its_own_make_an_account_independent_of_all_others() -> None:
    own = history(*[100.0, 120.0, 80.0, 400.0] * 15)
    others = [post(number, 10.0**6, account="bob", post_id=f"b{number}") for number in range(60)]
    alone, among = classify(own), [each for each in classify([*own, *others]) if each.post_id.startswith("p")]
    assert alone[30:] == among[30:]
    assert alone != among


def test_only_posts_of_the_last_180_days_count() -> None:
    posts = [*history(*[100.0] * 5)]
    assert last([*posts, post(180, 100.0)]).reference_posts == 5  # day 0 is 180 days ago to the second
    assert last([*posts, post(180, 100.0, at=180 * DAY + 1)]).label == "insufficient_data"


def test_only_the_last_hundred_posts_count() -> None:
    posts = [post(number, 10.0, at=float(number)) for number in range(50)]
    posts += [post(number, 1_000.0, at=float(number)) for number in range(50, 150)]
    result = last([*posts, post(150, 1_000.0, at=150.0)])
    assert (result.reference_posts, result.multiple) == (100, 1.0)


POSTS = st.lists(
    st.builds(
        lambda account, kind, day, views, likes: (account, kind, day, views, likes),
        st.sampled_from(["ann", "bob", ""]),
        st.sampled_from(["video", "image"]),
        st.integers(0, 400),
        st.one_of(st.none(), st.integers(0, 10**6)),
        st.integers(0, 1_000),
    ),
    max_size=80,
).map(
    lambda rows: [
        ObservedPost(
            f"p{number}",
            account,
            kind,
            day * DAY,
            number,
            {"likes": likes} | ({} if views is None else {"views": views}),
        )
        for number, (account, kind, day, views, likes) in enumerate(rows)
    ]
)


@given(POSTS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_posts_does_not_matter(posts: list[ObservedPost], random: Random) -> None:
    shuffled = list(posts)
    random.shuffle(shuffled)
    assert classify(shuffled) == classify(posts)


@given(POSTS, POSTS)
@settings(max_examples=60, deadline=None)
def test_later_posts_change_no_label(posts: list[ObservedPost], later: list[ObservedPost]) -> None:
    later = [dataclasses.replace(each, post_id=f"later-{each.post_id}", at=each.at + 401 * DAY) for each in later]
    assert classify([*posts, *later])[: len(posts)] == classify(posts)


@given(POSTS)
@settings(max_examples=60, deadline=None)
def test_every_post_has_one_label_and_finite_numbers(posts: list[ObservedPost]) -> None:
    labels = classify(posts)
    assert sorted(each.post_id for each in labels) == sorted(each.post_id for each in posts)
    for each in labels:
        assert (each.score is None) == (each.multiple is None) == (each.label == "insufficient_data")
        assert each.score is None or math.isfinite(each.score)


def test_no_posts_have_no_labels() -> None:
    assert classify([]) == []
