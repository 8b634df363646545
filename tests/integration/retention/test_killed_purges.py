"""A purge that is killed at any step leaves nothing half deleted."""

import pytest

from everreach_assets.domain.collections import PROSPECTS
from resources import archives
from resources.retention import receipts
from tests.killed import run_until_killed
from tests.retention_store import Store

STEPS = {
    "before the receipt": ("resources.retention.receipts.begin", 0),
    "after the receipt": ("resources.archives.write", 0),
    "in the middle of the archive": ("resources.retention.purges.archive_lines", 1),
    "before the archive has its name": ("pathlib.Path.replace", 0),
    "before the manifest has its name": ("pathlib.Path.replace", 1),
    "before the archive is verified": ("resources.archives.verify", 0),
    "before the archive is on record": ("resources.retention.receipts.note_archive", 0),
    "before the first chunk": ("resources.retention.purges.delete_expired", 0),
    "within the second chunk": ("resources.retention.measures.note_purged", 1),
    "before the third chunk": ("resources.retention.purges.delete_expired", 2),
    "before the end is on record": ("resources.retention.receipts.end", 0),
    "between two collections": ("resources.retention.receipts.begin", 1),
    "before the success": ("resources.retention.measures.note_success", 0),
    "before the index is told": ("resources.vector_db.VectorDB.deliver", 0),
}
"""The function at whose call the process is killed, and how many calls of it go before."""

IMPORTS = """
import pathlib, sys
from everreach_assets import retention
from resources.database import Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.vector_db import VectorDB
"""
PURGE = """
url, archives = sys.argv[1:]
with Database(url) as database:
    vector_db = VectorDB(database, HnswIndex(database), Embedder().space_of)
    rules = retention.RetentionRules(retention.load_policy(None), pathlib.Path(archives), chunk_documents=2)
    retention.purge(rules, database=database, vector_db=vector_db, dry_run=False)
"""


def purge_and_kill(store: Store, step: str) -> None:
    name, calls = STEPS[step]
    run_until_killed(PURGE, store.database.url, str(store.rules.archives), step=name, calls=calls, imports=IMPORTS)


def nothing_is_half_deleted(store: Store) -> bool:
    """Each planned document is there whole, or gone whole with a tombstone, a removal in the ledger and an archive."""
    gone = set(store.tombstones())
    assert gone == {f"x:p{n}" for n in range(4)} - set(store.stored()) | {"z0", "z1", "z2"} - {
        str(p[0]) for p in store.people()
    }
    assert {"z0", "z1", "z2"} - set(store.stored(PROSPECTS.name)) == gone & {"z0", "z1", "z2"}
    removals = store.run("SELECT doc_id FROM vector_deliveries WHERE target = 'elsewhere' AND is_deleted")
    assert {str(doc_id) for (doc_id,) in removals} == gone
    assert store.metric("purged_total") == len(gone)
    archived: set[str] = set()
    with store.database.connection() as connection:
        for receipt in receipts.every(connection):
            if receipt.purged:
                archived |= set(archives.verify(store.rules.archives / receipt.archive, receipt.archive_sha256).doc_ids)
        assert sum(each.purged for each in receipts.every(connection)) == len(gone)
    return gone <= archived


PLANNED_ANEW = (
    "in the middle of the archive",
    "before the first chunk",
    "before the third chunk",
    "between two collections",
)
"""Steps after which the next night's plan is tried too, instead of the same again."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "plans_anew"), [*((step, False) for step in STEPS), *((step, True) for step in PLANNED_ANEW)]
)
def test_killed_at_any_step_nothing_is_half_deleted_and_the_next_run_ends_it(
    expired: Store, step: str, plans_anew: bool
) -> None:
    expired.run(
        "INSERT INTO vector_deliveries (target, collection, doc_id, rev, acked_rev)"
        " SELECT 'elsewhere', collection, doc_id, rev, rev FROM vector_embeddings"
    )
    before = expired.vectors(), expired.people()
    expired.plan()
    purge_and_kill(expired, step)
    assert nothing_is_half_deleted(expired)
    if plans_anew:
        expired.plan()
    expired.purge()
    assert nothing_is_half_deleted(expired)
    assert expired.tombstones() == ["x:p0", "x:p1", "x:p2", "x:p3", "z0", "z1", "z2"]
    with expired.database.connection() as connection:
        written = receipts.every(connection)
    assert all(each.ended_at for each in written)
    assert not list(expired.rules.archives.glob("*.partial"))
    for receipt in written:
        if receipt.purged:
            expired.restore(receipt.archive)
    assert (expired.vectors(), expired.people()) == before


@pytest.mark.slow
def test_a_purge_killed_before_its_third_chunk_has_done_two(expired: Store) -> None:
    expired.plan()
    purge_and_kill(expired, "within the second chunk")
    assert expired.tombstones() == ["x:p0", "x:p1"]  # the first chunk, and no part of the second
