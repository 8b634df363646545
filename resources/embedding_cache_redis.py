"""The cache of vectors in Redis, as the operator may choose (EMBEDDING_CACHE_URL).

What belongs here: the keys in Redis, and what happens while it is away: the cache is empty then, embedding goes on, and
what was to be erased waits in Postgres. What does not: the contract (`embedding_cache.py`).

Under the prefix stand `v:KEY` (a vector), `t:TAG` (the keys that a text led to) and `order` (every key by the time of
its put). Each of them ends by itself with the TTL. Redis must not evict on its own (`maxmemory-policy noeviction`): a
tag that is gone before its vector could no longer be erased; it is warned of.
"""

import contextlib
import datetime as dt
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import redis

from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.vectors import WIDTH, Vector
from resources.database import Database
from resources.embedding_cache import (
    SWEPT_AT_A_PUT,
    CacheCounts,
    CacheStats,
    Sources,
    check_keys,
    decoded,
    encoded,
    erase_in,
    mixed,
    read_secret,
)

PREFIX = b"everreach:embedding:"
ORDER = PREFIX + b"order"
DAY_SECONDS = 86_400

CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 5.0
AWAY_SECONDS = 30.0
"""After a failure Redis is left alone for so long: embedding does not wait for it batch after batch."""

BATCH = 1_000
ERASED_AT_ONCE = 100
"""Texts: each of a batch's links is taken from each of their sets in one step, for which everybody else waits."""

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class RedisCache:
    """The cache in a Redis server; what must outlive it is in Postgres.

    Args:
        url: redis://, rediss:// or unix://.
    """

    def __init__(self, database: Database, url: str, *, ttl_seconds: int, max_entries: int) -> None:
        self._database = database
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._counts = CacheCounts(database)
        self._secret = b""
        self._away_until = 0.0
        self._is_warned = self._is_known = False
        try:
            self._redis = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS
            )
        except ValueError:  # its message holds the address, and the address may hold a password
            raise InvalidInput("EMBEDDING_CACHE_URL is no address: write redis://user:password@host:port/0") from None

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        nothing: dict[bytes, Vector] = {}
        found = self._unless_away(lambda: self._get(wanted), nothing)
        self._counts.add(hits=len(found), misses=len(wanted) - len(found))
        return found

    def _get(self, wanted: Sequence[bytes]) -> dict[bytes, Vector]:
        self._apply_erasures()
        found: dict[bytes, Vector] = {}
        for batch in _batches(wanted):
            values: list[Any] = self._redis.mget([_vector_key(self._mixed(key)) for key in batch])
            found |= {key: decoded(kept) for key, kept in zip(batch, values, strict=True) if kept is not None}
        return found

    def put_many(self, vectors: Mapping[bytes, Vector], sources: Sources | None = None) -> None:
        sources = sources or {}
        check_keys(vectors)
        check_keys(each for hashes in sources.values() for each in hashes)
        kept = {key: encoded(vector) for key, vector in vectors.items()}
        if kept:
            self._unless_away(lambda: self._put(kept, sources), None)

    def _put(self, kept: Mapping[bytes, bytes], sources: Sources) -> None:
        for batch in _batches(kept):
            self._put_batch({key: kept[key] for key in batch}, sources)
        self._sweep()
        # After the put: of an erasure meanwhile, either this sees that it was, or the erasure sees what was put.
        hashes = {each for key in kept for each in sources.get(key, ())}
        self._forget(self._erased_of({self._mixed(each) for each in hashes}))

    def _put_batch(self, kept: Mapping[bytes, bytes], sources: Sources) -> None:
        now = time.time()
        with self._redis.pipeline(transaction=True) as together:
            for key, vector in kept.items():
                stored = self._mixed(key)
                for tag in [self._mixed(each) for each in sources.get(key, ())] or [_tag_of_none(now)]:
                    together.sadd(_tag_key(tag), stored)
                    together.expire(_tag_key(tag), self._ttl_seconds)
                together.set(_vector_key(stored), vector, ex=self._ttl_seconds)
                together.zadd(ORDER, {stored: now})
            together.expire(ORDER, self._ttl_seconds)
            together.execute()

    def _sweep(self) -> None:
        """Forget the names of what has ended by itself, and remove the oldest of what is too much."""
        self._redis.zremrangebyscore(ORDER, "-inf", time.time() - self._ttl_seconds)
        excess = min(int(self._redis.zcard(ORDER)) - self._max_entries, SWEPT_AT_A_PUT)
        if excess > 0:
            oldest: list[tuple[bytes, float]] = self._redis.zpopmin(ORDER, excess)  # type: ignore[assignment]
            self._redis.unlink(*(_vector_key(stored) for stored, _ in oldest))

    def erase_texts(self, text_hashes: Collection[bytes]) -> int:
        """As the contract says. Where Redis is away the answer is 0: the erasure waits (`CacheStats`)."""
        with self._database.transaction() as connection:
            erase_in(connection, text_hashes)
        return self._unless_away(self._apply_erasures, 0, at_once=True)

    def finish_erasures(self) -> int:
        self._unless_away(self._apply_erasures, 0, at_once=True)
        return self._pending()

    def clear(self) -> int:
        with self._required():
            removed = 0
            for batch in _batches(self._redis.scan_iter(match=PREFIX + b"*", count=BATCH)):
                self._redis.unlink(*batch)
                removed += sum(key.startswith(PREFIX + b"v:") for key in batch)
        return removed

    def stats(self) -> CacheStats:
        with self._database.connection() as connection:
            hits, misses = self._counts.totals(connection)
        with self._required():
            since = time.time() - self._ttl_seconds
            entries = int(self._redis.zcount(ORDER, since, "+inf"))
            oldest: list[tuple[bytes, float]] = self._redis.zrangebyscore(  # type: ignore[assignment]
                ORDER, since, "+inf", start=0, num=1, withscores=True
            )
        return CacheStats(
            backend="redis",
            entries=entries,
            bytes=entries * WIDTH * 4,
            hits=hits,
            misses=misses,
            hit_ratio=hits / (hits + misses) if hits + misses else None,
            oldest_at=dt.datetime.fromtimestamp(oldest[0][1], dt.UTC) if oldest else None,
            ttl_seconds=self._ttl_seconds,
            max_entries=self._max_entries,
            pending_erasures=self._pending(),
        )

    def close(self) -> None:
        self._counts.flush()
        self._redis.close()

    # --- Erasures ---

    def _apply_erasures(self) -> int:
        """Forget what was erased in Postgres; answers how many entries went.

        The first time all that is on record, and not only what waits: the server may have been restored from a copy of
        before. Nothing is on record for longer than an entry may be kept.
        """
        with self._database.connection() as connection:
            tags = [
                bytes(tag)
                for (tag,) in connection.execute(
                    "SELECT tag FROM embedding_cache_erasures WHERE applied_at IS NULL OR %s", (not self._is_known,)
                )
            ]
        if not self._is_known:
            self._warn_of_eviction()
        erased = self._forget(tags) if tags else 0
        if tags:
            with self._database.connection() as connection:
                connection.execute(
                    "UPDATE embedding_cache_erasures SET applied_at = now() WHERE tag = ANY(%s) AND applied_at IS NULL",
                    (tags,),
                )
        self._is_known = True
        return erased

    def _forget(self, tags: Collection[bytes]) -> int:
        """Remove what those tags lead to, and what has none: it may be theirs."""
        erased = 0
        if not tags:
            return erased
        now = time.time()
        days = range(self._ttl_seconds // DAY_SECONDS + 2)
        for batch in _batches([*tags, *(_tag_of_none(now - day * DAY_SECONDS) for day in days)], ERASED_AT_ONCE):
            names = [_tag_key(tag) for tag in batch]
            stored: list[bytes] = list(self._redis.sunion(names))  # type: ignore[arg-type]
            for part in _batches(stored):
                # Vectors and links together: between the two, a put would bring back a vector that no link leads to.
                # And not the whole sets: what a put has added to them since they were read, it erases itself.
                with self._redis.pipeline(transaction=True) as together:
                    together.unlink(*map(_vector_key, part))
                    together.zrem(ORDER, *part)
                    for name in names:
                        together.srem(name, *part)
                    erased += together.execute()[0]
        return erased

    def _erased_of(self, tags: Collection[bytes]) -> list[bytes]:
        """Those of the tags that were erased within a day."""
        if not tags:
            return []
        with self._database.connection() as connection:
            rows = connection.execute(
                "SELECT tag FROM embedding_cache_erasures WHERE tag = ANY(%s) AND erased_at > now() - interval '1 day'",
                (list(tags),),
            ).fetchall()
        return [bytes(tag) for (tag,) in rows]

    def _pending(self) -> int:
        with self._database.connection() as connection:
            row = connection.execute(
                "SELECT count(*) FROM embedding_cache_erasures WHERE applied_at IS NULL"
            ).fetchone()
        return int(row[0]) if row else 0

    # --- Redis that is away ---

    def _unless_away(self, work: Callable[[], Result], otherwise: Result, *, at_once: bool = False) -> Result:
        """Do the work with Redis, or do without: each failure is counted, the first of an outage is told.

        Args:
            work: is tried.
            otherwise: what it answers where Redis does not.
            at_once: also within AWAY_SECONDS of a failure.
        """
        if not at_once and time.monotonic() < self._away_until:
            return otherwise
        try:
            result = work()
        except redis.RedisError as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            self._counts.add(hits=0, misses=0, errors=1)
            if not self._is_warned:
                logger.warning(
                    "the Redis of EMBEDDING_CACHE_URL does not answer (%s): until it does, texts that it holds are "
                    "paid for again, and what is erased waits",
                    type(error).__name__,
                )
            self._is_warned = True
            return otherwise
        self._away_until, self._is_warned = 0.0, False
        return result

    @contextlib.contextmanager
    def _required(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise Unavailable(
                f"the Redis of EMBEDDING_CACHE_URL does not answer ({type(error).__name__}); check that it runs"
            ) from None

    def _warn_of_eviction(self) -> None:
        with contextlib.suppress(redis.ResponseError):  # a hosted server may not tell
            found: dict[str, str] = self._redis.config_get("maxmemory*")  # type: ignore[assignment]
            policy = found.get("maxmemory-policy", "noeviction")
            if found.get("maxmemory", "0") != "0" and policy != "noeviction":
                logger.warning("Redis evicts by %s: set maxmemory-policy noeviction, so that erasures find all", policy)

    def _mixed(self, hash_: bytes) -> bytes:
        if not self._secret:
            with self._database.connection() as connection:
                self._secret = read_secret(connection)
        return mixed(self._secret, hash_)


def _vector_key(stored: bytes) -> bytes:
    return PREFIX + b"v:" + stored


def _tag_key(tag: bytes) -> bytes:
    return PREFIX + b"t:" + tag


def _tag_of_none(now: float) -> bytes:
    """The tag of entries without one: another one each day, so that it ends with them."""
    return b"none:%d" % (now // DAY_SECONDS)


def _batches(items: Iterable[bytes], size: int = BATCH) -> Iterator[list[bytes]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
