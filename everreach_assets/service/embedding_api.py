"""`/api/v1/embedding/...`: who computes embeddings, what is left of the day's calls, and the cache.

What belongs here: putting the answers together. What does not: the quota (`resources/embedding_quota.py`) and the cache
(`resources/embedding_cache.py`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

from everreach_assets.service.models import (
    CacheCleared,
    CacheStatsAnswer,
    EmbeddingConfigAnswer,
    EmbeddingQuotaAnswer,
)
from resources.database import Database
from resources.embedding_cache import EmbeddingCache, open_cache
from resources.embedding_quota import open_quota
from resources.settings import Settings


class EmbeddingApi:
    """Answers the calls about embeddings.

    Args:
        database: opened by the caller, and closed after the last call.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._quota = open_quota(settings, database)

    def quota(self) -> EmbeddingQuotaAnswer:
        """The quota of the provider in force today.

        Raises:
            Unavailable: the database did not answer.
        """
        config = self.config()
        state = self._quota.state(config.provider)
        return EmbeddingQuotaAnswer(
            daily_quota=state.daily_quota,
            current_count=state.current_count,
            remaining=state.remaining,
            exceeded=state.exceeded,
            reset_at=state.reset_at,
            vector_search_enabled=not state.exceeded or config.provider_fallback_enabled,
            fallback_enabled=config.provider_fallback_enabled,
        )

    def config(self) -> EmbeddingConfigAnswer:
        """Who embeds what may be sent, and who takes over."""
        return embedding_config(self._settings)

    def cache_stats(self) -> CacheStatsAnswer:
        """What the cache holds.

        Raises:
            Unavailable: it did not answer.
        """
        with self._cache() as cache:
            return CacheStatsAnswer.model_validate(asdict(cache.stats()))

    def clear_cache(self) -> CacheCleared:
        """Forget every cached vector; what is embedded again afterwards is paid for again."""
        with self._cache() as cache:
            return CacheCleared(removed=cache.clear())

    @contextlib.contextmanager
    def _cache(self) -> Iterator[EmbeddingCache]:
        cache = open_cache(self._settings, self._database)
        try:
            yield cache
        finally:
            cache.close()
