"""The daily quota on a real Postgres: threads, processes, a crash, midnight."""

import datetime as dt
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput, QuotaExhausted
from resources import metric_records
from resources.database import Database
from resources.embedding_quota import EmbeddingQuota, Reservation
from resources.provider_calls import ProviderCalls
from resources.providers import LOCAL, ProviderCall
from tests.quota_worker import CALL, spend

ROOT = Path(__file__).parents[2]


def quota_of(database: Database, cap: int, lifetime_seconds: float = 60.0) -> tuple[EmbeddingQuota, ProviderCalls]:
    quota = EmbeddingQuota(database, cap, lifetime_seconds=lifetime_seconds)
    return quota, ProviderCalls(database, quota)


def made(database: Database, provider: str = "openai") -> dict[dt.date, int]:
    with database.connection() as connection:
        return dict(
            connection.execute(
                "SELECT day, calls::int FROM embedding_call_days WHERE provider = %s", (provider,)
            ).fetchall()
        )


def promised(database: Database) -> int:
    with database.connection() as connection:
        row = connection.execute("SELECT coalesce(sum(calls_left), 0)::int FROM embedding_reservations").fetchone()
    return int(row[0]) if row else 0


def worker(url: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.quota_worker", url, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# --- never one too many, and never one too few ---


@pytest.mark.parametrize("cap", [0, 1, 63, 64, 150])
def test_sixty_four_threads_make_exactly_as_many_calls_as_the_day_has(database: Database, cap: int) -> None:
    assert spend(database, cap, threads=64, seed=cap) == cap
    assert sum(made(database).values()) == cap
    assert promised(database) == 0


@pytest.mark.slow
def test_sixty_four_callers_in_two_processes_make_exactly_as_many(database: Database, database_url: str) -> None:
    cap = 300
    processes = [worker(database_url, cap, 32, seed) for seed in range(2)]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    spent = [int(each.communicate(timeout=250)[0]) for each in processes]
    assert sum(spent) == cap
    assert min(spent) > 0
    assert sum(made(database).values()) == cap
    assert promised(database) == 0


def test_a_call_is_counted_once_before_and_after_its_reservation_is_settled(database: Database) -> None:
    quota, calls = quota_of(database, 5)
    reservation = quota.reserve("openai", 3)
    counts = [quota.state("openai").current_count]
    for _ in range(2):
        calls(CALL)
        counts.append(quota.state("openai").current_count)
    quota.settle(reservation, 2)
    assert [*counts, quota.state("openai").current_count] == [3, 3, 3, 2]
    quota.settle(quota.reserve("openai", 3), 0)  # what was given back can be had


def test_all_that_was_asked_for_is_promised_or_nothing(database: Database) -> None:
    quota, _ = quota_of(database, 5)
    quota.reserve("openai", 4)
    with pytest.raises(QuotaExhausted):
        quota.reserve("openai", 2)
    quota.reserve("openai", 1)
    assert promised(database) == 5


def test_an_exhausted_quota_says_whose_and_until_when_and_is_counted(database: Database) -> None:
    quota, _ = quota_of(database, 1)
    with pytest.raises(QuotaExhausted, match="openai: the 1 calls of the day are used up") as refused:
        quota.reserve("openai", 2)
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    assert refused.value.reset_at == dt.datetime.combine(tomorrow, dt.time(), dt.UTC)
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - our own
    assert (copy.provider, copy.reset_at, str(copy)) == ("openai", refused.value.reset_at, str(refused.value))
    with database.connection() as connection:
        found = {
            (each.labels["provider"], each.value)
            for each in metric_records.stored(connection)
            if each.metric == "everreach_embedding_quota_exhausted_total" and each.value
        }
    assert found == {("openai", 2)}


def test_each_provider_has_a_quota_of_its_own_and_the_local_one_has_none(database: Database) -> None:
    quota, calls = quota_of(database, 1)
    quota.reserve("openai", 1)
    quota.reserve("voyage", 1)
    for _ in range(3):
        quota.settle(quota.reserve(LOCAL, 1_000), 0)
        calls(ProviderCall(LOCAL, "hashing-char-3-5", 0.01))
    calls.close()
    state = quota.state(LOCAL)
    assert (state.daily_quota, state.current_count, state.remaining, state.exceeded) == (None, 3, None, False)
    state = quota.state("voyage")
    assert (state.daily_quota, state.current_count, state.remaining, state.exceeded) == (1, 1, 0, True)


def test_a_call_that_nobody_promised_is_counted_and_told_where_it_is_beyond(database: Database) -> None:
    quota, calls = quota_of(database, 2)
    for _ in range(3):
        calls(CALL)
    assert quota.state("openai").current_count == 3
    assert quota.state("openai").remaining == 0
    with database.connection() as connection:
        row = connection.execute(
            "SELECT sum(value)::int FROM metric_counters WHERE metric = 'everreach_embedding_quota_exhausted_total'"
        ).fetchone()
    assert row == (1,)


def test_fewer_than_one_call_cannot_be_reserved(database: Database) -> None:
    with pytest.raises(InvalidInput):
        quota_of(database, 5)[0].reserve("openai", 0)


# --- a crash ---


@pytest.mark.slow
def test_what_a_killed_process_was_promised_is_given_back_and_what_it_called_is_not(
    database: Database, database_url: str
) -> None:
    process = worker(database_url, 10, "hold", 8, 3, 2.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate(timeout=30)
    quota, _ = quota_of(database, 10)
    assert quota.state("openai").current_count == 8
    with pytest.raises(QuotaExhausted):
        quota.reserve("openai", 3)
    time.sleep(2.2)
    state = quota.state("openai")
    assert (state.current_count, state.remaining) == (3, 7)
    quota.reserve("openai", 7)
    with pytest.raises(QuotaExhausted):
        quota.reserve("openai", 1)
    assert promised(database) == 7


def test_who_settles_too_late_takes_nothing_from_those_who_came_after(database: Database) -> None:
    late, _ = quota_of(database, 4, lifetime_seconds=0.05)
    reservation = late.reserve("openai", 4)
    time.sleep(0.1)
    next_one, _ = quota_of(database, 4)
    next_one.reserve("openai", 4)
    late.settle(reservation, 0)
    assert promised(database) == 4


# --- midnight ---


def a_day_later(database: Database, reservation: Reservation) -> Reservation:
    """As if midnight had been since then: what is on record moves a day back."""
    with database.transaction() as connection:
        connection.execute("UPDATE embedding_reservations SET day = day - 1")
        connection.execute("UPDATE embedding_call_days SET day = day - 1")
    yesterday = reservation.day - dt.timedelta(days=1)
    return Reservation(reservation.provider, reservation.calls, yesterday, reservation.expires_at)


def test_over_midnight_a_reservation_is_of_the_day_on_which_it_was_made(database: Database) -> None:
    quota, calls = quota_of(database, 3)
    reservation = a_day_later(database, quota.reserve("openai", 3))
    calls(CALL)
    calls(CALL)
    assert made(database) == {reservation.day: 2}
    assert quota.state("openai").remaining == 3
    quota.settle(reservation, 2)
    assert promised(database) == 0
    today = quota.reserve("openai", 3)
    calls(CALL)
    assert made(database) == {reservation.day: 2, today.day: 1}
