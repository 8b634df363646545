"""Topics: clusters of vectors with names, ids that stay, near-duplicates, and what the search near a centre says."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from everreach_assets.domain import topics
from everreach_assets.domain.comparisons import posts_of
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.sample import SEED
from everreach_assets.domain.strategy_model import Topic
from everreach_assets.domain.topics import Cluster, assign, matrix, near_duplicates, nearest_topic, topics_of
from tests.labelled_sample import Vectors, labelled_sample, plain_outcome, search_in, vectors_of

SUBJECTS = ("sourdough starter feeding", "deadlift squat barbell", "invoice pricing customer")


def three_subjects(count: int = 60) -> tuple[list[LabelledOutcome], Vectors]:
    """Posts about three things in turn, each near the axis of its subject; the first does well, the last flops."""
    random = np.random.default_rng(1)
    outcomes, vectors = [], {}
    for number in range(count):
        subject = number % 3
        outcomes.append(
            plain_outcome(
                number,
                (1.0, 0.0, -1.0)[subject],
                account=f"a{number}",
                text=f"{SUBJECTS[subject]} {number}",
                label=("hit", "average", "flop")[subject],
            )
        )
        vectors[outcomes[-1].doc_id] = np.asarray(np.eye(8)[subject] + random.normal(0, 0.15, 8), dtype=np.float32)
    return outcomes, vectors


def clusters_of(outcomes: list[LabelledOutcome], vectors: Vectors, previous: tuple[Topic, ...] = ()) -> list[Cluster]:
    rows = matrix(outcomes, vectors)
    clustered = assign(rows, 0)
    posts = posts_of(outcomes, near_duplicates(outcomes, rows, clustered))
    return topics_of(posts, rows, clustered, search_in(outcomes, vectors), previous)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> list[Cluster]:
    monkeypatch.setattr(topics, "MOST_TOPICS", 3)
    return clusters_of(*three_subjects())


def test_each_subject_is_a_topic_named_by_its_terms_and_central_posts(three: list[Cluster]) -> None:
    assert {frozenset(cluster.topic.terms) for cluster in three} == {frozenset(each.split()) for each in SUBJECTS}
    for cluster in three:
        remainders = {int(doc_id.split(":")[1]) % 3 for doc_id in cluster.topic.central_posts}
        assert len(remainders) == 1
        assert len(cluster.topic.central_posts) == topics.CENTRAL_POSTS
        assert cluster.topic.posts == cluster.members.sum() == 20


def test_the_search_near_a_centre_tells_successes_from_flops(three: list[Cluster]) -> None:
    lifts = {cluster.topic.terms[0]: cluster.topic.lift or 0.0 for cluster in three}
    assert lifts["feeding"] == 41.0  # 20 successes of the nearest 20, of as many as there are flops: (20.5 / 0.5) / 1
    assert lifts["customer"] == pytest.approx(1 / 41, abs=1e-6)
    (well,) = [cluster for cluster in three if "feeding" in cluster.topic.terms]
    assert (len(well.near_successes), well.near_flops) == (20, [])


def test_a_topic_keeps_its_id_when_posts_come_and_the_clusters_change_places(
    three: list[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "MOST_TOPICS", 3)
    before = tuple(cluster.topic for cluster in three)
    renamed = tuple(topic.model_copy(update={"topic_id": f"topic-kept{number}"}) for number, topic in enumerate(before))
    outcomes, vectors = three_subjects(75)
    after = clusters_of(outcomes, vectors, renamed)
    kept = {frozenset(topic.terms): topic.topic_id for topic in renamed}
    assert {frozenset(cluster.topic.terms): cluster.topic.topic_id for cluster in after} == kept


def test_the_order_of_the_components_has_no_say_in_the_map_and_it_is_flat_for_two_topics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "MOST_TOPICS", 2)
    found = clusters_of(*three_subjects())
    assert [round(abs(cluster.topic.y), 5) for cluster in found] == [0, 0]
    assert sum(cluster.topic.x for cluster in found) == pytest.approx(0, abs=1e-5)


def test_there_are_no_more_topics_than_posts_can_carry() -> None:
    random = np.random.default_rng(2)

    def number_of(count: int) -> int:
        return len(set(assign(np.asarray(random.normal(size=(count, 8)), dtype=np.float32), 0)))

    assert (number_of(8), number_of(50), number_of(2_000)) == (2, 5, 12)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_few_posts_are_no_topic(count: int) -> None:
    outcomes, vectors = three_subjects(count)
    assert clusters_of(outcomes, vectors) == []


def test_posts_that_are_all_the_same_are_one_topic() -> None:
    outcomes, vectors = three_subjects()
    same = {doc_id: np.asarray(np.eye(8)[0], dtype=np.float32) for doc_id in vectors}
    (cluster,) = clusters_of(outcomes, same)
    assert (cluster.topic.posts, cluster.topic.x, cluster.topic.y) == (60, 0.0, 0.0)
    assert len(cluster.topic.central_posts) == 1


def test_a_post_without_a_vector_is_in_no_topic() -> None:
    outcomes, vectors = three_subjects()
    rows = matrix([*outcomes, plain_outcome(99, 0)], vectors)
    assert assign(rows, 0)[-1] == -1
    assert (assign(rows, 0)[:-1] >= 0).all()


def groups(texts: list[str], rows: npt.NDArray[np.float32] | None = None) -> list[int]:
    """The groups of posts with these texts; with vectors, all in one cluster."""
    outcomes = [plain_outcome(number, 0, text=text) for number, text in enumerate(texts)]
    clusters = np.full(len(texts), -1 if rows is None else 0, dtype=np.intp)
    rows = np.zeros((len(texts), 1), dtype=np.float32) if rows is None else rows
    return [int(group) for group in near_duplicates(outcomes, rows, clusters)]


def test_equal_texts_but_for_case_signs_and_links_are_near_duplicates() -> None:
    assert groups(["Ask  now! https://t.co/1", "ask now", "Ask later", "", "", "#", "https://t.co/1"]) == [
        0, 0, 1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_vectors_with_a_cosine_above_the_bound_are_near_duplicates_and_below_it_are_not() -> None:
    angles = np.arccos([1.0, 0.951, 0.949])
    rows = np.stack([np.cos(angles), np.sin(angles) * [1, 1, -1]], axis=1).astype(np.float32)
    assert groups(["a b", "c d", "e f"], rows) == [0, 0, 1]


def test_ten_thousand_reposts_are_one_post() -> None:
    rows = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (10_000, 1))
    assert set(groups([f"offer {number}" for number in range(10_000)], rows)) == {0}


def test_terms_leave_out_links_common_words_and_what_stands_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "MOST_TOPICS", 3)
    outcomes, vectors = three_subjects()
    marked = [dataclasses.replace(each, text=f"[NAME] with {each.text} https://example.com/path") for each in outcomes]
    named = {term for cluster in clusters_of(marked, vectors) for term in cluster.topic.terms}
    assert named == {word for each in SUBJECTS for word in each.split()}


def test_a_further_post_belongs_to_the_topic_whose_central_posts_are_nearest(three: list[Cluster]) -> None:
    _, vectors = three_subjects()
    found = [each.topic for each in three]
    for subject, words in enumerate(SUBJECTS):
        nearest = nearest_topic(np.eye(8, dtype=np.float32)[subject], found, vectors)
        assert nearest is not None
        assert set(nearest.terms) <= set(words.split())


def test_a_topic_whose_posts_are_gone_is_no_ones(three: list[Cluster]) -> None:
    _, vectors = three_subjects()
    found = [each.topic for each in three]
    near_first = np.eye(8, dtype=np.float32)[0]
    first = nearest_topic(near_first, found, vectors)
    assert first is not None
    left = {doc_id: row for doc_id, row in vectors.items() if doc_id not in first.central_posts}
    assert nearest_topic(near_first, found, left) is None
    assert nearest_topic(near_first, found, {}) is None


def test_what_is_about_something_else_is_of_no_topic(three: list[Cluster]) -> None:
    _, vectors = three_subjects()
    found = [each.topic for each in three]
    near, far = np.zeros((2, 8), dtype=np.float32)
    near[[0, 7]] = 0.5, np.sqrt(0.75)
    far[[0, 7]] = 0.25, np.sqrt(15) / 4
    assert nearest_topic(near, found, vectors) is not None
    assert nearest_topic(far, found, vectors) is None


@pytest.mark.parametrize("platform", ["x", "linkedin", "tiktok", "youtube", "instagram"])
def test_nine_of_ten_posts_of_the_sample_are_told_their_own_topic(platform: str) -> None:
    outcomes = list(labelled_sample(SEED, platform))
    vectors = vectors_of(outcomes)
    clusters = clusters_of(outcomes, vectors)
    found = [each.topic for each in clusters]
    rows = matrix(outcomes, vectors)
    own = {place: each.topic for each in clusters for place in np.flatnonzero(each.members)}
    told = [nearest_topic(rows[place], found, vectors) == topic for place, topic in own.items()]
    assert len(told) > 150
    assert np.mean(told) > 0.85
