"""`POST /api/v1/search`: the shared memory, searched by other services.

What belongs here: opening what a search needs, once, when the first one comes; and its limits. What does not: how a
search works (`resources/vector_db.py`).
"""

import threading
from dataclasses import dataclass

from everreach_assets.domain.embedding_results import REASONS
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.filters import parse_filter
from everreach_assets.memory import open_embedder, open_vector_db
from everreach_assets.search import SearchResult as Result
from everreach_assets.search import by_vectors, search_text
from everreach_assets.service.errors import Fault, NotAccepted
from everreach_assets.service.models import SearchAnswer, SearchRequest, SearchResult
from resources.database import Database
from resources.embedder import Embedder
from resources.prospects import FreshNames
from resources.settings import Settings
from resources.vector_db import VectorDB

PROVIDER_SECONDS = 10.0
"""Of the embedding of a query with its retries: somebody waits for it, as nobody waits for a batch."""

INDEX_SECONDS = 5.0


@dataclass(frozen=True)
class Opened:
    """What works on texts; `names` brings the embedder to the names that are committed."""

    embedder: Embedder
    vector_db: VectorDB
    names: FreshNames


class Searches:
    """Answers searches. The names of new prospects are known to the next search after they are committed.

    Args:
        database: opened by the caller, and closed after this is.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        seconds = min(PROVIDER_SECONDS, settings.embedding_deadline_seconds)
        self._settings = settings.model_copy(
            update={
                "embedding_deadline_seconds": seconds,
                "embedding_timeout_seconds": min(seconds, settings.embedding_timeout_seconds),
            }
        )
        self._database = database
        self._lock = threading.Lock()
        self._opened: Opened | None = None

    def search(self, request: SearchRequest) -> SearchAnswer:
        """The documents nearest to the request's text or embedding.

        Raises:
            InvalidInput: the embedding, its space or the filter; or nothing of the text is left to embed.
            Unavailable: the database or the index did not answer. A provider that does not is no failure.
        """
        parse_filter(request.where)
        opened = self.opened()
        space = opened.vector_db.space(request.collection)
        if request.space_id not in (None, space.space_id):
            reason = (
                f"the space in force is {space.space_id} ({space}): embed the query by that model, or send its text"
            )
            raise NotAccepted(f"space_id: {reason}", [Fault(place="space_id", reason=reason)])
        found = self._by_text(opened, request) if request.text is not None else _by_embedding(opened, request)
        return SearchAnswer(
            collection=request.collection,
            space=str(space),
            space_id=space.space_id,
            is_degraded=found.is_degraded,
            results=[
                SearchResult(
                    doc_id=each.doc_id,
                    distance=None if each.similarity is None else 1.0 - each.similarity,
                    similarity=each.similarity,
                    metadata=dict(each.metadata),
                    space=each.space,
                    matched_by=each.matched_by,
                )
                for each in found.found
            ],
        )

    def opened(self) -> Opened:
        """What a search needs, opened when it is first asked for.

        Raises:
            Unavailable: the settings choose nothing that works.
        """
        with self._lock:
            if self._opened is None:
                try:
                    embedder = open_embedder(self._settings, self._database, run_id="service")
                    vector_db = open_vector_db(self._settings, self._database, embedder, request_seconds=INDEX_SECONDS)
                except (InvalidInput, Refused) as error:
                    raise Unavailable(
                        f"searches and scores are not possible as the service is set up: {error}"
                    ) from error
                self._opened = Opened(embedder, vector_db, FreshNames(self._database, embedder))
            return self._opened

    def close(self) -> None:
        """Write what was counted, and close the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.vector_db.close()
                self._opened.embedder.close()
                self._opened = None

    def _by_text(self, opened: Opened, request: SearchRequest) -> Result:
        opened.names.refresh()
        try:
            return search_text(
                request.collection,
                request.text or "",
                request.n,
                request.where,
                database=self._database,
                embedder=opened.embedder,
                vector_db=opened.vector_db,
            )
        except InvalidInput as error:
            reason = next((each for each in REASONS.values() if str(error).endswith(each)), None)
            if reason is None:  # the provider's settings: no fault of the caller, who can only wait
                raise Unavailable(f"searches by text are not possible as the service is set up: {error}") from error
            raise NotAccepted(f"text: {reason}", [Fault(place="text", reason=reason)]) from None


def _by_embedding(opened: Opened, request: SearchRequest) -> Result:
    assert request.embedding is not None  # noqa: S101 - the model lets no request without one of the two pass
    matches = opened.vector_db.search(request.collection, request.embedding, request.n, request.where)
    return by_vectors(matches, opened.vector_db.space(request.collection))
