"""Clouds for tests: real servers behind a proxy that sees, counts, breaks and spoils what passes."""

import contextlib
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import chromadb
import psycopg

from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.sync import Change, Held, Outgoing, Removal, allowed_metadata, judge, should_sync
from resources.chroma_index import close_client
from resources.cloud_store import CloudStore
from resources.database import Database
from resources.sync_ledger import VECTOR_SHA256


@dataclass
class Proxy:
    """A TCP proxy that keeps every byte that was sent to the server.

    Attributes:
        sent: what clients sent.
        is_silent: pass nothing on any more, as a server that is frozen.
    """

    port: int = 0
    sent: bytearray = field(default_factory=bytearray)
    connections: int = 0
    is_silent: bool = False


@contextlib.contextmanager
def proxy_to(family: socket.AddressFamily, address: tuple[str, int] | str) -> Iterator[Proxy]:
    """A proxy on a free port of the loopback interface, before the server at the address."""
    proxy = Proxy()
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def pump(client: socket.socket) -> None:
        with client, socket.socket(family) as server:
            server.connect(address)
            while not stopping.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.1)
                for side in ready if not proxy.is_silent else []:
                    with contextlib.suppress(ConnectionError):
                        if data := side.recv(1 << 16):
                            if side is client:
                                proxy.sent += data
                            (server if side is client else client).sendall(data)
                            continue
                    return
                if proxy.is_silent:
                    stopping.wait(0.05)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                proxy.connections += 1
                threads.append(threading.Thread(target=pump, args=(client,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = int(listener.getsockname()[1])
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield proxy
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(timeout=5)


class Troubled:
    """A real cloud whose calls fail as a test wants, before they reach it or after they were carried out.

    Args:
        trouble: is told each call's name and whether it is over, and raises what it wants.
    """

    def __init__(self, store: CloudStore, trouble: Callable[[str, bool], None]) -> None:
        self._store = store
        self._trouble = trouble
        self.address = store.address

    @property
    def requests(self) -> int:
        return self._store.requests

    def upsert(self, collection: str, rows: Sequence[Outgoing]) -> None:
        with self._troubled("upsert"):
            self._store.upsert(collection, rows)

    def remove(self, collection: str, removals: Sequence[Removal]) -> None:
        with self._troubled("remove"):
            self._store.remove(collection, removals)

    def held(self, collection: str, changes: Sequence[Change]) -> dict[str, Held]:
        with self._troubled("held"):
            return self._store.held(collection, changes)

    def listing(self, collection: str) -> Iterator[tuple[str, Held]]:
        return self._store.listing(collection)

    def holdings(self) -> Mapping[str, int]:
        with self._troubled("holdings"):
            return self._store.holdings()

    def erase(self, collection: str) -> None:
        self._store.erase(collection)

    def close(self) -> None:
        self._store.close()

    @contextlib.contextmanager
    def _troubled(self, name: str) -> Iterator[None]:
        self._trouble(name, False)
        yield
        self._trouble(name, True)


def failing(share: float, seed: int) -> Callable[[str, bool], None]:
    """Trouble: that share of the calls gets no answer, half of them although they were carried out."""
    chance = random.Random(seed)  # noqa: S311 - the same failures in each run of the test

    def trouble(name: str, is_over: bool) -> None:
        if chance.random() < share / 2:
            raise Unavailable(f"{name}: no answer ({'after' if is_over else 'before'} it was carried out)")

    return trouble


def differences(database: Database, store: CloudStore, collection: str) -> list[str]:
    """Ids in which the cloud is not what may leave of the collection, judged by everything it holds."""
    with database.connection() as connection:
        rows = connection.execute(
            f"SELECT doc_id, rev, space_id, metadata, {VECTOR_SHA256}, embedding FROM vector_embeddings"
            " WHERE collection = %s",
            (collection,),
            binary=True,
        ).fetchall()
    wanted = {
        doc_id: Outgoing(doc_id, rev, space, allowed_metadata(collection, metadata), digest, vector.to_numpy())
        for doc_id, rev, space, metadata, digest, vector in rows
        if should_sync(collection, doc_id)
    }
    listed = {doc_id for doc_id, _ in store.listing(collection)}
    held = store.held(collection, list(wanted.values())) if wanted else {}
    return sorted(
        (listed ^ wanted.keys())
        | {doc_id for doc_id, row in wanted.items() if judge(row, held.get(doc_id)) != "acknowledged"}
    )


def cloud_store(kind: str, url: str, chroma: tuple[str, int], seconds: float = 20.0) -> CloudStore:
    """A cloud of that kind, whose client is loaded only when it is asked for."""
    if kind == "chroma":
        from resources.cloud_chroma import ChromaCloud

        return ChromaCloud(*chroma, is_ssl=False, request_seconds=seconds)
    from resources.cloud_postgres import PostgresCloud

    return PostgresCloud(url, request_seconds=seconds)


def empty_cloud(kind: str, url: str, chroma: tuple[str, int]) -> None:
    """Remove everything that another test has left in the cloud."""
    if kind == "pgvector":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS everreach_vectors")
        return
    client = chromadb.HttpClient(*chroma)
    for each in client.list_collections():
        client.delete_collection(each.name)
    close_client(client)
