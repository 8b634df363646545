"""What a draft may be expected to get: the call that a content team makes before it publishes.

What belongs here: reading what the strategy in force knows, and keeping its model in the process. What does not: the
model and the reasons (`domain/standing_model.py`, `domain/drafts.py`).
"""

import asyncio
import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.drafts import NOT_COMPARED, Draft, DraftScore, matching, score, topic_reason
from everreach_assets.domain.errors import InvalidInput, NotFound
from everreach_assets.domain.posts import check_draft
from everreach_assets.domain.standing_model import LARGEST_TRAINING, StandingModel, fit
from everreach_assets.domain.strategies import considered
from everreach_assets.domain.strategy_model import Topic
from everreach_assets.domain.topics import nearest_topic
from everreach_assets.search import embedded_query
from everreach_assets.strategy_builder import scrubbed
from resources import outcomes as outcome_rows
from resources import strategies as strategy_rows
from resources import strategy_history
from resources.database import Connection, Database
from resources.embedder import Embedder
from resources.strategies import StoredStrategy
from resources.vector_db import VectorDB

MODELS = 8
"""That a process keeps, the last asked for: each has the terms of a platform's posts, some tens of megabytes."""


@dataclass(frozen=True)
class ScoredDraft:
    """A draft's score, and the strategy that it follows from."""

    strategy: StoredStrategy
    score: DraftScore


class DraftScorer:
    """Scores drafts by the strategies in force. One scorer may serve many concurrent calls.

    The model of a strategy follows from the rows that it was built from, so nothing is stored beside them: it is fitted
    when the first draft comes, in some seconds, and kept for the next ones.

    Args:
        database: opened by the caller, and closed by the caller.
        embedder: scrubs the texts, and embeds a draft to find its topic.
        vector_db: has the vectors of the topics' posts.
    """

    def __init__(self, database: Database, embedder: Embedder, vector_db: VectorDB) -> None:
        self._database = database
        self._embedder = embedder
        self._vector_db = vector_db
        self._models: OrderedDict[int, StandingModel] = OrderedDict()
        self._lock = threading.Lock()

    async def score_draft(
        self, text: str, platform: str, account: str, when: dt.datetime | None = None, post_type: str = ""
    ) -> DraftScore:
        """What a post of this text by this account may be expected to get, why, and which claims it matches.

        Args:
            text: of the draft; personal data is removed before anything else is done with it.
            platform: such as "linkedin".
            account: who will publish it; one that is not known is taken for a typical one.
            when: it will be published, with a time zone; None where that is open.
            post_type: such as "video"; empty where that is open.

        Raises:
            InvalidInput: a part is wrong; it is named.
            NotFound: no strategy of the platform is in force that can score.
            Unavailable: the database did not answer.
        """
        return (await asyncio.to_thread(self.score, text, platform, account, when, post_type)).score

    def score(
        self, text: str, platform: str, account: str, when: dt.datetime | None = None, post_type: str = ""
    ) -> ScoredDraft:
        """`score_draft` without a coroutine, with the strategy that it follows from."""
        check_draft(text, platform, account, when, post_type)
        if when is not None:
            when = when.astimezone(dt.UTC)
        draft = Draft(self._embedder.scrub(CONTENT.name, text).text, account, post_type, when)
        with self._database.connection() as connection:
            strategy = in_force(connection, platform)
        if strategy.content is None:
            raise NotFound(
                f"strategy {strategy.strategy_id} of {platform} was built by an earlier version, which cannot score: "
                "the next rebuild makes one that can"
            )
        topic, said = self._topic(draft.text, strategy.content.topics)
        claims = matching(draft, platform, strategy.content.claims, topic)
        return ScoredDraft(strategy, score(draft, self._model(strategy), claims, said))

    def _topic(self, text: str, topics: Sequence[Topic]) -> tuple[Topic | None, list[str]]:
        """The draft's topic, where it has one, and what is said of it."""
        if not topics:
            return None, []
        space = self._vector_db.space(OUTCOMES.name)
        try:
            vector = embedded_query(OUTCOMES.name, text, space, self._embedder)
        except InvalidInput:  # nothing is left of it to embed, or the provider's settings are wrong, which searches say
            vector = None
        posts = self._vector_db.get_many(OUTCOMES.name, [each for topic in topics for each in topic.central_posts])
        in_space = {doc_id: row["embedding"] for doc_id, row in posts.items() if row["space_id"] == space.space_id}
        if vector is None or not in_space:
            return None, [NOT_COMPARED]
        topic = nearest_topic(vector, topics, in_space)
        return topic, [topic_reason(topic)]

    def _model(self, strategy: StoredStrategy) -> StandingModel:
        with self._lock:  # the second caller waits for the fit of the first, and does not fit again
            model = self._models.get(strategy.strategy_id)
            if model is None:
                with self._database.connection() as connection:
                    outcomes = strategy_rows.labelled_outcomes(connection, strategy.platform, strategy.created_at)
                if not outcomes:
                    raise NotFound(
                        f"strategy {strategy.strategy_id} of {strategy.platform} knows no post that could be compared "
                        "with others: there is nothing to score by until more outcomes are recorded"
                    )
                model = fit(scrubbed(considered(outcomes, LARGEST_TRAINING), self._embedder))
                self._models[strategy.strategy_id] = model
            self._models.move_to_end(strategy.strategy_id)
            while len(self._models) > MODELS:
                self._models.popitem(last=False)
            return model


def in_force(connection: Connection, platform: str) -> StoredStrategy:
    """The platform's strategy.

    Raises:
        NotFound: it has none; the message says what there is instead.
    """
    stored = strategy_rows.strategy_in_force(connection, platform)
    if stored is None:
        if strategy_history.latest_held(connection, platform):
            raise NotFound(
                f"no strategy is in force on {platform!r}, the gate held what was built: "
                f"'everreach strategy show {platform} --held' says why"
            )
        known = ", ".join(outcome_rows.platforms(connection)) or "none"
        raise NotFound(f"no strategy is in force on {platform!r}; platforms with posts: {known}")
    return stored
