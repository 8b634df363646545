"""The backtest of a strategy, and the gate that a new one passes before it replaces the one in force.

What belongs here: what is held out, who predicts it, and what follows for the new strategy. What does not: the model
(`standing_model.py`) and the statistics (`prediction_scores.py`). Why it is so: docs/adr/0019.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.prediction_scores import Prediction, chance_of_order, scored
from everreach_assets.domain.standing_model import LEAST_OUTCOMES, Rehearsal, fit
from everreach_assets.domain.strategy_model import Backtest, Strategy, Verdict

HELD_OUT_SHARE = 0.2
LEAST_HELD_OUT = 10
"""With fewer, a good order is hardly told from chance: nine shuffled posts reach Spearman 0.78 once in a hundred."""
CHANCE_LEVEL = 0.01
"""Of 100 strategies of shuffled labels one passes on average, and six or more in 5 of 10,000 hundreds."""

ACCOUNT_MEAN, TFIDF_LOGISTIC, IN_FORCE = "account_mean", "tfidf_logistic", "in_force"


@dataclass(frozen=True)
class Split:
    """Matured posts before the cut, and those from it on, each in the order of their publication."""

    training: list[LabelledOutcome]
    held_out: list[LabelledOutcome]

    @property
    def scores(self) -> np.ndarray:
        """Of the held-out posts, as they did."""
        return np.array([each.score for each in self.held_out])

    @property
    def successes(self) -> np.ndarray:
        return np.array([each.is_success for each in self.held_out])


def split(outcomes: Sequence[LabelledOutcome]) -> Split | None:
    """The last fifth of the matured outcomes by the time of publication, and those before it.

    A post that was published at the very moment of the cut is held out: of two posts of one moment neither is the
    other's future. A post whose time is unknown is on neither side: it might be the future of a held-out one.

    Returns:
        None where fewer than ten posts could be held out, or fewer are left than a model can be fitted on.
    """
    matured = sorted(
        (each for each in outcomes if each.is_final and each.published_at is not None),
        key=lambda each: (each.published_at, each.doc_id),
    )
    held_out = round(len(matured) * HELD_OUT_SHARE)
    if held_out < LEAST_HELD_OUT:
        return None
    cut_at = matured[-held_out].published_at
    training = [each for each in matured if each.published_at < cut_at]  # type: ignore[operator]  # None was left out
    if len(training) < LEAST_OUTCOMES:
        return None
    return Split(training, matured[len(training) :])


def backtest(
    outcomes: Sequence[LabelledOutcome], *, in_force: Collection[str] | None = None, seed: int = 0
) -> Backtest | None:
    """Fit the strategy's model without the last fifth of the matured outcomes, and see how it predicts them.

    The strategy in force predicts by the same model, fitted on the posts that it had consumed, without the held-out
    ones: those it had seen would be no prediction of it, and the new strategy would be compared with a memory.

    Args:
        outcomes: of one platform, in any order.
        in_force: ids of the posts that the strategy in force had consumed; None where none is in force.

    Returns:
        None where there are too few matured outcomes to hold a fifth back.
    """
    parts = split(outcomes)
    if parts is None:
        return None
    cut_at = parts.held_out[0].published_at
    if cut_at is None:
        raise AssertionError("a post without a time is never held out")
    model = fit(parts.training)
    foreseen = model.predict(parts.held_out)
    predictions = {
        "strategy": Prediction(foreseen.score, foreseen.success_probability),
        ACCOUNT_MEAN: _account_mean(parts),
        TFIDF_LOGISTIC: tfidf_logistic(parts, lambda post: [post.post_type, _hour(post)]),
    }
    if in_force is not None:
        consumed = [each for each in parts.training if each.doc_id in in_force]
        predictions[IN_FORCE] = predictions["strategy"] if consumed == parts.training else _predicted(consumed, parts)
    found = scored(predictions, parts.scores, parts.successes, seed=seed)
    strategy = found.pop("strategy")
    return Backtest(
        cut_at=cut_at,
        trained_on=len(parts.training),
        tested_on=len(parts.held_out),
        strategy=strategy.score,
        chance=_chance([*model.rehearsals, Rehearsal(foreseen.score, parts.held_out)]),
        coverage=float(np.mean((foreseen.low <= parts.scores) & (parts.scores <= foreseen.high))),
        baselines={name: each.score for name, each in found.items()},
        margins={name: strategy.margin_over(each) for name, each in found.items()},
    )


def _chance(predictions: Sequence[Rehearsal]) -> float:
    """The chance of so good an order within accounts, in the held-out fifth and in the rehearsals before it.

    Within accounts: which account does well says nothing of what to publish. With the rehearsals: they are predictions
    of later posts from earlier ones, too, and together they are two and a half times as many as the held-out ones.
    """
    return chance_of_order(
        np.concatenate([each.predicted for each in predictions]),
        np.array([post.score for each in predictions for post in each.posts]),
        [(post.account, number) for number, each in enumerate(predictions) for post in each.posts],
    )


def _predicted(training: Sequence[LabelledOutcome], parts: Split) -> Prediction:
    if not training:
        return Prediction(np.zeros(len(parts.held_out)), np.zeros(len(parts.held_out)))
    foreseen = fit(training).predict(parts.held_out)
    return Prediction(foreseen.score, foreseen.success_probability)


def _account_mean(parts: Split) -> Prediction:
    """What the account's posts got on average; of an account that is not in the training, what all posts got."""
    rows: dict[str, list[LabelledOutcome]] = {}
    for each in parts.training:
        rows.setdefault(each.account, []).append(each)
    known = [rows.get(each.account, parts.training) for each in parts.held_out]
    return Prediction(
        np.array([np.mean([each.score for each in row]) for row in known]),
        np.array([np.mean([each.is_success for each in row]) for row in known]),
    )


def tfidf_logistic(parts: Split, categories: Callable[[LabelledOutcome], list[str]]) -> Prediction:
    """Logistic regression of hit or viral on TF-IDF of the words and one-hot categories, as scikit-learn has them."""
    successes = np.array([each.is_success for each in parts.training])
    if successes.all() or not successes.any():
        return Prediction(np.zeros(len(parts.held_out)), np.zeros(len(parts.held_out)))
    words, encoder = TfidfVectorizer(), OneHotEncoder(handle_unknown="ignore")
    encoder.fit([categories(each) for each in parts.training])
    # A word that is no post's, so that texts without any word are a case like others.
    words.fit([each.text for each in parts.training] + ["nothing"])
    training, held_out = (
        hstack(
            [words.transform([each.text for each in posts]), encoder.transform([categories(each) for each in posts])]
        )
        for posts in (parts.training, parts.held_out)
    )
    model = LogisticRegression(max_iter=1_000).fit(training.tocsr(), successes)
    chance = model.predict_proba(held_out.tocsr())[:, 1]
    return Prediction(chance, chance)


def _hour(post: LabelledOutcome) -> str:
    return "" if post.published_at is None else f"{post.published_at.hour}"


def gate_verdict(found: Backtest | None, *, in_force: Strategy | None = None) -> Verdict:
    """Whether a new strategy takes the place of the one in force.

    Args:
        found: of the new strategy; None where too few matured outcomes could be held out.
        in_force: the strategy that it would replace, with its own backtest; None where there is none.
    """
    if found is None:
        return _untested_verdict(in_force)
    spearman = found.strategy.spearman or 0.0
    held_out = f"on the {found.tested_on} posts from {found.cut_at:%Y-%m-%d} on"
    order = f"Spearman {spearman:.2f} {held_out}, chance {found.chance:.4f}"
    if found.chance > CHANCE_LEVEL or spearman <= 0:
        return Verdict(is_accepted=False, reason=f"no better than chance: {order} (at most {CHANCE_LEVEL} would do)")
    margin = found.margins.get(IN_FORCE)
    if margin is None:
        return Verdict(is_accepted=True, reason=f"better than chance: {order}; none was in force")
    low, high = margin.spearman_interval or (0.0, 0.0)
    difference = f"Spearman {margin.spearman:+.2f} [{low:+.2f}, {high:+.2f}] {held_out}"
    if high < 0:
        return Verdict(is_accepted=False, reason=f"worse than the one in force: {difference}")
    return Verdict(is_accepted=True, reason=f"better than chance: {order}; against the one in force: {difference}")


def _untested_verdict(in_force: Strategy | None) -> Verdict:
    too_few = f"fewer than {LEAST_HELD_OUT} matured posts with a time could be held out"
    if in_force is None:
        return Verdict(is_accepted=True, reason=f"untested: {too_few}; none was in force")
    if in_force.backtest is None:
        return Verdict(is_accepted=True, reason=f"untested: {too_few}; the one in force was untested, too")
    return Verdict(
        is_accepted=False,
        reason=f"untested: {too_few}; the one in force was tested on {in_force.backtest.tested_on}",
    )
