"""Tables for people, in Markdown: the same in Dagster's UI and in the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

LABELS = ("viral", "hit", "average", "underperform", "flop", "insufficient_data")


def label_table(labels: Mapping[str, Mapping[str, int]]) -> str:
    """Posts by platform (rows) and label (columns)."""
    return _table(
        ["platform", *LABELS],
        [[platform, *(counts.get(label, 0) for label in LABELS)] for platform, counts in sorted(labels.items())],
    )


def claim_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """Claims with their effect as a ratio to the other posts, its interval, n, and the posts to look at."""
    return _table(
        ["trait", "evidence", "times the others", "95 % interval", "n", "best", "worst"],
        [
            [
                claim["trait"],
                claim["evidence"],
                f"{math.exp(claim['effect']):.2f}",
                f"{math.exp(claim['interval'][0]):.2f} to {math.exp(claim['interval'][1]):.2f}",
                claim["n"],
                ", ".join(claim["exemplars"]),
                ", ".join(claim["counter_exemplars"]),
            ]
            for claim in claims
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
