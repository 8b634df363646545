"""How well predictions order posts: Spearman, AUC, their bootstrap intervals, and a test against chance.

What belongs here: statistics of predictions whose outcomes are known. What does not: making the predictions
(`standing_model.py`) and what follows from the statistics (`backtests.py`).
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from everreach_assets.domain.strategy_model import Interval, Margin, Score

RESAMPLES = 1_000
"""The bounds of a 95 % interval are the 25th smallest and largest: a tenth of a standard error of noise each."""
CONFIDENCE = 0.95
CHUNK_CELLS = 4_000_000
"""Resamples are weighed together up to this many numbers: 32 MB an array, whatever is held out."""
LEAST_OF_EACH = 5
"""Successes and others that an AUC needs. Of one success among 45 posts it is that post's rank and nothing else, and
resamples, in which the one stays the same, give it a narrow interval all the same."""
SMALLEST_STRATUM = 5
"""Smaller groups are compared with one another: within them there is next to nothing to shuffle."""


@dataclass(frozen=True)
class Prediction:
    """What somebody foresaw of each held-out post: arrays of shape (posts,), the higher the better; no unit is assumed.

    Attributes:
        score: orders the posts by their standing.
        success: orders them by the chance of a hit or viral post.
    """

    score: np.ndarray
    success: np.ndarray


@dataclass(frozen=True)
class Scored:
    """A score with what it was in each resample, so that two predictions are compared on the same resamples."""

    score: Score
    spearman: np.ndarray
    auc: np.ndarray

    def margin_over(self, other: "Scored") -> Margin:
        """How much better this prediction is than another of the same posts; a constant is no order: 0 and 0.5."""
        return Margin(
            spearman=round((self.score.spearman or 0.0) - (other.score.spearman or 0.0), 6),
            spearman_interval=_interval(np.nan_to_num(self.spearman) - np.nan_to_num(other.spearman)),
            auc=_rounded(self.score.auc, other.score.auc),
            auc_interval=_interval(self.auc - other.auc),
        )


def scored(
    predictions: Mapping[str, Prediction], scores: np.ndarray, successes: np.ndarray, *, seed: int = 0
) -> dict[str, Scored]:
    """Every prediction judged on the same posts, and on the same resamples of them (Efron & Tibshirani 1993, ch. 13).

    Args:
        scores: of the posts as they did, shape (posts,).
        successes: which of them are hits or viral, shape (posts,), bool.
    """
    n = len(scores)
    random = np.random.default_rng(seed)
    size = max(1, CHUNK_CELLS // max(n, 1))
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in predictions}
    for weights in _weights(n, size, random):
        actual = _ranks(scores, weights)
        for name, each in predictions.items():
            spearman = _correlation(_ranks(each.score, weights), actual, weights)
            found[name].append((spearman, _auc(_ranks(each.success, weights), successes, weights)))
    return {name: _scored(parts) for name, parts in found.items()}


def _weights(n: int, most: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each post is in each resample, shape (at most `most`, posts); the first has all posts once."""
    yield np.ones((1, n))
    for start in range(0, RESAMPLES, most):
        yield random.multinomial(n, np.full(n, 1 / n), min(most, RESAMPLES - start)).astype(float)


def _scored(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Scored:
    spearman, auc = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Scored(
        Score(
            spearman=_known(spearman[0]),
            spearman_interval=_interval(spearman[1:]),
            auc=_known(auc[0]),
            auc_interval=_interval(auc[1:]),
        ),
        spearman[1:],
        auc[1:],
    )


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Midranks of `values` where each is there as often as its weight says; shape of `weights`, (resamples, posts)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums = np.add.reduceat(weights[:, order], starts, axis=1)
    middles = np.cumsum(sums, axis=1) - sums / 2
    ranks = np.empty_like(weights)
    ranks[:, order] = np.repeat(middles, np.diff(np.r_[starts, len(values)]), axis=1)
    return ranks


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation of two rows of ranks: Spearman's. NaN where either is constant."""
    total = weights.sum(axis=1, keepdims=True)
    a, b = (each - (weights * each).sum(axis=1, keepdims=True) / total for each in (a, b))
    scale = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 1e-9, (weights * a * b).sum(axis=1) / scale, np.nan)


def _auc(ranks: np.ndarray, successes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of pairs of a success and another post that are in order, ties half (Mann & Whitney 1947).

    NaN where there are too few of either.
    """
    if min(successes.sum(), (~successes).sum()) < LEAST_OF_EACH:
        return np.full(len(weights), np.nan)
    positive = weights[:, successes].sum(axis=1)
    negative = weights.sum(axis=1) - positive
    ranked = (weights[:, successes] * ranks[:, successes]).sum(axis=1) - positive**2 / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(positive * negative > 0, ranked / (positive * negative), np.nan)


def chance_of_order(predicted: np.ndarray, scores: np.ndarray, groups: Sequence[Hashable]) -> float:
    """The one-sided chance that posts, shuffled within their groups, would be in so good an order.

    Mantel's (1963) correlation of ranks over strata: the sum of the products of the ranks, centred within each group,
    over its standard deviation under all shuffles within the groups, is taken as normal. With ten posts the normal tail
    at 1 % asks for a correlation of 0.78 where the exact one asks for 0.75.

    Args:
        groups: of each post. Posts in groups of fewer than five are one group.

    Returns:
        1.0 where nothing is ordered at all.
    """
    sizes = Counter(groups)
    strata: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        strata.setdefault(group if sizes[group] >= SMALLEST_STRATUM else None, []).append(index)
    predicted, scores = rankdata(predicted), rankdata(scores)
    total = variance = 0.0
    for indices in strata.values():
        a, b = (each[indices] - each[indices].mean() for each in (predicted, scores))
        total += float(a @ b)
        variance += float((a @ a) * (b @ b)) / max(len(indices) - 1, 1)
    return float(ndtr(-total / math.sqrt(variance))) if variance > 1e-9 else 1.0


def _interval(values: np.ndarray) -> Interval | None:
    """Percentiles of the resamples; None where half of them say nothing."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return round(float(low), 6), round(float(high), 6)


def _known(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _rounded(ours: float | None, others: float | None) -> float | None:
    return None if ours is None or others is None else round(ours - others, 6)
