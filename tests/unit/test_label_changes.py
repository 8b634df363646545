"""Only accounts whose labels could be others are judged, and the result is that of judging all."""

import dataclasses
import datetime as dt
import math
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from everreach_assets.domain.label_anchors import new_anchors, quarter_of
from everreach_assets.domain.label_changes import Changes, classify_changed
from everreach_assets.domain.label_rules import PlatformRules
from everreach_assets.domain.outcomes import Classification, ObservedPost, classify

DAY = 86_400.0
RULES = PlatformRules()


def post(number: int, views: float, account: str = "ann", **changes: object) -> ObservedPost:
    plain = ObservedPost(f"{account}-{number:04d}", account, "video", number * DAY, number, {"views": views}, 8 * DAY)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def changes(posts: list[ObservedPost], before: Changes | None = None, key: str = "rules") -> Changes:
    return classify_changed(posts, RULES, key, fingerprints=before.fingerprints if before else {}, frozen={})


THICK = [post(number, 1_000.0 + number % 7, account) for account in ("ann", "bob") for number in range(60)]
THIN = [post(number + 50, 500.0 + number % 5, "eve") for number in range(8)]


def test_nothing_new_is_judged_by_nobody() -> None:
    first = changes([*THICK, *THIN])
    assert (len(first.classifications), first.judged_accounts) == (128, 3)
    again = changes([*THICK, *THIN], first)
    assert (again.classifications, again.judged_accounts, again.fingerprints) == ([], 0, first.fingerprints)


def test_only_the_account_with_something_new_is_judged() -> None:
    second = changes([*THICK, post(70, 9_000.0)], changes(THICK))
    assert second.judged_accounts == 1
    assert {each.post_id.split("-")[0] for each in second.classifications} == {"ann"}


def test_of_another_account_only_the_posts_that_took_something_from_it_are_judged() -> None:
    first = changes([*THICK, *THIN])
    late = [dataclasses.replace(each, metrics={"views": 90_000.0}) if each.account == "bob" else each for each in THICK]
    second = changes([*late, *THIN], first)
    judged = Counter(each.post_id.split("-")[0] for each in second.classifications)
    assert judged == {"bob": 60, "eve": 8, "ann": 30}  # ann's later thirty stand by themselves


def test_other_rules_and_another_account_of_a_post_judge_anew() -> None:
    first = changes(THICK)
    assert changes(THICK, first, key="other").judged_accounts == 2
    moved = [dataclasses.replace(each, account="bob") if each.post_id == "ann-0059" else each for each in THICK]
    assert changes(moved, first).judged_accounts == 2
    renamed = [dataclasses.replace(each, post_id="ann-x") if each.post_id == "ann-0059" else each for each in THICK]
    assert changes(renamed, first).judged_accounts == 1


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from([DAY / 48, DAY, 4 * DAY, 9 * DAY]),
        st.integers(0, 5_000),
    ),
    max_size=120,
)


@given(ARRIVALS, st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_arrivals_in_any_batches_give_the_labels_of_a_full_run(
    arrivals: list[tuple[int, str, float, int]], batches: list[int]
) -> None:
    posts: dict[str, ObservedPost] = {}
    labels: dict[str, Classification] = {}
    state: Changes | None = None
    left = list(enumerate(arrivals, start=1))
    while left:
        size = batches[len(left) % len(batches)]
        for seq, (number, account, age, views) in left[:size]:
            posts[f"{account}-{number:04d}"] = arrived(
                posts.get(f"{account}-{number:04d}"), post(number, views, account, snapshot_seq=seq, age_seconds=age)
            )
        left = left[size:]
        state = changes(list(posts.values()), state)
        labels |= {each.post_id: each for each in state.classifications}
    assert labels == {each.post_id: each for each in classify(posts.values(), RULES)}


def arrived(known: ObservedPost | None, new: ObservedPost) -> ObservedPost:
    """The post with one snapshot more, which may be late."""
    if known is None:
        return new
    snapshots = {age: (0, metrics) for age, metrics in known.earlier}
    snapshots |= {
        known.age_seconds: (known.snapshot_seq, known.metrics),
        new.age_seconds: (new.snapshot_seq, new.metrics),
    }
    *earlier, (age, (seq, metrics)) = sorted(snapshots.items(), key=lambda each: each[0] or 0)
    return dataclasses.replace(
        known, snapshot_seq=seq, metrics=metrics, age_seconds=age, earlier=tuple((a, m) for a, (_, m) in earlier)
    )


# --- anchors ----------------------------------------------------------------------------------------------------


def test_an_anchor_is_the_median_of_the_year_that_ends_ninety_days_before_the_quarter() -> None:
    start = dt.datetime(2026, 4, 1, tzinfo=dt.UTC).timestamp()
    end = start - 90 * DAY
    inside = [("ann", "views", end - 365 * DAY + each * DAY, float(each)) for each in range(10)]
    outside = [("ann", "views", at, 99.0) for at in (end, end + DAY, end - 366 * DAY, start)]
    key = ("ann", "views", dt.date(2026, 4, 1))
    assert new_anchors([*inside, *outside], {})[key] == (4.5, 10)
    assert key not in new_anchors([*inside[1:], *outside], {})
    assert key not in new_anchors([*inside, *outside], {key: 1.0})


def test_a_quarter_begins_in_january_april_july_and_october() -> None:
    moments = [dt.datetime(2026, month, 28, 23, 59, tzinfo=dt.UTC).timestamp() for month in range(1, 13)]
    assert [quarter_of(at).month for at in moments] == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10, 10, 10]


def test_a_slow_decline_keeps_the_shares_of_labels_and_lowers_the_multiple_of_the_anchor() -> None:
    """Two posts a day over four years; each year has half the views of the year before."""
    noise = np.random.default_rng(5).lognormal(0, 1, 2_920)
    posts = [
        post(number, float(10_000 * 2 ** (-number / 730) * noise[number]), at=number * DAY / 2)
        for number in range(2_920)
    ]
    found = {each.post_id: each for each in changes(posts).classifications}
    years = [[found[each.post_id] for each in posts[year * 730 : (year + 1) * 730]] for year in (1, 2, 3)]
    for label in ("viral", "hit", "average", "underperform", "flop"):
        shares = [sum(each.label == label for each in year) / len(year) for year in years]
        assert max(shares) - min(shares) < 0.05, (label, shares)
    last = [each.anchor_multiple for each in years[-1] if each.anchor_multiple is not None]
    # The middle of the anchor's year lies about a year before the quarter, so a post has a little less than half of it.
    assert len(last) == 730
    assert 0.35 < math.exp(np.median(np.log(last))) < 0.55
