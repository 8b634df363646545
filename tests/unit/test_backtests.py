"""The backtest and the gate: what is held out, what is known of it, and which strategies pass."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from everreach_assets.domain.backtests import CHANCE_LEVEL, backtest, gate_verdict, split
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.prediction_scores import Prediction, chance_of_order, scored
from everreach_assets.domain.strategy_model import Backtest, Inputs, Margin, Score, Strategy
from tests.planted import START, planted_outcomes, shuffled

INPUTS = Inputs(snapshot_watermark=1, outcomes=1, matured=1, labels={}, builder_version="2", classifier_version="2")
IN_FORCE = Strategy(platform="x", inputs=INPUTS)


def found(spearman: float = 0.4, *, chance: float = 0.001, interval: tuple[float, float] | None = None) -> Backtest:
    score = Score(spearman=spearman, spearman_interval=(0.1, 0.7), auc=0.7, auc_interval=(0.6, 0.8))
    margin = Margin(spearman=0.0, spearman_interval=interval, auc=0.0, auc_interval=None)
    return Backtest(
        cut_at=START,
        trained_on=80,
        tested_on=20,
        strategy=score,
        chance=chance,
        coverage=0.8,
        baselines={},
        margins={} if interval is None else {"in_force": margin},
    )


def test_the_last_fifth_in_time_is_held_out() -> None:
    outcomes = planted_outcomes(100)
    parts = split(outcomes[::-1])
    assert parts is not None
    assert (parts.training, parts.held_out) == (outcomes[:80], outcomes[80:])


def test_posts_of_the_moment_of_the_cut_are_held_out_together() -> None:
    outcomes = planted_outcomes(100)
    tied = [replace(each, published_at=outcomes[80].published_at) for each in outcomes[75:85]]
    parts = split([*outcomes[:75], *tied, *outcomes[85:]])
    assert parts is not None
    assert len(parts.held_out) == 25


def test_posts_without_a_time_and_posts_that_are_not_final_are_on_neither_side() -> None:
    outcomes = planted_outcomes(100)
    undated = [replace(each, doc_id=f"{each.doc_id}?", published_at=None) for each in outcomes]
    young = [replace(each, doc_id=f"{each.doc_id}!", is_final=False) for each in outcomes]
    assert split([*undated, *outcomes, *young]) == split(outcomes)


@pytest.mark.parametrize("count", [0, 1, 10, 47])
def test_too_few_outcomes_are_not_split(count: int) -> None:
    assert backtest(planted_outcomes(count)) is None


def test_posts_of_one_moment_are_not_split() -> None:
    assert split([replace(each, published_at=START) for each in planted_outcomes(100)]) is None


def test_a_planted_pattern_is_foreseen_better_than_by_the_mean_of_the_account() -> None:
    result = backtest(planted_outcomes(200))
    assert result is not None
    assert (result.trained_on, result.tested_on) == (160, 40)
    assert result.strategy.spearman is not None
    assert result.strategy.spearman > 0.4
    assert result.chance < CHANCE_LEVEL
    assert set(result.baselines) == set(result.margins) == {"account_mean", "tfidf_logistic"}
    interval = result.margins["account_mean"].spearman_interval
    assert interval is not None
    assert interval[0] > 0
    assert gate_verdict(result).is_accepted


def test_the_account_mean_is_each_accounts_own_mean_and_that_of_all_where_the_account_is_new() -> None:
    outcomes = planted_outcomes(100)
    outcomes = [
        *(replace(each, score=each.score + (3 if each.account == "anna" else 0)) for each in outcomes[:90]),
        *(replace(each, score=each.score + 1, account="carla") for each in outcomes[90:]),
    ]
    training, held_out = outcomes[:80], outcomes[80:]

    def mean(account: str) -> float:
        ours = [each for each in training if each.account == account] or training
        return float(np.mean([each.score for each in ours]))

    assert mean("ben") < mean("carla") < mean("anna")
    expected = spearmanr([mean(each.account) for each in held_out], [each.score for each in held_out]).statistic
    result = backtest(outcomes)
    assert result is not None
    assert result.baselines["account_mean"].spearman == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "is_success",
    [
        lambda post: "bread" in post.text,
        lambda post: post.published_at.hour == 14,
        lambda post: post.post_type == "image",
    ],
    ids=["word", "hour", "type"],
)
def test_the_logistic_regression_sees_whichever_alone_tells_success(
    is_success: Callable[[LabelledOutcome], bool],
) -> None:
    outcomes = [
        replace(each, label="hit" if is_success(each) else "average") for each in planted_outcomes(160, effect=0)
    ]
    result = backtest(outcomes)
    assert result is not None
    assert (result.baselines["tfidf_logistic"].auc or 0) > 0.9


def test_the_same_outcomes_give_the_same_backtest_in_any_order() -> None:
    outcomes = planted_outcomes(80)
    known = {each.doc_id for each in outcomes[:50]}
    assert backtest(outcomes, in_force=known) == backtest(outcomes[::-1], in_force=known)


def test_predictions_do_not_know_what_became_of_the_held_out_posts() -> None:
    outcomes = planted_outcomes(60)
    turned = [*outcomes[:48], *(replace(each, score=-each.score) for each in outcomes[48:])]
    one, other = backtest(outcomes), backtest(turned)
    assert one is not None
    assert other is not None
    assert one.strategy.spearman == pytest.approx(-(other.strategy.spearman or 0))


def test_a_strategy_in_force_that_consumed_the_same_posts_is_a_tie_and_the_new_one_wins() -> None:
    outcomes = planted_outcomes(200)
    result = backtest(outcomes, in_force={each.doc_id for each in outcomes})
    assert result is not None
    assert result.margins["in_force"].spearman_interval == (0.0, 0.0)
    assert gate_verdict(result, in_force=IN_FORCE).is_accepted


def test_a_strategy_in_force_that_consumed_only_held_out_posts_foresees_nothing() -> None:
    outcomes = planted_outcomes(100)
    result = backtest(outcomes, in_force={each.doc_id for each in outcomes[80:]})
    assert result is not None
    assert result.baselines["in_force"].spearman is None
    assert result.baselines["in_force"].auc == 0.5


def test_outcomes_that_spoil_what_was_learned_are_held_back() -> None:
    outcomes = planted_outcomes(240)
    spoilt = [
        *outcomes[:60],
        *(replace(each, score=-each.score, label="average") for each in outcomes[60:190]),
        *outcomes[190:],
    ]
    result = backtest(spoilt, in_force={each.doc_id for each in outcomes[:60]})
    verdict = gate_verdict(result, in_force=IN_FORCE)
    assert not verdict.is_accepted


@pytest.mark.parametrize(
    ("backtested", "in_force", "is_accepted", "reason"),
    [
        (found(), None, True, "none was in force"),
        (found(interval=(-0.1, 0.2)), IN_FORCE, True, "against the one in force"),
        (found(interval=(-0.3, -0.01)), IN_FORCE, False, "worse than the one in force"),
        (found(chance=0.02), None, False, "no better than chance"),
        (found(-0.2), None, False, "no better than chance"),
        (None, None, True, "untested"),
        (None, IN_FORCE, True, "untested, too"),
        (None, IN_FORCE.model_copy(update={"backtest": found()}), False, "tested on 20"),
    ],
)
def test_the_verdict_says_why(
    backtested: Backtest | None, in_force: Strategy | None, is_accepted: bool, reason: str
) -> None:
    verdict = gate_verdict(backtested, in_force=in_force)
    assert verdict.is_accepted is is_accepted
    assert reason in verdict.reason


def test_ten_posts_in_all_yield_a_first_strategy() -> None:
    assert gate_verdict(backtest(planted_outcomes(10))).is_accepted


@pytest.mark.slow
def test_of_a_hundred_strategies_of_shuffled_labels_at_most_five_pass() -> None:
    outcomes = planted_outcomes(60)
    passed = sum(gate_verdict(backtest(shuffled(outcomes, seed))).is_accepted for seed in range(100))
    assert passed <= 5


def test_scores_are_those_of_scipy_and_scikit_learn() -> None:
    random = np.random.default_rng(3)
    scores, predicted = random.normal(size=80).round(1), random.normal(size=80).round(1)
    successes = scores + random.normal(size=80) > 1
    result = scored({"a": Prediction(predicted, predicted)}, scores, successes)["a"].score
    assert result.spearman == pytest.approx(spearmanr(predicted, scores).statistic, abs=1e-6)
    assert result.auc == pytest.approx(roc_auc_score(successes, predicted), abs=1e-6)


def test_an_interval_is_that_of_resampled_posts() -> None:
    random = np.random.default_rng(4)
    scores = random.normal(size=60)
    predicted = scores + random.normal(size=60)
    draws = [random.integers(60, size=60) for _ in range(1_000)]
    expected = np.quantile([spearmanr(predicted[each], scores[each]).statistic for each in draws], [0.025, 0.975])
    result = scored({"a": Prediction(predicted, predicted)}, scores, scores > 0)["a"].score
    assert result.spearman_interval == pytest.approx(tuple(expected), abs=0.04)


def test_a_constant_orders_nothing() -> None:
    scores = np.arange(20.0)
    result = scored({"a": Prediction(np.zeros(20), np.zeros(20))}, scores, scores > 14)["a"].score
    assert (result.spearman, result.spearman_interval, result.auc) == (None, None, 0.5)
    assert chance_of_order(np.zeros(20), scores, ["a"] * 20) == 1.0


@pytest.mark.parametrize(("successes", "is_stated"), [(0, False), (4, False), (5, True), (15, True), (16, False)])
def test_an_auc_takes_five_successes_and_five_others(successes: int, is_stated: bool) -> None:
    scores = np.arange(20.0)
    result = scored({"a": Prediction(scores, scores)}, scores, scores >= 20 - successes)["a"].score
    assert (result.auc, result.auc_interval is not None) == (1.0 if is_stated else None, is_stated)


def test_an_order_of_the_accounts_alone_is_no_better_than_chance() -> None:
    random = np.random.default_rng(5)
    accounts = np.repeat([0, 1], 50)
    scores = accounts * 5 + random.normal(size=100)
    predicted = accounts + random.normal(size=100) / 10
    assert chance_of_order(predicted, scores, list(accounts)) > 0.05
    assert chance_of_order(predicted, scores, ["one"] * 100) < 1e-6


def test_the_chance_is_that_of_shuffling() -> None:
    random = np.random.default_rng(6)
    chances = [chance_of_order(random.normal(size=40), np.arange(40.0), list("ab") * 20) for _ in range(2_000)]
    assert np.mean(np.array(chances) <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    outcomes = planted_outcomes(60)
    zone = dt.timezone(dt.timedelta(hours=5))
    moved = [replace(each, published_at=each.published_at and each.published_at.astimezone(zone)) for each in outcomes]
    one, other = split(outcomes), split(moved)
    assert one is not None
    assert other is not None
    assert [each.doc_id for each in one.held_out] == [each.doc_id for each in other.held_out]
