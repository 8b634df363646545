"""Vectors that were paid for, kept for some days: in Postgres, or in Redis (`embedding_cache_redis.py`).

What belongs here: the contract of a cache, the one in Postgres, and the erasure of a text from any of them. What does
not: what a vector is cached under (`domain/cache_keys.py`), and what is cached at all (`embedder.py`).

No cache holds a text, or a hash that a text can be guessed from: keys and tags are mixed with a secret of the database.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.vectors import WIDTH, Vector
from resources import metric_records, spending
from resources.database import Connection, Database
from resources.metric_buffer import MetricBuffer
from resources.metric_records import Record
from resources.settings import Settings

HITS, MISSES, ERRORS = (f"everreach_embedding_cache_{each}_total" for each in ("hits", "misses", "errors"))

SWEPT_AT_A_PUT = 10_000
"""At most so many entries are removed by one put, so that no put takes long."""

Sources = Mapping[bytes, Collection[bytes]]


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds, and how often it helped.

    Attributes:
        entries: that may still be used.
        bytes: of their vectors.
        hits, misses: keys that were asked for, since the database was made, whichever cache it was.
        hit_ratio: hits of all that was asked for; None where nothing was.
        oldest_at: when the oldest entry was put; None where there is none.
        pending_erasures: erased texts that the cache, being away, has yet to forget.
    """

    backend: Literal["postgres", "redis"]
    entries: int
    bytes: int
    hits: int
    misses: int
    hit_ratio: float | None
    oldest_at: datetime | None
    ttl_seconds: int
    max_entries: int
    pending_erasures: int


class EmbeddingCache(Protocol):
    """Vectors by the keys of `domain/cache_keys.py`. Used by many threads and processes at once."""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors that there are, shape (1536,), float32, exactly as they were put; counts hits and misses."""

    def put_many(self, vectors: Mapping[bytes, Vector], sources: Sources | None = None) -> None:
        """Keep the vectors; the same again changes nothing but their age. Beyond the size the oldest go.

        Args:
            vectors: shape (1536,), float32, by key.
            sources: by key the hashes (`text_hash`) of the texts, before scrubbing, that lead to it. An entry without
                one goes with the next erasure of any text, since it may be that text's.

        Raises:
            InvalidInput: a key is no SHA-256, or a vector is none.
        """

    def erase_texts(self, text_hashes: Collection[bytes]) -> int:
        """Erase what those texts led to, in every space and scrubber version; answers how many entries went.

        Args:
            text_hashes: of the texts before scrubbing (`text_hash`). Within a day no vector of theirs is put again, so
                that a call that was under way does not bring one back.
        """

    def finish_erasures(self) -> int:
        """Erase what `erase_in` has noted; answers how many texts still wait, because the cache does not answer."""

    def clear(self) -> int:
        """Remove every entry; answers how many."""

    def stats(self) -> CacheStats:
        """What it holds now."""

    def close(self) -> None:
        """Write what was counted and is not written yet."""


def open_cache(settings: Settings, database: Database) -> EmbeddingCache:
    """The cache that the settings choose; the caller closes it before the database.

    Raises:
        InvalidInput: Redis is chosen and its client is not installed.
    """
    ttl_seconds, max_entries = settings.embedding_cache_ttl_seconds, settings.embedding_cache_max_entries
    if settings.embedding_cache_url is None:
        return PostgresCache(database, ttl_seconds=ttl_seconds, max_entries=max_entries)
    try:
        from resources.embedding_cache_redis import RedisCache  # noqa: PLC0415 - its client is an extra
    except ModuleNotFoundError:
        raise InvalidInput("EMBEDDING_CACHE_URL names a Redis: install its client, 'pip install redis'") from None
    url = settings.embedding_cache_url.get_secret_value()
    return RedisCache(database, url, ttl_seconds=ttl_seconds, max_entries=max_entries)


def erase_in(connection: Connection, text_hashes: Iterable[bytes | None]) -> int:
    """Erase what those texts led to in the transaction of the connection; a cache outside is told after it.

    Writers of the cache wait until the transaction ends. `EmbeddingCache.finish_erasures` tells a cache outside, and
    whoever uses it next does so too.
    """
    row = connection.execute("SELECT erase_cached_texts(%s)", (list(text_hashes),)).fetchone()
    return int(row[0]) if row else 0


class CacheCounts:
    """How often the cache was asked: kept in the process and written every few seconds, for a search asks it too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._buffer: MetricBuffer[tuple[str, int]] = MetricBuffer(self._write)

    def add(self, *, hits: int, misses: int, errors: int = 0) -> None:
        spending.count_cache(hits=hits, misses=misses)
        for metric, count in ((HITS, hits), (MISSES, misses), (ERRORS, errors)):
            if count:
                self._buffer.add((metric, count))

    def flush(self) -> None:
        self._buffer.flush()

    def totals(self, connection: Connection) -> tuple[int, int]:
        """Hits and misses since the database was made, of every process."""
        self.flush()
        rows = connection.execute(
            "SELECT metric, value::bigint FROM metric_counters WHERE metric = ANY(%s)", ([HITS, MISSES],)
        )
        found: dict[str, int] = dict(rows.fetchall())
        return found.get(HITS, 0), found.get(MISSES, 0)

    def _write(self, counts: Sequence[tuple[str, int]]) -> None:
        totals: Counter[str] = Counter()
        for metric, count in counts:
            totals[metric] += count
        with self._database.connection() as connection:
            metric_records.record(connection, [Record(metric, count) for metric, count in totals.items()])


def read_secret(connection: Connection) -> bytes:
    """What keys and tags are mixed with: a copy of the cache alone says nothing about texts."""
    row = connection.execute("SELECT secret FROM embedding_cache_secret").fetchone()
    assert row is not None  # noqa: S101 - the migration has written it
    return bytes(row[0])


def mixed(secret: bytes, hash_: bytes) -> bytes:
    """As `sha256(secret || hash)` in sql/migrations/0013_embedding_cache.sql."""
    return hashlib.sha256(secret + hash_).digest()


def encoded(vector: Vector) -> bytes:
    """A vector as it is kept.

    Raises:
        InvalidInput: it is not 1536 components of float32: another type would come back as other numbers.
    """
    if vector.shape != (WIDTH,) or vector.dtype != np.float32:
        raise InvalidInput(f"the cache takes float32 vectors of shape ({WIDTH},), got {vector.dtype} {vector.shape}")
    return vector.astype("<f4", copy=False).tobytes()


def decoded(kept: bytes) -> Vector:
    """The vector itself, which its caller may change."""
    return np.frombuffer(kept, dtype="<f4").astype(np.float32)


def check_keys(keys: Iterable[bytes]) -> None:
    """Refuse what is no SHA-256.

    Raises:
        InvalidInput: a key or a source of another length.
    """
    if any(len(key) != hashlib.sha256().digest_size for key in keys):
        raise InvalidInput("the cache's keys and sources are SHA-256 digests of 32 bytes")


class PostgresCache:
    """The cache as rows of `embedding_cache`, in the database that holds the vectors themselves."""

    def __init__(self, database: Database, *, ttl_seconds: int, max_entries: int) -> None:
        self._database = database
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._counts = CacheCounts(database)
        self._secret = b""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        if not keys:
            return {}
        with self._database.connection() as connection:
            by_mixed = {self._mixed(connection, key): key for key in keys}
            rows = connection.execute(
                "SELECT key, vector FROM embedding_cache WHERE key = ANY(%s)"
                " AND created_at > now() - make_interval(secs => %s)",
                (list(by_mixed), self._ttl_seconds),
                binary=True,
            )
            found = {by_mixed[bytes(key)]: decoded(bytes(vector)) for key, vector in rows}
        self._counts.add(hits=len(found), misses=len(by_mixed) - len(found))
        return found

    def put_many(self, vectors: Mapping[bytes, Vector], sources: Sources | None = None) -> None:
        if not vectors:
            return
        sources = sources or {}
        check_keys(vectors)
        check_keys(each for hashes in sources.values() for each in hashes)
        kept = [(key, encoded(vector), list(sources.get(key, ()))) for key, vector in vectors.items()]
        with self._database.transaction() as connection:
            rows = sorted(  # two writers lock in one order
                (self._mixed(connection, key), vector, [self._mixed(connection, each) for each in hashes])
                for key, vector, hashes in kept
            )
            connection.execute(
                """
                INSERT INTO embedding_cache AS known (key, vector, tags)
                SELECT key, vector, coalesce(own_tags, '{}')
                FROM unnest(%(keys)b::bytea[], %(vectors)b::bytea[]) WITH ORDINALITY AS given (key, vector, number)
                LEFT JOIN (
                    SELECT owner, array_agg(DISTINCT tag) AS own_tags
                    FROM unnest(%(owners)b::integer[], %(tags)b::bytea[]) AS link (owner, tag)
                    GROUP BY owner) AS links ON owner = number
                WHERE NOT EXISTS (
                    SELECT FROM embedding_cache_erasures AS erased
                    WHERE erased.tag = ANY(own_tags) AND erased.erased_at > now() - interval '1 day')
                ORDER BY key
                ON CONFLICT (key) DO UPDATE
                SET vector = excluded.vector, created_at = excluded.created_at,
                    tags = ARRAY(SELECT DISTINCT unnest(known.tags || excluded.tags))
                """,
                {
                    "keys": [key for key, _, _ in rows],
                    "vectors": [vector for _, vector, _ in rows],
                    "owners": [number for number, (_, _, tags) in enumerate(rows, 1) for _ in tags],
                    "tags": [tag for _, _, tags in rows for tag in tags],
                },
            )
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is too old, and the oldest of what is too much: a bounded number of entries.

        Rows that another process is about to remove are left to it, so that two never wait for each other.
        """
        with self._database.connection() as connection:
            connection.execute(
                """
                DELETE FROM embedding_cache WHERE key IN (
                    SELECT key FROM embedding_cache ORDER BY created_at, key
                    LIMIT (SELECT least(%(most)s, greatest(
                        count(*) - %(max_entries)s,
                        count(*) FILTER (WHERE created_at <= now() - make_interval(secs => %(ttl_seconds)s))))
                        FROM embedding_cache)
                    FOR UPDATE SKIP LOCKED)
                """,
                {"most": SWEPT_AT_A_PUT, "max_entries": self._max_entries, "ttl_seconds": self._ttl_seconds},
            )

    def erase_texts(self, text_hashes: Collection[bytes]) -> int:
        with self._database.transaction() as connection:
            return erase_in(connection, text_hashes)

    def finish_erasures(self) -> int:
        return 0  # each was complete with its transaction

    def clear(self) -> int:
        with self._database.connection() as connection:
            return connection.execute("DELETE FROM embedding_cache").rowcount

    def stats(self) -> CacheStats:
        with self._database.connection() as connection:
            hits, misses = self._counts.totals(connection)
            row = connection.execute(
                "SELECT count(*), min(created_at) FROM embedding_cache"
                " WHERE created_at > now() - make_interval(secs => %s)",
                (self._ttl_seconds,),
            ).fetchone()
        entries, oldest_at = row or (0, None)
        return CacheStats(
            backend="postgres",
            entries=entries,
            bytes=entries * WIDTH * 4,
            hits=hits,
            misses=misses,
            hit_ratio=hits / (hits + misses) if hits + misses else None,
            oldest_at=oldest_at,
            ttl_seconds=self._ttl_seconds,
            max_entries=self._max_entries,
            pending_erasures=0,
        )

    def close(self) -> None:
        self._counts.flush()

    def _mixed(self, connection: Connection, hash_: bytes) -> bytes:
        self._secret = self._secret or read_secret(connection)
        return mixed(self._secret, hash_)
