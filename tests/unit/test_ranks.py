"""Merging ranked lists."""

import pytest

from everreach_assets.domain.ranks import fused


def test_what_stands_in_two_lists_is_before_what_stands_in_one() -> None:
    ids = [each for each, _ in fused([["a", "b", "c"], ["c", "d"]])]
    assert ids == ["c", "a", "b", "d"]


def test_the_score_is_that_of_the_paper() -> None:
    assert dict(fused([["a", "b"], ["b"]])) == {"b": pytest.approx(1 / 62 + 1 / 61), "a": pytest.approx(1 / 61)}


def test_lists_without_a_common_id_are_taken_in_turns_the_earlier_list_first() -> None:
    ids = [each for each, _ in fused([["a1", "a2", "a3"], ["b1", "b2"]])]
    assert ids == ["a1", "b1", "a2", "b2", "a3"]


def test_nothing_merged_is_nothing() -> None:
    assert fused([[], []]) == fused([]) == []
