"""A Chroma server as the cloud: ids, vectors and allow-listed metadata with their revisions, never text.

Chroma can neither compare before it writes nor keep a mark of what was deleted, so this module reads before it writes,
and keeps removals in a collection beside. Two writers at once could still pass each other between the two steps: the
lease (`sync_lease.py`) sees to it that there is one. What does not belong here: what may be sent (`cloud_store.py`).

    everreach.<collection>.<space id>    the rows of one space
    everreach.<collection>.removed       ids of removed rows, with the revision of the removal
"""

import contextlib
import functools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import chromadb.errors
import httpx
import numpy as np
import numpy.typing as npt
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.sync import Change, Held, Outgoing, Removal, may_leave
from everreach_assets.domain.vectors import Vector
from resources.chroma_index import HNSW, REVISION_KEY, close_client, number_as_decimal, open_client
from resources.cloud_store import RowsRefused
from resources.hosts import chroma_host
from resources.settings import bracketed

PREFIX = "everreach"
REMOVED = "removed"
VECTOR_KEY = "_vector_sha256"
"""As the revision's key: beside a row's metadata, and outside the grammar of metadata keys."""

LISTING_ROWS = 5_000
ROUNDING = 1e-6
"""A cosine collection keeps unit vectors and their lengths: what comes back differs in the last bit of a float32."""

REFUSED_ROWS = {400, 413, 422}
REFUSED_ACCESS = {401, 403}

Answer = TypeVar("Answer")


class ChromaCloud:
    """The cloud's Chroma server.

    Args:
        request_seconds: how long one request may take.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        is_ssl: bool,
        token: str | None = None,
        tenant: str = "default_tenant",
        database: str = "default_database",
        request_seconds: float = 60.0,
    ) -> None:
        self._host = bracketed(chroma_host(host))
        self.address = f"{'https' if is_ssl else 'http'}://{self._host}:{port}/{tenant}/{database}"
        self.requests = 0
        self._port = port
        self._is_ssl = is_ssl
        self._headers = {"X-Chroma-Token": token, "Authorization": f"Bearer {token}"} if token else {}
        self._place = {"tenant": tenant, "database": database}
        self._request_seconds = request_seconds
        self._handles: dict[str, Collection] | None = None

    def upsert(self, collection: str, rows: Sequence[Outgoing]) -> None:
        removed = self._removed(collection, [each.doc_id for each in rows])
        by_space: dict[str, list[Outgoing]] = defaultdict(list)
        for row in rows:
            if removed.get(row.doc_id, -1) < row.rev:
                by_space[row.space_id].append(row)
        for space_id, of_space in by_space.items():
            self._upsert(collection, space_id, of_space)

    def _upsert(self, collection: str, space_id: str, rows: Sequence[Outgoing]) -> None:
        handle = self._space(collection, space_id)
        ids = [each.doc_id for each in rows]
        present = self._metadata(handle, ids)
        newest = {doc_id: _revision(metadata) for doc_id, metadata in present.items()}
        others = [each for name, each in self._spaces(collection).items() if name != handle.name]
        for other in others:
            for doc_id, metadata in self._metadata(other, ids).items():
                newest[doc_id] = max(newest.get(doc_id, -1), _revision(metadata))
        current = [each for each in rows if newest.get(each.doc_id, -1) <= each.rev]
        whole = [each for each in current if each.vector is not None]
        metadata_only = [each for each in current if each.vector is None and each.doc_id in present]
        if whole:
            vectors = np.stack([each.vector for each in whole if each.vector is not None])
            self._ask(
                lambda: handle.upsert(
                    ids=[each.doc_id for each in whole], embeddings=vectors, metadatas=_metadatas(whole, present)
                )
            )
        if metadata_only:
            self._ask(
                lambda: handle.update(
                    ids=[each.doc_id for each in metadata_only], metadatas=_metadatas(metadata_only, present)
                )
            )
        for other in others:  # a row is in one space: it leaves the one before when it has arrived in this one
            if written := [each.doc_id for each in current]:
                self._ask(lambda other=other, written=written: other.delete(ids=written))  # type: ignore[misc]

    def remove(self, collection: str, removals: Sequence[Removal]) -> None:
        ids = [each.doc_id for each in removals]
        before = self._removed(collection, ids)
        newer = [each for each in removals if before.get(each.doc_id, -1) < each.rev]
        revs = {each.doc_id: each.rev for each in removals}
        if newer:
            marks = self._named(f"{PREFIX}.{collection}.{REMOVED}")
            self._ask(  # first the mark, then the row: what is killed in between is done again
                lambda: marks.upsert(
                    ids=[each.doc_id for each in newer],
                    embeddings=np.ones((len(newer), 1), dtype=np.float32),
                    metadatas=[{REVISION_KEY: each.rev} for each in newer],
                )
            )
        for handle in self._spaces(collection).values():
            older = [
                doc_id
                for doc_id, metadata in self._metadata(handle, ids).items()
                if _revision(metadata) <= revs[doc_id]
            ]
            if older:
                self._ask(lambda handle=handle, older=older: handle.delete(ids=older))  # type: ignore[misc]

    def held(self, collection: str, changes: Sequence[Change]) -> dict[str, Held]:
        ids = [each.doc_id for each in changes]
        found = {doc_id: Held(rev, is_deleted=True) for doc_id, rev in self._removed(collection, ids).items()}
        vectors = {
            each.doc_id: each.vector for each in changes if isinstance(each, Outgoing) and each.vector is not None
        }
        for name, handle in self._spaces(collection).items():
            for doc_id, row in self._rows(handle, _space_of(name), ids, vectors):
                if doc_id not in found or row.rev > found[doc_id].rev:
                    found[doc_id] = row
        return found

    def listing(self, collection: str) -> Iterator[tuple[str, Held]]:
        for name, handle in self._spaces(collection).items():
            read = 0
            while page := list(self._rows(handle, _space_of(name), None, {}, offset=read)):
                yield from page
                read += len(page)

    def holdings(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for name, handle in self._opened(again=True).items():
            collection, rest = _collection_of(name)
            if collection is not None:
                found[collection] += self._ask(handle.count) if rest != REMOVED else 0
        return found

    def erase(self, collection: str) -> None:
        for name in list(self._opened(again=True)):
            if _collection_of(name)[0] == collection:
                self._ask(lambda name=name: self._client.delete_collection(name))  # type: ignore[misc]
        self._handles = None

    def close(self) -> None:
        if client := self.__dict__.pop("_client", None):
            close_client(client)
        self._handles = None

    def _rows(
        self, handle: Collection, space_id: str, ids: list[str] | None, vectors: Mapping[str, Vector], offset: int = 0
    ) -> Iterator[tuple[str, Held]]:
        """The rows of those ids, or a page of all; a vector that is given is compared with the one that is stored."""
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        page = self._ask(
            lambda: handle.get(
                ids=ids,
                limit=None if ids is not None else LISTING_ROWS,
                offset=None if ids is not None else offset,
                include=include,  # type: ignore[arg-type]
            )
        )
        stored = page["embeddings"] if vectors else None
        for number, (doc_id, metadata) in enumerate(zip(page["ids"], page["metadatas"] or [], strict=True)):
            own = dict(metadata or {})
            digest = str(own.pop(VECTOR_KEY, ""))
            rev = int(own.pop(REVISION_KEY, -1))  # type: ignore[arg-type]
            is_altered = stored is not None and doc_id in vectors and not _is_same(vectors[doc_id], stored[number])
            yield (
                doc_id,
                Held(
                    rev,
                    space_id=space_id,
                    metadata=own,  # type: ignore[arg-type]
                    vector_sha256=b"" if is_altered else _bytes(digest),
                ),
            )

    def _removed(self, collection: str, ids: list[str]) -> dict[str, int]:
        """The revision of the removal of each of those ids that were removed."""
        marks = self._opened().get(f"{PREFIX}.{collection}.{REMOVED}")
        if marks is None:
            return {}
        return {doc_id: _revision(metadata) for doc_id, metadata in self._metadata(marks, ids).items()}

    def _metadata(self, handle: Collection, ids: list[str]) -> dict[str, Mapping[str, Any]]:
        page = self._ask(lambda: handle.get(ids=ids, include=["metadatas"]))
        return {doc_id: metadata or {} for doc_id, metadata in zip(page["ids"], page["metadatas"] or [], strict=True)}

    def _spaces(self, collection: str) -> dict[str, Collection]:
        """The collections that hold its rows, by their full names."""
        removed = f"{PREFIX}.{collection}.{REMOVED}"
        return {
            name: each
            for name, each in self._opened().items()
            if name.startswith(f"{PREFIX}.{collection}.") and name != removed
        }

    def _space(self, collection: str, space_id: str) -> Collection:
        return self._named(f"{PREFIX}.{collection}.{space_id}")

    def _named(self, name: str) -> Collection:
        """The collection of that full name, made where it is not there."""
        opened = self._opened()
        if name not in opened:
            opened[name] = self._ask(
                lambda: self._client.get_or_create_collection(
                    name,
                    configuration={"hnsw": HNSW},  # type: ignore[arg-type]
                    embedding_function=None,  # never code that a server's configuration names (CVE-2026-45829)
                )
            )
        return opened[name]

    def _opened(self, *, again: bool = False) -> dict[str, Collection]:
        """Every collection of the database, by name."""
        if self._handles is None or again:
            names = self._ask(lambda: [each.name for each in self._client.list_collections()])
            self._handles = {
                name: self._ask(lambda name=name: self._client.get_collection(name, embedding_function=None))  # type: ignore[misc]
                for name in names
                if _collection_of(name)[0] is not None
            }
        return self._handles

    @functools.cached_property
    def _client(self) -> ClientAPI:
        return open_client(
            self._host, self._port, self._request_seconds, is_ssl=self._is_ssl, headers=self._headers, **self._place
        )

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        """What the request answers.

        Raises:
            Unavailable: no answer, or one that says so.
            InvalidInput: the server does not let us in.
            RowsRefused: it will not take what was sent.
        """
        self.requests += 1
        try:
            return request()
        except json.JSONDecodeError as error:
            raise self._unavailable(error) from error
        except ValueError as error:  # the client's own checks
            raise RowsRefused(type(error).__name__) from None
        except chromadb.errors.ChromaError as error:
            if error.code() in REFUSED_ROWS:
                raise RowsRefused(type(error).__name__) from None
            if error.code() in REFUSED_ACCESS:
                raise self._shut_out() from error
            self._handles = None  # a collection may have been replaced
            raise self._unavailable(error) from error
        except httpx.HTTPStatusError as error:
            if error.response.status_code in REFUSED_ACCESS:
                raise self._shut_out() from error
            raise self._unavailable(error) from error
        except httpx.HTTPError as error:
            with contextlib.suppress(Exception):
                self.close()
            raise self._unavailable(error) from error
        except Exception as error:
            if type(error) is not Exception:  # for an answer that is not Chroma's own, its client raises a bare one
                raise
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the cloud at {self.address} does not answer ({type(error).__name__}); what it had not confirmed stays "
            "pending: run the same command again"
        )

    def _shut_out(self) -> InvalidInput:
        return InvalidInput(f"the cloud at {self.address} does not let us in: see CLOUD_CHROMA_TOKEN (docs/sync.md)")


def _collection_of(name: str) -> tuple[str | None, str]:
    """The collection that a name in Chroma belongs to, and what follows; None where it is somebody else's.

    A local-only collection is told also by its plain name, under which an index of ours would have it.
    """
    first, _, rest = name.partition(".")
    if first == PREFIX:
        collection, _, rest = rest.partition(".")
        return collection, rest
    is_local_only = first == "client_data" or (first in COLLECTIONS and not may_leave(first))
    return (first, rest) if is_local_only else (None, "")


def _space_of(name: str) -> str:
    return name.rpartition(".")[2]


def _revision(metadata: Mapping[str, Any]) -> int:
    return int(metadata.get(REVISION_KEY, -1))


def _metadatas(rows: Sequence[Outgoing], present: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The metadata to write: keys that a row no longer has are taken away, Chroma alone would keep them."""
    return [
        dict.fromkeys(present.get(row.doc_id, {}))
        | {key: number_as_decimal(value) for key, value in row.metadata.items()}
        | {REVISION_KEY: row.rev, VECTOR_KEY: row.vector_sha256.hex()}
        for row in rows
    ]


def _is_same(sent: Vector, stored: npt.ArrayLike) -> bool:
    """Whether the vectors are the same but for the last bit of a component."""
    got = np.asarray(stored, dtype=np.float32)
    return got.shape == sent.shape and bool(
        np.max(np.abs(got - sent)) <= ROUNDING * max(float(np.linalg.norm(sent.astype(np.float64))), 1e-30)
    )


def _bytes(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return b""
