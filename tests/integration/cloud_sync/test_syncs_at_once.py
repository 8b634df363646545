"""Two syncs at once, one that is frozen, one that is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from everreach_assets.cloud_sync import SyncReport
from everreach_assets.domain.errors import Refused
from resources.cloud_store import CloudStore
from resources.database import Database
from resources.vector_db import VectorDB
from tests.cloud_syncs import (
    CLOUDS,
    CONTENT,
    OpenStore,
    counted,
    documents,
    pending,
    sync,
)
from tests.clouds import Troubled, differences


def test_of_two_syncs_at_once_one_works_and_the_other_says_so(
    vector_db: VectorDB, database: Database, postgres_cloud: CloudStore, open_store: OpenStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(10))
    at_work, go_on = threading.Event(), threading.Event()

    def wait(name: str, is_over: bool) -> None:
        if name == "upsert" and not is_over:
            at_work.set()
            assert go_on.wait(20)

    reports: list[SyncReport] = []
    thread = threading.Thread(target=lambda: reports.append(sync(database, Troubled(open_store("pgvector"), wait))))
    thread.start()
    assert at_work.wait(20)
    second = sync(database, postgres_cloud)
    go_on.set()
    thread.join(20)
    assert (second.is_busy, second.requests) == (True, 0)
    assert "another sync is under way" in str(second)
    assert reports[0].results == {"pushed": 10}
    assert not sync(database, postgres_cloud).is_busy


def test_a_sync_that_was_frozen_and_overtaken_acknowledges_nothing(
    vector_db: VectorDB, database: Database, store: CloudStore, kind: str, open_store: OpenStore
) -> None:
    vector_db.upsert_many(CONTENT, documents(3))

    def overtake(name: str, is_over: bool) -> None:
        """The first sync stands still before its write, with its lease expired: another one does the work."""
        if name == "upsert" and not is_over and not overtaken:
            overtaken.append(True)
            with database.connection() as connection:
                connection.execute("UPDATE cloud_collections SET expires_at = now() - interval '1 second'")
            vector_db.upsert_many(CONTENT, documents(2, seed=1))
            vector_db.delete_many(CONTENT, ["x:00002"])
            sync(database, open_store(kind))

    overtaken: list[bool] = []
    with pytest.raises(Refused, match="another one has taken over"):
        sync(database, Troubled(store, overtake))
    assert pending(database) > 0  # what the first one may have spoiled is sent once more
    sync(database, store)
    assert differences(database, store, CONTENT) == []
    assert store.holdings() == {CONTENT: 2}


WORKER = """
import contextlib, os, signal, sys, time
from everreach_assets.cloud_sync import sync_collection
from resources.cloud_store import Cloud
from resources.database import Database
from tests.clouds import Troubled, cloud_store

kind, point, local, cloud, host, port = sys.argv[1:]
steps = 0

def step(*_):
    global steps
    steps += 1
    if steps == int(point):
        os.kill(os.getpid(), signal.SIGKILL)

class Stepping(Database):
    @contextlib.contextmanager
    def transaction(self):
        step()
        with super().transaction() as connection:
            yield connection
        step()

with Stepping(local) as database:
    store = cloud_store(kind, cloud, (host, int(port)))
    cloud = Cloud(Troubled(store, step))
    while sync_collection("content_embeddings", database=database, cloud=cloud).is_busy:
        time.sleep(0.05)  # until the server sees that the one before is gone
print(steps)
"""


def work(kind: str, point: int, local: str, cloud: str, chroma: tuple[str, int]) -> "subprocess.CompletedProcess[str]":
    """A sync in a process of its own that is killed at a step: before or after a call of the cloud, or a
    transaction such as the one that settles a batch."""
    arguments = [kind, str(point), local, cloud, chroma[0], str(chroma[1])]
    return subprocess.run(
        [sys.executable, "-c", WORKER, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
    )


def kill_at_every_step(
    kind: str, vector_db: VectorDB, database: Database, url: str, chroma: tuple[str, int], store: CloudStore
) -> int:
    acknowledged_at_all = 0
    for point in range(1, 60):
        vector_db.upsert_many(CONTENT, documents(320, seed=point))
        vector_db.delete_many(CONTENT, [f"x:{point:05}", f"x:{point + 1:05}"])
        waiting, counted_before = pending(database), counted(database).total()
        done = work(kind, point, database.url, url, chroma)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        acknowledged = waiting - pending(database)
        assert counted(database).total() - counted_before == acknowledged
        if done.returncode == 0:
            assert acknowledged_at_all > 0
            return int(done.stdout)
        acknowledged_at_all += acknowledged
        if point % 2:  # every other time the next sync is one that is killed, too
            deadline = time.monotonic() + 20  # the server takes a moment to see that the connection is gone
            while sync(database, store).is_busy:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert differences(database, store, CONTENT) == []
    pytest.fail("it never got through")


@pytest.mark.slow
@pytest.mark.parametrize("killed", CLOUDS)
def test_killed_at_each_single_step_and_run_again_the_cloud_equals_what_may_leave(
    killed: str,
    vector_db: VectorDB,
    database: Database,
    open_store: OpenStore,
    cloud_url: str,
    chroma_server: tuple[str, int],
) -> None:
    store = open_store(killed)
    steps = kill_at_every_step(killed, vector_db, database, cloud_url, chroma_server, store)
    assert steps >= 10
    assert differences(database, store, CONTENT) == []
