"""Tables for people, in Markdown: the same in Dagster's UI and in the terminal."""

from collections.abc import Mapping, Sequence

from everreach_assets.domain.retention import Counts, PlanItem, Verdict
from everreach_assets.domain.strategies import Claim
from resources.retention.receipts import Receipt

VERDICTS: tuple[Verdict, ...] = ("expired", "held", "cited", "pending_outcome", "young", "unknown_age", "future")
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


def plan_table(plan: Sequence[Counts]) -> str:
    """Documents by collection (rows) and by what the plan found about them."""
    names = [verdict.replace("_", " ") for verdict in VERDICTS]
    return _table(
        ["collection", "documents", *names],
        [[each.collection, each.documents, *(each[verdict] for verdict in VERDICTS)] for each in plan],
    )


def item_table(items: Sequence[PlanItem]) -> str:
    """What would be purged, by which rule, and since when it could have been."""
    if not items:
        return "nothing has expired"
    return _table(
        ["collection", "document", "rule", "expired"],
        [[each.collection, each.doc_id, each.reason, f"{each.expired_at:%Y-%m-%d}"] for each in items],
    )


def receipt_table(purged: Mapping[str, int], receipts: Sequence[Receipt]) -> str:
    """What went of each collection, and where its archive is."""
    archives = {each.collection: each.archive for each in receipts}
    return _table(
        ["collection", "documents", "archive"],
        [[collection, count, archives.get(collection, "")] for collection, count in sorted(purged.items())],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
