"""What a plan selects, and what a hold, a citation or an outcome keeps."""

import datetime as dt
from pathlib import Path

import pytest

from everreach_assets import retention as steps
from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.sample import ACCOUNTS, POSTS_PER_ACCOUNT, PROSPECT_IDS, write_sample
from everreach_assets.main_job import hold_the_sample
from resources.database import Database
from resources.intake import ingest_file
from resources.retention import holds
from tests.retention_store import DAY, MICROSECOND, POLICY, Store


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
    files = write_sample(tmp_path / "sample")
    ingest_file(store.database, "posts", files["posts"])
    ingest_file(store.database, "prospects", files["prospects"])
    store.run("UPDATE actp_feedback_posts SET published_at = published_at - interval '5 years'")
    store.run("UPDATE outcome_snapshots SET strategy_id = 1")  # as if a strategy had consumed them
    store.run("UPDATE prospects SET first_seen_at = first_seen_at - interval '5 years'")
    store.add_post("own", 400 * DAY)
    store.add_prospect("of-ones-own", 400 * DAY)
    store.embed(CONTENT.name, PROSPECTS.name)
    hold_the_sample(store.database)
    hold_the_sample(store.database)
    with store.database.connection() as connection:
        placed = holds.in_force(connection)
    assert len(placed) == len(ACCOUNTS) + len(PROSPECT_IDS)
    assert sorted(store.planned()) == ["of-ones-own", "x:own"]
    store.lift(*(each.hold_id for each in placed))
    assert len(store.planned()) == len(ACCOUNTS) * POSTS_PER_ACCOUNT + len(PROSPECT_IDS) + 2


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
