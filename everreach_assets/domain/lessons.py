"""What strategies teach: a rule that two accepted strategies in a row make is a lesson, until one no longer makes it.

What does not belong here: lessons that people write, and the rows of either (`resources/lessons.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everreach_assets.domain.strategy_model import Claim, Direction, Strategy

LEARNED = "learned:"
"""Ids of these lessons begin so, and no other's do."""


@dataclass(frozen=True)
class LessonChanges:
    """What an accepted strategy does to the lessons of its platform.

    Attributes:
        learned: rules that the strategy before made too, in the same direction, and that are no lesson yet.
        confirmed: claims of the strategy that are lessons already.
        superseded: ids of the claims that were lessons and that it does not make, or makes the other way round.
    """

    learned: Sequence[Claim]
    confirmed: Sequence[Claim]
    superseded: Sequence[str]


def lesson_changes(before: Strategy | None, after: Strategy, in_force: Mapping[str, Direction]) -> LessonChanges:
    """What follows for the lessons where `after` takes the place of `before`.

    A lesson stands for as long as its claim is a rule or a hypothesis in the same direction: a rule that has too few
    recent posts for a while is not refuted.

    Args:
        in_force: the directions of the lessons that nothing has superseded, by the id of their claim.
    """
    rules_before = (
        {(each.claim_id, each.direction) for each in before.claims if each.evidence == "rule"} if before else set()
    )
    made = {each.claim_id: each for each in after.claims if each.evidence in ("rule", "hypothesis")}
    confirmed = [
        made[each] for each, direction in in_force.items() if each in made and made[each].direction == direction
    ]
    standing = {each.claim_id for each in confirmed}
    learned = [
        each
        for each in made.values()
        if each.evidence == "rule" and (each.claim_id, each.direction) in rules_before and each.claim_id not in standing
    ]
    return LessonChanges(learned, confirmed, [each for each in in_force if each not in standing])


def lesson_text(platform: str, claim: Claim) -> str:
    """The lesson as it is read and embedded: without numbers, which change with every strategy and embed as noise."""
    comparison = "better" if claim.effect > 0 else "worse"
    return f"On {platform}, {claim.kind}: {claim.trait}. Such posts do {comparison} than the account's others."
