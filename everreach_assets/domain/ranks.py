"""Merging ranked lists whose scores cannot be compared."""

from collections import defaultdict
from collections.abc import Sequence

K = 60
"""Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods"
(SIGIR 2009): what they found best, and little depends on it."""


def fused(lists: Sequence[Sequence[str]]) -> list[tuple[str, float]]:
    """The ids of all lists by reciprocal rank fusion, best first, each with its score: the sum of 1 / (60 + rank).

    Args:
        lists: ids, best first, each once in a list. Of ids with the same score, that of the earlier list comes first.
    """
    scores: defaultdict[str, float] = defaultdict(float)
    for ranked in lists:
        for rank, each in enumerate(ranked, start=1):
            scores[each] += 1.0 / (K + rank)
    return sorted(scores.items(), key=lambda item: -item[1])  # stable: equal scores stay in the order of the lists
