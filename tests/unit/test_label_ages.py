"""Labels by age, and bad counts: a post is compared with posts of its age, and a wrong count is never a label."""

import pytest

from everreach_assets.domain.label_rules import CHECKPOINT_SECONDS, LabelRules, PlatformRules
from everreach_assets.domain.outcomes import Classification, ObservedPost, classify

HOUR, DAY = 3_600.0, 86_400.0
YOUTUBE = LabelRules().of("youtube")


def observed(
    number: int, *snapshots: tuple[float | None, float], metric: str = "views", account: str = "a"
) -> ObservedPost:
    """The post of that day, with ages and counts of its snapshots, oldest first."""
    *earlier, (age, count) = [(age, {metric: count}) for age, count in snapshots]
    return ObservedPost(f"p{number:03d}", account, "video", number * DAY, number, count, age, earlier=tuple(earlier))


def last(posts: list[ObservedPost], rules: PlatformRules | None = None) -> Classification:
    return classify(posts, rules)[-1]


GROWING = [observed(number, (DAY, 100.0 + number), (8 * DAY, 1_000.0 + number)) for number in range(10)]
"""Posts that have a hundred views after a day and a thousand after a week."""


@pytest.mark.parametrize(
    ("age", "checkpoint"),
    [
        (HOUR - 1, None), (HOUR, "1h"), (6 * HOUR - 1, "1h"), (6 * HOUR, "6h"), (DAY, "24h"), (3 * DAY - 1, "24h"),
        (3 * DAY, "72h"), (7 * DAY, "7d"), (29 * DAY, "7d"), (30 * DAY, "30d"), (900 * DAY, "30d"), (None, "30d"),
    ],
)  # fmt: skip
def test_a_snapshot_belongs_to_the_largest_checkpoint_that_it_has_reached(
    age: float | None, checkpoint: str | None
) -> None:
    assert last([observed(1, (age, 5.0))], YOUTUBE).checkpoint == checkpoint


def test_a_label_is_final_at_seven_days_and_for_long_video_at_thirty() -> None:
    assert [last([observed(1, (days * DAY, 5.0))]).is_final for days in (6, 7, 30)] == [False, True, True]
    assert [last([observed(1, (days * DAY, 5.0))], YOUTUBE).is_final for days in (7, 29, 30)] == [False, False, True]


def test_a_day_old_post_is_compared_with_what_others_had_after_a_day() -> None:
    young = last([*GROWING, observed(20, (DAY, 105.0))])
    assert (young.label, young.checkpoint, young.same_age, young.is_final) == ("average", "24h", True, False)
    assert last([*GROWING, observed(20, (8 * DAY, 105.0))]).label == "flop"
    assert last([*GROWING, observed(20, (DAY, 1_005.0))]).label == "viral"


def test_the_best_of_older_posts_is_no_standard_for_a_young_one_but_beating_them_counts() -> None:
    settled = [observed(number, (8 * DAY, 1_000.0 + number)) for number in range(10)]
    low = last([*settled, observed(20, (DAY, 105.0))])
    assert (low.label, low.score, low.reason) == ("insufficient_data", None, "no posts to compare with at its age, 24h")
    high = last([*settled, observed(20, (DAY, 9_000.0))])
    assert (high.label, high.same_age) == ("viral", False)
    assert " at 24h and later " in high.reason


def test_younger_posts_are_no_standard_for_an_old_one() -> None:
    young = [observed(number, (DAY, 100.0)) for number in range(30)]
    assert last([*young, observed(40, (8 * DAY, 5_000.0))]).label == "insufficient_data"


@pytest.mark.parametrize(
    ("age", "reason"), [(HOUR - 1, "observed within an hour: too young"), (-1.0, "observed before it was published")]
)
def test_a_post_without_an_age_to_judge_says_so_and_is_no_reference(age: float, reason: str) -> None:
    found = last([*GROWING, observed(20, (age, 5_000.0))])
    assert (found.label, found.reason) == ("insufficient_data", reason)
    wrong = [observed(number, (age, 5_000.0)) for number in range(10)]
    assert last([*wrong, observed(20, (8 * DAY, 5.0))]).label == "insufficient_data"


# --- wrong counts -----------------------------------------------------------------------------------------------


def test_a_total_that_shrinks_is_unknown_until_a_later_one_is_plausible() -> None:
    shrunk = observed(20, (7 * DAY, 9_000.0), (8 * DAY, 90.0))
    found = last([*GROWING, shrunk])
    assert (found.label, found.value) == ("insufficient_data", None)
    assert found.reason.startswith("views fell since an earlier observation, so one of the two is wrong: record")
    grown = observed(20, (7 * DAY, 9_000.0), (8 * DAY, 90.0), (9 * DAY, 9_100.0))
    assert (last([*GROWING, grown]).label, last([*GROWING, grown]).value) == ("viral", 9_100.0)


def test_a_small_correction_is_taken_as_it_is() -> None:
    assert last([*GROWING, observed(20, (7 * DAY, 1_000.0), (8 * DAY, 900.0))]).value == 900.0
    assert last([*GROWING, observed(20, (7 * DAY, 1_000.0), (8 * DAY, 899.0))]).value is None
    few = [observed(number, (8 * DAY, 12.0), metric="likes") for number in range(10)]
    assert last([*few, observed(20, (7 * DAY, 12.0), (8 * DAY, 2.0), metric="likes")]).value == 2.0


def test_votes_may_fall() -> None:
    votes = [observed(number, (8 * DAY, 500.0), metric="score") for number in range(10)]
    assert last([*votes, observed(20, (DAY, 900.0), (8 * DAY, 500.0), metric="score")]).label == "average"


def test_a_shrunk_count_is_no_reference_for_others() -> None:
    shrunk = [observed(number, (7 * DAY, 9_000.0), (8 * DAY, 9.0)) for number in range(10)]
    assert last([*shrunk, observed(20, (8 * DAY, 5_000.0))]).label == "insufficient_data"


def test_a_zero_that_means_disabled_is_unknown() -> None:
    hidden = observed(1, (40 * DAY, 0.0), metric="likes")
    assert last([hidden], YOUTUBE).reason == "no usable metric is known"
    assert last([hidden]).value == 0.0


def test_every_checkpoint_is_later_than_the_one_before() -> None:
    assert list(CHECKPOINT_SECONDS.values()) == sorted(set(CHECKPOINT_SECONDS.values()))
