"""Tables for people, in Markdown: the same in Dagster's UI and in the terminal."""

from collections.abc import Mapping, Sequence

from everreach_assets.domain.strategies import Claim

LABELS = ("viral", "hit", "average", "underperform", "flop", "insufficient_data")


def label_table(labels: Mapping[str, Mapping[str, int]]) -> str:
    """Posts by platform (rows) and label (columns)."""
    return _table(
        ["platform", *LABELS],
        [[platform, *(counts.get(label, 0) for label in LABELS)] for platform, counts in sorted(labels.items())],
    )


def claim_list(claims: Sequence[Claim]) -> str:
    """Each claim with the posts that it rests on."""
    return "\n".join(f"- {claim}\n  - {claim.posts}" for claim in claims) or "no claims yet"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
