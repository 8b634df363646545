"""The contract of the cache of vectors, on Postgres and on a real Redis."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everreach_assets.domain.cache_keys import cache_key, text_hash
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Vector
from resources import embedding_cache_redis
from resources.database import Database
from resources.embedding_cache import EmbeddingCache, PostgresCache, erase_in, mixed, open_cache, read_secret
from resources.embedding_cache_redis import PREFIX, RedisCache
from resources.settings import Settings
from tests.redis_server import RedisServer, running_redis

WEEK = 604_800
SPACES = [Space("openai", "a", WIDTH, "1"), Space("openai", "b", WIDTH, "1"), Space("voyage", "a", 1024, "1")]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


Opener = Callable[..., EmbeddingCache]


@pytest.fixture(params=["postgres", "redis"])
def open_one(request: pytest.FixtureRequest, database: Database) -> Iterator[Opener]:
    """Opens the cache of one backend, empty at first."""
    opened: list[EmbeddingCache] = []
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        with redis.Redis.from_url(url) as client:
            client.flushall()

    def open_(*, ttl_seconds: int = WEEK, max_entries: int = 10_000) -> EmbeddingCache:
        limits = {"ttl_seconds": ttl_seconds, "max_entries": max_entries}
        cache: EmbeddingCache = (
            PostgresCache(database, **limits) if request.param == "postgres" else RedisCache(database, url, **limits)
        )
        opened.append(cache)
        return cache

    yield open_
    for each in opened:
        each.close()


def key(text: str, space: Space = SPACES[0], scrubber: str = "1") -> bytes:
    return cache_key(space, scrubber, text)


def vectors(number: int, seed: int = 7) -> list[Vector]:
    return list(np.random.default_rng(seed).standard_normal((number, WIDTH)).astype(np.float32))


def put(cache: EmbeddingCache, *texts: str) -> None:
    """Each text's vector in three spaces and two scrubber versions."""
    found = {
        key(text, space, scrubber): vector
        for text, vector in zip(texts, vectors(len(texts)), strict=True)
        for space in SPACES
        for scrubber in ("1", "2")
    }
    sources = {
        key(text, space, scrubber): [text_hash(f"raw {text}")]
        for text in texts
        for space in SPACES
        for scrubber in ("1", "2")
    }
    cache.put_many(found, sources)


def raw(*texts: str) -> list[bytes]:
    return [text_hash(f"raw {text}") for text in texts]


# --- get and put ---


def test_what_was_put_comes_back_bit_by_bit_and_counts_hits_and_misses(open_one: Opener) -> None:
    cache = open_one()
    odd = np.zeros(WIDTH, dtype=np.float32)
    finfo = np.finfo(np.float32)
    odd[:6] = np.array([np.nan, np.inf, -0.0, finfo.smallest_subnormal, finfo.max, 1 / 3], np.float32)
    put_ = {key(str(n)): vector for n, vector in enumerate([odd, *vectors(1_100)])}
    cache.put_many(put_)
    found = cache.get_many([*put_, key("unknown")])
    assert found.keys() == put_.keys()
    for each, vector in put_.items():
        assert found[each].dtype == np.float32
        assert found[each].tobytes() == vector.tobytes()
    found[key("0")][0] = 1.0  # a caller's vector is its own
    stats = open_one().stats()
    assert (stats.entries, stats.bytes) == (1_101, 1_101 * WIDTH * 4)
    cache.close()
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (1_101, 1)
    assert stats.hit_ratio == pytest.approx(1_101 / 1_102)


def test_a_new_cache_is_empty_and_says_so(open_one: Opener) -> None:
    cache = open_one(ttl_seconds=60, max_entries=5)
    assert cache.get_many([]) == {}
    cache.put_many({})
    stats = cache.stats()
    assert (stats.entries, stats.bytes, stats.hits, stats.misses) == (0, 0, 0, 0)
    assert (stats.hit_ratio, stats.oldest_at, stats.ttl_seconds, stats.max_entries) == (None, None, 60, 5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.dictionaries(st.integers(0, 9), st.integers(0, 99), max_size=5)),
            st.tuples(st.just("get"), st.lists(st.integers(0, 9), max_size=8)),
            st.tuples(st.just("clear"), st.none()),
        ),
        max_size=12,
    )
)
def test_it_does_what_a_dict_does(open_one: Opener, steps: list[tuple[str, object]]) -> None:
    cache = open_one()
    cache.clear()
    known: dict[int, int] = {}
    for name, given_ in steps:
        if isinstance(given_, dict):
            cache.put_many({key(str(n)): np.full(WIDTH, value, np.float32) for n, value in given_.items()})
            known |= given_
        elif isinstance(given_, list):
            found = cache.get_many([key(str(n)) for n in given_])
            expected = {key(str(n)): float(known[n]) for n in given_ if n in known}
            assert {each: float(vector[0]) for each, vector in found.items()} == expected
        else:
            assert (name, cache.clear()) == ("clear", len(known))
            known = {}


@pytest.mark.parametrize("wrong", [np.zeros(WIDTH), np.zeros(3, np.float32), np.zeros((1, WIDTH), np.float32)])
def test_what_would_come_back_as_something_else_is_refused(open_one: Opener, wrong: Vector) -> None:
    with pytest.raises(InvalidInput, match="float32"):
        open_one().put_many({key("a"): wrong})


def test_a_key_that_is_no_hash_is_refused(open_one: Opener) -> None:
    (vector,) = vectors(1)
    with pytest.raises(InvalidInput, match="SHA-256"):
        open_one().put_many({b"text": vector})
    with pytest.raises(InvalidInput, match="SHA-256"):
        open_one().put_many({key("a"): vector}, {key("a"): [b"raw text"]})


# --- bounds ---


def test_an_entry_ends_with_its_time(open_one: Opener) -> None:
    cache = open_one(ttl_seconds=3)
    put(cache, "one")
    assert len(cache.get_many([key("one")])) == 1
    time.sleep(3.1)
    assert cache.get_many([key("one")]) == {}
    assert cache.stats().entries == 0
    put(cache, "two")
    assert cache.stats().entries == 6


def test_beyond_its_size_the_oldest_go(open_one: Opener) -> None:
    cache = open_one(max_entries=20)
    for start in range(0, 50, 10):
        cache.put_many({key(str(n)): vector for n, vector in zip(range(start, start + 10), vectors(10), strict=True)})
        assert cache.stats().entries <= 20
    assert cache.get_many([key(str(n)) for n in range(50)]).keys() == {key(str(n)) for n in range(30, 50)}


def test_many_writers_and_readers_at_once_lose_nothing(open_one: Opener) -> None:
    cache = open_one()
    expected = {key(str(n)): vector for n, vector in enumerate(vectors(60))}
    faults: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for turn in range(6):
                names = [str((start + turn + n) % 60) for n in range(20)]
                cache.put_many(
                    {key(each): expected[key(each)] for each in names}, {key(each): raw(each) for each in names}
                )
                for each, vector in cache.get_many([key(name) for name in names]).items():
                    assert vector.tobytes() == expected[each].tobytes()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 64, 8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []
    assert len(cache.get_many(list(expected))) == 60


# --- erasure ---


def test_an_erasure_reaches_every_space_and_scrubber_version_and_no_other_text(open_one: Opener) -> None:
    cache = open_one()
    put(cache, "one", "two", "three")
    assert cache.erase_texts(raw("one", "three")) == 12
    assert cache.erase_texts(raw("unknown")) == 0
    left = {key("two", space, scrubber) for space in SPACES for scrubber in ("1", "2")}
    wanted = [key(text, space, scrubber) for text in ("one", "two", "three") for space in SPACES for scrubber in "12"]
    assert cache.get_many(wanted).keys() == left
    assert cache.stats().entries == 6


def test_a_vector_that_two_texts_led_to_goes_with_either(open_one: Opener) -> None:
    cache = open_one()
    for text in ("Call [NAME], says Ada", "Call [NAME], says Bob"):
        cache.put_many({key("Call [NAME]"): vectors(1)[0]}, {key("Call [NAME]"): raw(text)})
    assert cache.erase_texts(raw("Call [NAME], says Ada")) == 1
    assert cache.get_many([key("Call [NAME]")]) == {}


def test_a_vector_of_unknown_text_goes_with_any(open_one: Opener) -> None:
    cache = open_one()
    put(cache, "two")
    cache.put_many({key("whose?"): vectors(1)[0]})
    assert cache.erase_texts([]) == 0
    assert cache.erase_texts(raw("somebody's")) == 1
    assert cache.get_many([key("whose?"), key("two")]).keys() == {key("two")}


def test_an_erased_text_is_not_put_back_by_a_call_that_was_under_way(open_one: Opener) -> None:
    cache = open_one()
    cache.erase_texts(raw("one"))
    put(cache, "one", "two")
    assert cache.get_many([key("one"), key("two")]).keys() == {key("two")}


def test_an_erasure_that_is_rolled_back_erases_nothing(open_one: Opener, database: Database) -> None:
    cache = open_one()
    put(cache, "one")
    with database.transaction() as connection:
        erase_in(connection, raw("one"))
        raise psycopg.Rollback
    assert cache.finish_erasures() == 0
    assert len(cache.get_many([key("one")])) == 1


def test_erasures_and_puts_of_the_same_texts_at_once_leave_none_of_them(open_one: Opener) -> None:
    cache = open_one()
    names = [str(n) for n in range(40)]
    put(cache, *names)

    def put_again_and_again() -> None:
        for _ in range(5):
            put(cache, *names)

    putting = threading.Thread(target=put_again_and_again)
    putting.start()
    for each in names:
        cache.erase_texts(raw(each))
    putting.join()
    assert cache.get_many([key(each) for each in names]) == {}


def test_what_is_put_between_any_two_requests_of_an_erasure_is_erased(
    database: Database, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put sees afterwards that its text was erased, and must find then what it has put."""
    erasing, putting = (RedisCache(database, redis_server.url, ttl_seconds=WEEK, max_entries=100) for _ in range(2))
    execute, erased_of = redis.client.Pipeline.execute, putting._erased_of
    is_put, is_erased = threading.Semaphore(0), threading.Event()
    threads: list[threading.Thread] = []

    def wait_for_the_erasure(tags: set[bytes]) -> list[bytes]:
        is_put.release()
        assert is_erased.wait(20)
        return erased_of(tags)

    def execute_after_a_put(pipeline: "redis.client.Pipeline", *arguments: bool) -> list[object]:
        if pipeline.connection_pool is erasing._redis.connection_pool:
            threads.append(threading.Thread(target=put, args=(putting, "one")))
            threads[-1].start()
            assert is_put.acquire(timeout=20)
        return execute(pipeline, *arguments)

    with contextlib.closing(erasing), contextlib.closing(putting):
        put(putting, "one", "two")
        monkeypatch.setattr(putting, "_erased_of", wait_for_the_erasure)
        monkeypatch.setattr(redis.client.Pipeline, "execute", execute_after_a_put)
        erasing.erase_texts(raw("one"))
        is_erased.set()
        for thread in threads:
            thread.join()
        assert threads
        assert erasing.get_many([key("one"), key("two")]).keys() == {key("two")}


# --- secrets ---


def test_neither_backend_holds_a_text_or_a_hash_that_could_be_guessed(
    open_one: Opener, database: Database, request: pytest.FixtureRequest
) -> None:
    put(open_one(), "yes")
    if "redis" in request.node.name:
        with redis.Redis.from_url(request.getfixturevalue("redis_server").url) as client:
            kept = b"".join(each for each in client.scan_iter(count=1_000))
            kept += b"".join(
                member for each in client.scan_iter(match=PREFIX + b"t:*") for member in client.smembers(each)
            )
    else:
        with database.connection() as connection:
            rows = connection.execute("SELECT key || array_to_string(tags, '')::bytea FROM embedding_cache")
            kept = b"".join(bytes(each) for (each,) in rows)
    assert len(kept) > 100
    for guess in (b"yes", key("yes"), *raw("yes")):
        assert guess not in kept
        assert guess.hex().encode() not in kept


def test_python_and_sql_mix_alike(database: Database) -> None:
    with database.connection() as connection:
        row = connection.execute("SELECT sha256(secret || %s) FROM embedding_cache_secret", (key("a"),)).fetchone()
        assert row is not None
        assert mixed(read_secret(connection), key("a")) == bytes(row[0])


# --- Redis that is away ---


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


def test_without_redis_embedding_goes_on_is_told_once_and_counted(
    database: Database, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_cache_redis, "AWAY_SECONDS", 0.0)
    cache = RedisCache(database, own_redis.url, ttl_seconds=WEEK, max_entries=100)
    put(cache, "one")
    own_redis.stop()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert cache.get_many([key("one")]) == {}
            put(cache, "two")
    assert len([each for each in caplog.records if "does not answer" in each.message]) == 1
    with pytest.raises(Unavailable, match="EMBEDDING_CACHE_URL"):
        cache.stats()
    with pytest.raises(Unavailable, match="EMBEDDING_CACHE_URL"):
        cache.clear()
    own_redis.start()
    put(cache, "one")
    assert len(cache.get_many([key("one")])) == 1
    cache.close()
    with database.connection() as connection:
        counted = connection.execute(
            "SELECT metric, value::int FROM metric_counters WHERE metric LIKE 'everreach_embedding_cache_%'"
        ).fetchall()
    assert dict(counted) == {
        "everreach_embedding_cache_hits_total": 1,
        "everreach_embedding_cache_misses_total": 3,
        "everreach_embedding_cache_errors_total": 6,
    }


def test_a_redis_that_does_not_answer_is_not_waited_for_again_at_once(
    database: Database, own_redis: RedisServer
) -> None:
    cache = RedisCache(database, own_redis.url, ttl_seconds=WEEK, max_entries=100)
    own_redis.stop()
    for _ in range(5):
        cache.get_many([key("one")])
    cache.close()
    with database.connection() as connection:
        row = connection.execute(
            "SELECT value FROM metric_counters WHERE metric = 'everreach_embedding_cache_errors_total'"
        ).fetchone()
    assert row == (1,)


def test_what_is_erased_while_redis_is_away_waits_and_is_erased_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    """A server that was killed and started from its file holds what was erased meanwhile, and before."""
    with running_redis(tmp_path) as server:
        cache = RedisCache(database, server.url, ttl_seconds=WEEK, max_entries=100)
        put(cache, "one", "two", "three")
        with redis.Redis.from_url(server.url) as client:
            client.save()
        assert cache.erase_texts(raw("three")) == 6
        server.stop()
        assert cache.erase_texts(raw("one")) == 0
        assert cache.finish_erasures() == 1
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert len(list(client.scan_iter(match=PREFIX + b"v:*"))) == 18
        again = RedisCache(database, server.url, ttl_seconds=WEEK, max_entries=100)  # another process
        assert again.stats().pending_erasures == 1
        assert again.get_many([key("one"), key("two"), key("three")]).keys() == {key("two")}
        assert again.stats().pending_erasures == 0
        with redis.Redis.from_url(server.url) as client:
            assert len(list(client.scan_iter(match=PREFIX + b"v:*"))) == 6


def test_a_redis_that_evicts_on_its_own_is_warned_of(
    database: Database, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
    RedisCache(database, own_redis.url, ttl_seconds=WEEK, max_entries=100).get_many([key("one")])
    assert "noeviction" in caplog.text


# --- settings ---


def test_the_settings_choose_the_backend(database: Database) -> None:
    cache = open_cache(Settings(_env_file=None), database)
    assert isinstance(cache, PostgresCache)
    assert cache.stats().ttl_seconds == WEEK
    chosen = open_cache(Settings.model_validate({"embedding_cache_url": "redis://127.0.0.1:1/0"}), database)
    assert isinstance(chosen, RedisCache)


def test_a_wrong_address_is_refused_without_its_password(database: Database) -> None:
    wrong = Settings.model_validate({"embedding_cache_url": "redis://:hunter2@127.0.0.1:port/0"})
    with pytest.raises(InvalidInput, match="EMBEDDING_CACHE_URL") as refused:
        open_cache(wrong, database)
    assert "hunter2" not in str(refused.value)
