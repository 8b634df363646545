"""What a vector and its metadata must be before any store sees them.

The rules are the narrower of Chroma's and Postgres's, so that both backends take and refuse the same
What does not belong here: how they are stored or searched.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.collections import check_doc_id
from everreach_assets.domain.errors import InvalidInput, InvalidVector
from everreach_assets.domain.spaces import Space

WIDTH = 1536
"""Components of every stored vector."""

METADATA_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,35}")
_LIKE_A_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]{0,63}")
METADATA_MAX_KEYS = 32
METADATA_MAX_VALUE_BYTES = 8182
"""Chroma Cloud's limits: beyond them a row would be accepted here and fail at the sync."""
LARGEST_NUMBER = 2**53
"""Beyond it 1e20 comes back from jsonb as a whole number that neither Chroma nor a double can hold."""
SMALLEST_LENGTH, LARGEST_LENGTH = 1e-15, 1e15
"""pgvector and Chroma square components in float32: beyond these a square vanishes or overflows, a distance is NaN."""

Vector = npt.NDArray[np.float32]
MetadataValue = str | int | float | bool
Metadata = Mapping[str, MetadataValue]


@dataclass(frozen=True)
class Document:
    """A vector with its id and metadata, and what it was made from.

    Attributes:
        embedding: shape (1536,), float32, finite, not zero.
        text_sha256: hash of the text before scrubbing; None where the caller brought a vector of its own.
        scrubber_version: of the scrubber that the text went through; None as above.
        space: what made the vector; None: the space in force of the collection.
    """

    doc_id: str
    embedding: Vector
    metadata: Metadata
    text_sha256: bytes | None = None
    scrubber_version: str | None = None
    space: Space | None = None


@dataclass(frozen=True)
class Match:
    """A document that a search found.

    Attributes:
        distance: cosine distance to the query, 0 (same direction) to 2 (opposite).
    """

    doc_id: str
    distance: float
    metadata: Metadata


def check_vector(embedding: Sequence[float] | Vector, what: str) -> Vector:
    """The vector as float32, if it is one.

    Args:
        embedding: 1536 numbers.
        what: whose vector it is, for the message.

    Raises:
        InvalidVector: wrong width, not numbers, NaN, infinite (also when rounded to float32), or only zeros or of a
            length so extreme that its cosine distance to anything is undefined.
    """
    try:
        given = np.asarray(embedding)
    except ValueError:  # rows of unequal length
        given = np.asarray(None)
    if given.dtype.kind not in "fiu":
        raise InvalidVector(f"{what}: a vector is {WIDTH} numbers, this holds something else")
    with np.errstate(over="ignore", under="ignore"):
        vector = given.astype(np.float32, copy=False)
    if vector.shape != (WIDTH,):
        raise InvalidVector(f"{what}: a vector has {WIDTH} components, this has shape {vector.shape}")
    if not np.isfinite(vector).all():
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidVector(f"{what}: component {at} is {vector[at]}; NaN and infinite components are refused")
    if not vector.any():
        raise InvalidVector(f"{what}: every component is zero, and the zero vector is similar to nothing")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not SMALLEST_LENGTH <= length <= LARGEST_LENGTH:
        raise InvalidVector(f"{what}: its length is {length:.3g}; scale it to 1, which leaves its direction as it was")
    return vector


def check_metadata(metadata: Metadata | None, what: str) -> dict[str, MetadataValue]:
    """The metadata as a dict, if both backends can hold it unchanged.

    Raises:
        InvalidInput: too many keys, a key outside the grammar, a value that is nested, None, not finite, too long,
            a number beyond 2^53, or text with NUL or lone surrogates. The message names the key, unless it is none.
    """
    if not isinstance(metadata, Mapping | None):
        raise InvalidInput(f"{what}: metadata is a dict, got a {type(metadata).__name__}")
    entries = dict(metadata or {})
    if len(entries) > METADATA_MAX_KEYS:
        raise InvalidInput(f"{what}: {len(entries)} metadata keys, the limit is {METADATA_MAX_KEYS}")
    for key, value in entries.items():
        if not isinstance(key, str) or not METADATA_KEY.fullmatch(key):
            raise InvalidInput(
                f"{what}: metadata key{shown_key(key)}: 1 to 36 of A-Z a-z 0-9 _ . -, starting with a letter"
            )
        if fault := _value_fault(value):
            raise InvalidInput(f"{what}: metadata {key!r} {fault}")
    return entries


def shown_key(key: object) -> str:
    """How a message repeats it, behind a blank; empty where it does not look like a key, and so may be anything."""
    return f" {key!r}" if isinstance(key, str) and _LIKE_A_KEY.fullmatch(key) else ""


def check_documents(documents: Sequence[Document]) -> list[Document]:
    """The documents with checked ids, vectors and metadata.

    Raises:
        InvalidInput: an id twice, or anything that the checks above refuse; nothing is kept of the batch then.
    """
    times_given = Counter(check_doc_id(each.doc_id) for each in documents)
    repeated = [doc_id for doc_id, times in times_given.items() if times > 1]
    if repeated:
        raise InvalidInput(f"document id {repeated[0]!r} stands more than once in the batch ({len(repeated)} such ids)")
    return [
        dataclasses.replace(
            each,
            embedding=check_vector(each.embedding, f"document {each.doc_id!r}"),
            metadata=check_metadata(each.metadata, f"document {each.doc_id!r}"),
        )
        for each in documents
    ]


def _value_fault(value: object) -> str | None:
    match value:
        case bool():
            return None
        case float() if not math.isfinite(value):
            return f"is {value}; leave the key out where there is no value"
        case int() | float():
            return None if abs(value) <= LARGEST_NUMBER else "is beyond 2^53; store it as text"
        case str():
            return _text_fault(value)
        case None:
            return "is None; leave the key out where there is no value"
        case _:
            return f"is a {type(value).__name__}; values are text, whole or decimal numbers, or true and false"


def _text_fault(value: str) -> str | None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is no character"
    if size > METADATA_MAX_VALUE_BYTES:
        return f"is {size} bytes long, the limit is {METADATA_MAX_VALUE_BYTES}"
    return "holds a NUL character, which Postgres cannot store" if "\x00" in value else None
