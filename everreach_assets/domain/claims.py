"""Claims: which traits go with better or worse standing, by which evidence, and which posts show it.

What belongs here: the correction for everything that was compared, the joint look at traits that overlap, and the
choice of the posts to open. What does not: one comparison (`comparisons.py`), which posts share what (`traits.py`,
`topics.py`), what to do about it (`recommendations.py`). Formulas and their sources: docs/strategies.md.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from everreach_assets.domain.comparisons import CONFIDENCE, Comparison, Members, Numbers, Posts, compare
from everreach_assets.domain.strategy_model import Claim, Direction, Evidence, Interval
from everreach_assets.domain.topics import Cluster, Vectors
from everreach_assets.domain.traits import Trait, claim_id, traits_of

MINIMUM_EFFECTIVE = 8.0
"""Effective posts on each side of a comparison: with fewer, one lucky post is the effect, and of shuffled strategies
more have a rule than the 5 % that are promised (docs/strategies.md)."""
LEAST_DAYS = 5
"""On which the posts of a rule were published: sixteen posts on one day about one event are one observation."""
MOST_HASHTAGS = 60
"""The most frequent ones are compared: each further comparison costs all others some of their power."""
EXPLAINED_SHARE = 0.5
MOST_EXPLORED = 5
LEAST_EXPLORED_POSTS = 2
EXEMPLARS = 3
CANDIDATES = 20
RELEVANCE = 0.7
"""Lambda of maximal marginal relevance: ten reposts of one success are not three examples."""


@dataclass(frozen=True)
class Finding:
    """A comparison with what it says.

    Attributes:
        interval: of the effect; of a rule the one after the correction.
        explained_by: the stronger trait that leaves little of the effect, where there is one.
    """

    comparison: Comparison
    evidence: Evidence
    interval: Interval
    explained_by: Trait | None = None

    @property
    def direction(self) -> Direction:
        if self.evidence == "explore":
            return "try"
        return "more" if self.comparison.effect > 0 else "less"


def memberships(posts: Posts, clusters: Sequence[Cluster]) -> dict[Trait, Members]:
    """Which posts share each trait, shape (posts,), in the order of the traits. The topics are traits too."""
    places: defaultdict[Trait, list[int]] = defaultdict(list)
    for place, each in enumerate(posts.outcomes):
        for trait in traits_of(each.text, each.post_type, each.published_at):
            places[trait].append(place)
    tags = Counter({trait: len(shared) for trait, shared in sorted(places.items()) if trait.kind == "hashtag"})
    rare = set(tags) - {trait for trait, _ in tags.most_common(MOST_HASHTAGS)}
    found = {Trait("topic", cluster.topic.topic_id): cluster.members for cluster in clusters}
    for trait in places.keys() - rare:
        found[trait] = np.zeros(len(posts.outcomes), dtype=np.bool_)
        found[trait][places[trait]] = True
    return dict(sorted(found.items()))


def compare_all(posts: Posts, traits: Mapping[Trait, Members]) -> list[Comparison]:
    """Each trait that some posts have and others have not, in the order of the traits.

    Two traits that split the posts alike (weekday and weekend) are one comparison: that of the first.
    """
    seen: set[bytes] = set()
    compared = []
    for trait, members in traits.items():
        if members.all() or not members.any() or {members.tobytes(), (~members).tobytes()} & seen:
            continue
        seen.add(members.tobytes())
        compared.append(compare(trait, members, posts))
    return compared


def find(posts: Posts, compared: Sequence[Comparison], clusters: Sequence[Cluster]) -> list[Finding]:
    """The rules, then the hypotheses, then what is worth exploring, each by the size of its effect.

    A rule has passed Holm's correction (1979) for all that was compared; a hypothesis only the plain 95 %. Where the
    search near a topic's centre says the opposite of its effect, the topic is no rule, and neither is what was seen on
    few days only: one event gives many posts.
    """
    lifts = {Trait("topic", cluster.topic.topic_id): cluster.topic.lift for cluster in clusters}
    enough = [each for each in compared if each.n_effective >= MINIMUM_EFFECTIVE]
    ranked = sorted(enough, key=lambda each: (each.p_value, each.trait))
    found: list[Finding] = []
    is_passing = True
    for step, each in enumerate(ranked):
        level = (1 - CONFIDENCE) / (len(ranked) - step)
        is_passing = is_passing and each.p_value < level
        if each.p_value >= 1 - CONFIDENCE:
            break
        explained_by = _explained_by(each, found, posts)
        lift = lifts.get(each.trait)
        is_doubted = lift is not None and (lift > 1) != (each.effect > 0)
        if is_passing and explained_by is None and not is_doubted and not _is_of_few_days(each, posts):
            found.append(Finding(each, "rule", each.interval(1 - level)))
        elif is_passing or explained_by is None:
            found.append(Finding(each, "hypothesis", each.interval(), explained_by))
    order = ("rule", "hypothesis")
    found.sort(key=lambda each: (order.index(each.evidence), -abs(each.comparison.effect), each.comparison.trait))
    return found + _explored(posts, [each for each in compared if each.n_effective < MINIMUM_EFFECTIVE])


def _is_of_few_days(each: Comparison, posts: Posts) -> bool:
    """Whether the posts with the trait, or those without, are of fewer days than a rule needs; not if none is dated."""
    for members in (each.members, ~each.members):
        times = (posts.outcomes[int(place)].published_at for place in np.flatnonzero(members))
        days = {at.date() for at in times if at is not None}
        if 0 < len(days) < LEAST_DAYS:
            return True
    return False


def _explained_by(each: Comparison, stronger: Sequence[Finding], posts: Posts) -> Trait | None:
    """The strongest trait at whose given value less than half of the effect is left, and that may be chance."""
    for other in stronger:
        if other.explained_by is None:
            left, p_value = _conditional(each, other.comparison.members, posts)
            if left / each.effect < EXPLAINED_SHARE and p_value > 1 - CONFIDENCE:
                return other.comparison.trait
    return None


def _conditional(each: Comparison, other: Members, posts: Posts) -> tuple[float, float]:
    """The effect at a given value of another trait, by weighted least squares on both, and its p-value."""
    sizes = np.bincount(posts.groups)[posts.groups]  # near-duplicates together weigh as one
    weights = posts.weights / sizes
    weights = weights * (weights.sum() / (weights**2).sum())  # so that they add up to the effective number of posts
    columns = np.stack([np.ones(len(weights)), each.members, other], axis=1).astype(np.float64)
    inverse = np.linalg.pinv(columns.T @ (columns * weights[:, None]))
    values = posts.values_for(each.trait)
    left = inverse @ columns.T @ (weights * values)
    freedom = max(weights.sum() - columns.shape[1], 1.0)
    spread = float((weights * (values - columns @ left) ** 2).sum() / freedom)
    error = max(float(np.sqrt(spread * inverse[1, 1])), 1e-12)
    return float(left[1]), float(2 * stdtr(freedom, -abs(left[1]) / error))


def _explored(posts: Posts, few: Sequence[Comparison]) -> list[Finding]:
    """Traits of few posts that did well so far, the most promising first: what is not known yet is worth a try.

    Their intervals are by the spread of the other posts: that of two or three says nothing.
    """
    found = []
    for each in few:
        if each.ours.n >= LEAST_EXPLORED_POSTS and each.effect > 0 and each.ours.n_effective < MINIMUM_EFFECTIVE:
            error = float(np.sqrt(each.others.variance * (1 / each.ours.n_effective + 1 / each.others.n_effective)))
            margin = float(stdtrit(max(each.others.n_effective - 1, 1.0), (1 + CONFIDENCE) / 2)) * error
            found.append(Finding(each, "explore", (each.effect - margin, each.effect + margin)))
    found.sort(key=lambda each: (-each.interval[1], each.comparison.trait))
    chosen = found[:MOST_EXPLORED]
    return sorted(chosen, key=lambda each: (-each.comparison.effect, each.comparison.trait))


def claim_of(finding: Finding, platform: str, posts: Posts, rows: Vectors, clusters: Sequence[Cluster]) -> Claim:
    """The claim as it is stored and shown."""
    each = finding.comparison
    topic = next((cluster for cluster in clusters if Trait("topic", cluster.topic.topic_id) == each.trait), None)
    values = posts.values_for(each.trait)
    low, high = finding.interval
    examples = min(EXEMPLARS, each.ours.n // 2)
    best = _examples(each.members, values, posts, rows, topic.near_successes if topic else [], examples)
    rest = each.members & ~np.isin(posts.groups, posts.groups[best])  # no post is an example of both
    worst = _examples(rest, -values, posts, rows, topic.near_flops if topic else [], examples)
    return Claim(
        claim_id=claim_id(platform, each.trait),
        kind=each.trait.kind,
        trait=topic.topic.words if topic else each.trait.name,
        direction=finding.direction,
        evidence=finding.evidence,
        effect=round(each.effect, 6),
        interval=(round(low, 6), round(high, 6)),
        n=each.ours.n,
        n_effective=round(each.ours.n_effective, 2),
        exemplars=[posts.outcomes[place].doc_id for place in best],
        counter_exemplars=[posts.outcomes[place].doc_id for place in worst],
        explained_by=claim_id(platform, finding.explained_by) if finding.explained_by else "",
    )


def _examples(
    members: Members, values: Numbers, posts: Posts, rows: Vectors, found: Sequence[int], count: int
) -> list[int]:
    """Posts with high values that differ from each other: of those found near a topic's centre, then of all members.

    Maximal marginal relevance (Carbonell & Goldstein 1998), near-duplicates once.
    """
    places = np.flatnonzero(members)
    best = places[np.argsort(-values[places], kind="stable")][:CANDIDATES]
    chosen: list[int] = []
    for candidates in ([place for place in found if members[place]], best.tolist()):
        low, high = values[candidates].min(initial=np.inf), values[candidates].max(initial=-np.inf)
        relevance = (values - low) / (high - low) if high > low else np.zeros(len(values))
        while len(chosen) < count:
            shown = {posts.groups[place] for place in chosen}
            left = [place for place in candidates if posts.groups[place] not in shown]
            if not left:
                break
            likeness = (rows[left] @ rows[chosen].T).max(axis=1, initial=0.0)
            scores = RELEVANCE * relevance[left] - (1 - RELEVANCE) * likeness
            chosen.append(left[int(np.argmax(np.round(scores, 6)))])
    return chosen
