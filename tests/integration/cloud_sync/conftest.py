"""Both sides of a sync on real servers: local stores and emptied clouds of both kinds."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from resources.chroma_index import ChromaIndex
from resources.cloud_store import CloudStore
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CLOUDS,
    SPACE,
    OpenStore,
)
from tests.clouds import Proxy, cloud_store, empty_cloud, proxy_to
from tests.conftest import CLOUD_DATABASE


@pytest.fixture
def open_store(cloud_url: str, chroma_server: tuple[str, int]) -> Iterator[OpenStore]:
    """Opens an emptied cloud of a kind, as another process would."""
    with contextlib.ExitStack() as stack:
        emptied: set[str] = set()

        def opened(kind: str) -> CloudStore:
            if kind not in emptied:
                empty_cloud(kind, cloud_url, chroma_server)
                emptied.add(kind)
            return stack.enter_context(contextlib.closing(cloud_store(kind, cloud_url, chroma_server)))

        yield opened


@pytest.fixture(params=CLOUDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, open_store: OpenStore) -> CloudStore:
    return open_store(kind)


@pytest.fixture
def postgres_cloud(open_store: OpenStore) -> CloudStore:
    return open_store("pgvector")


@pytest.fixture
def vector_db(database: Database) -> VectorDB:
    """The local side without a Chroma, where it does not matter."""
    return VectorDB(database, HnswIndex(database), lambda _: SPACE)


@pytest.fixture(params=CLOUDS)
def any_local(
    request: pytest.FixtureRequest, database: Database, chroma_server: tuple[str, int], open_store: OpenStore
) -> Iterator[VectorDB]:
    if request.param == "pgvector":
        yield VectorDB(database, HnswIndex(database), lambda _: SPACE)
        return
    open_store("chroma")  # empties it
    with contextlib.closing(VectorDB(database, ChromaIndex(database, *chroma_server), lambda _: SPACE)) as opened:
        yield opened


@pytest.fixture
def proxied(
    cloud_url: str, chroma_server: tuple[str, int], open_store: OpenStore
) -> Iterator[Callable[[str], tuple[Proxy, CloudStore]]]:
    """A cloud behind a proxy that keeps every byte that is sent to it."""
    with contextlib.ExitStack() as stack:

        def opened(kind: str) -> tuple[Proxy, CloudStore]:
            open_store(kind)
            if kind == "chroma":
                proxy = stack.enter_context(proxy_to(socket.AF_INET, chroma_server))
                return proxy, stack.enter_context(
                    contextlib.closing(cloud_store(kind, "", ("127.0.0.1", proxy.port), seconds=3))
                )
            folder = unquote(parse_qs(urlsplit(cloud_url).query)["host"][0])
            proxy = stack.enter_context(proxy_to(socket.AF_UNIX, f"{folder}/.s.PGSQL.5432"))
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{CLOUD_DATABASE}"
            return proxy, stack.enter_context(contextlib.closing(cloud_store(kind, url, chroma_server, seconds=3)))

        yield opened
