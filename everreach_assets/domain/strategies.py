"""What works on a platform: a strategy from labelled outcomes, their vectors and a search over them.

What belongs here: the order in which a strategy is put together. What does not: each step (`traits.py`, `topics.py`,
`comparisons.py`, `claims.py`, `recommendations.py`, `strategy_changes.py`), its test on posts that it has not seen
(`backtests.py`), reading outcomes and storing a strategy. Formulas and their sources: docs/strategies.md.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

from everreach_assets.domain import claims as claiming
from everreach_assets.domain import topics as topic_finding
from everreach_assets.domain.comparisons import posts_of
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.recommendations import recommend
from everreach_assets.domain.strategy_changes import changes_between
from everreach_assets.domain.strategy_model import Inputs, Strategy
from everreach_assets.domain.topics import Search, Vectors

BUILDER_VERSION = "3"

MOST_OUTCOMES = 20_000
"""The latest: older posts say little of today, and all pairs that might be near-duplicates grow with the square."""


def considered(outcomes: Sequence[LabelledOutcome], most: int = MOST_OUTCOMES) -> list[LabelledOutcome]:
    """The outcomes that a strategy is built from, in the order of their ids: at most so many, those published last."""
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    latest = sorted(outcomes, key=lambda each: (each.published_at or oldest, each.doc_id))[-most:]
    return sorted(latest, key=lambda each: each.doc_id)


def build_strategy(
    platform: str,
    outcomes: Sequence[LabelledOutcome],
    vectors: Mapping[str, Vectors],
    search: Search,
    *,
    inputs: Inputs,
    previous: Strategy | None = None,
    seed: int = 0,
) -> Strategy:
    """The strategy that the outcomes support, without backtest and verdict; the same outcomes give the same strategy.

    Args:
        outcomes: posts of the platform that were compared with others, in any order, each once; see `considered`.
        vectors: of their texts by `doc_id`, all of one space; a post without a text has none.
        search: (a vector of that space, n, labels) -> ids and similarities of the n nearest outcomes of the platform
            that have one of the labels, nearest first. It is called twice for each topic, 24 times at most.
        inputs: what the strategy is built from.
        previous: the strategy in force: its topics keep their ids, and the changes are told from it.
        seed: of the clusters and the draws.
    """
    ordered = considered(outcomes)
    rows = topic_finding.matrix(ordered, vectors)
    clustered = topic_finding.assign(rows, seed)
    posts = posts_of(ordered, topic_finding.near_duplicates(ordered, rows, clustered))
    clusters = topic_finding.topics_of(posts, rows, clustered, search, previous.topics if previous else ())
    compared = claiming.compare_all(posts, claiming.memberships(posts, clusters))
    findings = claiming.find(posts, compared, clusters)
    claims = [claiming.claim_of(each, platform, posts, rows, clusters) for each in findings]
    advice = recommend(findings, claims, seed=seed)
    return Strategy(
        platform=platform,
        inputs=inputs,
        claims=claims,
        do_more=advice.do_more,
        do_less=advice.do_less,
        try_next=advice.try_next,
        topics=[cluster.topic for cluster in clusters],
        changes=changes_between(previous.claims, claims) if previous else [],
    )
