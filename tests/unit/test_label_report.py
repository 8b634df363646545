"""The report on labels: shares and spreads by hand, and that stability says something."""

import numpy as np
import pytest

from everreach_assets.domain.label_report import FIXED_RULE, MULTIPLE_RULE, OURS, is_viral, report, without_a_fifth
from everreach_assets.domain.label_rules import PlatformRules
from everreach_assets.domain.outcomes import ObservedPost, classify

DAY = 86_400.0
RULES = PlatformRules()


def accounts(*sigmas: float, posts: int = 200) -> list[ObservedPost]:
    """Accounts whose views have these standard deviations in log space; each has tenfold those of the one before."""
    random = np.random.default_rng(11)
    return [
        ObservedPost(f"{account}-{number}", f"a{account}", "video", number * DAY, number, {"views": views}, 8 * DAY)
        for account, sigma in enumerate(sigmas)
        for number, views in enumerate(1_000 * 10.0**account * random.lognormal(0, sigma, posts))
    ]


def test_viral_means_the_same_for_accounts_of_any_size_and_spread_and_the_common_rules_do_not() -> None:
    found = report(accounts(0.6, 1.0, 1.5), RULES)
    assert (found.posts, found.accounts) == (600, 3)
    width = {name: shares.p95 - shares.p5 for name, shares in found.rules.items()}
    assert width[OURS] < 0.06 < width[MULTIPLE_RULE] < width[FIXED_RULE]
    assert sum(shares.overall for label, shares in found.shares.items() if label != "insufficient_data") == 1
    assert found.shares["insufficient_data"].overall == (found.posts - found.compared) / found.posts
    assert found.rules[OURS] == found.shares["viral"]


@pytest.mark.parametrize(
    ("rule", "metric", "bound"),
    [(FIXED_RULE, "views", 100_000.0), (FIXED_RULE, "likes", 5_000.0), (MULTIPLE_RULE, "views", 300.0)],
)
def test_the_common_rules_call_a_post_viral_from_their_bound_on(rule: str, metric: str, bound: float) -> None:
    for value, expected in ((bound, True), (bound - 1, False)):
        counts = [100.0] * 10 + [value]
        posts = [
            ObservedPost(f"p{number:02d}", "ann", "video", number * DAY, number, {metric: count})
            for number, count in enumerate(counts)
        ]
        assert is_viral(rule, classify(posts)[-1]) is expected


def test_the_spread_is_from_the_fifth_to_the_ninety_fifth_percentile_of_the_accounts() -> None:
    """Of 20 compared posts each of 21 accounts has one more above the threshold than the one before: 0 to 20."""
    posts = [
        ObservedPost(
            f"{account}-{number}",
            f"a{account}",
            "video",
            (400 * account + number) * DAY,
            number,
            {"views": 100_000.0 if number >= 25 - account else 1_000.0},
        )
        for account in range(21)
        for number in range(25)
    ]
    found = report(posts, RULES)
    assert (found.accounts, found.compared) == (21, 420)
    shares = found.rules[FIXED_RULE]
    assert [shares.overall, shares.p5, shares.p95] == pytest.approx([0.5, 0.05, 0.95])


def test_most_labels_stay_without_a_fifth_of_the_snapshots_and_not_all() -> None:
    found = report(accounts(1.0, 1.0), RULES)
    assert 0.8 < found.same_label < 1.0
    assert found.same_viral[FIXED_RULE] == 1.0
    assert found.same_viral[OURS] > 0.95


def test_a_fifth_of_the_snapshots_is_dropped_the_same_ones_each_time() -> None:
    posts = accounts(1.0, posts=1_000)
    kept = without_a_fifth(posts, 1)
    assert 740 < len(kept) < 860
    assert kept == without_a_fifth(posts[::-1], 1) != without_a_fifth(posts, 2)


def test_a_platform_without_posts_has_a_report_of_zeros() -> None:
    found = report([], RULES)
    assert (found.posts, found.compared, found.same_label, found.shares["viral"].overall) == (0, 0, 0.0, 0.0)
