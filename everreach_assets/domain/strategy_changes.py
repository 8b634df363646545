"""What another strategy says of the same platform: claims that are new, gone, stronger, weaker or reversed.

What belongs here: the comparison of two strategies. What does not: putting one in force (`resources/strategies.py`).
"""

from collections.abc import Sequence

from everreach_assets.domain.strategy_model import Change, Claim, What

STRENGTH = {"explore": 0, "hypothesis": 1, "rule": 2}


def changes_between(before: Sequence[Claim], after: Sequence[Claim]) -> list[Change]:
    """The changes in the order of the newer claims, then what is gone.

    A claim is stronger or weaker if its evidence is another, or else if its effect left the interval that it had. What
    is only worth exploring comes and goes with a post or two and is left out, unless it was more before or is now.
    """
    old, new = ({claim.claim_id: claim for claim in claims} for claims in (before, after))
    found = []
    for claim_id in dict.fromkeys([*new, *old]):
        earlier, later = old.get(claim_id), new.get(claim_id)
        if what := _what(earlier, later):
            shown = later or earlier
            assert shown is not None  # noqa: S101 - the id is of one of them
            found.append(
                Change(
                    claim_id=claim_id,
                    trait=shown.trait,
                    what=what,
                    before=_words(earlier),
                    after=_words(later),
                )
            )
    return found


def _what(earlier: Claim | None, later: Claim | None) -> What | None:
    if earlier is None or later is None:
        known = earlier or later
        if known is None or known.evidence == "explore":
            return None
        return "new" if earlier is None else "gone"
    if "try" not in {earlier.direction, later.direction} and earlier.direction != later.direction:
        return "reversed"
    grown = STRENGTH[later.evidence] - STRENGTH[earlier.evidence]
    if grown:
        return "stronger" if grown > 0 else "weaker"
    low, high = earlier.interval
    if later.evidence == "explore" or low <= later.effect <= high:
        return None
    return "stronger" if abs(later.effect) > abs(earlier.effect) else "weaker"


def _words(claim: Claim | None) -> str:
    return f"{claim.evidence}, {claim.ratio:.2f} times" if claim else ""
