"""Claims and strategies as tests need them, with no more said than a test is about.

What does not belong here: strategies that are built of outcomes.
"""

import math
from typing import Any

from everreach_assets.domain.strategy_model import Claim, Inputs, Strategy

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
