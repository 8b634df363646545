"""The model of a platform's outcomes: what score a post may be expected to get, and its chance to be a hit or viral.

Three members are averaged, since each alone is ahead on some sets and behind on others (docs/strategies.md#measured):
ridge regression on terms (Hoerl & Kennard 1970), extremely randomised trees (Geurts, Ernst & Wehenkel 2006), and the
nearest neighbours in the space of the local provider. It is fitted from rows whenever it is needed and stored nowhere.
What does not belong here: what it reads off a post (`post_features.py`), judging it (`backtests.py`).
"""

import datetime as dt
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.labelled_outcomes import MOST_SPREADS, LabelledOutcome
from everreach_assets.domain.post_features import Matrices, PostFeatures, Publishable, clipped_score

LARGEST_TRAINING = 5_000
"""The most recent outcomes that are learned from: a fit stays within seconds, and what worked years ago counts less."""
LEAST_OUTCOMES = 20
"""With fewer, the model foresees "as usual" with the interval of what there was."""
FOLDS = (0.6, 0.8, 1.0)
"""Of the outcomes in time: fitted on those before a bound, the model predicts those up to the next. So it learns from
nothing but real predictions how far to trust itself."""
COVERAGE = 0.8
CHUNK_POSTS = 2_000
"""Predicted together: 80 MB of similarities to the largest training."""
NEIGHBOURS = 20
SAME_ACCOUNT = 0.1
"""A post of the same account is nearer by this much cosine: posts of others count only where they are more alike."""
LEAST_SLOPE, MOST_SLOPE = 0.05, 1.0
"""However little past predictions said, their order is kept; however much, they are not stretched."""
SUCCESS_SHARE = 0.17
"""Of the classifier's log odds beside the expected score. Chosen, as all constants here, on the first four fifths of
the shared sets in time; 0.07 to 0.33 do alike."""


@dataclass(frozen=True)
class Foreseen:
    """What is expected of posts, in their order: arrays of shape (posts,).

    Attributes:
        score: robust z against the account's typical post.
        low, high: four of five posts come to lie between them.
        success_probability: of being a hit or viral.
    """

    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    success_probability: np.ndarray


@dataclass(frozen=True)
class _Members:
    """The three members and the classifier, fitted on the rows of outcomes."""

    ridge: Ridge
    trees: ExtraTreesRegressor
    classifier: LogisticRegression | None
    known: Matrices
    scores: np.ndarray

    def predict(self, posts: Matrices) -> tuple[np.ndarray, np.ndarray]:
        """The mean of the members, and what orders posts by their chance of success."""
        order, similarity = _nearest(posts, self.known, NEIGHBOURS)
        closeness = np.clip(similarity, 0, 1) ** 3
        nearest = (closeness * self.scores[order]).sum(axis=1) / (closeness.sum(axis=1) + 0.1)
        score = (self.ridge.predict(posts.wide) + self.trees.predict(posts.narrow) + nearest) / 3
        odds = 0.0 if self.classifier is None else self.classifier.decision_function(posts.wide)
        return score, score + SUCCESS_SHARE * odds


def _fit_members(rows: Matrices, scores: np.ndarray, successes: np.ndarray, weights: np.ndarray) -> _Members:
    classifier = None
    if 0 < successes.sum() < len(successes):
        classifier = LogisticRegression(max_iter=300).fit(rows.wide, successes, weights)
    return _Members(
        Ridge(3.0, solver="sparse_cg", tol=1e-3).fit(rows.wide, scores, weights),
        ExtraTreesRegressor(100, min_samples_leaf=5, max_features=0.33, random_state=0).fit(
            rows.narrow, scores, weights
        ),
        classifier,
        rows,
        scores,
    )


def _nearest(posts: Matrices, known: Matrices, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the nearest known posts and their cosines, nearest first; both of shape (posts, at most n)."""
    similarity = posts.vectors @ known.vectors.T
    order = np.argsort(
        -(similarity + SAME_ACCOUNT * (posts.accounts[:, None] == known.accounts)), axis=1, kind="stable"
    )[:, :n]
    return order, np.take_along_axis(similarity, order, axis=1)


@dataclass(frozen=True)
class _Calibration:
    """What past predictions were worth: how far to trust the next.

    Attributes:
        slope, centre: the expected score is `centre + slope * prediction`.
        low, high: tenth and ninetieth percentile of what the scores then missed it by.
        success: of the chance of success, from what orders posts by it; a constant where it could not be fitted.
    """

    slope: float
    centre: float
    low: float
    high: float
    success: LogisticRegression | float

    @classmethod
    def of(
        cls, predicted: np.ndarray, ordering: np.ndarray, scores: np.ndarray, successes: np.ndarray
    ) -> "_Calibration":
        slope = 0.0
        if len(scores) and np.ptp(predicted) > 0:
            clipped = np.clip(scores, -MOST_SPREADS, MOST_SPREADS)
            slope = float(np.clip(np.cov(predicted, clipped)[0, 1] / predicted.var(ddof=1), LEAST_SLOPE, MOST_SLOPE))
        centre = float(np.median(scores - slope * predicted))
        missed = scores - centre - slope * predicted
        low, high = np.quantile(missed, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        success: LogisticRegression | float = (float(successes.sum()) + 0.5) / (len(successes) + 1)
        if 0 < successes.sum() < len(successes):
            success = LogisticRegression().fit(ordering[:, None], successes)
        return cls(slope, centre, float(low), float(high), success)

    def success_probability(self, ordering: np.ndarray) -> np.ndarray:
        if isinstance(self.success, float):
            return np.full(len(ordering), self.success)
        return np.asarray(self.success.predict_proba(ordering[:, None])[:, 1])


@dataclass(frozen=True)
class Rehearsal:
    """Scores that were foreseen, shape (posts,), by a model of the outcomes before these posts."""

    predicted: np.ndarray
    posts: list[LabelledOutcome]


class StandingModel:
    """Made by `fit`.

    Attributes:
        outcomes: those that it was fitted on, in the order of their publication, the undated first.
        rehearsals: what it would have foreseen of the later ones from those before them alone, oldest first.
    """

    def __init__(self, outcomes: Sequence[LabelledOutcome]) -> None:
        self.outcomes = sorted(outcomes, key=lambda each: (_seconds(each.published_at), each.doc_id))
        self.outcomes = self.outcomes[-LARGEST_TRAINING:]
        scores = np.array([clipped_score(each) for each in self.outcomes])
        successes = np.array([each.is_success for each in self.outcomes])
        weights = np.array([each.confidence for each in self.outcomes]) + 1e-6
        self._features = PostFeatures(self.outcomes)
        rows = self._features.of_outcomes
        self._members = _fit_members(rows, scores, successes, weights)
        actual = np.array([each.score for each in self.outcomes])
        n = len(actual)
        bounds = [round(n * each) for each in FOLDS] if n >= LEAST_OUTCOMES else []
        self.rehearsals: list[Rehearsal] = []
        orderings = []
        for start, end in itertools.pairwise(bounds):
            members = _fit_members(rows[:start], scores[:start], successes[:start], weights[:start])
            predicted, ordering = members.predict(rows[start:end])
            self.rehearsals.append(Rehearsal(predicted, self.outcomes[start:end]))
            orderings.append(ordering)
        first = bounds[0] if bounds else 0
        blank = np.zeros(n)
        self._calibration = _Calibration.of(
            np.concatenate([each.predicted for each in self.rehearsals]) if bounds else blank,
            np.concatenate(orderings) if bounds else blank,
            actual[first:],
            successes[first:],
        )

    def predict(self, posts: Sequence[Publishable]) -> Foreseen:
        """What is expected of posts, published or not; accounts, types and times may be unknown."""
        parts = [
            self._members.predict(self._features.matrices(posts[start : start + CHUNK_POSTS]))
            for start in range(0, len(posts), CHUNK_POSTS)
        ]
        predicted, ordering = (np.concatenate(each) for each in zip(*parts, strict=True))
        found = self._calibration
        score = found.centre + found.slope * predicted
        return Foreseen(score, score + found.low, score + found.high, found.success_probability(ordering))

    def similar(self, post: Publishable, n: int) -> list[tuple[LabelledOutcome, float]]:
        """The outcomes that are spelled most like the post, with their cosines; those of its account come nearer."""
        order, similarity = _nearest(self._features.matrices([post]), self._members.known, n)
        return [
            (self.outcomes[at], float(cosine)) for at, cosine in zip(order[0], similarity[0], strict=True) if cosine > 0
        ]


def fit(outcomes: Sequence[LabelledOutcome]) -> StandingModel:
    """Fit the model; the same outcomes give the same model, in any order.

    Args:
        outcomes: of one platform, at least one; of more than `LARGEST_TRAINING`, the most recent.

    Raises:
        InvalidInput: there are none.
    """
    if not outcomes:
        raise InvalidInput("a model needs at least one labelled outcome: record outcomes of the platform first")
    return StandingModel(outcomes)


def _seconds(at: dt.datetime | None) -> float:
    return -math.inf if at is None else at.timestamp()
