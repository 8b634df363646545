"""What a strategy is: the pydantic models of the artefact that is stored, shown, compared and scored with.

What belongs here: fields, units and what must hold between them. What does not: how claims are found
(`strategies.py`), how a strategy is tested (`backtests.py`), how it is drawn (`reports.py`, `plots.py`).
The JSON schema in docs/strategy.schema.json is made from these models.
"""

import datetime as dt
import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Evidence = Literal["rule", "hypothesis", "explore"]
Direction = Literal["more", "less", "try"]
ClaimKind = Literal["topic", "format", "slot", "length", "hook", "hashtag", "link"]
What = Literal["new", "gone", "stronger", "weaker", "reversed"]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[float, float]


class Part(BaseModel):
    """What every part of a strategy is: fixed once it is built, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Claim(Part):
    """A trait that goes with better or worse standing.

    Attributes:
        claim_id: the same for the same kind and trait in every strategy of a platform, so that claims can be followed.
        trait: what the posts share, in words.
        effect: difference of the weighted mean standings, in log space; `ratio` is e to it.
        interval: of the effect; at 95 % after the correction for all comparisons where the claim is a rule.
        n: distinct posts that share the trait; near-duplicates count once.
        n_effective: what they weigh, by confidence and age (Kish 1965: squared sum of weights over sum of squares).
        exemplars: ids of the best of them; `counter_exemplars`: of the worst.
        explained_by: id of a stronger claim about nearly the same posts; at a given value of that one, less than half
            of this effect is left. Empty where there is none. Such a claim is never a rule.
    """

    claim_id: str
    kind: ClaimKind
    trait: str
    direction: Direction
    evidence: Evidence
    effect: float
    interval: Interval
    n: int
    n_effective: float
    exemplars: list[str]
    counter_exemplars: list[str]
    explained_by: str = ""

    @property
    def ratio(self) -> float:
        """How many times the standing of the other posts."""
        return math.exp(self.effect)


class Recommendation(Part):
    """What to publish next, and how often: the propensity is stored, since later outcomes follow our own advice.

    Attributes:
        propensity: share of the next posts that should have the trait; in `do_less`, that may still have it.
    """

    claim_id: str
    trait: str
    propensity: Share


class Topic(Part):
    """A cluster of similar posts.

    Attributes:
        terms: that set it apart, the most typical first.
        x, y: where it lies on the topic map (two principal components of the centres; no unit).
        standing: mean of its posts, in log space.
        central_posts: ids of the most typical posts.
        lift: odds of a success against a flop near its centre, against those among all posts; None where the search
            found none of either.
    """

    topic_id: str
    terms: list[str]
    posts: int
    standing: float
    x: float
    y: float
    central_posts: list[str]
    lift: float | None = None

    @property
    def words(self) -> str:
        """The topic as a trait."""
        return f"topic: {', '.join(self.terms) or 'similar posts'}"


class Score(Part):
    """How well predictions ordered the posts that were held out.

    Attributes:
        spearman: rank correlation of predicted and actual score; None where either is constant.
        auc: area under the ROC curve of "hit or viral"; None with fewer than five posts of either kind.
        spearman_interval, auc_interval: bootstrap, 95 %.
    """

    spearman: float | None
    spearman_interval: Interval | None
    auc: float | None
    auc_interval: Interval | None


class Margin(Part):
    """How much better the strategy ordered the held-out posts than another did, on the same resamples of them.

    Attributes:
        spearman, auc: differences; above zero where the strategy is ahead. No order at all counts as 0 and as 0.5.
        spearman_interval, auc_interval: bootstrap, 95 %.
    """

    spearman: float
    spearman_interval: Interval | None
    auc: float | None
    auc_interval: Interval | None


class Backtest(Part):
    """The strategy fitted without the last fifth of the matured outcomes, and how it predicted them.

    Attributes:
        cut_at: the first held-out post was published then.
        trained_on, tested_on: posts.
        strategy: this strategy's score; the others are of the same posts.
        chance: one-sided, that posts shuffled within their accounts would be in so good an order, in the held-out fifth
            and in earlier predictions of the same kind (`backtests.py`).
        coverage: share of the held-out posts whose score lay in the interval that was foreseen at 80 %.
        baselines: `account_mean`, `tfidf_logistic`, and `in_force` where a strategy was in force.
        margins: over each of the baselines.
    """

    cut_at: dt.datetime
    trained_on: int
    tested_on: int
    strategy: Score
    chance: Share
    coverage: Share
    baselines: dict[str, Score]
    margins: dict[str, Margin]


class Verdict(Part):
    """What the gate says of a new strategy.

    Attributes:
        is_accepted: it takes the place of the one in force; else it is kept as `held`.
        reason: in a sentence, with the numbers.
    """

    is_accepted: bool
    reason: str


class Inputs(Part):
    """What a strategy was built from, so that it can be built again.

    Attributes:
        snapshot_watermark: the highest `outcome_snapshots.seq` that it consumed.
        outcomes: posts that were compared; `matured` of them are final.
        space_id: of the vectors that the topics were found in; empty where there were none.
    """

    snapshot_watermark: int
    outcomes: int
    matured: int
    labels: dict[str, int]
    builder_version: str
    classifier_version: str
    space_id: str = ""


class Change(Part):
    """A claim that is new, gone or another one than in the strategy before.

    Attributes:
        before, after: evidence and effect in words; empty where the claim is new or gone.
    """

    claim_id: str
    trait: str
    what: What
    before: str = ""
    after: str = ""


class Strategy(Part):
    """What is known to work on a platform, from the outcomes up to now.

    Attributes:
        claims: rules first, then hypotheses, then what is worth exploring, each by the size of its effect.
        do_more, do_less, try_next: what follows from the claims, the largest propensity first; within a kind, those of
            `do_more` and `try_next` and a free rest add up to one.
        backtest: None where there were too few matured outcomes to hold a fifth back.
        changes: since the strategy that was in force before.
        wording: a language model's phrasing of claims by `claim_id`, where one is configured; numbers were checked.
    """

    platform: str
    inputs: Inputs
    claims: list[Claim] = []
    do_more: list[Recommendation] = []
    do_less: list[Recommendation] = []
    try_next: list[Recommendation] = []
    topics: list[Topic] = []
    backtest: Backtest | None = None
    verdict: Verdict | None = None
    changes: list[Change] = []
    wording: dict[str, str] = {}
