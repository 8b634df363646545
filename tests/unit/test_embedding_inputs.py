"""Texts on their way to a provider: one spelling, parts within the limit, requests within the limits, the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits, batches, normalised, parts_of, pooled
from everreach_assets.domain.scrubbing import Scrubber
from resources.providers.tokens import at_most, cl100k_tokens, counter_of


def whole(text: str) -> EmbeddingInput:
    made = normalised(Scrubber().scrub(text))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("one", "other"), [("café", "cafe\u0301"), ("a\nb", "a\r\nb"), ("a\nb", "a\rb"), ("a", "  a\n"), ("Å", "\u212b")]
)
def test_the_same_words_typed_on_two_systems_are_one_text(one: str, other: str) -> None:
    assert whole(one) == whole(other)


@pytest.mark.parametrize(("one", "other"), [("x²", "x2"), ("a  b", "a b"), ("A", "a"), ("a\n\nb", "a\nb")])
def test_what_the_author_meant_to_differ_stays_different(one: str, other: str) -> None:
    assert whole(one) != whole(other)


@pytest.mark.parametrize("text", ["", " ", "\r\n\t", "\u00a0\u2003"])
def test_nothing_is_left_of_blanks(text: str) -> None:
    assert normalised(Scrubber().scrub(text)) is None


def test_an_input_is_made_of_a_scrubbed_text_only() -> None:
    with pytest.raises(TypeError):
        EmbeddingInput("Dear Priya", object())


WORDS = st.lists(st.text("abcé😀 -", min_size=1, max_size=30), min_size=1, max_size=60).map(" ".join)


@given(WORDS, st.integers(16, 60))
def test_the_parts_of_a_text_are_within_the_limit_and_lose_nothing_but_blanks(text: str, limit: int) -> None:
    made = normalised(Scrubber().scrub(text))
    if made is None:
        return
    parts = parts_of(made, at_most, limit)
    assert all(0 < at_most(part.text) <= limit for part in parts)
    assert "".join("".join(part.text for part in parts).split()) == "".join(made.text.split())
    if at_most(made.text) <= limit:
        assert parts == [made]


def test_a_cut_falls_on_a_blank_where_one_is_near() -> None:
    words = [f"word{number}" for number in range(1_000)]
    parts = parts_of(whole(" ".join(words)), at_most, 500)
    assert [word for part in parts for word in part.text.split()] == words


def test_a_character_that_is_over_the_limit_alone_is_not_halved() -> None:
    assert [part.text for part in parts_of(whole("😀😀"), at_most, 2)] == ["😀", "😀"]


SIZES = st.lists(st.integers(1, 50), max_size=60)


@given(SIZES, st.integers(1, 10), st.integers(50, 120))
def test_requests_keep_both_limits_and_order_and_are_as_full_as_they_may_be(
    sizes: list[int], inputs: int, request_tokens: int
) -> None:
    texts = [whole(f"text {number}") for number in range(len(sizes))]
    tokens = dict(zip(texts, sizes, strict=True))
    made = list(batches(texts, tokens, Limits(inputs, 50, request_tokens)))
    assert [each for batch in made for each in batch] == texts
    for number, batch in enumerate(made):
        assert 0 < len(batch) <= inputs
        assert sum(tokens[each] for each in batch) <= request_tokens
        if number + 1 < len(made):
            has_room = sum(tokens[each] for each in (*batch, made[number + 1][0])) <= request_tokens
            assert len(batch) == inputs or not has_room


@pytest.mark.parametrize(
    ("inputs", "at_once", "expected"),
    [(8_192, 4, 2_048), (9_000, 4, 2_048), (4_096, 4, 1_024), (4_097, 4, 1_025), (4_096, 64, 256), (100, 4, 256),
     (4_096, 1, 2_048), (0, 4, 256)],
)  # fmt: skip
def test_a_batch_is_shared_out_among_the_requests_that_may_be_under_way(
    inputs: int, at_once: int, expected: int
) -> None:
    assert Limits(2_048, 8_191, 300_000).shared(inputs, at_once) == Limits(expected, 8_191, 300_000)


def test_the_mean_is_weighted_by_tokens_and_of_unit_length() -> None:
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    np.testing.assert_allclose(np.asarray(pooled([east, north], [3, 4])), [0.6, 0.8], atol=1e-6)
    assert pooled([east], [7]) is east
    assert pooled([east, -east], [1, 1]) is None


def test_tokens_are_counted_as_openai_counts_and_a_marker_is_plain_text() -> None:
    assert cl100k_tokens("hello world") == 2
    assert cl100k_tokens("tiktoken is great!") == 6  # the example of OpenAI's cookbook
    assert cl100k_tokens("<|endoftext|>") > 1
    assert counter_of("text-embedding-3-small") is cl100k_tokens
    assert counter_of("all-minilm") is at_most


@given(st.text(max_size=300))
def test_a_text_never_has_more_tokens_than_bytes(text: str) -> None:
    text = text.encode(errors="replace").decode()
    assert cl100k_tokens(text) <= at_most(text)
