"""What may leave this machine for the cloud, in what form, in which batches, and when it counts as arrived.

The default is no: a collection that `domain/collections.py` does not allow to the cloud by exactly its name stays, and
metadata that the list here does not name is left out. What does not belong here: the ledger
(`resources/sync_ledger.py`), the clouds (`resources/cloud_store.py`), the order of the steps (`cloud_sync.py`).
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from everreach_assets.domain.collections import COLLECTIONS, CONTENT, LESSONS, OUTCOMES, Sink, check_doc_id
from everreach_assets.domain.emails import find_emails
from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION, Scrubber
from everreach_assets.domain.text_view import TextView
from everreach_assets.domain.vectors import Metadata, MetadataValue, Vector

POLICY_VERSION = "1"
"""Raise it when a rule here changes: every row is then judged again, and what may no longer be there is removed."""

BATCH_ROWS = 300
"""Chroma Cloud's limit of a write."""
BATCH_BYTES = 4_000_000
MAX_ATTEMPTS = 5
LABEL_MAX_CHARACTERS = 100
"""A longer text is no account, niche or label: somebody mapped a column of sentences to it."""

_OF_A_POST = frozenset({"platform", "account", "post_type", "niche", "published_at"})
ALLOWED_METADATA: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        CONTENT.name: _OF_A_POST,
        OUTCOMES.name: _OF_A_POST | {"label", "metric", "value", "score"},
        LESSONS.name: frozenset({"platform", "learned_at"}),
    }
)
"""Keys that may leave, by collection. A key that is not here is dropped, and counted."""

Verdict = Literal["acknowledged", "conflict", "missing", "stale", "altered"]


@dataclass(frozen=True)
class Outgoing:
    """A row as it leaves: there is no place in it for a text.

    Attributes:
        vector_sha256: of space and vector.
        vector: None where the cloud has it already and only metadata changed.
    """

    doc_id: str
    rev: int
    space_id: str
    metadata: Metadata
    vector_sha256: bytes
    vector: Vector | None

    @property
    def size_bytes(self) -> int:
        """About what it weighs on the way: the vector in its four bytes a component, the rest as JSON."""
        return (self.vector.nbytes if self.vector is not None else 0) + len(
            json.dumps({"id": self.doc_id, "rev": self.rev, "space": self.space_id} | dict(self.metadata))
        )


@dataclass(frozen=True)
class Removal:
    """A row that must be gone, and stay so for every revision up to this one."""

    doc_id: str
    rev: int

    @property
    def size_bytes(self) -> int:
        return len(self.doc_id.encode()) + 16


Change = Outgoing | Removal


@dataclass(frozen=True)
class Held:
    """What a cloud holds under an id: a row, or the mark of its removal."""

    rev: int
    is_deleted: bool = False
    space_id: str = ""
    metadata: Metadata = field(default_factory=dict)
    vector_sha256: bytes = b""


def may_leave(collection: str) -> bool:
    """Whether rows of the collection may be in the cloud at all; only of a collection known by exactly this name."""
    known = COLLECTIONS.get(collection) if type(collection) is str else None
    return known is not None and known.allows(Sink.CLOUD) and collection in ALLOWED_METADATA


def should_sync(collection: str, doc_id: str) -> bool:
    """Whether this row may be in the cloud. The default is no.

    No for local-only and unknown collections, for names that only look like a known one, for what is no id, and for an
    id that holds an e-mail address.
    """
    if not may_leave(collection):
        return False
    try:
        return not find_emails(TextView(check_doc_id(doc_id)).text)
    except InvalidInput:
        return False


def allowed_metadata(collection: str, metadata: Metadata) -> dict[str, MetadataValue]:
    """The part of the metadata that may leave: named in the allow-list, and free of sentences and personal data."""
    allowed = ALLOWED_METADATA.get(collection, frozenset())
    return {
        key: value
        for key, value in metadata.items()
        if key in allowed and (not isinstance(value, str) or _is_harmless(value))
    }


def refuse_what_may_not_leave(collection: str, change: Change) -> None:
    """The second gate, at the door itself; what the first let through by mistake ends here.

    Raises:
        Refused: the change may not leave. The message names the collection and never the row.
    """
    is_allowed = may_leave(collection) and (
        isinstance(change, Removal)
        or (
            should_sync(collection, change.doc_id)
            and allowed_metadata(collection, change.metadata) == dict(change.metadata)
        )
    )
    if not is_allowed:
        raise Refused(
            f"a row of {collection!a} was about to leave this machine and may not: nothing was sent. Report this: "
            "should_sync let it pass when it was read"
        )


def policy_sha256() -> bytes:
    """Names the rules in force: with other rules every row is judged again."""
    rules = {
        "version": POLICY_VERSION,
        "scrubber": SCRUBBER_VERSION,
        "metadata": {name: sorted(keys) for name, keys in sorted(ALLOWED_METADATA.items()) if may_leave(name)},
    }
    return hashlib.sha256(json.dumps(rules).encode()).digest()


def packed(
    changes: Iterable[Change], *, rows: int = BATCH_ROWS, size_bytes: int = BATCH_BYTES
) -> Iterator[list[Change]]:
    """The changes in batches within both limits, in their order; one that is too large for any goes alone."""
    batch: list[Change] = []
    weight = 0
    for change in changes:
        if batch and (len(batch) == rows or weight + change.size_bytes > size_bytes):
            yield batch
            batch, weight = [], 0
        batch.append(change)
        weight += change.size_bytes
    if batch:
        yield batch


def judge(change: Change, held: Held | None) -> Verdict:
    """Whether what was read back from the cloud is exactly what was sent.

    `conflict`: the cloud holds a newer revision; it is never overwritten.
    """
    if held is None:
        return "missing"
    if isinstance(change, Removal):
        if held.is_deleted and held.rev >= change.rev:
            return "acknowledged"
        return "conflict" if held.rev > change.rev else "stale"
    if held.rev > change.rev or (held.is_deleted and held.rev == change.rev):
        return "conflict"
    if held.rev < change.rev or held.is_deleted:
        return "stale"
    is_same = (held.space_id, held.vector_sha256) == (change.space_id, change.vector_sha256)
    return "acknowledged" if is_same and same_metadata(held.metadata, change.metadata) else "altered"


def same_metadata(one: Metadata, other: Metadata) -> bool:
    """Whether they say the same; 1 and 1.0 are one number, 1 and true are not."""
    return _canonical(one) == _canonical(other)


def _canonical(metadata: Metadata) -> dict[str, tuple[str, MetadataValue]]:
    return {
        key: ("number", float(value)) if type(value) in (int, float) else (type(value).__name__, value)
        for key, value in metadata.items()
    }


@functools.lru_cache(maxsize=10_000)
def _is_harmless(value: str) -> bool:
    """Short enough for a label, and without personal data."""
    return len(value) <= LABEL_MAX_CHARACTERS and _scrubber().scrub(value).text == value


@functools.cache
def _scrubber() -> Scrubber:
    return Scrubber()
