"""`/api/v1/strategies/{platform}`: the strategy in force, and what a draft may be expected to get by it.

What does not belong here: how a draft is scored (`everreach_assets/drafts.py`).
"""

import functools

from everreach_assets.domain.errors import NotFound
from everreach_assets.drafts import DraftScorer, in_force
from everreach_assets.service.models import ScoreAnswer, ScoreRequest, StrategyAnswer
from everreach_assets.service.search import Searches
from resources.database import Database


class Strategies:
    """Answers the calls about strategies.

    Args:
        database: opened by the caller, and closed after the last call.
        searches: what scrubs and embeds texts and has the vectors, opened when it is first needed.
    """

    def __init__(self, database: Database, searches: Searches) -> None:
        self._database = database
        self._searches = searches

    def show(self, platform: str) -> StrategyAnswer:
        """The strategy in force on the platform.

        Raises:
            NotFound: there is none, or one of an earlier version.
            Unavailable: the database did not answer.
        """
        with self._database.connection() as connection:
            stored = in_force(connection, platform)
        if stored.content is None:
            raise NotFound(
                f"strategy {stored.strategy_id} of {platform} was built by an earlier version; wait for the next"
            )
        return StrategyAnswer(strategy_id=stored.strategy_id, created_at=stored.created_at, strategy=stored.content)

    def score(self, platform: str, request: ScoreRequest) -> ScoreAnswer:
        """What the draft may be expected to get, and why.

        Raises:
            InvalidInput: a part of the draft.
            NotFound: no strategy is in force on the platform.
            Unavailable: the database did not answer.
        """
        opened = self._searches.opened()
        opened.names.refresh()
        scored = self._scorer.score(request.text, platform, request.account, request.published_at, request.post_type)
        return ScoreAnswer(strategy_id=scored.strategy.strategy_id, **dict(scored.score))

    @functools.cached_property
    def _scorer(self) -> DraftScorer:
        opened = self._searches.opened()
        return DraftScorer(self._database, opened.embedder, opened.vector_db)
