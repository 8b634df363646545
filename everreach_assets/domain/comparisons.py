"""The posts that share a trait against all others: weighted means, their difference and its interval.

What belongs here: what each post weighs, what counts once, and the statistics of one comparison. What does not: which
comparisons become claims (`claims.py`). Formulas and their sources: docs/strategies.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtr, stdtrit

from everreach_assets.domain.labelled_outcomes import MOST_SPREADS, LabelledOutcome
from everreach_assets.domain.outcomes import SMALLEST_SPREAD
from everreach_assets.domain.traits import Trait

HALF_LIFE_DAYS = 365.0
"""Of a post's weight; measured, see docs/strategies.md."""
SECONDS_A_DAY = 86_400
SMALLEST_CONFIDENCE = 0.05
"""No post weighs nothing: a weight of zero would have no mean."""
CONFIDENCE = 0.95
PRIOR_POSTS = 10
ACCOUNT_WINDOW = 101
"""Posts of an account around a post that its format is compared with: as many as a label's reference, and itself."""

Numbers = npt.NDArray[np.float64]
Groups = npt.NDArray[np.intp]
Members = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Posts:
    """The posts of a platform as numbers, each array in the order of `outcomes`, which is that of their ids.

    Attributes:
        standings: in log space, against earlier posts of the account and type.
        in_account: the same against the account's posts of every type: by `standings`, which are relative to the type,
            no type could be better than another.
        weights: by confidence and age.
        groups: near-duplicates have the same number, from 0 without gaps.
    """

    outcomes: Sequence[LabelledOutcome]
    standings: Numbers
    in_account: Numbers
    weights: Numbers
    groups: Groups

    def values_for(self, trait: Trait) -> Numbers:
        """The standings that posts with and without the trait are compared by."""
        return self.in_account if trait.kind == "format" else self.standings


def posts_of(outcomes: Sequence[LabelledOutcome], groups: Groups) -> Posts:
    """The numbers of the outcomes, which are in the order of their ids."""
    standings = np.array([each.standing for each in outcomes], dtype=np.float64)
    return Posts(
        outcomes,
        _less_account(outcomes, standings),
        _less_account(outcomes, _in_account(outcomes)),
        _weights(outcomes),
        groups,
    )


def _less_account(outcomes: Sequence[LabelledOutcome], standings: Numbers) -> Numbers:
    """The standings less the mean of their account, as far as its number of posts supports it.

    Posts of a growing account stand above their reference, which are its earlier posts: without this, what such an
    account does often would be a success. Of an account with ten posts half of the mean is taken off.
    """
    groups = pd.Series(standings).groupby([each.account for each in outcomes])
    return np.asarray(standings - groups.transform("sum") / (groups.transform("size") + PRIOR_POSTS), dtype=np.float64)


def _weights(outcomes: Sequence[LabelledOutcome]) -> Numbers:
    """Confidence times 0.5^(age / half-life), the age counted from the newest post; unknown times weigh as the oldest.

    From the newest post and not from today: the same outcomes give the same strategy whenever it is built.
    """
    times = np.array([each.published_at.timestamp() if each.published_at else np.nan for each in outcomes])
    ages = (np.nanmax(times) - times) / SECONDS_A_DAY if np.isfinite(times).any() else np.zeros(len(times))
    ages = np.where(np.isnan(ages), np.nanmax(ages, initial=0.0), ages)
    confidence = np.array([max(each.confidence, SMALLEST_CONFIDENCE) for each in outcomes], dtype=np.float64)
    return np.asarray(confidence * 0.5 ** (ages / HALF_LIFE_DAYS))


def _in_account(outcomes: Sequence[LabelledOutcome]) -> Numbers:
    """ln(1 + value) less the median of the account's posts around it, clipped to three robust spreads of the account.

    A moving median: an account that grows tenfold would otherwise make every trait of its later years a success.
    """
    table = pd.DataFrame(
        {
            "account": [f"{each.account}\0{each.metric}" for each in outcomes],
            "at": [each.published_at.timestamp() if each.published_at else -math.inf for each in outcomes],
            "log": [math.log1p(each.value) for each in outcomes],
        }
    ).sort_values(["account", "at"], kind="stable")
    logs = table.groupby("account", sort=False)["log"]
    typical = logs.transform(lambda log: log.rolling(ACCOUNT_WINDOW, center=True, min_periods=1).median())
    residual = table["log"] - typical
    spread = (1.4826 * residual.abs().groupby(table["account"]).transform("median")).clip(lower=SMALLEST_SPREAD)
    clipped = residual.clip(-MOST_SPREADS * spread, MOST_SPREADS * spread)
    return np.asarray(clipped.sort_index().to_numpy(dtype=np.float64))


@dataclass(frozen=True)
class Side:
    """Some posts, near-duplicates taken as one.

    Attributes:
        mean, variance: weighted; the variance is that of the population, unbiased (reliability weights).
        n: groups of near-duplicates.
        n_effective: Kish's effective size, (sum of weights) squared over sum of squared weights.
    """

    mean: float
    variance: float
    n: int
    n_effective: float


def side(values: Numbers, weights: Numbers, groups: Groups) -> Side:
    """The weighted mean of some posts, at least one. A group of near-duplicates weighs as its mean post."""
    counts = np.bincount(groups)
    present = counts > 0
    totals = np.bincount(groups, weights)[present]
    means = np.bincount(groups, weights * values)[present] / totals
    weight = totals / counts[present]
    total, squares = weight.sum(), (weight**2).sum()
    mean = float((weight * means).sum() / total)
    freedom = total - squares / total
    variance = float((weight * (means - mean) ** 2).sum() / freedom) if len(means) > 1 else 0.0
    return Side(mean, variance, len(means), float(total**2 / squares))


@dataclass(frozen=True)
class Comparison:
    """The posts that share a trait (`ours`) against all others.

    Attributes:
        members: which posts share it, shape (posts,).
        effect: difference of the weighted mean standings, in log space.
        error: its standard error.
        freedom: degrees of freedom of its interval.
    """

    trait: Trait
    members: Members
    ours: Side
    others: Side
    error: float
    freedom: float

    @property
    def effect(self) -> float:
        return self.ours.mean - self.others.mean

    @property
    def n_effective(self) -> float:
        """Of the smaller side."""
        return min(self.ours.n_effective, self.others.n_effective)

    @property
    def p_value(self) -> float:
        """Two-sided; 1 where two constants leave nothing to judge an effect by."""
        # Two constants but for rounding have no spread.
        return float(2 * stdtr(self.freedom, -abs(self.effect) / self.error)) if self.error > 1e-9 else 1.0

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Of the effect, by Student's t."""
        margin = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        return self.effect - margin, self.effect + margin


def compare(trait: Trait, members: Members, posts: Posts) -> Comparison:
    """Compare by Welch's t with effective sizes (Welch 1947, Kish 1965). Both sides have posts."""
    values = posts.values_for(trait)
    ours, others = (side(values[which], posts.weights[which], posts.groups[which]) for which in (members, ~members))
    a, b = ours.variance / ours.n_effective, others.variance / others.n_effective
    parts = a**2 / max(ours.n_effective - 1, 1e-9) + b**2 / max(others.n_effective - 1, 1e-9)
    freedom = (a + b) ** 2 / parts if parts > 0 else 1.0
    return Comparison(trait, members, ours, others, math.sqrt(a + b), freedom)
