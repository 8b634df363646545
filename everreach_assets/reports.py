"""Tables for people, in Markdown: the same in Dagster's UI and in the terminal."""

from collections.abc import Mapping, Sequence

import pandas as pd

from everreach_assets.domain.retention import Counts, PlanItem, Verdict
from everreach_assets.domain.strategies import Claim
from everreach_assets.domain.weekly_changes import PlatformWeek
from resources.provider_calls import CostRow
from resources.retention.receipts import Receipt
from resources.spending import Spent

VERDICTS: tuple[Verdict, ...] = ("expired", "held", "cited", "pending_outcome", "young", "unknown_age", "future")
SPENT = ("calls", "texts", "tokens", "USD")
LABELS = ("viral", "hit", "average", "underperform", "flop", "insufficient_data")


def label_table(labels: Mapping[str, Mapping[str, int]]) -> str:
    """Posts by platform (rows) and label (columns)."""
    return _table(["platform", *LABELS], list(labels_by_platform(labels).itertuples()))


def labels_by_platform(labels: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Posts by platform (rows, sorted) and label (columns, in the order of `LABELS`); none is 0."""
    counts = pd.DataFrame.from_dict(dict(labels), orient="index")
    return counts.reindex(columns=list(LABELS)).fillna(0).astype(int).sort_index()


def claim_list(claims: Sequence[Claim]) -> str:
    """Each claim with the posts that it rests on."""
    return "\n".join(f"- {claim}\n  - {claim.posts}" for claim in claims) or "no claims yet"


def week_table(weeks: Sequence[PlatformWeek]) -> str:
    """What changed on each platform."""
    return _table(
        ["platform", "posts with outcomes", "labels", "strategies", "new claims", "gone claims"],
        [
            [
                each.platform,
                each.posts,
                each.shares,
                "<br>".join(map(str, each.strategies)),
                "<br>".join(each.new_claims),
                "<br>".join(each.gone_claims),
            ]
            for each in weeks
        ],
    )


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


def spent_table(by_model: Mapping[tuple[str, str], Spent]) -> str:
    """What calls came to, by provider and model."""
    if not by_model:
        return "no calls"
    return _table(
        ["provider", "model", *SPENT], [[*key, *spent_cells(spent)] for key, spent in sorted(by_model.items())]
    )


def cost_table(rows: Sequence[CostRow]) -> str:
    """The ledger line by line, and its sum."""
    if not rows:
        return "no calls in these days"
    lines = [
        [each.day, each.spender.run_id, each.spender.asset, each.provider, each.model, *spent_cells(each.spent)]
        for each in rows
    ]
    total = sum((each.spent for each in rows), Spent())
    return _table(
        ["day", "run", "asset", "provider", "model", *SPENT], [*lines, ["all", "", "", "", "", *spent_cells(total)]]
    )


def spent_cells(spent: Spent) -> list[str]:
    """Calls, texts, tokens, and their cost; of tokens without a known price that it is not known."""
    usd = f"{spent.cost_micro_usd / 1e6:,.6f}"
    if spent.unpriced_tokens:
        usd += f" and {spent.unpriced_tokens:,} tokens of unknown price"
    return [f"{spent.calls:,}", f"{spent.texts:,}", f"{spent.tokens:,}", usd]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
