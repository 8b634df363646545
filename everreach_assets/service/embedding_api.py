"""`/api/v1/embedding/...`: who computes embeddings, what is left of the day's calls, and the cache.

What belongs here: putting the answers together. What does not: the choice of providers
(`resources/provider_choice.py`), the quota (`resources/embedding_quota.py`) and the cache (`embedding_cache.py`).
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import asdict

from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.service.models import (
    CacheCleared,
    CacheStatsAnswer,
    EmbeddingConfigAnswer,
    EmbeddingQuotaAnswer,
)
from resources.circuit_breakers import CircuitBreakers
from resources.database import Database
from resources.embedding_cache import EmbeddingCache, open_cache
from resources.embedding_quota import open_quota
from resources.provider_choice import open_providers
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
        self._breakers = CircuitBreakers(database)

    def quota(self) -> EmbeddingQuotaAnswer:
        """The quota of the provider in force today. Texts can be searched with as long as it, or the backup, has some
        left; an embedding can always.

        Raises:
            Unavailable: the database did not answer, or the settings choose no provider that works.
        """
        in_force, *backups = self._spaces
        state = self._quota.state(in_force.provider)
        return EmbeddingQuotaAnswer(
            daily_quota=state.daily_quota,
            current_count=state.current_count,
            remaining=state.remaining,
            exceeded=state.exceeded,
            reset_at=state.reset_at,
            vector_search_enabled=not state.exceeded
            or any(not self._quota.state(backup.provider).exceeded for backup in backups),
            fallback_enabled=bool(backups),
        )

    def config(self) -> EmbeddingConfigAnswer:
        """Who embeds what may be sent, and who takes over.

        Raises:
            Unavailable: the settings choose no provider that works.
        """
        in_force, *backups = self._spaces
        return EmbeddingConfigAnswer(
            provider=in_force.provider,
            model=in_force.model,
            backup_provider=backups[0].provider if backups else None,
            backup_model=backups[0].model if backups else None,
            provider_fallback_enabled=bool(backups),
        )

    def cache_stats(self) -> CacheStatsAnswer:
        """What the cache holds.

        Raises:
            Unavailable: it did not answer.
        """
        with self._cache() as cache:
            return CacheStatsAnswer.model_validate(asdict(cache.stats()))

    def clear_cache(self) -> CacheCleared:
        """Forget every cached vector; what is embedded again afterwards is paid for again.

        Raises:
            Unavailable: it did not answer.
        """
        with self._cache() as cache:
            return CacheCleared(removed=cache.clear())

    def check_provider(self) -> None:
        """Whether a provider is worth asking now: its breaker is closed, or it is time to try it again. Else nobody
        would send the call that closes it.

        Raises:
            Unavailable: none is, or the settings choose none that works.
        """
        names = [space.provider for space in self._spaces]
        if all(self._breakers.seconds_until_due(name, "query") > 0 for name in names):
            raise Unavailable(f"the circuit breaker is open: {' and '.join(names)} did not answer")

    @functools.cached_property
    def _spaces(self) -> list[Space]:
        """The space in force, then that of the backup where there is one."""
        try:
            chosen = open_providers(self._settings)
        except InvalidInput as error:
            raise Unavailable(f"the service is set up without a provider that works: {error}") from error
        providers = [chosen.in_force or chosen.local, chosen.backup]
        spaces = [each.space for each in providers if each is not None]
        if not spaces:
            raise Unavailable("no provider is chosen: set EMBEDDING_PROVIDER or EMBEDDING_LOCAL_PROVIDER")
        return spaces

    @contextlib.contextmanager
    def _cache(self) -> Iterator[EmbeddingCache]:
        with contextlib.closing(open_cache(self._settings, self._database)) as cache:
            yield cache
