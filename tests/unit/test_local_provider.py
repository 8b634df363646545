"""The local provider: hashed character n-grams, the same on every machine."""

import hashlib

import numpy as np
import pytest

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.vectors import WIDTH, Vector
from resources.embedder import Embedder
from resources.providers import LocalHashingProvider


def vectors_of(*texts: str) -> list[Vector]:
    vectors = Embedder().embed_many(CONTENT.name, texts).vectors
    assert all(vector is not None for vector in vectors)
    return [vector for vector in vectors if vector is not None]


def test_vectors_are_of_unit_length_and_of_the_stored_width() -> None:
    for vector in vectors_of("a", "Film your side view once a week", "日本語のテキスト", "😀", "x" * 20_000):
        assert vector.shape == (WIDTH,)
        assert vector.dtype == np.float32
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


def test_a_text_without_a_visible_character_has_no_vector() -> None:
    vectors = Embedder().embed_many(CONTENT.name, ["", "one", " \t\n", "\u00a0\u2003"]).vectors
    assert [vector is None for vector in vectors] == [True, False, True, True]
    assert Embedder().embed_many(CONTENT.name, []).vectors == []


def test_a_vector_depends_on_its_text_alone() -> None:
    alone = vectors_of("Salt the water")[0]
    among = vectors_of("Let the meat rest", "Salt the water", "Taste it")[1]
    np.testing.assert_array_equal(alone, among)


def test_the_vectors_of_this_space_never_change() -> None:
    """Another digest is another space: then the version of `LocalHashingProvider.space` must change too."""
    (vector,) = vectors_of("How to ask for a raise: say the number, then stop talking.")
    rounded = np.round(vector.astype(np.float64), 5) + 0.0
    assert LocalHashingProvider.space.space_id == "05c7e160cf79"
    assert hashlib.sha256(rounded.tobytes()).hexdigest()[:16] == "9746d97f2e35baca"


def test_texts_that_are_spelled_alike_are_nearer_than_others() -> None:
    one, alike, other = vectors_of(
        "How to write a subject line that gets opened",
        "how to write subject lines that get opened!",
        "Roast vegetables that stay crisp",
    )
    assert float(one @ alike) > 0.7
    assert float(one @ alike) > float(one @ other) + 0.4
