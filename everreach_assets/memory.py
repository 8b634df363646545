"""The memory opened for use: the database, the embedder and the vector collections that the settings choose.

What belongs here: the wiring that the commands and Dagster's resources share. What does not: anything of Dagster.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from everreach_assets.retention import RetentionRules, load_policy
from resources import prospects
from resources.database import Database
from resources.embedder import Embedder, open_provider, open_provider_of
from resources.hosts import refuse_foreign_hosts
from resources.name_model import open_name_model
from resources.provider_calls import ProviderCalls
from resources.servers import running_servers
from resources.settings import Settings
from resources.spaces import SpacesInForce
from resources.vector_db import VectorDB, open_index


@dataclass(frozen=True)
class Memory:
    """What a command works with."""

    settings: Settings
    database: Database
    embedder: Embedder
    vector_db: VectorDB


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
        ):
            yield Memory(found, database, embedder, vector_db)


def open_database(settings: Settings) -> Database:
    """The database that the settings name; it is opened by `with`.

    Raises:
        Refused: it, or the index, is on a host that is not the operator's.
    """
    refuse_foreign_hosts(settings)
    return Database(settings.database_url())


def open_embedder(settings: Settings, database: Database) -> Embedder:
    """The embedder that the settings choose; it knows the names of the prospects. The caller closes it."""
    calls = ProviderCalls(database, settings.embedding_daily_quota)
    with database.connection() as connection:
        names = prospects.names(connection)
    return Embedder(
        open_provider(settings, calls),
        names,
        open_space=lambda space: open_provider_of(settings, space, calls),
        name_model=open_name_model(settings),
        on_call=calls,
        on_close=calls.close,
    )


def open_vector_db(settings: Settings, database: Database, embedder: Embedder) -> VectorDB:
    """The vector collections on the index that the settings choose; the caller closes them."""
    return VectorDB(database, open_index(settings, database), SpacesInForce(database, embedder.space_of))


def open_retention(settings: Settings) -> RetentionRules:
    """The policy, the folder of the archives and the kill switch.

    Raises:
        InvalidInput: the policy is wrong.
    """
    policy = load_policy(settings.policy_file)
    return RetentionRules(policy, settings.home / "archives", settings.everreach_destructive)
