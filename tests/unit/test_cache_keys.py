"""What a vector is cached under."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.cache_keys import cache_key, text_hash
from everreach_assets.domain.spaces import Space

parts = st.text(alphabet="a|\x000é", max_size=3)
spaces = st.builds(Space, parts, parts, st.integers(1, 22), parts)


@given(st.tuples(spaces, parts, parts), st.tuples(spaces, parts, parts))
def test_two_keys_are_the_same_only_where_every_part_is(
    one: tuple[Space, str, str], other: tuple[Space, str, str]
) -> None:
    assert (cache_key(*one) == cache_key(*other)) == (one == other)


def test_what_joins_to_the_same_text_has_another_key() -> None:
    keys = {
        cache_key(Space("a", "b|1", 1, "1"), "1", "text"),
        cache_key(Space("a|b", "1", 1, "1"), "1", "text"),
        cache_key(Space("a", "b", 11, "1"), "", "text"),
        cache_key(Space("a", "b", 1, "11"), "", "text"),
        cache_key(Space("a", "b", 1, "1"), "1", "text"),
        cache_key(Space("a", "b", 1, "1"), "", "1text"),
    }
    assert len(keys) == 6
    assert {len(each) for each in keys} == {32}


def test_a_key_stays_what_it_was() -> None:
    """Another framing would pay for every cached text again."""
    found = cache_key(Space("openai", "text-embedding-3-small", 1536, "1"), "3", "Salt the water.")
    framed = b"".join(
        len(each).to_bytes(8, "big") + each
        for each in (b"openai", b"text-embedding-3-small", b"1536", b"1", b"3", b"Salt the water.")
    )
    assert found == hashlib.sha256(framed).digest()


def test_a_text_has_the_hash_that_its_document_has() -> None:
    assert text_hash("é") == hashlib.sha256(b"\xc3\xa9").digest()
