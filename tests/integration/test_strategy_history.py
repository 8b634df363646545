"""What was in force when, going back, and lessons: the rows, on a real Postgres."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.types.json import Jsonb

from everreach_assets.domain.errors import InvalidInput, NotFound
from everreach_assets.domain.strategy_model import Claim
from resources import strategies as strategy_rows
from resources import strategy_history
from resources.database import SQL_FOLDER, Database
from resources.migrations import migrate
from resources.migrations import roll_back as undo_migrations
from resources.strategies import StoredStrategy
from tests.claims import claim, store

TICK = dt.timedelta(microseconds=1)


def in_force(database: Database, platform: str = "x") -> int | None:
    with database.connection() as connection:
        found = strategy_rows.strategy_in_force(connection, platform)
    return found.strategy_id if found else None


def roll_back(database: Database, *, old: int, new: int, platform: str = "x") -> StoredStrategy:
    with database.transaction() as connection:
        return strategy_history.roll_back(connection, platform, old=old, new=new, decided_by="ann")


def terms(database: Database) -> list[tuple[int, dt.datetime, dt.datetime | None]]:
    with database.connection() as connection:
        return connection.execute("SELECT strategy_id, since, until FROM strategy_terms ORDER BY term_id").fetchall()


def at(database: Database, moment: dt.datetime, platform: str = "x") -> int:
    with database.connection() as connection:
        return strategy_history.in_force_at(connection, platform, moment).strategy_id


# --- replaced and held ------------------------------------------------------------------------------------------


def test_a_strategy_is_read_as_it_was_stored(database: Database) -> None:
    stored = store(database, claim("a"), claim("b", ratio=0.5))
    with database.connection() as connection:
        read = strategy_rows.strategy_in_force(connection, "x")
    assert read == stored
    assert read is not None
    assert read.content is not None
    assert [(each.claim_id, each.direction) for each in read.content.claims] == [("a", "more"), ("b", "less")]
    assert (read.status, read.reason, read.builder_version) == ("accepted", "better", "2")


def test_a_held_strategy_leaves_the_one_in_force_where_it_is(database: Database) -> None:
    first = store(database)
    held = store(database, is_accepted=False)
    assert in_force(database) == first.strategy_id
    assert held.strategy_id > first.strategy_id
    with database.connection() as connection:
        assert strategy_history.latest_held(connection, "x") == held
        assert strategy_history.latest_held(connection, "tiktok") is None
    assert [strategy_id for strategy_id, *_ in terms(database)] == [first.strategy_id]


def test_a_strategy_of_a_form_that_is_no_longer_read_is_known_by_its_summary(database: Database) -> None:
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO actp_feedback_strategy (platform, strategy, summary, outcomes, new_outcomes,"
            " snapshot_watermark, builder_version) VALUES ('x', %s, 'do more', 1, 1, 1, '1')",
            (Jsonb({"claims": [{"trait": "type reel"}]}),),
        )
        found = strategy_rows.strategy_in_force(connection, "x")
    assert found is not None
    assert (found.content, found.summary) == (None, "do more")


def test_strategies_from_before_the_history_have_their_terms_by_when_they_were_made(database_url: str) -> None:
    migrations = [path.stem for path in (SQL_FOLDER / "migrations").glob("*.sql") if ".rollback" not in path.name]
    undo_migrations(database_url, steps=sum(name >= "0019" for name in migrations))
    made, replaced = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    columns = "(strategy_id, platform, strategy, summary, outcomes, new_outcomes, snapshot_watermark, builder_version"
    values = "'x', '{}', '', 1, 1, 1, '1'"
    with psycopg.connect(database_url) as connection:
        connection.execute(
            f"INSERT INTO actp_feedback_strategy_archive {columns}, created_at, archived_at)"
            f" VALUES (1, {values}, %s, %s)".encode(),
            (made, replaced),
        )
        connection.execute(
            f"INSERT INTO actp_feedback_strategy {columns}, created_at) VALUES (2, {values}, %s)".encode(), (replaced,)
        )
    assert len(migrate(database_url)) >= 1
    with Database(database_url) as database:
        assert terms(database) == [(1, made, replaced), (2, replaced, None)]
        with database.connection() as connection:
            (entry, _) = strategy_history.history(connection)
    assert (entry.status, entry.since, entry.until) == ("accepted", made, replaced)


# --- as of a time -----------------------------------------------------------------------------------------------


def test_each_moment_has_the_strategy_whose_term_it_is_in(database: Database) -> None:
    first, second = store(database), store(database)
    (_, since, until), (_, again, end) = terms(database)
    assert until == again
    assert end is None
    assert at(database, since) == first.strategy_id
    assert at(database, again - TICK) == first.strategy_id
    assert at(database, again) == second.strategy_id
    with database.connection() as connection:
        assert at(database, strategy_rows.now(connection)) == second.strategy_id


def test_before_the_first_strategy_and_in_the_future_there_is_none_and_the_message_says_why(database: Database) -> None:
    store(database)
    ((_, since, _),) = terms(database)
    with pytest.raises(NotFound, match=f"the first came into force at {since:%Y-%m-%d %H:%M}"):
        at(database, since - TICK)
    with pytest.raises(NotFound, match="there never was one"):
        at(database, since, "tiktok")
    with pytest.raises(InvalidInput, match="yet to come"):
        at(database, since + dt.timedelta(days=1))


# --- going back -------------------------------------------------------------------------------------------------


def test_a_rollback_is_a_term_of_its_own_and_what_was_before_stays_as_it_was(database: Database) -> None:
    first, second = store(database, claim("a")), store(database, claim("b"))
    assert roll_back(database, old=second.strategy_id, new=first.strategy_id) == first
    assert in_force(database) == first.strategy_id
    (_, since, _), (_, again, until), (_, back, end) = terms(database)
    assert (until, end) == (back, None)
    assert [at(database, moment) for moment in (since, again, back)] == [
        first.strategy_id,
        second.strategy_id,
        first.strategy_id,
    ]
    with database.connection() as connection:
        entries = strategy_history.history(connection, "x")
        assert strategy_history.strategy_numbered(connection, "x", second.strategy_id) == second
    assert [(each.strategy_id, each.began_by, each.decided_by) for each in entries] == [
        (first.strategy_id, "rebuild", None),
        (second.strategy_id, "rebuild", None),
        (first.strategy_id, "rollback", "ann"),
    ]


def test_the_next_strategy_follows_the_one_that_was_gone_back_to(database: Database) -> None:
    first, second = store(database), store(database)
    roll_back(database, old=second.strategy_id, new=first.strategy_id)
    third = store(database)
    assert in_force(database) == third.strategy_id
    assert [strategy_id for strategy_id, *_ in terms(database)] == [
        each.strategy_id for each in (first, second, first, third)
    ]
    with database.connection() as connection:
        rows = connection.execute("SELECT strategy_id FROM actp_feedback_strategy_archive ORDER BY 1").fetchall()
        assert rows == [(first.strategy_id,), (second.strategy_id,)]
        assert strategy_history.before(connection, third) == second
        assert strategy_history.before(connection, first) is None
    assert roll_back(database, old=third.strategy_id, new=first.strategy_id) == first
    assert roll_back(database, old=first.strategy_id, new=third.strategy_id) == third  # and forward again


def test_what_was_never_in_force_is_not_gone_back_to(database: Database) -> None:
    first, other = store(database), store(database, platform="tiktok")
    held = store(database, is_accepted=False)
    before = terms(database)
    with pytest.raises(InvalidInput, match="was held and never in force: worse than the one in force"):
        roll_back(database, old=first.strategy_id, new=held.strategy_id)
    with pytest.raises(NotFound, match="'everreach strategy list x'"):
        roll_back(database, old=first.strategy_id, new=other.strategy_id)
    with pytest.raises(InvalidInput, match="in force already"):
        roll_back(database, old=first.strategy_id, new=first.strategy_id)
    assert (in_force(database), terms(database)) == (first.strategy_id, before)


def test_who_decided_by_another_strategy_in_force_has_to_look_again(database: Database) -> None:
    first, second = store(database), store(database)
    third = store(database)  # while somebody is asked whether to go back from the second to the first
    with pytest.raises(InvalidInput, match=f"strategy {third.strategy_id} is in force on x, no longer"):
        roll_back(database, old=second.strategy_id, new=first.strategy_id)
    assert in_force(database) == third.strategy_id


def test_of_two_who_go_back_at_once_one_has_to_look_again(database: Database) -> None:
    first, second = store(database), store(database)
    barrier = threading.Barrier(2)

    def go_back(_: int) -> bool:
        barrier.wait()
        try:
            roll_back(database, old=second.strategy_id, new=first.strategy_id)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(go_back, range(2))) == [False, True]
    assert len(terms(database)) == 3


# --- lessons ----------------------------------------------------------------------------------------------------


def lessons(database: Database) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute(
            "SELECT lesson_id, claim_id, strategy_ids, superseded_by FROM learned_lessons ORDER BY lesson_id"
        ).fetchall()


def documents(database: Database) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute("SELECT doc_id, text FROM lesson_documents ORDER BY doc_id").fetchall()


def test_a_rule_of_two_strategies_is_a_lesson_with_its_evidence_until_one_no_longer_makes_it(
    database: Database,
) -> None:
    first = store(database, claim("a"), claim("b"))
    assert lessons(database) == []
    second = store(database, claim("a", ratio=2))
    assert lessons(database) == [("learned:1", "a", [first.strategy_id, second.strategy_id], None)]
    with database.connection() as connection:
        ((evidence, valid_from, words),) = connection.execute(
            "SELECT evidence, valid_from, claim FROM learned_lessons"
        ).fetchall()
    assert Claim.model_validate(evidence) == claim("a", ratio=2)
    assert valid_from == second.created_at
    assert documents(database) == [("learned:1", words)]

    store(database, is_accepted=False)  # what is held teaches nothing
    third = store(database, claim("a"))
    assert lessons(database) == [("learned:1", "a", [first.strategy_id, second.strategy_id, third.strategy_id], None)]
    fourth = store(database)
    assert lessons(database)[0][-1] == fourth.strategy_id
    assert documents(database) == []


def test_a_lesson_that_comes_back_is_another_one(database: Database) -> None:
    for claims in ([claim("a")], [claim("a")], [], [claim("a")], [claim("a")]):
        store(database, *claims)
    assert [(each[0], each[-1] is None) for each in lessons(database)] == [("learned:1", False), ("learned:2", True)]
    assert [doc_id for doc_id, _ in documents(database)] == ["learned:2"]


def test_lessons_of_people_stand_beside_those_of_strategies(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO lessons (lesson_id, text, text_sha256) VALUES ('1', 'Ask one thing.', '')")
    store(database, claim("a"))
    store(database, claim("a"))
    store(database)
    assert [doc_id for doc_id, _ in documents(database)] == ["1"]
    assert [each[0] for each in lessons(database)] == ["learned:1"]


def test_a_lesson_of_one_platform_is_none_of_another(database: Database) -> None:
    for platform in ("x", "tiktok"):
        store(database, claim("a"), platform=platform)
    store(database, claim("a"))
    store(database, platform="tiktok")
    assert [each[-1] for each in lessons(database)] == [None]
