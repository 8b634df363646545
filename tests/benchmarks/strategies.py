"""How well strategies foresee posts that they have not seen, beside baselines and references. `make bench-strategies`.

It takes the shared sets and the sample through intake and labels on a Postgres of its own, and prints figures only, no
text. See docs/strategies.md.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import sklearn
from rich.console import Console
from rich.table import Table

from everreach_assets.domain.backtests import Split, backtest, gate_verdict, split, tfidf_logistic
from everreach_assets.domain.drafts import Draft, matching
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION
from everreach_assets.domain.post_features import PostFeatures
from everreach_assets.domain.prediction_scores import Prediction, scored
from everreach_assets.domain.strategies import build_strategy
from everreach_assets.domain.strategy_model import Backtest, Interval, Score, Verdict
from tests.benchmarks.strategy_sets import outcome_sets, shared_folder
from tests.labelled_sample import INPUTS, search_in, vectors_of
from tests.planted import shuffled

NEIGHBOURS = 20


@dataclass(frozen=True)
class SetFigures:
    """A set: its backtest, the references on the same posts, and how many strategies of shuffled labels passed."""

    name: str
    backtest: Backtest
    verdict: Verdict
    references: dict[str, Score]
    seconds: float
    shuffles: int
    passed: int


def measure(name: str, outcomes: Sequence[LabelledOutcome], shuffles: int) -> SetFigures | None:
    """None where nothing could be held out."""
    start = time.process_time()
    found, parts = backtest(outcomes), split(outcomes)
    seconds = time.process_time() - start
    if found is None or parts is None:
        return None
    references = {
        "TF-IDF logistic, page, hour, day, type": tfidf_logistic(parts, _page_hour_day_type),
        "20 nearest of the page": nearest_of_the_page(parts),
        "the claims alone": claims_alone(parts),
    }
    judged = scored(references, parts.scores, parts.successes)
    passed = sum(gate_verdict(backtest(shuffled(outcomes, seed))).is_accepted for seed in range(shuffles))
    return SetFigures(
        name,
        found,
        gate_verdict(found),
        {key: each.score for key, each in judged.items()},
        seconds,
        shuffles,
        passed,
    )


def _page_hour_day_type(post: LabelledOutcome) -> list[str]:
    at = post.published_at
    return [post.account, post.post_type, *(("", "") if at is None else (f"{at.hour}", f"{at.weekday()}"))]


def nearest_of_the_page(parts: Split) -> Prediction:
    """The mean of the twenty nearest posts of the same account in the space of the local provider."""
    features = PostFeatures(parts.training)
    known, posts = features.of_outcomes, features.matrices(parts.held_out)
    similarity = posts.vectors @ known.vectors.T
    similarity[posts.accounts[:, None] != known.accounts] = -2.0
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    counts = np.take_along_axis(similarity, order, axis=1) > -2.0
    size = np.maximum(counts.sum(axis=1), 1)
    scores = np.array([each.score for each in parts.training])
    successes = np.array([each.is_success for each in parts.training])
    return Prediction((scores[order] * counts).sum(axis=1) / size, (successes[order] * counts).sum(axis=1) / size)


def claims_alone(parts: Split) -> Prediction:
    """The sum of the effects of the rules and hypotheses that a post matches, as a reader of the strategy has them."""
    platform, _, _ = parts.training[0].doc_id.partition(":")
    vectors = vectors_of(parts.training)
    strategy = build_strategy(platform, parts.training, vectors, search_in(parts.training, vectors), inputs=INPUTS)
    drafts = [Draft(each.text, each.account, each.post_type, each.published_at) for each in parts.held_out]
    effects = np.array([sum(claim.effect for claim in matching(each, platform, strategy.claims)) for each in drafts])
    return Prediction(effects, effects)


def print_figures(console: Console, figures: Sequence[SetFigures]) -> None:
    """A table of predictions and one of the gate."""
    columns = ("set", "held out", "predicted by", "Spearman", "AUC", "strategy ahead by, Spearman", "by, AUC")
    table = Table(*columns, box=None, pad_edge=False)
    for each in figures:
        found = each.backtest
        table.add_row(
            each.name, f"{found.tested_on} of {found.tested_on + found.trained_on}", "strategy", *_cells(found.strategy)
        )
        for name, score in found.baselines.items():
            margin = found.margins[name]
            table.add_row(
                "",
                "",
                name,
                *_cells(score),
                _cell(margin.spearman, margin.spearman_interval),
                _cell(margin.auc, margin.auc_interval),
            )
        for name, score in each.references.items():
            table.add_row("", "", name, *_cells(score))
    console.print(table)
    gate = Table("set", "chance", "in the 80 % interval", "gate", "shuffled, passed", "CPU s", box=None, pad_edge=False)
    for each in figures:
        verdict = "accepted" if each.verdict.is_accepted else "held"
        gate.add_row(
            each.name,
            f"{each.backtest.chance:.4f}",
            f"{each.backtest.coverage:.0%}",
            verdict,
            f"{each.passed} of {each.shuffles}",
            f"{each.seconds:.1f}",
        )
    console.print(gate)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    versions = f"scikit-learn {sklearn.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    console.print(f"peak memory {peak_mb:.0f} MB, classifier {CLASSIFIER_VERSION}, {versions}")


def _cells(score: Score) -> tuple[str, str]:
    return _cell(score.spearman, score.spearman_interval), _cell(score.auc, score.auc_interval)


def _cell(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.strategies", description=__doc__)
    parser.add_argument("--data", type=Path, default=shared_folder(), help="folder of the sets (default: %(default)s)")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="only these, such as facebook (default: all)")
    parser.add_argument("--shuffles", type=int, default=20, help="of the labels, for each set (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="each set so many times over, to see the cost of size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    console = Console(width=170)
    figures = []
    sets = outcome_sets(given.data)
    if unknown := set(given.sets or ()) - sets.keys():
        parser.error(f"no set {', '.join(sorted(unknown))} in {given.data}; there are {', '.join(sets)}")
    for name, outcomes in sets.items():
        if given.sets and name not in given.sets:
            continue
        larger = [replace(each, doc_id=f"{each.doc_id}.{n}") for n in range(given.repeat) for each in outcomes]
        if (found := measure(name, larger, given.shuffles)) is None:
            matured = sum(each.is_final for each in outcomes)
            console.print(f"{name}: {matured:,} matured posts of {len(outcomes):,}, too few to hold a fifth back")
        else:
            figures.append(found)
            console.print(f"... {name}", style="dim")
    print_figures(console, figures)
    if given.json:
        rows = [asdict(each) for each in figures]
        text = json.dumps(rows, indent=2, default=lambda part: part.model_dump(mode="json"))
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
