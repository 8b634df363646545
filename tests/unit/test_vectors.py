"""What is refused as a vector, as metadata and as a batch, and that the message names it."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.errors import InvalidInput, InvalidVector
from everreach_assets.domain.vectors import (
    LARGEST_LENGTH,
    LARGEST_NUMBER,
    METADATA_MAX_KEYS,
    METADATA_MAX_VALUE_BYTES,
    SMALLEST_LENGTH,
    WIDTH,
    Document,
    MetadataValue,
    check_documents,
    check_metadata,
    check_vector,
)

GOOD = np.linspace(-1, 1, WIDTH, dtype=np.float32)


def test_a_float32_vector_is_taken_as_it_is() -> None:
    assert check_vector(GOOD, "v").tobytes() == GOOD.tobytes()


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_other_numbers_become_float32(kind: type[np.generic]) -> None:
    checked = check_vector(np.ones(WIDTH, dtype=kind), "v")
    assert checked.dtype == np.float32
    assert (checked == 1).all()


def test_a_list_of_whole_numbers_is_a_vector() -> None:
    assert check_vector([1] * WIDTH, "v").tolist() == [1.0] * WIDTH


@pytest.mark.parametrize("at", [0, 700, WIDTH - 1])
def test_the_message_names_the_vector_and_the_first_component_that_is_not_finite(at: int) -> None:
    bad = GOOD.copy()
    bad[at:] = np.nan
    with pytest.raises(InvalidVector, match=rf"document 'a': component {at} is nan"):
        check_vector(bad, "document 'a'")


@pytest.mark.parametrize("width", [0, 1, WIDTH - 1, WIDTH + 1])
def test_the_message_of_a_wrong_width_names_both_widths(width: int) -> None:
    with pytest.raises(InvalidVector, match=rf"{WIDTH} components.*\({width},\)"):
        check_vector(np.ones(width, dtype=np.float32), "v")


@pytest.mark.parametrize("factor", [1.01, 10.0])
def test_a_vector_whose_square_is_no_float32_is_refused(factor: float) -> None:
    unit: Any = GOOD.astype(np.float64) / np.linalg.norm(GOOD.astype(np.float64))
    for fine in (unit * SMALLEST_LENGTH * factor, unit * LARGEST_LENGTH / factor):
        squares = np.square(check_vector(fine, "v"))
        assert np.isfinite(squares.sum())
        assert squares.sum() > np.finfo(np.float32).tiny
    for extreme in (unit * SMALLEST_LENGTH / factor, unit * LARGEST_LENGTH * factor):
        with pytest.raises(InvalidVector, match="length"):
            check_vector(extreme, "v")


def test_metadata_within_the_limits_is_kept() -> None:
    metadata: dict[str, MetadataValue] = {
        **{f"k{i}": i for i in range(METADATA_MAX_KEYS - 5)},
        "K": LARGEST_NUMBER,
        "a.b-c_d": -LARGEST_NUMBER,
        "x" * 36: "ä" * (METADATA_MAX_VALUE_BYTES // 2),
        "f": float(LARGEST_NUMBER),
        "t": True,
    }
    assert check_metadata(metadata, "m") == metadata
    assert check_metadata(None, "m") == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", LARGEST_NUMBER + 1),
        ("k", 1e16),
        ("k", float("nan")),
        ("k", None),
        ("k", {"a": 1}),
        ("k", "x" * (METADATA_MAX_VALUE_BYTES + 1)),
        ("k", "\x00"),
        ("k", "\ud800"),
        ("x" * 37, 1),
        ("_rev", 1),
    ],
)
def test_metadata_that_a_backend_could_not_hold_is_refused_by_its_key(key: str, value: MetadataValue) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_metadata({"fine": 1, key: value}, "document 'a'")
    assert "document 'a'" in str(refusal.value)
    assert ascii(key) in str(refusal.value)


@pytest.mark.parametrize("key", ["ä", "anna@example.com", "Anna Smith", "415.555.2671"])
def test_a_key_that_may_be_anything_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(InvalidInput, match="document 'a': metadata key: 1 to 36") as refusal:
        check_metadata({key: 1}, "document 'a'")
    assert key not in str(refusal.value)


def test_a_refusal_does_not_repeat_the_text_it_refuses() -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_metadata({"k": "jane@example.org\x00"}, "m")
    assert "jane" not in str(refusal.value)


@given(
    st.integers(-LARGEST_NUMBER, LARGEST_NUMBER)
    | st.floats(-LARGEST_NUMBER, LARGEST_NUMBER)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)
)
def test_every_value_that_is_taken_survives_json(value: MetadataValue) -> None:
    taken = check_metadata({"k": value}, "m")["k"]
    again = json.loads(json.dumps(taken))
    assert again == value
    assert type(again) is type(value)


def test_an_id_that_stands_twice_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"'b'.*\(2 such ids\)"):
        check_documents([Document(each, GOOD, {}) for each in "abbcc"])


def test_a_checked_document_keeps_what_it_was_made_from() -> None:
    (checked,) = check_documents([Document("a", GOOD, {"k": 1}, b"hash", "2")])
    assert (checked.doc_id, checked.metadata, checked.text_sha256, checked.scrubber_version) == (
        "a",
        {"k": 1},
        b"hash",
        "2",
    )
    assert check_documents([]) == []
