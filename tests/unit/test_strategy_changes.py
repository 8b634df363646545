"""What a strategy claims otherwise than the one before."""

import math

import pytest

from everreach_assets.domain.strategy_changes import changes_between
from everreach_assets.domain.strategy_model import Change, Claim, Direction, Evidence


def claim(ratio: float = 2.0, evidence: Evidence = "rule", name: str = "a") -> Claim:
    direction: Direction = "try" if evidence == "explore" else "more" if ratio > 1 else "less"
    effect = math.log(ratio)
    return Claim(
        claim_id=f"x-hook-{name}",
        kind="hook",
        trait=name,
        direction=direction,
        evidence=evidence,
        effect=effect,
        interval=(effect - 0.2, effect + 0.2),
        n=30,
        n_effective=28.0,
        exemplars=[],
        counter_exemplars=[],
    )


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (None, claim(), "new"),
        (claim(), None, "gone"),
        (claim(), claim(0.5), "reversed"),
        (claim(evidence="hypothesis"), claim(), "stronger"),
        (claim(), claim(evidence="hypothesis"), "weaker"),
        (claim(2.0), claim(2.6), "stronger"),
        (claim(2.0), claim(1.5), "weaker"),
        (claim(0.5), claim(0.35), "stronger"),
        (claim(evidence="explore"), claim(), "stronger"),
        (claim(), claim(evidence="explore"), "weaker"),
    ],
)
def test_a_change_is_named(before: Claim | None, after: Claim | None, what: str) -> None:
    (change,) = changes_between([before] if before else [], [after] if after else [])
    assert change.what == what


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([claim(2.0)], [claim(2.3)]),  # within the interval that it had
        ([claim(evidence="explore")], []),
        ([], [claim(evidence="explore")]),
        ([claim(evidence="explore")], [claim(9.0, evidence="explore")]),
        ([], []),
    ],
)
def test_what_is_noise_is_no_change(before: list[Claim], after: list[Claim]) -> None:
    assert changes_between(before, after) == []


def test_a_change_shows_both_sides_in_words() -> None:
    assert changes_between([claim(1.83, "hypothesis")], [claim(2.0)]) == [
        Change(
            claim_id="x-hook-a", trait="a", what="stronger", before="hypothesis, 1.83 times", after="rule, 2.00 times"
        )
    ]


def test_changes_are_in_the_order_of_the_newer_claims_and_then_what_is_gone() -> None:
    before, after = [claim(name="gone"), claim(0.5, name="b")], [claim(name="c"), claim(name="b")]
    assert [each.trait for each in changes_between(before, after)] == ["c", "b", "gone"]
