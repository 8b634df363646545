"""The door to the cloud: what a cloud must do, and the gate that every byte for it passes.

`cloud_chroma.py` and `cloud_postgres.py` are the clouds that exist. Nothing else opens a connection to one, and nobody
but `Cloud` calls them. What does not belong here: what may leave (`domain/sync.py`), what is pending
(`sync_ledger.py`).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import stamina

from everreach_assets.domain.errors import EverReachError, InvalidInput, Refused, Unavailable
from everreach_assets.domain.sync import Change, Held, Outgoing, Removal, may_leave, refuse_what_may_not_leave
from resources.hosts import is_this_machine, refuse_clear_text
from resources.settings import Settings

ATTEMPTS = 3
"""Of a call that got no answer, within one sync; the next sync goes on from there anyway."""
FIRST_WAIT_SECONDS = 0.1

Answer = TypeVar("Answer")


class RowsRefused(EverReachError):
    """The cloud answered that it will not take a row of the batch, now or later.

    Attributes:
        error_class: one word for the ledger: never the cloud's message, which may repeat the row.
    """

    def __init__(self, error_class: str) -> None:
        super().__init__(f"the cloud refused a row ({error_class})")
        self.error_class = error_class


class CloudStore(Protocol):
    """A vector store outside this machine that keeps revisions: an older one never replaces a newer one.

    Every method raises Unavailable where the cloud did not answer, InvalidInput where it does not let us in.
    """

    @property
    def address(self) -> str:
        """What names the cloud, without a secret. At another address nothing counts as acknowledged."""

    @property
    def requests(self) -> int:
        """Requests made so far."""

    def upsert(self, collection: str, rows: Sequence[Outgoing]) -> None:
        """Write the rows, each unless the cloud holds a newer revision or its removal. A row without a vector keeps the
        one that is there.

        Raises:
            RowsRefused: a row cannot be taken as it is; which one is not known, and none or some were written.
        """

    def remove(self, collection: str, removals: Sequence[Removal]) -> None:
        """Remove the rows and keep a mark with the revision, so that no older write brings them back."""

    def held(self, collection: str, changes: Sequence[Change]) -> dict[str, Held]:
        """What the cloud holds under the ids of the changes, read back from what it stored; by id."""

    def listing(self, collection: str) -> Iterator[tuple[str, Held]]:
        """Every row of the collection that is not removed."""

    def holdings(self) -> Mapping[str, int]:
        """Rows by collection, of every collection that is there, whoever brought it; 0 where all were removed."""

    def erase(self, collection: str) -> None:
        """Remove the whole collection without a trace."""

    def close(self) -> None:
        """Close the connections."""


class Cloud:
    """The configured cloud behind the gate, or none.

    Args:
        store: None where no cloud is configured.
    """

    def __init__(self, store: CloudStore | None = None) -> None:
        self._store = store
        self.sent_bytes = 0
        stamina.instrumentation.set_on_retry_hooks([])  # its own log line would stand in the output of the commands

    @property
    def is_configured(self) -> bool:
        return self._store is not None

    @property
    def address(self) -> str:
        return self._opened.address

    @property
    def address_sha256(self) -> bytes:
        return hashlib.sha256(self.address.encode()).digest()

    @property
    def requests(self) -> int:
        return self._store.requests if self._store else 0

    def write(self, collection: str, changes: Sequence[Change]) -> None:
        """Send the changes, removals first.

        Raises:
            Refused: a change may not leave; nothing of the batch was sent.
            RowsRefused: the cloud will not take one of them.
            Unavailable: it did not answer.
        """
        for change in changes:
            refuse_what_may_not_leave(collection, change)
        removals = [each for each in changes if isinstance(each, Removal)]
        rows = [each for each in changes if isinstance(each, Outgoing)]
        if removals:
            self._call(lambda store: store.remove(collection, removals))
        if rows:
            self._call(lambda store: store.upsert(collection, rows))
        self.sent_bytes += sum(each.size_bytes for each in changes)

    def held(self, collection: str, changes: Sequence[Change]) -> dict[str, Held]:
        """What the cloud holds under the ids of the changes that were just sent."""
        return self._call(lambda store: store.held(collection, changes))

    def listing(self, collection: str) -> dict[str, Held]:
        """Every row of the collection that the cloud holds, by id."""
        return self._call(lambda store: dict(store.listing(collection)))

    def forbidden(self) -> dict[str, int]:
        """Rows in the cloud that must never be there, by collection."""
        return {name: rows for name, rows in self._call(lambda store: store.holdings()).items() if not may_leave(name)}

    def erase_forbidden(self) -> int:
        """Remove every collection that must not be in the cloud; answers how many rows that were."""
        found = self.forbidden()
        for name in found:
            self._call(lambda store, name=name: store.erase(name))  # type: ignore[misc]
        return sum(found.values())

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    @property
    def _opened(self) -> CloudStore:
        if self._store is None:
            raise InvalidInput("no cloud is configured: set CLOUD_VECTOR_BACKEND and its address (docs/sync.md)")
        return self._store

    def _call(self, request: Callable[[CloudStore], Answer]) -> Answer:
        store = self._opened
        for attempt in stamina.retry_context(
            on=Unavailable, attempts=ATTEMPTS, wait_initial=FIRST_WAIT_SECONDS, wait_jitter=FIRST_WAIT_SECONDS
        ):
            with attempt:
                return request(store)
        raise AssertionError("stamina ends with an answer or an error")


def open_cloud(settings: Settings) -> Cloud:
    """The cloud that the settings name; it is connected to when it is first needed.

    Raises:
        InvalidInput: its address is missing.
        Refused: it is not on this machine, and the connection would be in clear text.
    """
    match settings.cloud_vector_backend:
        case "none":
            return Cloud()
        case "chroma":
            return Cloud(_open_chroma(settings))
        case "pgvector":
            return Cloud(_open_postgres(settings))


def _open_chroma(settings: Settings) -> CloudStore:
    from resources.cloud_chroma import ChromaCloud  # noqa: PLC0415 - Chroma's client takes a second to load

    host = settings.cloud_chroma_host
    if not host:
        raise InvalidInput("CLOUD_CHROMA_HOST is not set: name the cloud's Chroma server, or CLOUD_VECTOR_BACKEND=none")
    if not settings.cloud_chroma_ssl and not is_this_machine(host):
        raise Refused(f"CLOUD_CHROMA_HOST is {host} and would be reached in clear text: set CLOUD_CHROMA_SSL=true")
    token = settings.cloud_chroma_token
    return ChromaCloud(
        host,
        settings.cloud_chroma_port,
        is_ssl=settings.cloud_chroma_ssl,
        token=token.get_secret_value() if token else None,
        tenant=settings.cloud_chroma_tenant,
        database=settings.cloud_chroma_database,
    )


def _open_postgres(settings: Settings) -> CloudStore:
    from resources.cloud_postgres import PostgresCloud  # noqa: PLC0415 - as above

    if settings.cloud_database_url is None:
        raise InvalidInput("CLOUD_DATABASE_URL is not set: name the cloud's Postgres, or CLOUD_VECTOR_BACKEND=none")
    url = settings.cloud_database_url.get_secret_value()
    refuse_clear_text(url)
    return PostgresCloud(url)
