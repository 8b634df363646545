"""Plans, holds, purges and restores on a real Postgres, with HNSW or with a real Chroma."""

import dataclasses
import datetime as dt
import gzip
import json
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from everreach_assets import checks
from everreach_assets import retention as steps
from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.retention import read_policy
from everreach_assets.domain.sample import ACCOUNTS, POSTS_PER_ACCOUNT, write_sample
from everreach_assets.domain.vectors import Document
from everreach_assets.main_job import hold_the_sample
from everreach_assets.retention import PurgeReport, RetentionRules
from resources import archives
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.intake import ingest_file
from resources.retention import holds, purges, receipts
from tests.indexes import emptied_chroma
from tests.killed import run_until_killed
from tests.retention_store import COLLECTION_NAMES, DAY, MICROSECOND, POLICY, Store
from tests.servers import reserved_port


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Store:
    return Store(database, HnswIndex(database), tmp_path / "archives")


@pytest.fixture(params=["chroma", "pgvector"])
def on_either(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Store:
    if request.param == "pgvector":
        return Store(database, HnswIndex(database), tmp_path / "archives")
    return Store(database, emptied_chroma(database, request.getfixturevalue("chroma_server")), tmp_path / "archives")


# --- what a plan selects ----------------------------------------------------------------------------------------


def test_exactly_at_the_cutoff_a_document_is_kept_and_a_microsecond_earlier_it_is_not(store: Store) -> None:
    ages = {"earlier": 365 * DAY + MICROSECOND, "at": 365 * DAY, "later": 365 * DAY - MICROSECOND}
    for name in ages:
        store.add_post(name, 400 * DAY)
    store.embed(CONTENT.name)
    plan = store.plan()
    for name, age in ages.items():
        store.run("UPDATE actp_feedback_posts SET published_at = %s WHERE post_id = %s", plan.created_at - age, name)
    assert store.purge(dry_run=True).purged[CONTENT.name] == 1
    assert store.purge().purged == {CONTENT.name: 1}
    assert store.tombstones() == ["x:earlier"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_a_day_is_24_hours_whatever_zone_and_summer_time_the_server_has(
    store: Store, zone: str, postgres_server: object
) -> None:
    store.add_post("young", 365 * DAY - dt.timedelta(minutes=1))
    store.add_post("old", 365 * DAY + dt.timedelta(minutes=1))
    store.embed(CONTENT.name)
    store.run(f"ALTER DATABASE {store.run('SELECT current_database()')[0][0]} SET timezone = '{zone}'")
    with Database(store.database.url) as database:
        plan = steps.make_plan(POLICY, database=database)
        assert [each.doc_id for each in steps.planned_items(plan, 9, database=database)] == ["x:old"]


def test_documents_without_an_age_or_from_the_future_are_kept_and_counted(store: Store) -> None:
    store.add_post("old", 400 * DAY)
    store.add_post("undated", None)
    store.add_post("tomorrow", -DAY)
    store.add_post("endless", None)
    store.run("UPDATE actp_feedback_posts SET published_at = '-infinity' WHERE post_id = 'endless'")
    store.embed(CONTENT.name)
    store.run("UPDATE vector_embeddings SET doc_id = 'x:nobody' WHERE doc_id = 'x:endless'")
    store.run("INSERT INTO actp_feedback_posts (platform, post_id, text_sha256) VALUES ('x', 'nobody', '')")
    counts = {each.collection: each for each in store.plan().counts}[CONTENT.name]
    assert counts.by_verdict == {"expired": 1, "unknown_age": 2, "future": 1}
    assert store.purge().purged == {CONTENT.name: 1}
    assert store.stored() == ["x:nobody", "x:tomorrow", "x:undated"]


def test_viral_posts_and_flops_are_kept_twice_as_long(store: Store) -> None:
    for label in ("viral", "flop", "hit", "average"):
        store.add_post(label, 800 * DAY, label=label)
        store.add_post(f"young-{label}", 400 * DAY, label=label)
    store.embed()
    plan = store.plan()
    planned = {(each.collection, each.doc_id) for each in steps.planned_items(plan, 99, database=store.database)}
    assert planned == {
        *((CONTENT.name, f"x:{label}") for label in ("viral", "flop", "hit", "average")),
        *((CONTENT.name, f"x:young-{label}") for label in ("hit", "average")),
        *((OUTCOMES.name, f"x:{label}") for label in ("hit", "average")),
    }


def test_an_item_says_by_which_rule_and_since_when_it_expired(store: Store) -> None:
    store.add_post("old", 400 * DAY)
    store.embed(CONTENT.name)
    plan = store.plan()
    (item,) = steps.planned_items(plan, 9, database=store.database)
    assert item.reason == "365 days by published_at"
    assert dt.timedelta(0) <= plan.created_at - 35 * DAY - item.expired_at < dt.timedelta(minutes=1)


def test_the_same_documents_give_the_same_hash_and_others_another(store: Store) -> None:
    store.add_post("old", 400 * DAY)
    store.embed(CONTENT.name)
    first = store.plan()
    assert store.plan().plan_hash == first.plan_hash
    store.add_post("older", 500 * DAY)
    store.embed(CONTENT.name)
    assert store.plan().plan_hash != first.plan_hash


def test_a_prospect_without_a_vector_expires_too(store: Store) -> None:
    store.add_prospect("p1", 91 * DAY, notes="")
    store.add_prospect("p2", 89 * DAY)
    store.embed(PROSPECTS.name)
    assert store.planned() == ["p1"]
    assert store.purge().purged == {PROSPECTS.name: 1}
    assert [row[0] for row in store.people()] == ["p2"]


HOLDS: dict[str, dict[str, str]] = {
    "everything": {},
    "collection": {"collection": CONTENT.name},
    "document": {"doc_id": "x:old"},
    "platform": {"platform": "x"},
    "account": {"platform": "x", "account": "ann"},
}


@pytest.mark.parametrize("scope", HOLDS)
def test_each_hold_keeps_what_it_covers_until_it_is_lifted(store: Store, scope: str) -> None:
    store.add_post("old", 400 * DAY)
    store.add_post("other", 400 * DAY, platform="tiktok", account="bob")
    store.embed(CONTENT.name)
    hold = store.hold(scope, **HOLDS[scope])
    kept = {"everything", "collection"}
    assert store.planned() == ([] if scope in kept else ["tiktok:other"])
    assert store.metric("held_docs", CONTENT.name) == (2 if scope in kept else 1)
    assert store.lift(hold) == 1
    assert store.lift(hold) == 0
    assert sorted(store.planned()) == ["tiktok:other", "x:old"]


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        ("everything", {"platform": "x"}),
        ("collection", {}),
        ("document", {"collection": CONTENT.name}),
        ("platform", {"platform": "X; DROP TABLE"}),
        ("account", {"account": "ann"}),
        ("account", {"platform": "x"}),
        ("nothing", {}),
    ],
)
def test_a_hold_that_names_too_little_or_too_much_is_refused(store: Store, scope: str, named: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="the hold is refused"):
        store.hold(scope, **named)


def test_the_sample_of_the_main_job_is_kept_whatever_its_age_until_its_holds_are_lifted(
    store: Store, tmp_path: Path
) -> None:
    ingest_file(store.database, "posts", write_sample(tmp_path / "sample")["posts"])
    store.run("UPDATE actp_feedback_posts SET published_at = published_at - interval '5 years'")
    store.run("UPDATE outcome_snapshots SET strategy_id = 1")  # as if a strategy had consumed them
    store.add_post("own", 400 * DAY)
    store.embed(CONTENT.name)
    hold_the_sample(store.database)
    hold_the_sample(store.database)
    with store.database.connection() as connection:
        placed = holds.in_force(connection)
    assert len(placed) == len(ACCOUNTS)
    assert store.planned() == ["x:own"]
    store.lift(*(each.hold_id for each in placed))
    assert len(store.planned()) == len(ACCOUNTS) * POSTS_PER_ACCOUNT + 1


@pytest.mark.parametrize("as_counter_exemplar", [False, True])
def test_what_a_strategy_in_force_cites_is_kept(store: Store, as_counter_exemplar: bool) -> None:
    store.add_post("cited", 2_000 * DAY, label="hit")
    store.add_post("other", 2_000 * DAY, label="hit")
    store.embed()
    store.cite("x:cited", as_counter_exemplar=as_counter_exemplar)
    assert set(store.planned()) == {"x:other"}
    store.purge()
    assert store.stored(CONTENT.name) == store.stored(OUTCOMES.name) == ["x:cited"]
    store.run("DELETE FROM actp_feedback_strategy")  # as a rebuild does
    assert set(store.planned()) == {"x:cited"}


def test_a_post_whose_outcome_no_strategy_has_consumed_is_kept(store: Store) -> None:
    store.add_post("old", 800 * DAY, label="hit")
    store.embed()
    store.run("UPDATE outcome_snapshots SET strategy_id = NULL")
    assert store.planned() == []
    store.run("UPDATE outcome_snapshots SET strategy_id = 7")
    assert store.planned() == ["x:old", "x:old"]


# --- purges -----------------------------------------------------------------------------------------------------


@pytest.fixture
def expired(store: Store) -> Store:
    """Ten posts with outcomes, of which four have expired, and four people, of whom three have."""
    for number in range(10):
        store.add_post(f"p{number}", 400 * DAY if number < 4 else 10 * DAY, label="hit")
    for number in range(4):
        store.add_prospect(f"z{number}", 100 * DAY if number < 3 else DAY)
    store.embed()
    return store


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


# --- the guards -------------------------------------------------------------------------------------------------


def many_expired(store: Store, posts: int = 25) -> None:
    for number in range(posts):
        store.add_post(f"old{number}", 400 * DAY)
    store.embed(CONTENT.name)


def test_a_plan_that_takes_much_needs_its_hash(store: Store) -> None:
    many_expired(store)
    plan = store.plan()
    with pytest.raises(Refused, match=r"it would purge 25 of the 25 documents of content_embeddings"):
        store.purge()
    assert "25 of the 25" in store.purge(dry_run=True).needs_approval
    assert not store.run("SELECT 1 FROM retention_receipts")
    report = store.purge(plan.plan_hash)
    assert report.receipts[0].is_approved
    assert store.stored() == []


@pytest.mark.parametrize("wrong", ["0" * 64, "'; DROP TABLE prospects; --", "é"])
def test_a_hash_of_no_plan_is_refused(expired: Store, wrong: str) -> None:
    expired.plan()
    with pytest.raises(InvalidInput, match="there is no plan with the hash"):
        expired.purge(wrong)
    assert len(expired.stored()) == 10


def test_without_a_plan_there_is_no_purge(expired: Store) -> None:
    with pytest.raises(InvalidInput, match="everreach retention plan"):
        expired.purge()


@pytest.mark.parametrize("hours", [24.01, -0.01])
def test_a_plan_that_is_too_old_or_from_the_future_is_refused_even_by_its_hash(expired: Store, hours: float) -> None:
    plan = expired.plan()
    expired.run("UPDATE retention_plans SET created_at = now() - %s::interval", dt.timedelta(hours=hours))
    for plan_hash in ("", plan.plan_hash):
        with pytest.raises(Refused, match="may be carried out for 24 hours"):
            expired.purge(plan_hash)
    assert len(expired.stored()) == 10


def test_a_plan_of_another_policy_is_refused(expired: Store) -> None:
    expired.plan()
    text = steps.DEFAULT_POLICY_FILE.read_text().replace("max_age_days: 90", "max_age_days: 900")
    other = RetentionRules(read_policy(text, "other"), expired.rules.archives)
    with pytest.raises(Refused, match="under another policy"):
        expired.purge(rules=other)


def test_the_kill_switch_refuses_every_purge_and_no_plan(expired: Store) -> None:
    plan = expired.plan()
    off = RetentionRules(POLICY, expired.rules.archives, may_purge=False)
    assert expired.purge(dry_run=True, rules=off).documents == 7
    for plan_hash in ("", plan.plan_hash):
        with pytest.raises(Refused, match="EVERREACH_DESTRUCTIVE"):
            expired.purge(plan_hash, rules=off)
    assert len(expired.stored()) == 10


def test_after_a_jump_of_the_clock_only_a_person_can_purge(expired: Store) -> None:
    expired.run("INSERT INTO retention_clock (read_at) VALUES (now() - interval '14 days')")
    plan = expired.plan()
    with pytest.raises(Refused, match="clock cannot be trusted"):
        expired.purge()
    expired.plan()
    with pytest.raises(Refused, match="clock cannot be trusted"):
        expired.purge()
    assert expired.purge(plan.plan_hash).documents == 7


def test_the_day_after_a_pause_purges_go_on_by_themselves(expired: Store) -> None:
    expired.run("INSERT INTO retention_clock (read_at) VALUES (now() - interval '14 days'), (now() - interval '1 day')")
    assert expired.plan_and_purge().documents == 7


def test_of_two_purges_at_once_one_waits_for_its_turn(expired: Store) -> None:
    expired.plan()
    with (
        expired.database.connection() as connection,
        purges.alone(connection),
        pytest.raises(Unavailable, match="another purge"),
    ):
        expired.purge()
    assert expired.purge().documents == 7


# --- what was purged stays away ---------------------------------------------------------------------------------


def is_clean(store: Store) -> bool:
    result = checks.every_purged_document_is_gone(database=store.database)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed


def test_a_purged_document_is_not_embedded_again_and_is_after_a_restore(on_either: Store) -> None:
    on_either.add_post("old", 400 * DAY, label="hit")
    on_either.add_post("new", DAY, label="hit")
    on_either.embed()
    report = on_either.plan_and_purge()
    for _ in range(2):
        on_either.embed()
        assert on_either.stored() == ["x:new"]
        assert on_either.stored(OUTCOMES.name) == ["x:new", "x:old"]
    assert is_clean(on_either)
    query = on_either.embedder.embed_many(CONTENT.name, ["Words about old"]).vectors[0]
    assert query is not None
    assert [match.doc_id for match in on_either.vector_db.search(CONTENT.name, query)] == ["x:new"]

    assert on_either.restore(on_either.archive_of(report)).restored == ["x:old"]
    before = on_either.vectors()
    on_either.embed()
    assert on_either.vectors() == before
    assert on_either.vector_db.search(CONTENT.name, query)[0].doc_id == "x:old"
    assert on_either.vector_db.check_index(CONTENT.name).is_whole


def test_a_new_text_of_a_purged_post_does_not_bring_it_back(expired: Store) -> None:
    expired.plan_and_purge()
    expired.run("UPDATE actp_feedback_posts SET text = 'Other', text_sha256 = sha256('Other'), updated_at = now()")
    expired.embed()
    assert expired.stored() == [f"x:p{number}" for number in range(4, 10)]


def test_a_person_who_is_entered_again_is_a_new_document(expired: Store) -> None:
    expired.plan_and_purge()
    expired.add_prospect("z0", dt.timedelta(0))
    expired.embed(PROSPECTS.name)
    assert expired.stored(PROSPECTS.name) == ["z0", "z3"]
    assert "z0" not in expired.tombstones()
    assert expired.planned() == []


def test_a_new_outcome_of_a_purged_one_is_searchable_though_the_vector_of_its_post_is_gone(store: Store) -> None:
    store.add_post("old", 2_000 * DAY, label="hit")
    store.embed()
    assert store.plan_and_purge().purged == {CONTENT.name: 1, OUTCOMES.name: 1}
    store.embed()
    assert store.stored(OUTCOMES.name) == []
    store.run("UPDATE outcome_snapshots SET recorded_at = now()")
    store.embed()
    assert store.stored(OUTCOMES.name) == ["x:old"]
    assert store.stored(CONTENT.name) == []


def test_an_embedding_run_that_read_the_text_before_the_purge_writes_nothing_after_it(expired: Store) -> None:
    read = expired.vector_db.get_many(CONTENT.name, ["x:p0", "x:p9"])
    late = [Document(doc_id, each["embedding"], {"late": True}, b"hash", "1") for doc_id, each in read.items()]
    expired.plan_and_purge()
    assert expired.vector_db.upsert_stream(CONTENT.name, [late], new=0) == 1
    assert "x:p0" not in expired.stored()


def test_who_stores_a_purged_document_is_told(expired: Store) -> None:
    vector = expired.vector_db.get_many(CONTENT.name, ["x:p0"])["x:p0"]["embedding"]
    expired.plan_and_purge()
    with pytest.raises(Refused, match=r"'x:p0' of content_embeddings was purged"):
        expired.vector_db.upsert_many(CONTENT.name, [Document("x:p0", vector, {})])


def test_the_check_finds_a_purged_document_that_is_stored(expired: Store) -> None:
    expired.plan_and_purge()
    assert is_clean(expired)
    expired.run("UPDATE vector_embeddings SET doc_id = 'x:p0' WHERE doc_id = 'x:p9' AND collection = %s", CONTENT.name)
    assert not is_clean(expired)


def test_vectors_that_are_written_during_a_purge_are_all_there_and_the_purged_are_not(store: Store) -> None:
    for number in range(20):
        store.add_post(f"old{number:02}", 400 * DAY)
        store.add_post(f"new{number:02}", DAY)
    store.embed(CONTENT.name)
    store.plan()
    start, stop = threading.Barrier(3), threading.Event()
    given = store.vector_db.get_many(CONTENT.name, store.stored())
    errors: list[BaseException] = []

    def write() -> None:
        start.wait()
        number = 0
        while not stop.is_set():
            number += 1
            batch = [
                Document(doc_id, each["embedding"], {"n": number}, b"text", "1")
                for doc_id, each in given.items()
                if doc_id.startswith("x:new") or number % 2
            ]
            try:
                store.vector_db.upsert_stream(CONTENT.name, [batch], new=0)
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=write) for _ in range(2)]
    for each in threads:
        each.start()
    start.wait()
    try:
        for _ in range(5):
            store.plan_and_purge()
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert not errors
    store.run("UPDATE vector_embeddings SET updated_at = now()")
    store.plan_and_purge()
    assert store.stored() == [f"x:new{number:02}" for number in range(20)]
    assert is_clean(store)


# --- restore ----------------------------------------------------------------------------------------------------


def test_what_is_restored_is_bit_for_bit_what_was_purged(expired: Store) -> None:
    unusual = {"big": 2**53 - 1, "small": 1e-300, "third": 1 / 3, "é": '\a and "quotes"', "is": True}
    expired.run("UPDATE vector_embeddings SET metadata = metadata || %s", Jsonb(unusual))
    before = expired.vectors(), expired.people()
    (last_writer,) = expired.run("SELECT max(name_written_by)::text::int8 FROM prospects")[0]
    report = expired.plan_and_purge()
    assert (expired.vectors(), expired.people()) != before
    for receipt in report.receipts:
        assert expired.restore(receipt.archive).left == 0
    assert (expired.vectors(), expired.people()) == before
    (writer,) = expired.run("SELECT max(name_written_by)::text::int8 FROM prospects")[0]
    assert int(str(writer)) > int(str(last_writer))  # so that a process that runs learns the name again
    assert expired.tombstones() == []
    revisions = expired.run(
        "SELECT min(rev) FROM vector_embeddings WHERE doc_id = 'x:p0' AND collection = %s", CONTENT.name
    )
    assert int(str(revisions[0][0])) > 28  # above the tombstone's, so that every index takes it


def test_everything_that_a_vector_or_a_person_has_is_in_the_archive(expired: Store) -> None:
    report = expired.plan_and_purge()
    (line, *_) = archives.read(expired.rules.archives / expired.archive_of(report, PROSPECTS.name))
    content = json.loads(line)

    def columns(table: str) -> set[object]:
        found = expired.run("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)
        return {name for (name,) in found}

    assert set(content["person"]) == columns("prospects")
    assert set(content["vector"]) | {"collection", "doc_id", "embedding"} == columns("vector_embeddings")


def test_one_document_can_be_restored_and_is_held_then(expired: Store) -> None:
    report = expired.plan_and_purge()
    result = expired.restore(expired.archive_of(report), ["x:p1"])
    assert (result.restored, result.left) == (["x:p1"], 0)
    assert expired.planned() == []
    with expired.database.connection() as connection:
        (hold,) = holds.in_force(connection)
    assert (hold.subject, hold.placed_by) == (f"document {CONTENT.name} x:p1", "tests")
    expired.lift(hold.hold_id)
    assert expired.planned() == ["x:p1"]


def test_restoring_again_leaves_everything_as_it_is(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    expired.restore(archive)
    before = expired.vectors()
    again = expired.restore(archive)
    assert (again.restored, again.left) == ([], 4)
    assert expired.vectors() == before


def test_a_person_who_came_again_is_not_overwritten_by_a_restore(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge(), PROSPECTS.name)
    expired.add_prospect("z0", dt.timedelta(0), notes="New words")
    assert expired.restore(archive).restored == ["z1", "z2"]
    assert expired.run("SELECT notes FROM prospects WHERE prospect_id = 'z0'") == [("New words",)]


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _leave_out_a_line(path: Path) -> None:
    """With a manifest that fits: only the database knows better."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)[1:]
    archives.write(path, [line.decode().rstrip("\n") for line in lines], {})


def _spoil_the_manifest(path: Path) -> None:
    archives.manifest_of(path).write_text("{}")


@pytest.mark.parametrize("tamper", [_flip_a_byte, _cut, _leave_out_a_line, _spoil_the_manifest])
def test_a_tampered_archive_is_refused(expired: Store, tamper: Callable[[Path], None]) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    tamper(expired.rules.archives / archive)
    before = expired.vectors()
    with pytest.raises(Refused, match="archive"):
        expired.restore(archive)
    assert expired.vectors() == before


def test_an_archive_that_the_database_does_not_know_is_refused(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    with pytest.raises(InvalidInput, match="no receipt"):
        expired.restore(f"other-{archive}")
    with pytest.raises(InvalidInput, match="does not hold 'x:p9'"):
        expired.restore(archive, ["x:p1", "x:p9"])
    archives.manifest_of(expired.rules.archives / archive).unlink()
    with pytest.raises(InvalidInput, match="has its manifest beside it"):
        expired.restore(archive)


def test_archives_are_removed_when_they_reach_their_age_unless_something_in_them_is_held(expired: Store) -> None:
    report = expired.plan_and_purge()
    expired.run(
        "UPDATE retention_receipts SET started_at = now() - interval '31 days', ended_at = now() - interval '31 days'"
    )
    expired.hold("account", platform="x", account="ann")
    expired.plan_and_purge()
    content, people = (expired.rules.archives / each.archive for each in report.receipts)
    assert content.exists()
    assert not people.exists()
    assert not archives.manifest_of(people).exists()
    with expired.database.connection() as connection:
        kept, removed, *_ = receipts.every(connection)
    assert kept.archive_removed_at is None
    assert removed.archive_removed_at is not None


# --- killed at every step ---------------------------------------------------------------------------------------

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
