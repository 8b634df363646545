"""The memory opened for use: the database, the embedder and the vector collections that the settings choose.

What belongs here: the wiring that the commands and Dagster's resources share. What does not: anything of Dagster.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from everreach_assets.domain.spaces import Space
from everreach_assets.retention import RetentionRules, load_policy
from resources import prospects
from resources.circuit_breakers import CircuitBreakers
from resources.database import Database
from resources.embedder import Embedder
from resources.embedding_cache import EmbeddingCache, open_cache
from resources.embedding_dead_letters import EmbeddingDeadLetters
from resources.embedding_pipeline import EmbeddingPipeline
from resources.embedding_quota import open_quota
from resources.hosts import refuse_foreign_hosts
from resources.metric_records import Record, record
from resources.name_model import open_name_model
from resources.provider_calls import ProviderCalls
from resources.provider_choice import open_provider_of, open_providers
from resources.provider_requests import ProviderRequests
from resources.providers import EmbeddingProvider
from resources.servers import running_servers
from resources.settings import Settings
from resources.spaces import SpacesInForce
from resources.spending import Spender
from resources.vector_db import VectorDB, open_index


@dataclass(frozen=True)
class Memory:
    """What a command works with."""

    settings: Settings
    database: Database
    embedder: Embedder
    vector_db: VectorDB
    cache: EmbeddingCache


@contextlib.contextmanager
def open_memory(settings: Settings) -> Iterator[Memory]:
    """The memory, with servers that answer for as long as the block lasts.

    Raises:
        Unavailable: a server cannot be started, or does not answer.
        InvalidInput: a setting contradicts another.
    """
    with running_servers(settings) as addresses:
        found = addresses.applied_to(settings)
        with (
            open_database(found) as database,
            contextlib.closing(open_embedder(found, database)) as embedder,
            contextlib.closing(open_vector_db(found, database, embedder)) as vector_db,
            contextlib.closing(open_cache(found, database)) as cache,
        ):
            yield Memory(found, database, embedder, vector_db, cache)


def open_database(settings: Settings) -> Database:
    """The database that the settings name; it is opened by `with`.

    Raises:
        Refused: it, or the index, is on a host that is not the operator's.
    """
    refuse_foreign_hosts(settings)
    return Database(settings.database_url())


def open_embedder(settings: Settings, database: Database, *, run_id: str = "command") -> Embedder:
    """The embedder that the settings choose; it knows the names of the prospects. The caller closes it.

    Args:
        settings: with the addresses of servers that run.
        database: opened.
        run_id: whose calls they are in the cost ledger: a run of Dagster, `command` or `service`.

    Raises:
        InvalidInput: a provider that is chosen lacks a setting.
    """
    providers = open_providers(settings)
    quota = open_quota(settings, database)
    calls = ProviderCalls(database, quota, spender=Spender(run_id))
    backed_up = {providers.in_force.space.provider} if providers.in_force and providers.backup else set()
    breakers = CircuitBreakers(database, frozenset(backed_up))
    cache = open_cache(settings, database)

    def requests_of(provider: EmbeddingProvider, is_backed_up: bool) -> ProviderRequests:
        return ProviderRequests(
            provider,
            timeout_seconds=settings.embedding_timeout_seconds,
            deadline_seconds=settings.embedding_deadline_seconds,
            is_backed_up=is_backed_up,
            on_call=calls,
            breakers=breakers,
            quota=quota,
        )

    def close() -> None:
        cache.close()
        calls.close()

    pipeline = EmbeddingPipeline(
        concurrency=settings.embedding_concurrency,
        refuses_long_texts=settings.embedding_long_texts == "refuse",
        cache=cache,
        dead_letters=EmbeddingDeadLetters(database),
        on_failover=functools.partial(_count_failover, database),
    )
    with database.connection() as connection:
        names = prospects.names(connection)
    return Embedder(
        providers.in_force,
        names,
        name_model=open_name_model(settings),
        backup=providers.backup,
        local=providers.local,
        open_space=functools.partial(open_provider_of, settings),
        pipeline=pipeline,
        requests_of=requests_of,
        on_close=close,
    )


def _count_failover(database: Database, space: Space, texts: int) -> None:
    with database.connection() as connection:
        record(connection, [Record("everreach_embedding_failover_texts_total", texts, {"provider": space.provider})])


def open_vector_db(
    settings: Settings, database: Database, embedder: Embedder, *, request_seconds: float = 60.0
) -> VectorDB:
    """The vector collections on the index that the settings choose; the caller closes them."""
    index = open_index(settings, database, request_seconds=request_seconds)
    return VectorDB(database, index, SpacesInForce(database, embedder.space_of))


def open_retention(settings: Settings) -> RetentionRules:
    """The policy, the folder of the archives and the kill switch.

    Raises:
        InvalidInput: the policy is wrong.
    """
    policy = load_policy(settings.policy_file)
    return RetentionRules(policy, settings.home / "archives", settings.everreach_destructive)
