"""How long a change of the model takes without the provider: filling from memory, the switch, and the switch back.

    .venv/bin/python -m tests.benchmarks.switch --posts 45000 --backend pgvector

The vectors are made in this process, so what is timed is ours and the servers'.
"""

import argparse
import os
import time
from collections.abc import Callable

from everreach_assets.domain.collections import CONTENT
from resources.database import Database
from resources.vector_db import open_index
from tests.benchmarks.servers import fresh_servers
from tests.space_memory import NEXT, SpaceMemory


def run(posts: int, backend: str) -> dict[str, float]:
    """Seconds of each step, on fresh servers."""
    with fresh_servers() as settings:
        chosen = settings.model_copy(update={"vector_backend": backend})
        with Database(chosen.database_url()) as database:
            memory = SpaceMemory(database, open_index(chosen, database), backup=None)
            memory.run(
                "INSERT INTO actp_feedback_posts (platform, post_id, text, text_sha256)"
                " SELECT 'x', n::text, 'How to write post ' || n, sha256(('How to write post ' || n)::bytea)"
                " FROM generate_series(1, %s) AS n",
                posts,
            )
            seconds = {"first load": _seconds(memory.embed)}
            memory.begin(NEXT)
            seconds["fill"] = _seconds(memory.fill)
            seconds["switch"] = _seconds(memory.switch)
            assert set(memory.space_of(CONTENT.name).values()) == {NEXT}
            seconds["switch back"] = _seconds(memory.switch_back)
            memory.vector_db.close()
    return seconds


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.switch", description=__doc__)
    parser.add_argument("--posts", type=int, default=45_000, help="(default: %(default)s)")
    parser.add_argument("--backend", choices=("chroma", "pgvector"), default="chroma", help="(default: %(default)s)")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    steps = run(given.posts, given.backend)
    print(f"{given.posts:,} posts, {given.backend}, load {load:.0f} when it began, {os.getloadavg()[0]:.0f} at its end")
    for step, seconds in steps.items():
        print(f"  {step}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
