"""What a purge deletes, in the truth, the index and the cloud, and what it leaves behind."""

import dataclasses
import json
import stat
import threading
import time
from pathlib import Path

import pytest

from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import Unavailable
from everreach_assets.retention import PurgeReport
from resources import archives
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.retention import purges
from tests.indexes import emptied_chroma
from tests.retention_store import COLLECTION_NAMES, DAY, POLICY, Store
from tests.servers import reserved_port


def test_a_dry_run_names_what_a_purge_deletes_and_deletes_nothing(expired: Store) -> None:
    before = expired.vectors(), expired.people()
    plan = expired.plan()
    expired.hold("document", doc_id="x:p1")
    dry = expired.purge(dry_run=True)
    assert (expired.vectors(), expired.people()) == before
    assert (dry.purged[CONTENT.name], dry.purged[PROSPECTS.name], dry.kept) == (3, 3, 1)
    with expired.database.connection() as connection:
        selected = {name: purges.eligible(connection, POLICY, plan, name) for name in COLLECTION_NAMES}
    live = expired.purge()
    assert expired.tombstones() == sorted(selected[CONTENT.name] + selected[PROSPECTS.name])
    assert live.documents == dry.documents == 6
    assert not expired.purge(dry_run=True).documents


def test_a_purge_deletes_the_vector_and_of_prospects_the_row_and_nothing_else(expired: Store) -> None:
    tables = ("actp_feedback_posts", "outcome_snapshots", "outcome_labels", "lessons")
    evidence = [expired.run(f"SELECT {table}::text FROM {table} ORDER BY 1") for table in tables]
    report = expired.plan_and_purge()
    assert report.purged == {CONTENT.name: 4, PROSPECTS.name: 3}
    assert expired.stored() == [f"x:p{number}" for number in range(4, 10)]
    assert len(expired.stored(OUTCOMES.name)) == 10
    assert expired.stored(PROSPECTS.name) == ["z3"]
    assert [row[0] for row in expired.people()] == ["z3"]
    assert [expired.run(f"SELECT {table}::text FROM {table} ORDER BY 1") for table in tables] == evidence


def test_the_receipt_the_archive_and_the_metrics_say_what_was_done(expired: Store) -> None:
    plan = expired.plan()
    assert expired.metric("overdue_docs", CONTENT.name) == 4
    report = expired.purge()
    (receipt, people) = report.receipts
    assert (receipt.planned, receipt.purged, receipt.archived, receipt.is_approved) == (4, 4, 4, False)
    assert receipt.ended_at is not None
    assert receipt.plan_hash == plan.plan_hash
    path = expired.rules.archives / receipt.archive
    assert archives.verify(path, receipt.archive_sha256).doc_ids == [f"x:p{number}" for number in range(4)]
    manifest = json.loads(archives.manifest_of(path).read_text())
    assert (manifest["rows"], manifest["sha256"]) == (4, receipt.archive_sha256)
    assert (manifest["collection"], manifest["plan_hash"]) == (CONTENT.name, plan.plan_hash)
    for file in expired.rules.archives.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(expired.rules.archives.stat().st_mode) == 0o700
    assert (expired.metric("purged_total", CONTENT.name), expired.metric("purged_total", PROSPECTS.name)) == (4, 3)
    assert expired.metric("overdue_docs") == 0
    assert people.ended_at is not None
    assert expired.metric("last_success_timestamp_seconds") >= int(people.ended_at.timestamp())


def test_purging_a_plan_again_changes_nothing(expired: Store) -> None:
    first = expired.plan_and_purge()
    before = expired.vectors(), expired.people(), expired.run("SELECT * FROM retention_receipts ORDER BY 1")
    again = expired.purge()
    assert again.purged == first.purged
    assert (expired.vectors(), expired.people(), expired.run("SELECT * FROM retention_receipts ORDER BY 1")) == before
    assert expired.metric("purged_total") == 7


def test_a_hold_placed_between_plan_and_purge_wins(expired: Store) -> None:
    expired.plan()
    expired.hold("document", doc_id="x:p2", collection=CONTENT.name)
    expired.hold("collection", collection=PROSPECTS.name)
    report = expired.purge()
    assert (report.purged, report.kept) == ({CONTENT.name: 3, PROSPECTS.name: 0}, 4)
    assert "x:p2" in expired.stored()
    assert len(expired.people()) == 4


def test_a_strategy_that_cites_between_plan_and_purge_wins(expired: Store) -> None:
    expired.plan()
    expired.cite("x:p2")
    assert expired.purge().purged[CONTENT.name] == 3
    assert "x:p2" in expired.stored()


def test_a_hold_placed_after_the_archive_was_written_still_wins(expired: Store) -> None:
    expired.plan()
    expired.run(
        """
        CREATE FUNCTION hold_p2() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO retention_holds (scope, doc_id, reason, placed_by) VALUES ('document', 'x:p2', 'why', 'who');
            RETURN NULL;
        END $$
        """
    )
    expired.run(
        "CREATE TRIGGER hold_p2 AFTER UPDATE OF archive_sha256 ON retention_receipts EXECUTE FUNCTION hold_p2()"
    )
    report = expired.purge()
    assert (report.receipts[0].archived, report.receipts[0].purged) == (4, 3)
    assert "x:p2" in expired.stored()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO retention_holds (scope, doc_id, reason, placed_by) VALUES ('document', 'x:p2', 'why', 'who')",
        "INSERT INTO actp_feedback_strategy (platform, strategy, summary, outcomes, new_outcomes, snapshot_watermark,"
        ' builder_version) VALUES (\'x\', \'{"claims": [{"exemplars": ["x:p2"], "counter_exemplars": []}]}\', \'\', 1,'
        " 1, 1, '1')",
    ],
)
def test_a_hold_or_citation_that_is_not_committed_yet_is_waited_for_and_wins(expired: Store, statement: str) -> None:
    expired.plan()
    reports: list[PurgeReport] = []
    purge = threading.Thread(target=lambda: reports.append(expired.purge()))
    with expired.database.transaction() as connection:
        connection.execute(statement.encode())
        purge.start()
        deadline = time.monotonic() + 30
        while not expired.run("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"):
            assert time.monotonic() < deadline, "the purge did not wait"
            time.sleep(0.02)
        assert len(expired.stored()) == 10
    purge.join()
    assert reports[0].purged[CONTENT.name] == 3
    assert "x:p2" in expired.stored()


def test_a_purge_does_not_wait_for_writers_for_ever(expired: Store) -> None:
    hasty = dataclasses.replace(expired.rules, wait_seconds=1)
    expired.plan()
    with expired.database.transaction() as connection:
        connection.execute("UPDATE vector_embeddings SET updated_at = now() WHERE doc_id = 'x:p9'")
        with pytest.raises(Unavailable, match="run the same again"):
            expired.purge(rules=hasty)
    assert len(expired.stored()) == 10
    assert expired.purge().documents == 7


def test_a_document_that_changed_since_the_plan_waits_for_the_next(expired: Store) -> None:
    expired.plan()
    expired.run("UPDATE vector_embeddings SET rev = nextval('vector_revisions') WHERE doc_id = 'x:p0'")
    expired.run("UPDATE prospects SET company = 'Ltd', updated_at = now() WHERE prospect_id = 'z0'")
    report = expired.purge()
    assert report.purged == {CONTENT.name: 3, PROSPECTS.name: 2}
    assert set(expired.planned()) == {"x:p0", "z0"}


def test_what_the_index_has_not_acknowledged_is_purged_all_the_same(
    expired: Store, chroma_server: tuple[str, int]
) -> None:
    expired.run(
        "INSERT INTO vector_deliveries (target, collection, doc_id, rev)"
        " SELECT 'chroma', collection, doc_id, rev FROM vector_embeddings"
    )
    expired.plan_and_purge()
    removals = expired.run("SELECT doc_id FROM vector_deliveries WHERE is_deleted AND target = 'chroma' ORDER BY 1")
    assert [doc_id for (doc_id,) in removals] == expired.tombstones()
    newest = expired.run("SELECT max(rev) FROM vector_embeddings")[0][0]
    assert expired.run("SELECT count(*) FROM vector_deliveries WHERE is_deleted AND rev <= %s", newest) == [(0,)]


def test_a_purge_reaches_the_index_and_every_target_that_the_ledger_knows(
    database: Database, chroma_server: tuple[str, int], tmp_path: Path
) -> None:
    store = Store(database, emptied_chroma(database, chroma_server), tmp_path / "archives")
    store.add_post("old", 400 * DAY)
    store.add_post("new", DAY)
    store.embed(CONTENT.name)
    store.run(
        "INSERT INTO vector_deliveries (target, collection, doc_id, rev, acked_rev)"
        " SELECT 'elsewhere', collection, doc_id, rev, rev FROM vector_embeddings"
    )
    report = store.plan_and_purge()
    index = store.vector_db._index
    assert isinstance(index, ChromaIndex)
    assert index._client.get_collection(CONTENT.name, embedding_function=None).get()["ids"] == ["x:new"]
    assert store.vector_db.check_index(CONTENT.name).is_whole
    assert store.run(
        "SELECT target, doc_id, is_deleted, acked_rev IS DISTINCT FROM rev FROM vector_deliveries"
        " WHERE target <> 'cloud' ORDER BY 1, 2"
    ) == [("chroma", "x:new", False, False), ("elsewhere", "x:new", False, False), ("elsewhere", "x:old", True, True)]
    store.restore(store.archive_of(report))
    assert sorted(index._client.get_collection(CONTENT.name, embedding_function=None).get()["ids"]) == [
        "x:new",
        "x:old",
    ]
    assert store.run("SELECT DISTINCT is_deleted FROM vector_deliveries WHERE doc_id = 'x:old'") == [(False,)]


def test_the_cloud_is_told_of_a_purge_even_of_what_it_had_refused_and_of_people_never(expired: Store) -> None:
    expired.run("UPDATE vector_deliveries SET attempts = 9, error_class = 'refused', dead_since = now()")
    expired.plan_and_purge()
    assert expired.run(
        "SELECT doc_id, attempts, dead_since FROM vector_deliveries WHERE target = 'cloud' AND is_deleted ORDER BY 1"
    ) == [(f"x:p{number}", 0, None) for number in range(4)]
    assert expired.run("SELECT 1 FROM vector_deliveries WHERE collection = %s", PROSPECTS.name) == []


def test_an_index_that_does_not_answer_costs_an_error_and_is_told_by_the_next_call(expired: Store) -> None:
    without_server = ChromaIndex(expired.database, "127.0.0.1", reserved_port())
    expired.plan()
    with pytest.raises(Unavailable):
        Store(expired.database, without_server, expired.rules.archives).purge()
    assert len(expired.stored()) == 6
    assert expired.purge().purged == {CONTENT.name: 4, PROSPECTS.name: 3}
