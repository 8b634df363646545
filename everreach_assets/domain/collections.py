"""The vector collections, and who outside this machine may see each of them.

A collection that is not named here is local-only: the default is no. What belongs here: names,
sinks, the grammar of names and ids. What does not: anything that opens a connection.
"""

import enum
import re
from dataclasses import dataclass

from everreach_assets.domain.errors import InvalidInput

COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
DOC_ID_MAX_BYTES = 128
"""Chroma Cloud's limit for an id: a longer one would be accepted here and fail at the sync."""


class Sink(enum.StrEnum):
    """Where a row of a collection may be sent."""

    EMBEDDING_PROVIDER = "embedding_provider"
    CLOUD = "cloud"
    LANGUAGE_MODEL = "language_model"


@dataclass(frozen=True)
class Collection:
    """A named set of vectors, and the sinks that may see its rows."""

    name: str
    sinks: frozenset[Sink] = frozenset()

    def allows(self, sink: Sink) -> bool:
        return sink in self.sinks


EVERYWHERE = frozenset({Sink.EMBEDDING_PROVIDER, Sink.CLOUD})
CONTENT = Collection("content_embeddings", EVERYWHERE)
OUTCOMES = Collection("outcome_embeddings", EVERYWHERE | {Sink.LANGUAGE_MODEL})
"""A language model sees the claims that outcomes support, never a row (`resources/wording.py`)."""
LESSONS = Collection("lesson_embeddings", EVERYWHERE)
PROSPECTS = Collection("prospect_embeddings")

COLLECTIONS = {each.name: each for each in (CONTENT, PROSPECTS, OUTCOMES, LESSONS)}


def collection_named(name: str) -> Collection:
    """The collection of that name; an unknown one is local-only.

    Raises:
        InvalidInput: the name is outside the grammar of collection names.
    """
    if not isinstance(name, str) or not COLLECTION_NAME.fullmatch(name):
        raise InvalidInput(
            f"collection {name!r}: a name is 3 to 40 characters of a-z, 0-9 and _, starting with a letter"
        )
    return COLLECTIONS.get(name, Collection(name))


def check_doc_id(doc_id: str) -> str:
    """The id itself, if it is one.

    Raises:
        InvalidInput: empty, longer than 128 bytes, with control characters, or not encodable as UTF-8. It is not
            repeated: a shifted column may hold anything.
    """
    if not isinstance(doc_id, str) or not doc_id:
        raise InvalidInput("a document id is empty or no text: an id is a text that is not empty")
    try:
        size = len(doc_id.encode())
    except UnicodeEncodeError:
        raise InvalidInput("a document id holds a lone surrogate, which is no character") from None
    if size > DOC_ID_MAX_BYTES:
        raise InvalidInput(f"a document id is too long: {size} bytes, the limit is {DOC_ID_MAX_BYTES}")
    if not doc_id.isprintable():
        raise InvalidInput("a document id holds a control or separator character")
    return doc_id
