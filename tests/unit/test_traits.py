"""What is read off one post."""

import datetime as dt

import pytest

from everreach_assets.domain.traits import Trait, claim_id, traits_of


def names(text: str, post_type: str = "", published_at: dt.datetime | None = None) -> list[str]:
    return [trait.name for trait in traits_of(text, post_type, published_at)]


def test_traits_of_a_post_are_each_there_once_with_their_kind() -> None:
    text = "How to ask for a raise?\nSee https://example.com #Jobs #jobs #weekend"
    published = dt.datetime(2026, 6, 27, 9, 59, tzinfo=dt.UTC)  # a Saturday
    assert traits_of(text, "thread", published) == [
        Trait("format", "type thread"),
        Trait("slot", "published on a weekend"),
        Trait("slot", "published 08:00 to 12:00 UTC"),
        Trait("slot", "published on a weekend, 08:00 to 12:00 UTC"),
        Trait("length", "text under 80 characters"),
        Trait("hook", "opens with a question"),
        Trait("hook", "opens with how to"),
        Trait("link", "has a link"),
        Trait("hashtag", "#jobs"),
        Trait("hashtag", "#weekend"),
    ]


@pytest.mark.parametrize(
    ("text", "hook"),
    [
        ("7 mistakes", "opens with a number"),
        ("True story: I left", "opens with a story"),
        ("When I left", "opens with a story"),
        ("Is it?", "opens with a question"),
    ],
)
def test_a_hook_is_what_the_text_begins_with(text: str, hook: str) -> None:
    assert hook in names(f"  {text}")
    assert hook not in names(f"So:\n{text}")


def test_the_last_minute_of_a_slot_is_in_it_and_the_first_of_the_next_is_not() -> None:
    friday = dt.datetime(2026, 6, 26, 23, 59, tzinfo=dt.UTC)
    assert "published on a weekday, 20:00 to 24:00 UTC" in names("", "", friday)
    assert "published on a weekend, 00:00 to 04:00 UTC" in names("", "", friday + dt.timedelta(minutes=1))


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (79, "text under 80 characters"),
        (80, "text of 80 to 240 characters"),
        (240, "text of 80 to 240 characters"),
        (241, "text over 240 characters"),
    ],
)
def test_lengths_have_no_gap_and_no_overlap(characters: int, name: str) -> None:
    assert names("x" * characters) == [name]


def test_a_post_without_type_and_time_has_neither_format_nor_slot() -> None:
    assert {trait.kind for trait in traits_of("", "", None)} == {"length"}


def test_the_id_of_a_claim_tells_platforms_kinds_and_names_apart() -> None:
    ids = {
        claim_id(platform, Trait(kind, name))
        for platform in ("x", "tiktok")
        for kind in ("hook", "hashtag")
        for name in ("a", "b")
    }
    assert len(ids) == 8
    assert claim_id("x", Trait("hook", "opens with a question")) == "x-hook-0566a8ffb691"  # stored: it must stay
