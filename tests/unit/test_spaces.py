"""Spaces: their identity, which collections share one, and how two are compared."""

import numpy as np
import pytest

from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.spaces import Space, leading, neighbours, overlap, sharing


def test_each_part_of_a_space_is_part_of_its_id() -> None:
    made = [
        Space("a", "m", 1536, "1"),
        Space("b", "m", 1536, "1"),
        Space("a", "n", 1536, "1"),
        Space("a", "m", 384, "1"),
        Space("a", "m", 1536, "2"),
    ]
    assert len({space.space_id for space in made}) == len(made)


def test_two_spaces_of_one_model_are_told_apart() -> None:
    old, new = Space("a", "m", 1536, "1"), Space("a", "m", 1536, "2")
    assert new.beside(old) == "a/m (1536 components, version 2)"
    assert new.beside(Space("b", "m", 1536, "1")) == "a/m"


def test_outcomes_share_the_space_of_the_posts_and_others_have_their_own() -> None:
    assert leading(OUTCOMES.name) == leading(CONTENT.name) == CONTENT.name
    assert sharing(OUTCOMES.name) == sharing(CONTENT.name) == (CONTENT.name, OUTCOMES.name)
    for each in (PROSPECTS.name, LESSONS.name, "unknown_collection"):
        assert (leading(each), sharing(each)) == (each, (each,))


def test_the_neighbours_are_the_nearest_by_cosine_and_never_oneself() -> None:
    vectors = np.array([[1, 0], [10, 1], [0, 1], [1, 5]], np.float32)
    assert neighbours(vectors, 1)[:, 0].tolist() == [1, 0, 3, 2]


def test_overlap_is_the_share_of_common_neighbours() -> None:
    first = np.array([[1, 2], [0, 2], [0, 1]])
    assert overlap(first, first[:, ::-1]) == 1.0  # their order does not matter
    assert overlap(first, np.array([[1, 3], [3, 4], [0, 1]])) == pytest.approx(3 / 6)
