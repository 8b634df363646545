"""Topics: clusters of similar posts, their names, and near-duplicates.

What belongs here: what is found from the vectors of many posts. What does not: whether a topic does well
(`claims.py`); making and storing vectors. Formulas and their sources: docs/strategies.md.
"""

import hashlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from threadpoolctl import threadpool_limits

from everreach_assets.domain.comparisons import Groups, Members, Posts, side
from everreach_assets.domain.labelled_outcomes import SUCCESSES, LabelledOutcome
from everreach_assets.domain.outcomes import Label
from everreach_assets.domain.strategy_model import Topic

MOST_TOPICS = 12
"""What a person reads; below it sqrt(posts / 2) (Mardia 1979), so that a topic has some sqrt(2 posts): 14 of 100."""
FITTED_POSTS = 4_000
"""The centres of twelve clusters move by little with more: 45,000 posts would take half a minute."""
STARTS = 2
NEAR_DUPLICATE = 0.95
NEIGHBOURS = 20
FLOPS: frozenset[Label] = frozenset({"flop"})
TOPIC_TERMS = 4
CENTRAL_POSTS = 5
LEAST_LIKENESS = 1 / 3
"""Of a further post to a topic's centre, against that of its central posts: 99 of 100 posts of the sample have more,
sentences about something else a quarter at most."""
SMALLEST_LENGTH = 1e-12
ROWS = 2_048
"""Rows of one block of similarities."""
WORD = re.compile(r"[^\W\d_]{4,}")
WORDS = re.compile(r"\w+")
LINK = re.compile(r"https?://\S+")
NO_TERMS: frozenset[str] = ENGLISH_STOP_WORDS | {
    "email",
    "phone",
    "name",
}  # and what the scrubber puts in the place of people

Vectors = npt.NDArray[np.float32]
Search = Callable[[Vectors, int, Sequence[Label]], Sequence[tuple[str, float]]]
"""(a vector, n, labels) -> ids and similarities of the n outcomes nearest to it that have one of the labels."""


@dataclass(frozen=True)
class Cluster:
    """A topic with its posts.

    Attributes:
        members: which posts are in it, shape (posts,).
        near_successes, near_flops: places of the posts of either label that are nearest to the centre, in it.
    """

    topic: Topic
    members: Members
    near_successes: list[int]
    near_flops: list[int]


def matrix(outcomes: Sequence[LabelledOutcome], vectors: Mapping[str, Vectors]) -> Vectors:
    """The vectors of the outcomes with length 1, shape (posts, components); a row of zeros where there is none."""
    width = len(next(iter(vectors.values()))) if vectors else 1
    rows = np.zeros((len(outcomes), width), dtype=np.float32)
    for place, each in enumerate(outcomes):
        if each.doc_id in vectors:
            rows[place] = vectors[each.doc_id]
    return _unit(rows)


def assign(rows: Vectors, seed: int) -> Groups:
    """The cluster of each post, shape (posts,); -1 where it has no vector.

    K-means on vectors of length 1, the centres brought to length 1 too: the spherical form (Dhillon & Modha 2001).
    """
    known = np.flatnonzero(rows.any(axis=1))
    clusters = np.full(len(rows), -1, dtype=np.intp)
    k = min(MOST_TOPICS, round(math.sqrt(len(known) / 2)), len(known))
    if k < 2:
        return clusters
    random = np.random.default_rng(seed)
    fitted = known if len(known) <= FITTED_POSTS else np.sort(random.choice(known, FITTED_POSTS, replace=False))
    # On one thread: sums of several differ in the last digit from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reposts alone have fewer different vectors than clusters
        centres = KMeans(k, n_init=STARTS, random_state=seed).fit(rows[fitted]).cluster_centers_
        clusters[known] = np.argmax(rows[known] @ _unit(centres).T, axis=1)
    return clusters


def near_duplicates(outcomes: Sequence[LabelledOutcome], rows: Vectors, clusters: Groups) -> Groups:
    """A number for each post, shape (posts,), the same for posts that say the same.

    A post joins the first by id, of its cluster, whose vector has a cosine above 0.95 with its own, and the first whose
    text is equal but for case, spaces, signs and links.
    """
    first = np.arange(len(outcomes))
    for cluster in range(clusters.max(initial=-1) + 1):
        members = np.flatnonzero(clusters == cluster)
        ours = rows[members]
        for start in range(0, len(members), ROWS):
            # Only the first of all that are alike: pairs of a bot's 10,000 equal posts would not fit into memory.
            alike = ours[start : start + ROWS] @ ours.T > NEAR_DUPLICATE
            first[members[start : start + ROWS]] = members[alike.argmax(axis=1)]
    said: dict[str, int] = {}
    equal = np.arange(len(outcomes))
    for place, each in enumerate(outcomes):
        if words := " ".join(WORDS.findall(LINK.sub("", each.text.casefold()))):
            equal[place] = said.setdefault(words, place)
    left, right = np.tile(np.arange(len(outcomes)), 2), np.concatenate([first, equal])
    joined = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(outcomes), len(outcomes)))
    groups: Groups = connected_components(joined, directed=False)[1].astype(np.intp)
    return groups


def topics_of(
    posts: Posts, rows: Vectors, clusters: Groups, search: Search, previous: Sequence[Topic] = ()
) -> list[Cluster]:
    """The clusters with their names, their place on the map, and what the search finds near their centres.

    Two searches a cluster: the nearest successes and the nearest flops.
    """
    numbers = range(clusters.max(initial=-1) + 1)
    memberships = [members for number in numbers if (members := clusters == number).any()]
    if not memberships:
        return []
    centres = _unit(np.array([rows[members].mean(axis=0) for members in memberships]))
    central = [_central(members, rows, centre, posts) for members, centre in zip(memberships, centres, strict=True)]
    names = _ids(central, previous)
    terms_of = [_terms(each.text) for each in posts.outcomes]
    rarity = Counter(term for terms in terms_of for term in terms)
    places = {each.doc_id: place for place, each in enumerate(posts.outcomes)}
    shown = _map(centres)
    found = []
    for number, members in enumerate(memberships):
        successes, flops = (_nearest(search, centres[number], labels, places) for labels in (SUCCESSES, FLOPS))
        topic = Topic(
            topic_id=names[number],
            terms=_typical_terms([terms_of[place] for place in np.flatnonzero(members)], rarity, len(terms_of)),
            posts=int(members.sum()),
            standing=round(side(posts.standings[members], posts.weights[members], posts.groups[members]).mean, 6),
            x=round(float(shown[number, 0]), 6),
            y=round(float(shown[number, 1]), 6),
            central_posts=central[number],
            lift=_lift(successes, flops, posts.outcomes),
        )
        inside = [[place for place, _ in side_ if members[place]] for side_ in (successes, flops)]
        found.append(Cluster(topic, members, *inside))
    return sorted(found, key=lambda cluster: cluster.topic.topic_id)


def nearest_topic(vector: Vectors, topics: Sequence[Topic], vectors: Mapping[str, Vectors]) -> Topic | None:
    """The topic that a further post belongs to, as k-means would say: the one whose centre is nearest.

    The mean of its central posts, of those that are left, stands for the centre, which is stored nowhere. A post that
    is much farther from it than they are is of no topic.

    Args:
        vector: of the post.
        vectors: of the topics' central posts, in the same space, by id; posts that are gone may be missing.

    Returns:
        None where no topic is near, or no central post of any is left.
    """
    known = [(topic, [vectors[each] for each in topic.central_posts if each in vectors]) for topic in topics]
    known = [(topic, rows) for topic, rows in known if rows]
    if not known:
        return None
    central = [_unit(np.array(rows)) for _, rows in known]
    centres = _unit(np.array([rows.mean(axis=0) for rows in central]))
    likeness = centres @ vector
    nearest = int(np.argmax(likeness))
    usual = float((central[nearest] @ centres[nearest]).mean())
    return known[nearest][0] if likeness[nearest] >= LEAST_LIKENESS * usual else None


def _unit(centres: npt.NDArray[np.float32]) -> Vectors:
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres / np.maximum(lengths, SMALLEST_LENGTH), dtype=np.float32)


def _central(members: Members, rows: Vectors, centre: Vectors, posts: Posts) -> list[str]:
    """The posts nearest to the centre, near-duplicates once."""
    places = np.flatnonzero(members)
    ranked = places[np.argsort(-np.round(rows[places] @ centre, 6), kind="stable")]
    first = {posts.groups[place]: place for place in reversed(ranked)}
    return [posts.outcomes[place].doc_id for place in ranked if first[posts.groups[place]] == place][:CENTRAL_POSTS]


def _ids(central: Sequence[Sequence[str]], previous: Sequence[Topic]) -> list[str]:
    """A topic keeps the id that it had: that of the earlier topic with which it shares most of the central posts."""
    shared = sorted(
        (-len(set(posts) & set(topic.central_posts)), topic.topic_id, number)
        for number, posts in enumerate(central)
        for topic in previous
    )
    names: dict[int, str] = {}
    for negative, topic_id, number in shared:
        if negative < 0 and number not in names and topic_id not in names.values():
            names[number] = topic_id
    fresh = (f"topic-{hashlib.sha256(posts[0].encode()).hexdigest()[:8]}" for posts in central)
    return [names.get(number, name) for number, name in enumerate(fresh)]


def _nearest(
    search: Search, centre: Vectors, labels: Iterable[Label], places: Mapping[str, int]
) -> list[tuple[int, float]]:
    found = search(centre, NEIGHBOURS, sorted(labels))
    return [(places[doc_id], similarity) for doc_id, similarity in found if doc_id in places]


def _lift(
    successes: Sequence[tuple[int, float]], flops: Sequence[tuple[int, float]], outcomes: Sequence[LabelledOutcome]
) -> float | None:
    """Odds of a success against a flop among the twenty nearest of both, against those among all posts.

    Half a post is added to each count (Haldane 1956), so that no count of zero is an infinite lift.
    """
    all_successes = sum(each.is_success for each in outcomes)
    all_flops = sum(each.label == "flop" for each in outcomes)
    if not successes or not flops:
        return None
    both = [(-similarity, place, 1) for place, similarity in successes] + [(-far, place, 0) for place, far in flops]
    near = sum(is_success for _, _, is_success in sorted(both)[:NEIGHBOURS])
    rest = min(len(both), NEIGHBOURS) - near
    return round((near + 0.5) / (rest + 0.5) / ((all_successes + 0.5) / (all_flops + 0.5)), 6)


def _map(centres: Vectors) -> npt.NDArray[np.float64]:
    """Two principal components of the centres; each has the sign that makes its largest part positive."""
    centred = np.asarray(centres - centres.mean(axis=0), dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    shown = np.zeros((len(centres), 2))
    shown[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    largest = shown[np.abs(shown).argmax(axis=0), [0, 1]]
    return np.asarray(shown * np.where(largest < 0, -1.0, 1.0))


def _terms(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(LINK.sub(" ", text))} - NO_TERMS


def _typical_terms(ours: Sequence[set[str]], rarity: Mapping[str, int], posts: int) -> list[str]:
    """The terms that most set the posts apart: how many have it, times the log of its rarity in all (tf-idf)."""
    counts = Counter(term for terms in ours for term in terms)
    weights = {
        term: count * math.log(posts / rarity[term])
        for term, count in counts.items()
        if count > 1 and rarity[term] < posts
    }
    return sorted(weights, key=lambda term: (-weights[term], term))[:TOPIC_TERMS]
