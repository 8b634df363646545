"""From snapshots to labels to strategies, on a real Postgres."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import dagster as dg
import pytest
from psycopg.types.json import Jsonb

from everreach_assets import checks
from everreach_assets.classification import ClassificationReport, classify_new_outcomes
from everreach_assets.domain import strategies as rules
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.embedding import embed_collection
from everreach_assets.strategy_builder import Rebuild, rebuild_strategy
from resources import outcomes as outcome_rows
from resources import rebuilds
from resources.database import Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.outcomes import PLATFORMS
from resources.vector_db import VectorDB

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TABLES = {
    "actp_feedback_posts": "platform, post_id",
    "outcome_snapshots": "seq",
    "outcome_labels": "seq",
    "actp_feedback_strategy": "strategy_id",
    "actp_feedback_strategy_archive": "strategy_id",
    "vector_embeddings": "collection, doc_id",
    "vector_deliveries": "target, collection, doc_id",
}


def passes(check: dg.AssetChecksDefinition, database: Database) -> bool:
    result = check(database=database)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed


class Loop:
    """The feedback loop on one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.embedder = Embedder()
        self.vector_db = VectorDB(database, HnswIndex(database), self.embedder.space_of)

    def observe(self, post: int, views: float, *, day: float = 7, platform: str = "x", metric: str = "views") -> None:
        """A post of that number, published on that day, with what was observed so many days later."""
        published = START + dt.timedelta(days=post)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO actp_feedback_posts"
                " (platform, post_id, account, post_type, text, text_sha256, published_at)"
                " VALUES (%s, %s, 'ann', %s, %s, sha256(%s::bytea), %s) ON CONFLICT DO NOTHING",
                (
                    platform,
                    f"p{post:03d}",
                    "thread" if post % 3 == 0 else "tweet",
                    f"Post {post} about {'bread' if post % 2 else 'soup'}",
                    f"{post}",
                    published,
                ),
            )
            connection.execute(
                "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics) VALUES (%s, %s, %s, %s)",
                (platform, f"p{post:03d}", published + dt.timedelta(days=day), Jsonb({metric: views})),
            )

    def classify(self) -> ClassificationReport:
        return classify_new_outcomes(self.database)

    def embed(self) -> None:
        for collection in (CONTENT.name, OUTCOMES.name):
            embed_collection(collection, database=self.database, embedder=self.embedder, vector_db=self.vector_db)

    def rebuild(self, platform: str = "x", minimum: int = 10) -> Rebuild:
        return rebuild_strategy(
            platform,
            database=self.database,
            vector_db=self.vector_db,
            embedder=self.embedder,
            minimum_new_outcomes=minimum,
        )

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.database.connection() as connection:
            return connection.execute(statement.encode()).fetchall()

    def history(self, post: int) -> list[tuple[object, ...]]:
        """Label, value and whether it is current, oldest first."""
        return self.rows(
            f"SELECT label, value, superseded_at IS NULL FROM outcome_labels WHERE post_id = 'p{post:03d}' ORDER BY seq"
        )

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        return {
            table: self.rows(f"SELECT {table}::text FROM {table} ORDER BY {order}") for table, order in TABLES.items()
        }

    def i1_holds(self) -> bool:
        return passes(checks.every_outcome_is_in_one_label_history, self.database)


Answer = TypeVar("Answer")


def _at_once(threads: int, call: Callable[[], Answer]) -> list[Answer]:
    """What the call answers in each of the threads, which start together."""
    barrier = threading.Barrier(threads)

    def wait_and_call(_: int) -> Answer:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(wait_and_call, range(threads)))


@pytest.fixture
def loop(database: Database) -> Loop:
    return Loop(database)


@pytest.fixture
def with_history(loop: Loop) -> Loop:
    """Twenty labelled posts of 1,000 views."""
    for post in range(20):
        loop.observe(post, 1_000)
    loop.classify()
    return loop


# --- labels -----------------------------------------------------------------------------------------------------


def test_each_post_with_an_outcome_gets_one_label(with_history: Loop) -> None:
    assert with_history.rows("SELECT label, count(*) FROM outcome_labels GROUP BY 1 ORDER BY 1") == [
        ("average", 15),
        ("insufficient_data", 5),
    ]
    assert with_history.rows("SELECT count(*) FROM outcome_snapshots WHERE label_seq IS NULL") == [(0,)]
    assert with_history.i1_holds()


def test_a_newer_snapshot_supersedes_the_label(with_history: Loop) -> None:
    with_history.observe(15, 5_000, day=14)
    report = with_history.classify()
    assert (report.new_snapshots, report.changed) == (1, 1)
    assert with_history.history(15) == [("average", 1_000.0, False), ("viral", 5_000.0, True)]
    assert with_history.i1_holds()


def test_an_older_snapshot_that_comes_late_does_not(with_history: Loop) -> None:
    with_history.observe(15, 5, day=1)
    report = with_history.classify()
    assert (report.new_snapshots, report.changed) == (1, 0)
    assert with_history.history(15) == [("average", 1_000.0, True)]
    assert with_history.rows("SELECT count(*) FROM outcome_snapshots WHERE label_seq IS NULL") == [(0,)]
    assert with_history.i1_holds()


def test_of_two_snapshots_of_one_time_the_one_recorded_last_counts(with_history: Loop) -> None:
    with_history.observe(15, 5_000, day=7)
    with_history.classify()
    assert with_history.history(15)[-1] == ("viral", 5_000.0, True)


def test_labelling_again_changes_nothing(with_history: Loop) -> None:
    before = with_history.dump()
    report = with_history.classify()
    assert (report.new_snapshots, report.changed, report.unchanged) == (0, 0, 0)
    assert report.labels == {"x": {"average": 15, "insufficient_data": 5}}
    assert with_history.dump() == before


def test_platforms_without_new_snapshots_are_left_alone(with_history: Loop) -> None:
    before = with_history.rows("SELECT seq, post_id FROM outcome_labels WHERE platform = 'x' ORDER BY seq")
    with_history.observe(0, 3, platform="tiktok")
    report = with_history.classify()
    assert (report.changed, report.unchanged) == (1, 0)
    assert with_history.rows("SELECT seq, post_id FROM outcome_labels WHERE platform = 'x' ORDER BY seq") == before


def test_another_version_of_the_classifier_labels_everything_anew(
    with_history: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everreach_assets.classification.CLASSIFIER_VERSION", "next")
    assert with_history.classify().changed == 20
    assert with_history.history(15) == [("average", 1_000.0, False), ("average", 1_000.0, True)]
    assert with_history.classify().changed == 0
    assert with_history.i1_holds()


def test_the_check_finds_a_post_that_lost_its_label(with_history: Loop) -> None:
    with with_history.database.connection() as connection:
        connection.execute("UPDATE outcome_labels SET superseded_at = now() WHERE post_id = 'p015'")
    assert not with_history.i1_holds()


def test_two_that_label_at_once_write_one_history(loop: Loop) -> None:
    for post in range(30):
        loop.observe(post, 1_000)
    _at_once(4, loop.classify)
    assert loop.rows("SELECT count(*), count(DISTINCT post_id) FROM outcome_labels") == [(30, 30)]
    assert loop.i1_holds()


# --- strategies -------------------------------------------------------------------------------------------------


@pytest.fixture
def with_strategy(with_history: Loop) -> Loop:
    with_history.embed()
    assert with_history.rebuild().is_rebuilt
    return with_history


def add_outcomes(loop: Loop, outcomes: int, *, first: int = 20) -> None:
    for post in range(first, first + outcomes):
        loop.observe(post, 1_000 + post)
    loop.classify()
    loop.embed()


def new_outcomes(loop: Loop) -> dict[str, int]:
    with loop.database.connection() as connection:
        return {platform: known.new_outcomes for platform, known in rebuilds.progress(connection).items()}


def test_nine_new_outcomes_do_not_rebuild(with_strategy: Loop) -> None:
    add_outcomes(with_strategy, 9)
    before = with_strategy.dump()
    result = with_strategy.rebuild()
    assert (result.is_rebuilt, result.new_outcomes) == (False, 9)
    assert result.in_force is not None
    assert with_strategy.dump() == before


def test_ten_new_outcomes_rebuild_exactly_once(with_strategy: Loop) -> None:
    add_outcomes(with_strategy, 10)
    assert new_outcomes(with_strategy) == {"x": 10}
    first = with_strategy.rebuild()
    assert (first.is_rebuilt, first.new_outcomes) == (True, 10)
    assert new_outcomes(with_strategy) == {}
    before = with_strategy.dump()
    for minimum in (10, 1, 0, -5):
        again = with_strategy.rebuild(minimum=minimum)
        assert (again.is_rebuilt, again.new_outcomes, again.in_force) == (False, 0, first.in_force)
    assert with_strategy.dump() == before


def test_ten_updates_of_one_post_are_one_new_outcome(with_strategy: Loop) -> None:
    for update in range(10):
        with_strategy.observe(5, 1_000 + update, day=10 + update)
    with_strategy.classify()
    assert new_outcomes(with_strategy) == {"x": 1}
    assert not with_strategy.rebuild().is_rebuilt


def test_outcomes_that_are_not_labelled_yet_are_not_consumed(with_strategy: Loop) -> None:
    for post in range(20, 30):
        with_strategy.observe(post, 1_000)
    assert not with_strategy.rebuild().is_rebuilt
    with_strategy.classify()
    assert with_strategy.rebuild().is_rebuilt


def test_the_strategy_before_goes_to_the_archive_as_it_was(with_strategy: Loop) -> None:
    (before,) = with_strategy.rows("SELECT to_jsonb(s) FROM actp_feedback_strategy AS s")
    add_outcomes(with_strategy, 10)
    with_strategy.rebuild()
    (archived,) = with_strategy.rows("SELECT to_jsonb(s) FROM actp_feedback_strategy_archive AS s")
    assert isinstance(before[0], dict)
    assert isinstance(archived[0], dict)
    assert archived[0].pop("archived_at") is not None
    assert archived[0] == before[0]
    assert with_strategy.rows("SELECT outcomes, new_outcomes FROM actp_feedback_strategy") == [(25, 10)]


def test_the_archive_has_the_columns_of_the_strategy_and_the_time(loop: Loop) -> None:
    def columns(table: str) -> list[tuple[object, ...]]:
        return loop.rows(
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_name = '{table}' ORDER BY ordinal_position"
        )

    strategy, archive = columns("actp_feedback_strategy"), columns("actp_feedback_strategy_archive")
    assert archive == [*strategy, ("archived_at", "timestamp with time zone")]


def test_each_consumed_outcome_names_the_strategy_that_consumed_it(with_strategy: Loop) -> None:
    first = with_strategy.rows("SELECT DISTINCT strategy_id FROM outcome_snapshots")
    add_outcomes(with_strategy, 10)
    second = with_strategy.rebuild().in_force
    assert second is not None
    assert with_strategy.rows("SELECT strategy_id, count(*) FROM outcome_snapshots GROUP BY 1 ORDER BY 1") == [
        (first[0][0], 20),
        (second.strategy_id, 10),
    ]


def test_a_platform_is_rebuilt_by_its_own_outcomes_only(with_strategy: Loop) -> None:
    for post in range(12):
        with_strategy.observe(post, 100, platform="tiktok")
    with_strategy.classify()
    before = with_strategy.rows("SELECT strategy_id FROM actp_feedback_strategy WHERE platform = 'x'")
    assert not with_strategy.rebuild("x").is_rebuilt
    assert with_strategy.rebuild("tiktok").is_rebuilt
    assert with_strategy.rows("SELECT strategy_id FROM actp_feedback_strategy WHERE platform = 'x'") == before


def test_four_that_rebuild_at_once_give_one_strategy(with_strategy: Loop) -> None:
    add_outcomes(with_strategy, 10)
    results = _at_once(4, with_strategy.rebuild)
    assert sorted(result.is_rebuilt for result in results) == [False, False, False, True]
    assert len({result.in_force.strategy_id for result in results if result.in_force}) == 1
    assert with_strategy.rows("SELECT count(*) FROM actp_feedback_strategy_archive") == [(1,)]


class Crash(Exception):
    """Stands for whatever ends a process in the middle."""


CRASH_POINTS = [
    "everreach_assets.strategy_builder.rules.build_strategy",
    "everreach_assets.strategy_builder.backtests.gate_verdict",
    "everreach_assets.strategy_builder.strategy_rows.store_strategy",
    "everreach_assets.strategy_builder.lesson_rows.apply",
    "everreach_assets.strategy_builder.strategy_rows.record_rebuild",  # the last write of the transaction
]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_leaves_everything_as_it_was_and_the_next_call_succeeds(with_strategy: Loop, point: str) -> None:
    add_outcomes(with_strategy, 10)
    before = with_strategy.dump()

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point, crash)
        with pytest.raises(Crash):
            with_strategy.rebuild()
    assert with_strategy.dump() == before
    assert with_strategy.rebuild().is_rebuilt


def test_outcomes_recorded_during_a_rebuild_stay_new(with_strategy: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    add_outcomes(with_strategy, 10)
    build = rules.build_strategy

    def slow_build(*arguments: object, **named: object) -> object:
        add_outcomes(with_strategy, 3, first=30)  # another process records and labels meanwhile
        return build(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("everreach_assets.strategy_builder.rules.build_strategy", slow_build)
    result = with_strategy.rebuild()
    assert (result.is_rebuilt, result.new_outcomes) == (True, 10)
    assert new_outcomes(with_strategy) == {"x": 3}


def test_a_strategy_cites_posts_that_exist_and_the_check_says_when_one_is_gone(loop: Loop) -> None:
    for post in range(60):
        loop.observe(post, (4_000 if post % 3 == 0 else 1_000) + 37 * (post % 7))
    loop.classify()
    loop.embed()
    in_force = loop.rebuild().in_force
    assert in_force is not None
    assert in_force.content is not None
    claims = {claim.trait: claim for claim in in_force.content.claims}
    assert claims["type thread"].evidence == "rule"
    (cited, *_) = claims["type thread"].exemplars
    assert passes(checks.every_strategy_cites_its_outcomes, loop.database)
    with loop.database.transaction() as connection:
        connection.execute("ALTER TABLE outcome_snapshots DROP CONSTRAINT outcome_snapshots_platform_post_id_fkey")
        connection.execute("ALTER TABLE outcome_labels DROP CONSTRAINT outcome_labels_platform_post_id_fkey")
        connection.execute("DELETE FROM actp_feedback_posts WHERE 'x:' || post_id = %s", (cited,))
    assert not passes(checks.every_strategy_cites_its_outcomes, loop.database)


def test_personal_data_of_posts_is_not_in_the_strategy(loop: Loop) -> None:
    for post in range(60):
        loop.observe(post, 4_000 if post % 3 == 0 else 1_000 + post)
    with loop.database.connection() as connection:
        connection.execute(
            "UPDATE actp_feedback_posts SET text = text || ' write to zebediah@example.com #zebediah@example.com'"
            " WHERE post_type = 'thread'"
        )
    loop.classify()
    loop.embed()
    loop.rebuild()
    assert loop.rows("SELECT count(*) FROM actp_feedback_strategy WHERE strategy::text ILIKE '%zebediah%'") == [(0,)]


def test_the_whole_loop_again_changes_nothing(with_strategy: Loop) -> None:
    before = with_strategy.dump()
    with_strategy.classify()
    with_strategy.embed()
    with_strategy.rebuild(minimum=1)
    assert with_strategy.dump() == before


# --- what the sensor asks every few seconds ---------------------------------------------------------------------


def test_the_platforms_are_found_by_one_step_in_the_index_for_each(database: Database) -> None:
    with database.connection() as connection:
        assert outcome_rows.platforms(connection) == []
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, text_sha256)"
            " SELECT (ARRAY['x', 'linkedin', 'tiktok'])[1 + number % 3], number::text, ''"
            " FROM generate_series(1, 60000) AS number"
        )
        connection.execute("ANALYZE actp_feedback_posts")
        assert outcome_rows.platforms(connection) == ["linkedin", "tiktok", "x"]
        statement = f"EXPLAIN (ANALYZE, FORMAT JSON) {PLATFORMS} SELECT platform FROM platforms"
        ((plan,),) = connection.execute(statement.encode()).fetchall()
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "actp_feedback_posts"]
    assert {node["Node Type"] for node in scans} == {"Index Only Scan"}
    # Each platform once, then none beyond the last: as many rows of 60,000 as of 1,000,000.
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 4
    assert sum(node["Actual Loops"] for node in scans) == 4


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)
