"""What may leave for the cloud, what of it, in which batches, and when it counts as arrived."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain import sync
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.sync import (
    ALLOWED_METADATA,
    Change,
    Held,
    Outgoing,
    Removal,
    allowed_metadata,
    judge,
    packed,
    policy_sha256,
    refuse_what_may_not_leave,
    should_sync,
)
from everreach_assets.domain.vectors import WIDTH, Metadata

SYNCED = ("content_embeddings", "outcome_embeddings", "lesson_embeddings")


class LooksEqual(str):
    """A text that claims to be any other."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("content_embeddings")


def outgoing(doc_id: str = "x:1", rev: int = 1, metadata: dict[str, Any] | None = None, **given: Any) -> Outgoing:
    fields = {"space_id": "s", "vector_sha256": b"v", "vector": np.ones(WIDTH, dtype=np.float32)} | given
    return Outgoing(doc_id, rev, metadata=metadata or {}, **fields)


@pytest.mark.parametrize("collection", SYNCED)
def test_the_three_collections_that_may_leave_do(collection: str) -> None:
    assert should_sync(collection, "x:1")


@pytest.mark.parametrize(
    "collection",
    [
        "prospect_embeddings",
        "client_data",
        "conversations",
        "Conversations",
        "conversations ",
        "Content_embeddings",
        "content_embeddings ",
        " content_embeddings",
        "content_embeddings\n",
        "content_embeddings\x00",
        "c\u043entent_embeddings",  # a Cyrillic o
        "content\uff3fembeddings",  # a full-width low line
        "content_embeddings\u200b",
        "",
        "*",
        None,
        b"content_embeddings",
        ("content_embeddings",),
        LooksEqual("prospect_embeddings"),
    ],
)
def test_everything_else_stays_here(collection: Any) -> None:
    assert not should_sync(collection, "x:1")


@given(st.text())
def test_no_name_but_the_known_ones_may_leave(collection: str) -> None:
    assert should_sync(collection, "x:1") == (collection in SYNCED)


@pytest.mark.parametrize(
    "doc_id", ["", "x" * 129, "a\x00b", "\ud800", "jane@example.org", "x:jane.doe@example.org", None, 7]
)
def test_what_is_no_id_or_holds_an_address_stays_here(doc_id: Any) -> None:
    assert not should_sync("content_embeddings", doc_id)


def test_every_collection_that_may_leave_has_an_allow_list() -> None:
    assert {name for name in COLLECTIONS if should_sync(name, "x:1")} == ALLOWED_METADATA.keys() == set(SYNCED)


def test_metadata_outside_the_list_is_left_out() -> None:
    given_metadata: Metadata = {
        "platform": "x",
        "published_at": 1_700_000_000,
        "label": "hit",
        "email": "a",
        "text": "b",
        "_rev": 1,
    }
    assert allowed_metadata("content_embeddings", given_metadata) == {"platform": "x", "published_at": 1_700_000_000}
    assert "label" in allowed_metadata("outcome_embeddings", given_metadata)
    for collection in ("prospect_embeddings", "client_data", "content_embeddings "):
        assert allowed_metadata(collection, given_metadata) == {}


@pytest.mark.parametrize(
    "value", ["jane@example.org", "jane (at) example dot org", "call +1 415 555 2671", "a sentence of a post " * 6]
)
def test_sentences_and_personal_data_in_an_allowed_key_are_left_out(value: str) -> None:
    assert allowed_metadata("content_embeddings", {"account": value, "niche": "business"}) == {"niche": "business"}


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        ("prospect_embeddings", outgoing()),
        ("prospect_embeddings", Removal("x:1", 1)),
        ("content_embeddings ", outgoing()),
        ("content_embeddings", outgoing("jane@example.org")),
        ("content_embeddings", outgoing(metadata={"text": "a post"})),
        ("content_embeddings", outgoing(metadata={"account": "jane@example.org"})),
    ],
)
def test_the_gate_at_the_door_refuses_without_naming_the_row(collection: str, change: Change) -> None:
    with pytest.raises(Refused) as refused:
        refuse_what_may_not_leave(collection, change)
    assert change.doc_id not in str(refused.value)


def test_the_gate_at_the_door_lets_through_what_may_leave() -> None:
    refuse_what_may_not_leave("content_embeddings", outgoing(metadata={"platform": "x"}))
    refuse_what_may_not_leave("content_embeddings", Removal("jane@example.org", 1))  # it was sent under other rules


@given(st.lists(st.integers(0, 2_000), max_size=60), st.integers(1, 9), st.integers(200, 5_000))
def test_batches_keep_the_order_and_both_limits(sizes: list[int], rows: int, size_bytes: int) -> None:
    changes = [outgoing(f"x:{i}", metadata={"platform": "x" * size}, vector=None) for i, size in enumerate(sizes)]
    batches = list(packed(changes, rows=rows, size_bytes=size_bytes))
    assert [each for batch in batches for each in batch] == changes
    for batch in batches:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or sum(each.size_bytes for each in batch) <= size_bytes
    for one, following in itertools.pairwise(batches):  # no batch is smaller than it must be
        assert len(one) == rows or sum(each.size_bytes for each in [*one, following[0]]) > size_bytes


SENT = outgoing(rev=5, metadata={"value": 1})


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (Held(5, False, "s", {"value": 1.0}, b"v"), "acknowledged"),
        (None, "missing"),
        (Held(4, False, "s", {"value": 1}, b"v"), "stale"),
        (Held(4, True), "stale"),
        (Held(5, True), "conflict"),
        (Held(6, False, "s", {"value": 1}, b"v"), "conflict"),
        (Held(6, True), "conflict"),
        (Held(5, False, "s", {"value": 1}, b"w"), "altered"),
        (Held(5, False, "other", {"value": 1}, b"v"), "altered"),
        (Held(5, False, "s", {"value": True}, b"v"), "altered"),
        (Held(5, False, "s", {}, b"v"), "altered"),
        (Held(5, False, "s", {"value": 1, "more": 1}, b"v"), "altered"),
    ],
)
def test_only_exactly_what_was_sent_is_acknowledged(held: Held | None, verdict: str) -> None:
    assert judge(SENT, held) == verdict


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (Held(5, True), "acknowledged"),
        (Held(6, True), "acknowledged"),
        (Held(4, True), "stale"),
        (Held(5, False, "s", {}, b"v"), "stale"),
        (Held(6, False, "s", {}, b"v"), "conflict"),
        (None, "missing"),
    ],
)
def test_a_removal_is_acknowledged_where_the_mark_of_it_is(held: Held | None, verdict: str) -> None:
    assert judge(Removal("x:1", 5), held) == verdict


def test_other_rules_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = policy_sha256()
    assert policy_sha256() == before
    monkeypatch.setattr(
        sync, "ALLOWED_METADATA", dict(ALLOWED_METADATA) | {"lesson_embeddings": frozenset({"platform"})}
    )
    assert policy_sha256() != before
