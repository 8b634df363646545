"""Search by a text, whatever space the vectors are in: the one way in for people and for the API.

    in each space with rows: embed the query, ask its index  ─┐
    spaces in which it cannot be embedded: rank the texts    ─┴─►  merged by rank

Distances of two spaces say nothing beside each other, ranks do. What does not belong here: search by a vector
(`resources/vector_db.py`), which is of the space in force.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everreach_assets.domain.errors import Refused, Unavailable
from everreach_assets.domain.filters import parse_filter
from everreach_assets.domain.ranks import fused
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Match, Metadata, Vector
from resources import text_ranking
from resources.database import Database
from resources.embedder import Embedder
from resources.metric_records import Record, record
from resources.vector_db import VectorDB

SEARCHES = 2
"""A switch to another space while a search is under way may leave it without what it looked for: it is made again."""

MatchedBy = Literal["vector", "text"]


@dataclass(frozen=True)
class Found:
    """A document that a search found.

    Attributes:
        score: larger is nearer. Of one space: the cosine similarity. Of several: the fused rank, which says nothing by
            itself.
        similarity: cosine similarity to the query, -1 to 1, in the document's own space; None where it was not
            compared by its vector.
        matched_by: `vector`, or `text` where the query could not be embedded in the document's space.
        space: what made the document's vector.
    """

    doc_id: str
    score: float
    similarity: float | None
    metadata: Metadata
    matched_by: MatchedBy
    space: str


@dataclass(frozen=True)
class SearchResult:
    """What a search found, nearest first.

    Attributes:
        by_vector: the spaces that were searched by vectors.
        by_text: the spaces in which the query could not be embedded, so that words alone decided.
    """

    found: Sequence[Found]
    by_vector: Sequence[str]
    by_text: Sequence[str]

    @property
    def is_degraded(self) -> bool:
        """Some documents were ranked by their words, because a provider cannot be asked."""
        return bool(self.by_text)


def search_text(
    collection: str,
    text: str,
    n: int = 10,
    where: Mapping[str, object] | None = None,
    *,
    database: Database,
    embedder: Embedder,
    vector_db: VectorDB,
) -> SearchResult:
    """The documents nearest to the text: `n`, or all that match the filter where there are fewer.

    Lists of several spaces are merged by reciprocal rank (`domain/ranks.py`).

    Raises:
        InvalidInput: nothing is left of the text to search with; `n` or the filter.
        Unavailable: the index or the database did not answer. A provider that does not is no failure.
    """
    for _ in range(SEARCHES):
        in_force = vector_db.space(collection)
        result = _searched(collection, text, n, where, in_force, database, embedder, vector_db)
        if vector_db.space(collection) == in_force:
            break
    return result


def by_vectors(matches: Sequence[Match], space: Space) -> SearchResult:
    """What a search by a vector of the space found, in the same form."""
    return SearchResult([_by_vector(each, space) for each in matches], [str(space)], [])


def _searched(
    collection: str,
    text: str,
    n: int,
    where: Mapping[str, object] | None,
    in_force: Space,
    database: Database,
    embedder: Embedder,
    vector_db: VectorDB,
) -> SearchResult:
    queries: dict[Space, Vector] = {}
    unasked: list[Space] = []
    for space in dict.fromkeys([in_force, *vector_db.held_spaces(collection)]):
        vector = embedded_query(collection, text, space, embedder)
        if vector is None:
            unasked.append(space)
        else:
            queries[space] = vector
    lists: list[list[Found]] = []
    for space, vector in reversed(queries.items()):  # in force last: a row that is healed meanwhile is found twice
        matches = vector_db.search(collection, vector, n, where, space_id=space.space_id)
        lists.insert(0, [_by_vector(each, space) for each in matches])
    if unasked:
        scrubbed = embedder.scrub(collection, text).text  # what no vector says, no word does: not personal data
        with database.transaction() as connection:
            for space in unasked:
                ranked = text_ranking.nearest(connection, collection, space.space_id, scrubbed, n, parse_filter(where))
                lists.append([Found(doc_id, 0.0, None, metadata, "text", str(space)) for doc_id, metadata in ranked])
            reason = {"reason": "query_not_embedded"}
            record(connection, [Record("everreach_vector_fallback_total", 1, reason)])
    return SearchResult(_merged(lists, n), [str(space) for space in queries], [str(space) for space in unasked])


def embedded_query(collection: str, text: str, space: Space, embedder: Embedder) -> Vector | None:
    """The query's vector in the space; None where no provider can make it now.

    Raises:
        InvalidInput: nothing is left of the text to embed, or a setting of the provider is wrong.
    """
    try:
        query = embedder.embed_query_in(collection, text, space)
    except (Unavailable, Refused):  # also a key that is no longer accepted: the search goes on by words
        return None
    return None if query is None else query.vector


def _by_vector(match: Match, space: Space) -> Found:
    similarity = 1.0 - match.distance
    return Found(match.doc_id, similarity, similarity, match.metadata, "vector", str(space))


def _merged(lists: Sequence[Sequence[Found]], n: int) -> list[Found]:
    holding = [each for each in lists if each]
    if len(holding) == 1 and holding[0][0].matched_by == "vector":
        return list(holding[0])
    by_id = {each.doc_id: each for ranked in holding for each in ranked}
    ranks = fused([[each.doc_id for each in ranked] for ranked in holding])
    return [dataclasses.replace(by_id[doc_id], score=score) for doc_id, score in ranks[:n]]
