"""Tables for people, in Markdown: the same in Dagster's UI and in the terminal."""

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from everreach_assets.domain.drafts import DraftScore
from everreach_assets.domain.retention import Counts, PlanItem, Verdict
from everreach_assets.domain.strategy_model import Backtest, Change, Claim, Direction, Interval, Score, Strategy
from everreach_assets.domain.weekly_changes import PlatformWeek
from resources.provider_calls import CostRow
from resources.retention.receipts import Receipt
from resources.spending import Spent

VERDICTS: tuple[Verdict, ...] = ("expired", "held", "cited", "pending_outcome", "young", "unknown_age", "future")
SPENT = ("calls", "texts", "tokens", "USD")
EVIDENCE = {
    "rule": ("rule", "rules"),
    "hypothesis": ("hypothesis", "hypotheses"),
    "explore": ("to explore", "to explore"),
}
DIRECTIONS: dict[Direction, str] = {"more": "Do more", "less": "Do less", "try": "Try next"}
LABELS = ("viral", "hit", "average", "underperform", "flop", "insufficient_data")


def label_table(labels: Mapping[str, Mapping[str, int]]) -> str:
    """Posts by platform (rows) and label (columns)."""
    return _table(["platform", *LABELS], list(labels_by_platform(labels).itertuples()))


def labels_by_platform(labels: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Posts by platform (rows, sorted) and label (columns, in the order of `LABELS`); none is 0."""
    counts = pd.DataFrame.from_dict(dict(labels), orient="index")
    return counts.reindex(columns=list(LABELS)).fillna(0).astype(int).sort_index()


def advice_line(claim: Claim) -> str:
    """What to do about the trait of a claim, and why."""
    return f"{DIRECTIONS[claim.direction].lower()}: {claim_line(claim)}"


def claim_line(claim: Claim) -> str:
    """What the posts of a trait do against the others, and how sure that is."""
    low, high = (math.exp(bound) for bound in claim.interval)
    return _plain(
        f"{claim.trait}: {claim.ratio:.2f} times the others ({low:.2f} to {high:.2f}), "
        f"n = {claim.n}, effective {claim.n_effective:.1f}, {claim.evidence}"
    )


def claim_posts(claim: Claim) -> str:
    """The posts that a person opens to check the claim."""
    return _plain(f"best: {', '.join(claim.exemplars)}; worst: {', '.join(claim.counter_exemplars)}")


def strategy_summary(strategy: Strategy) -> str:
    """The whole strategy: what to do, with the claims and their posts, what has changed, and how it was tested."""
    counts = {evidence: sum(claim.evidence == evidence for claim in strategy.claims) for evidence in EVIDENCE}
    lines = [
        f"**{strategy.platform}**: {strategy.inputs.outcomes:,} outcomes, {strategy.inputs.matured:,} of them final; "
        + ", ".join(f"{count} {EVIDENCE[evidence][count != 1]}" for evidence, count in counts.items())
    ]
    propensities = {each.claim_id: each.propensity for each in strategy.do_more + strategy.do_less + strategy.try_next}
    for direction, title in DIRECTIONS.items():
        advised = [each for each in strategy.claims if each.direction == direction and not each.explained_by]
        lines += ["", f"**{title}**", ""] if advised else []
        for claim in sorted(advised, key=lambda each: -propensities.get(each.claim_id, 0.0)):
            share = propensities.get(claim.claim_id, 0.0)
            lines += [f"- {share:.0%} of the next posts: {claim_line(claim)}", f"  - {claim_posts(claim)}"]
    traits = {claim.claim_id: claim.trait for claim in strategy.claims}
    if explained := [claim for claim in strategy.claims if claim.explained_by]:
        lines += ["", "**Seen, but mostly by the effect of another**", ""]
        for claim in explained:
            lines.append(f"- {claim_line(claim)}; see {_plain(traits.get(claim.explained_by, claim.explained_by))}")
            lines.append(f"  - {claim_posts(claim)}")
    if not strategy.claims:
        lines += ["", "Nothing stands out yet: no trait's interval excludes zero."]
    if strategy.changes:
        lines += ["", "**Since the strategy before**", "", change_list(strategy.changes)]
    if strategy.backtest or strategy.verdict:
        lines.append("")
    if strategy.backtest:
        lines.append(f"Backtest: {_backtest(strategy.backtest)}")
    if strategy.verdict:
        lines.append(f"{'Accepted' if strategy.verdict.is_accepted else 'Held'}: {_plain(strategy.verdict.reason)}")
    return "\n".join(lines)


def change_list(changes: Sequence[Change]) -> str:
    """What is claimed otherwise than before."""
    return "\n".join(_change(each) for each in changes) or "no changes"


def _change(change: Change) -> str:
    words = " -> ".join(each for each in (change.before, change.after) if each)
    return f"- {change.what}: {_plain(change.trait)} ({words})"


def _backtest(backtest: Backtest) -> str:
    scores = {"this strategy": backtest.strategy} | {
        name.replace("_", " "): score for name, score in sorted(backtest.baselines.items())
    }
    return f"{backtest.tested_on:,} posts held out, fitted on {backtest.trained_on:,}; " + "; ".join(
        f"{name}: {_score(score)}" for name, score in scores.items()
    )


def _score(score: Score) -> str:
    return ", ".join(
        f"{name} {value:.2f}{_bounds(interval)}" if value is not None else f"{name} unknown"
        for name, value, interval in (
            ("Spearman", score.spearman, score.spearman_interval),
            ("AUC", score.auc, score.auc_interval),
        )
    )


def _bounds(interval: Interval | None) -> str:
    return f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: types, tags and ids of posts are other people's words."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", re.sub(r"\s+", " ", text))


def draft_report(score: DraftScore, strategy: Strategy) -> str:
    """What a draft may be expected to get, why, which claims it matches, and the posts to compare it with."""
    low, high = score.interval
    usual = f" (some {score.typical:,.0f} {score.metric})" if score.typical is not None else ""
    lines = [
        f"Expected: {score.expected_multiple:.2f} times what the account's posts usually get{usual}; "
        f"four of five such posts get {low:.2f} to {high:.2f} times",
        f"A hit or viral: {score.success_probability:.0%}",
    ]
    if score.reasons:
        lines += [
            "",
            "What is known of it (the expected value is that of a model of all posts):",
            *(f"- {each}" for each in score.reasons),
        ]
    if used := [each for each in strategy.claims if each.claim_id in score.claims]:
        lines += ["", "Claims that it matches:"]
        lines += [f"- {advice_line(each)}\n  - {claim_posts(each)}" for each in used]
    if score.similar_posts:
        lines += ["", "Posts like it:"]
        lines += [
            f"- {_plain(each.doc_id)}: {each.multiple:.2f} times the usual, similarity {each.similarity:.2f}"
            for each in score.similar_posts
        ]
    return "\n".join(lines)


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
