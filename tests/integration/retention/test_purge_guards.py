"""When a purge is refused, and what helps then."""

import datetime as dt

import pytest

from everreach_assets import retention as steps
from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.retention import read_policy
from everreach_assets.retention import RetentionRules
from resources.retention import purges
from tests.retention_store import DAY, POLICY, Store


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
