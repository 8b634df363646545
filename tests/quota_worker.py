"""A process that spends a daily quota: so many threads reserve, call and settle until nothing is left, or one holds on.

    python -m tests.quota_worker URL CAP THREADS SEED    at a line of input spend; prints how many calls were made
    python -m tests.quota_worker URL CAP hold CALLS MADE LIFETIME_SECONDS    reserve, make some, print, and wait

A call is what `ProviderCalls` is told of each; nothing is sent anywhere.
"""

import random
import sys
import threading
import time

from everreach_assets.domain.errors import QuotaExhausted
from resources.database import Database
from resources.embedding_quota import EmbeddingQuota
from resources.provider_calls import ProviderCalls
from resources.providers import ProviderCall

CALL = ProviderCall("openai", "text-embedding-3-small", 0.01, tokens=10, texts=1)


def spend(database: Database, cap: int, threads: int, seed: int) -> int:
    quota = EmbeddingQuota(database, cap, lifetime_seconds=60)
    calls = ProviderCalls(database, quota)
    made: list[int] = []

    def work(number: int) -> None:
        dice = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
        most = 3
        while most:
            try:
                reservation = quota.reserve("openai", most)
            except QuotaExhausted:
                most -= 1  # with fewer there may be room
                continue
            wanted = dice.randint(0 if most > 1 else 1, most)
            for _ in range(wanted):
                calls(CALL)
                made.append(1)
            quota.settle(reservation, wanted)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    return len(made)


def hold(database: Database, cap: int, reserved: int, made: int, lifetime_seconds: float) -> None:
    quota = EmbeddingQuota(database, cap, lifetime_seconds=lifetime_seconds)
    calls = ProviderCalls(database, quota)
    quota.reserve("openai", reserved)
    for _ in range(made):
        calls(CALL)
    print("held", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    url, cap, *rest = sys.argv[1:]
    with Database(url) as opened:
        if rest[0] == "hold":
            hold(opened, int(cap), int(rest[1]), int(rest[2]), float(rest[3]))
        else:
            print("ready", flush=True)
            sys.stdin.readline()  # so that all begin at once
            print(spend(opened, int(cap), int(rest[0]), int(rest[1])))
