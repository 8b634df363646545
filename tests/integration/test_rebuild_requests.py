"""What the sensor asks for, by the ledger of a real Postgres, whatever Dagster has forgotten; the real daemon is in
`tests/e2e/test_rebuild_crashes.py`."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from dagster._grpc.client import DEFAULT_SENSOR_GRPC_TIMEOUT  # Dagster exports it nowhere

from everreach_assets.build import build_definitions
from everreach_assets.checks import every_strategy_is_fresh
from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.errors import Unavailable
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.rebuilds import NEW_OUTCOMES, QUICK_ATTEMPTS, backoff
from everreach_assets.feedback import FeedbackSyncEngine
from everreach_assets.lost_runs import PROCESS_TAG, process_tag
from everreach_assets.strategy_builder import Rebuild, rebuild_strategy
from resources import metric_queries, rebuilds, strategies
from resources.database import Connection, Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.settings import Settings
from resources.vector_db import VectorDB
from sensors.strategy_rebuild_sensor import strategy_rebuild_sensor

JOB = "strategy_rebuild_job"


class Platform:
    """A platform's outcomes, the sensor, and the rebuild, without a daemon between them."""

    def __init__(self, database: Database, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.database = database
        self.instance = instance
        self.definitions = definitions
        self.embedder = Embedder()
        self.vector_db = VectorDB(database, HnswIndex(database), self.embedder.space_of)

    def record(
        self, posts: Iterable[int], platform: str = "x", views: int = 100, observed_at: dt.datetime | None = None
    ) -> None:
        engine = FeedbackSyncEngine(self.database)

        async def record_all() -> None:
            for post in posts:
                metrics = {"views": views + post}
                await engine.record_outcome(f"p{post}", platform, metrics, observed_at=observed_at)

        asyncio.run(record_all())

    def tick(self, cursor: str | None = None) -> list[str]:
        """The platforms that one evaluation of the sensor asks for; partitions are added, as the daemon does."""
        return [str(each.partition_key) for each in self.evaluated(cursor).run_requests or []]

    def evaluated(self, cursor: str | None = None) -> dg.SensorResult:
        with dg.build_sensor_context(self.instance, cursor=cursor, definitions=self.definitions) as context:
            result = strategy_rebuild_sensor(context, database=self.database)
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        assert result.cursor is None
        assert all(request.run_key is None for request in result.run_requests or [])
        return result

    def reason(self) -> str:
        said = self.evaluated().skip_reason
        return str(said.skip_message if isinstance(said, dg.SkipReason) else said)

    def create_run(self, status: dg.DagsterRunStatus, platform: str = "x") -> str:
        job = self.definitions.resolve_job_def(JOB)
        tags = {"dagster/partition": platform}
        return self.instance.create_run_for_job(job, status=status, tags=tags).run_id

    def rebuild(self, platform: str = "x", minimum: int = NEW_OUTCOMES) -> Rebuild:
        classify_new_outcomes(self.database)
        return rebuild_strategy(
            platform,
            database=self.database,
            vector_db=self.vector_db,
            embedder=self.embedder,
            minimum_new_outcomes=minimum,
        )

    def wait(self, attempts: int, *, short_of: int = 0) -> None:
        """Let the back-off after that many attempts pass, by dating the request back."""
        seconds = backoff(attempts).total_seconds() - short_of
        with self.database.connection() as connection:
            connection.execute(
                "UPDATE strategy_rebuild_requests SET requested_at = now() - make_interval(secs => %s)", (seconds,)
            )

    def attempts_on_metrics(self) -> dict[str, float]:
        with self.database.connection() as connection:
            samples = metric_queries.read_all(connection, Settings(_env_file=None)).samples
        return {
            each.labels["platform"]: float(str(each.value))
            for each in samples
            if each.metric == "everreach_strategy_rebuild_attempts"
        }


@pytest.fixture
def at(database: Database, instance: dg.DagsterInstance, definitions: dg.Definitions) -> Platform:
    return Platform(database, instance, definitions)


# --- what counts ------------------------------------------------------------------------------------------------


def test_nothing_at_all_is_skipped(at: Platform) -> None:
    assert at.reason() == "no new outcomes"


def test_nine_ask_for_nothing_and_the_reason_says_since_which_strategy(at: Platform) -> None:
    at.record(range(9))
    assert at.reason() == "9 of 10 new outcomes on x without a strategy yet"
    assert at.instance.get_dynamic_partitions("platforms") == ["x"]
    at.record(range(9, 10))
    in_force = at.rebuild().in_force
    assert in_force is not None
    at.record(range(7), views=500)
    assert at.reason() == f"7 of 10 new outcomes on x since strategy {in_force.strategy_id}"


@pytest.mark.parametrize("steps", [[10], [9, 12], [25], [1_000]], ids=str)
def test_ten_and_any_number_above_are_one_request_and_one_strategy(at: Platform, steps: list[int]) -> None:
    asked, recorded = [], 0
    for upto in steps:
        with at.database.transaction() as connection:
            connection.execute(
                "WITH post AS (INSERT INTO actp_feedback_posts (platform, post_id, text_sha256)"
                " SELECT 'x', 'p' || number, '' FROM generate_series(%(from)s::int + 1, %(upto)s) AS number"
                " RETURNING platform, post_id)"
                " INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
                " SELECT platform, post_id, now(), '{\"views\": 5}' FROM post",
                {"from": recorded, "upto": upto},
            )
        recorded = upto
        asked += at.tick()
    assert asked == ["x"]
    assert at.rebuild().new_outcomes == steps[-1]
    assert at.tick() == []
    assert not at.rebuild().is_rebuilt


def test_repeats_corrections_and_late_snapshots_of_a_post_count_once(at: Platform) -> None:
    at.record(range(9))
    at.record(range(9))
    at.record(range(9), views=900)
    at.record(range(9), views=50, observed_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert at.tick() == []
    at.record([9])
    assert at.tick() == ["x"]


def test_what_arrives_during_a_rebuild_counts_for_the_next(at: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    at.record(range(10))
    real = strategies.labelled_outcomes

    def meanwhile(connection: Connection, platform: str) -> list[LabelledOutcome]:
        at.record(range(10, 18))  # another connection, while the rebuild holds the platform's lock
        at.record([3], views=5_000)
        return real(connection, platform)

    with monkeypatch.context() as patched:
        patched.setattr(strategies, "labelled_outcomes", meanwhile)
        first = at.rebuild()
    assert first.in_force is not None
    assert first.new_outcomes == 10
    assert at.reason() == f"9 of 10 new outcomes on x since strategy {first.in_force.strategy_id}"
    at.record([18])
    assert at.tick() == ["x"]
    assert at.rebuild().new_outcomes == 10


# --- asked for once ---------------------------------------------------------------------------------------------


def test_what_was_asked_for_is_not_asked_for_again_at_the_next_tick(at: Platform) -> None:
    at.record(range(12))
    at.record(range(3), "tiktok")
    assert at.tick() == ["x"]
    assert at.instance.get_dynamic_partitions("platforms") == ["tiktok", "x"]
    assert at.tick() == []
    assert "12 new outcomes on x without a strategy yet: asked for once; again in " in at.reason()


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_a_run_under_way_is_waited_for_however_long_it_takes(at: Platform, status: str) -> None:
    at.record(range(10))
    assert at.tick() == ["x"]
    at.create_run(dg.DagsterRunStatus[status])
    at.wait(QUICK_ATTEMPTS)
    assert at.reason() == "10 new outcomes on x without a strategy yet: a rebuild is under way"


def test_a_run_of_another_platform_is_not_waited_for(at: Platform) -> None:
    at.record(range(10))
    at.create_run(dg.DagsterRunStatus.STARTED, "tiktok")
    assert at.tick() == ["x"]


def test_of_two_daemons_that_look_at_once_one_asks(at: Platform) -> None:
    at.record(range(10))
    barrier = threading.Barrier(4)

    def tick(_: int) -> list[str]:
        barrier.wait()
        return at.tick()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(tick, range(4))) == [[], [], [], ["x"]]


@pytest.mark.parametrize("cursor", ["garbage", "{", "99999999999", "\u2028", '{"strategy": 41, "version": 9}'])
def test_a_cursor_of_any_kind_changes_nothing(at: Platform, cursor: str) -> None:
    at.record(range(9))
    assert at.tick(cursor) == []
    at.record([9])
    assert at.tick(cursor) == ["x"]
    assert at.tick() == []


def test_deleted_runs_are_neither_asked_for_again_nor_forgotten_as_attempts(at: Platform) -> None:
    at.record(range(10))
    for attempt in (1, 2):
        assert at.tick() == ["x"]
        at.instance.delete_run(at.create_run(dg.DagsterRunStatus.FAILURE))
        assert at.tick() == []
        at.wait(attempt, short_of=5)
        assert at.tick() == []
        at.wait(attempt)
    assert at.tick() == ["x"]
    assert at.attempts_on_metrics() == {"x": 3}
    at.instance.delete_run(at.create_run(dg.DagsterRunStatus.SUCCESS))
    assert at.rebuild().is_rebuilt
    assert at.reason() == "no new outcomes"


# --- asked for again --------------------------------------------------------------------------------------------


def test_a_request_that_came_to_nothing_is_made_again_with_longer_and_longer_waits_and_never_given_up(
    at: Platform,
) -> None:
    at.record(range(10))
    for attempt in range(1, QUICK_ATTEMPTS + 3):
        assert at.tick() == ["x"], attempt
        assert at.attempts_on_metrics() == {"x": attempt}
        at.wait(attempt, short_of=5)
        assert at.tick() == []
        at.wait(attempt)
    at.wait(QUICK_ATTEMPTS, short_of=1)
    assert f"asked for {QUICK_ATTEMPTS + 2} times; again in " in at.reason()


def test_a_strategy_ends_the_attempts_and_the_next_ten_are_asked_for_at_once(at: Platform) -> None:
    at.record(range(10))
    for attempt in (1, 2, 3):
        assert at.tick() == ["x"]
        at.wait(attempt)
    assert at.rebuild().is_rebuilt
    assert at.attempts_on_metrics() == {"x": 0}
    at.record(range(10, 20))
    assert at.attempts_on_metrics() == {"x": 0}
    assert at.tick() == ["x"]
    assert at.attempts_on_metrics() == {"x": 1}


def test_a_run_that_succeeds_without_a_strategy_is_not_asked_for_every_few_seconds(at: Platform) -> None:
    at.record(range(10))
    assert at.tick() == ["x"]
    at.create_run(dg.DagsterRunStatus.SUCCESS)
    assert at.tick() == []


def test_a_tick_that_fails_has_asked_for_nothing(at: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    at.record(range(10))

    def away(*_: object) -> list[str]:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr("sensors.strategy_rebuild_sensor.outcome_rows.platforms", away)
        with pytest.raises(Unavailable):
            at.tick()
    assert at.attempts_on_metrics() == {"x": 0}
    assert at.tick() == ["x"]


def test_an_evaluation_that_has_to_wait_gives_up_before_dagster_does(
    at: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.record(range(10))
    with Database(at.database.url) as other, other.transaction() as connection, monkeypatch.context() as patched:
        rebuilds.lock(connection)
        patched.setattr(rebuilds, "LOCK_SECONDS", 0.2)
        with pytest.raises(Unavailable, match="statement timeout"):
            at.tick()
    assert at.tick() == ["x"]


def test_a_count_that_takes_too_long_is_given_up_before_dagster_does(
    at: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.record(range(10))
    with at.database.connection() as connection, monkeypatch.context() as patched:
        connection.execute("ALTER TABLE outcome_snapshots RENAME TO stored_snapshots")
        connection.execute(
            "CREATE VIEW outcome_snapshots AS SELECT stored_snapshots.* FROM stored_snapshots, pg_sleep(60)"
        )
        patched.setattr(rebuilds, "STATEMENT_SECONDS", 0.2)
        with pytest.raises(Unavailable, match="statement timeout"):
            at.tick()
        connection.execute("DROP VIEW outcome_snapshots")
        connection.execute("ALTER TABLE stored_snapshots RENAME TO outcome_snapshots")
    assert at.tick() == ["x"]


def test_a_decision_that_waits_for_dagster_leaves_the_lock_to_others(
    at: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.record(range(10))

    def hang(*_: object) -> bool:
        time.sleep(3)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(rebuilds, "STATEMENT_SECONDS", 0.8)
        patched.setattr("sensors.strategy_rebuild_sensor.is_under_way", hang)
        with pytest.raises(Unavailable, match="idle-in-transaction timeout"):
            at.tick()
    assert at.tick() == ["x"]


def test_a_decision_ends_within_the_minute_that_dagster_waits_for_an_evaluation() -> None:
    assert rebuilds.LOCK_SECONDS + 4 * rebuilds.STATEMENT_SECONDS < DEFAULT_SENSOR_GRPC_TIMEOUT


# --- quiet platforms --------------------------------------------------------------------------------------------


def test_a_strategy_is_stale_once_an_outcome_has_waited_for_eight_days_and_a_weekly_rebuild_mends_it(
    at: Platform,
) -> None:
    at.record(range(1))
    at.record(range(3), "tiktok")
    at.rebuild("tiktok", 1)
    assert stale_platforms(at) == {"stale_platforms": 0}
    with at.database.connection() as connection:
        connection.execute("UPDATE outcome_snapshots SET recorded_at = now() - interval '8 days' + interval '1 minute'")
    assert stale_platforms(at)["stale_platforms"] == 0
    with at.database.connection() as connection:
        connection.execute("UPDATE outcome_snapshots SET recorded_at = now() - interval '8 days' - interval '1 minute'")
    assert stale_platforms(at)["stale_platforms"] == 1
    assert str(stale_platforms(at)["x"]).startswith("since 20")
    assert at.rebuild("x", 1).is_rebuilt
    assert stale_platforms(at) == {"stale_platforms": 0}


def test_the_weekly_rebuild_of_a_platform_without_new_outcomes_changes_nothing(at: Platform) -> None:
    at.record(range(3))
    first = at.rebuild("x", 1)
    again = at.rebuild("x", 1)
    assert (again.is_rebuilt, again.new_outcomes, again.in_force) == (False, 0, first.in_force)


def stale_platforms(at: Platform) -> dict[str, object]:
    result = every_strategy_is_fresh(database=at.database)
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed == (result.metadata["stale_platforms"].value == 0)
    return {name: value.value for name, value in result.metadata.items()}


# --- the processes of runs --------------------------------------------------------------------------------------


def test_the_daemons_run_says_which_process_it_is_in(
    database: Database, database_url: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERREACH_DATABASE_URL", database_url)
    job = build_definitions({"vector_db": object(), "embedder": object()}).resolve_job_def("memory_refresh_job")
    result = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["feedback", "outcome_classifications"])]
    )
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[PROCESS_TAG] == process_tag(run.run_id)[PROCESS_TAG]
