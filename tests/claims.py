"""Claims and strategies as tests need them, with no more said than a test is about.

What does not belong here: strategies that are built of outcomes.
"""

import math
from typing import Any

from everreach_assets.domain.strategy_model import Claim, Inputs, Strategy, Verdict
from everreach_assets.strategy_builder import keep_strategy
from resources import strategies as strategy_rows
from resources.database import Database
from resources.strategies import StoredStrategy

INPUTS = Inputs(snapshot_watermark=1, outcomes=100, matured=90, labels={}, builder_version="2", classifier_version="2")


def claim(claim_id: str = "a", *, ratio: float = 1.83, evidence: str = "rule", **changed: Any) -> Claim:
    """A claim whose interval is a third about its effect."""
    effect = math.log(ratio)
    return Claim.model_validate(
        {
            "claim_id": claim_id,
            "kind": "hook",
            "trait": "opens with a number",
            "direction": "more" if ratio > 1 else "less",
            "evidence": evidence,
            "effect": effect,
            "interval": (effect - 0.37, effect + 0.37),
            "n": 1032,
            "n_effective": 800.0,
            "exemplars": ["x:1"],
            "counter_exemplars": ["x:2"],
        }
        | changed
    )


def strategy(*claims: Claim) -> Strategy:
    """A strategy of these claims."""
    return Strategy(platform="x", inputs=INPUTS, claims=list(claims))


def store(database: Database, *claims: Claim, is_accepted: bool = True, platform: str = "x") -> StoredStrategy:
    """A strategy of these claims, as a rebuild stores it."""
    verdict = Verdict(is_accepted=is_accepted, reason="better" if is_accepted else "worse than the one in force")
    made = strategy(*claims).model_copy(update={"platform": platform, "verdict": verdict})
    with database.transaction() as connection:
        strategy_rows.lock_strategy(connection, platform)
        in_force, read_at = strategy_rows.strategy_in_force(connection, platform), strategy_rows.now(connection)
        stored, _ = keep_strategy(connection, made, in_force, snapshots=[], new_outcomes=10, created_at=read_at)
    return stored
