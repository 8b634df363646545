"""What Dagster sees: the graph, and full runs through it on real servers."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from everreach_assets.assets.retention import PurgeConfig
from everreach_assets.assets.sources import OBSERVER_VERSION
from everreach_assets.build import build_definitions
from everreach_assets.cloud_sync import SYNCED
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION
from everreach_assets.domain.retention import PLANNER_VERSION
from everreach_assets.domain.sample import make_sample, write_sample
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION
from everreach_assets.domain.strategies import BUILDER_VERSION
from everreach_assets.domain.sync import POLICY_VERSION
from everreach_assets.domain.weekly_changes import WEEK_VERSION
from everreach_assets.freshness import DAILY, HOURLY, WEEKLY
from everreach_assets.partitions import weeks
from everreach_assets.retention import RetentionRules, load_policy
from everreach_assets.schedules import cloud_parity_schedule, cloud_sync_schedule, strategy_refresh_schedule
from resources import prospects
from resources.cloud_postgres import PostgresCloud
from resources.cloud_store import Cloud
from resources.database import Database
from resources.embedder import Embedder
from resources.hnsw_index import HnswIndex
from resources.intake import ingest_file
from resources.vector_db import VectorDB
from resources.vector_index import VectorIndex
from tests.indexes import emptied_chroma

STRATEGIES = Path(__file__).parents[2] / "docs" / "strategies.md"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PLATFORMS = ["instagram", "linkedin", "tiktok", "x", "youtube"]


# --- the graph --------------------------------------------------------------------------------------------------

GRAPH: dict[str, tuple[list[str], str, set[str], str]] = {
    "cloud/content_embeddings": (["vectors/content_embeddings"], "cloud", {"postgres", "chroma"}, POLICY_VERSION),
    "cloud/lesson_embeddings": (["vectors/lesson_embeddings"], "cloud", {"postgres", "chroma"}, POLICY_VERSION),
    "cloud/outcome_embeddings": (["vectors/outcome_embeddings"], "cloud", {"postgres", "chroma"}, POLICY_VERSION),
    "sources/lessons": ([], "sources", {"postgres"}, OBSERVER_VERSION),
    "sources/outcomes": ([], "sources", {"postgres"}, OBSERVER_VERSION),
    "sources/posts": ([], "sources", {"postgres"}, OBSERVER_VERSION),
    "sources/prospects": ([], "sources", {"postgres"}, OBSERVER_VERSION),
    "feedback/outcome_classifications": (
        ["sources/outcomes", "sources/posts"],
        "feedback",
        {"python", "postgres"},
        CLASSIFIER_VERSION,
    ),
    "feedback/strategies": (
        ["feedback/outcome_classifications", "vectors/outcome_embeddings"],
        "feedback",
        {"python", "postgres"},
        BUILDER_VERSION,
    ),
    "feedback/weekly_changes": (
        ["feedback/outcome_classifications", "feedback/strategies"],
        "feedback",
        {"python", "postgres"},
        WEEK_VERSION,
    ),
    "retention/plans": (
        [
            "feedback/strategies",
            "vectors/content_embeddings",
            "vectors/lesson_embeddings",
            "vectors/outcome_embeddings",
            "vectors/prospect_embeddings",
        ],
        "retention",
        {"python", "postgres"},
        PLANNER_VERSION,
    ),
    "retention/purges": (["retention/plans"], "retention", {"python", "postgres", "chroma"}, PLANNER_VERSION),
    "spaces/heal_embeddings": (
        [
            "vectors/content_embeddings",
            "vectors/lesson_embeddings",
            "vectors/outcome_embeddings",
            "vectors/prospect_embeddings",
        ],
        "spaces",
        {"postgres", "chroma"},
        SCRUBBER_VERSION,
    ),
    "spaces/migration_shards": (
        [
            "vectors/content_embeddings",
            "vectors/lesson_embeddings",
            "vectors/outcome_embeddings",
            "vectors/prospect_embeddings",
        ],
        "spaces",
        {"postgres"},
        SCRUBBER_VERSION,
    ),
    "vectors/content_embeddings": (["sources/posts"], "vectors", {"postgres", "chroma"}, SCRUBBER_VERSION),
    "vectors/lesson_embeddings": (
        ["feedback/strategies", "sources/lessons"],
        "vectors",
        {"postgres", "chroma"},
        SCRUBBER_VERSION,
    ),
    "vectors/outcome_embeddings": (
        ["feedback/outcome_classifications", "vectors/content_embeddings"],
        "vectors",
        {"postgres", "chroma"},
        SCRUBBER_VERSION,
    ),
    "vectors/prospect_embeddings": (["sources/prospects"], "vectors", {"postgres", "chroma"}, SCRUBBER_VERSION),
}
"""Of each asset: what it depends on, its group, its kinds, its code version."""

JOBS = {
    "cloud_sync_job": {f"cloud/{name}" for name in SYNCED},
    "memory_refresh_job": {name for name in GRAPH if not name.startswith(("cloud/", "retention/", "spaces/"))}
    - {"feedback/strategies", "feedback/weekly_changes"},
    "strategy_rebuild_job": {
        "feedback/outcome_classifications",
        "feedback/strategies",
        "vectors/content_embeddings",
        "vectors/outcome_embeddings",
    },
    "retention_job": {"retention/plans", "retention/purges"},
    "heal_embeddings_job": {"spaces/heal_embeddings"},
    "embedding_migration_job": {"spaces/migration_shards"},
    "weekly_changes_job": {"feedback/weekly_changes"},
}


def test_the_definitions_load(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_the_graph_has_these_assets_each_with_its_code_version(definitions: dg.Definitions) -> None:
    found = {
        spec.key.to_user_string(): (
            sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            spec.group_name,
            set(spec.kinds),
            spec.code_version,
        )
        for spec in definitions.resolve_all_asset_specs()
    }
    assert found == GRAPH


def test_every_asset_has_an_owner_and_says_what_its_rows_are(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.owners == ["team:everreach"], spec.key
        assert (spec.description or "").startswith("One row is "), spec.key


def test_what_is_made_by_the_clock_says_how_old_it_may_become(definitions: dg.Definitions) -> None:
    found = {
        spec.key.to_user_string(): spec.freshness_policy
        for spec in definitions.resolve_all_asset_specs()
        if spec.freshness_policy
    }
    assert found == {
        "feedback/outcome_classifications": HOURLY,
        **{f"vectors/{noun}_embeddings": HOURLY for noun in ("content", "lesson", "outcome", "prospect")},
        "feedback/strategies": WEEKLY,
        "feedback/weekly_changes": WEEKLY,
        "retention/plans": DAILY,
        "retention/purges": DAILY,
    }


def test_strategies_are_partitioned_by_platform_migrations_by_shard_weeks_by_time_and_nothing_else_is(
    definitions: dg.Definitions,
) -> None:
    partitioned = {
        spec.key.to_user_string(): spec.partitions_def
        for spec in definitions.resolve_all_asset_specs()
        if spec.partitions_def is not None
    }
    assert partitioned == {
        "feedback/strategies": dg.DynamicPartitionsDefinition(name="platforms"),
        "feedback/weekly_changes": weeks,
        "spaces/migration_shards": dg.StaticPartitionsDefinition([f"{shard:02d}" for shard in range(16)]),
    }


def test_checks_are_named_after_what_holds(definitions: dg.Definitions) -> None:
    keys = definitions.resolve_asset_graph().asset_check_keys
    assert {(key.asset_key.to_user_string(), key.name) for key in keys} == {
        ("feedback/outcome_classifications", "every_outcome_is_in_one_label_history"),
        ("feedback/strategies", "every_strategy_cites_its_outcomes"),
        ("feedback/strategies", "every_strategy_is_fresh"),
        ("retention/purges", "every_purged_document_is_gone"),
        *((f"vectors/{name}", "every_vector_is_in_the_index") for name in COLLECTIONS),
        *((f"cloud/{name}", "the_cloud_equals_what_may_leave") for name in SYNCED),
        *((f"vectors/{name}", "every_sampled_vector_finds_itself") for name in COLLECTIONS),
    }


@pytest.mark.parametrize("name", JOBS)
def test_jobs_hold_their_assets(definitions: dg.Definitions, name: str) -> None:
    selected = definitions.resolve_job_def(name).asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == JOBS[name]


def test_schedules_and_the_sensor_run_without_being_switched_on(definitions: dg.Definitions) -> None:
    schedules = {
        name: definitions.resolve_schedule_def(name)
        for name in (
            "cloud_parity_schedule",
            "cloud_sync_schedule",
            "memory_refresh_schedule",
            "strategy_refresh_schedule",
            "retention_schedule",
            "heal_embeddings_schedule",
            "embedding_migration_schedule",
            "weekly_changes_schedule",
        )
    }
    assert {name: (each.cron_schedule, each.job_name) for name, each in schedules.items()} == {
        "cloud_parity_schedule": ("52 4 * * *", "cloud_parity_job"),
        "cloud_sync_schedule": ("*/15 * * * *", "cloud_sync_job"),
        "memory_refresh_schedule": ("7 * * * *", "memory_refresh_job"),
        "strategy_refresh_schedule": ("37 3 * * 1", "strategy_rebuild_job"),
        "retention_schedule": ("23 4 * * *", "retention_job"),
        "heal_embeddings_schedule": ("11-59/15 * * * *", "heal_embeddings_job"),
        "embedding_migration_schedule": ("41 * * * *", "embedding_migration_job"),
        "weekly_changes_schedule": ("7 6 * * 1", "weekly_changes_job"),
    }
    assert {each.default_status for each in schedules.values()} == {dg.DefaultScheduleStatus.RUNNING}
    assert {each.execution_timezone or "UTC" for each in schedules.values()} == {"UTC"}
    sensor = definitions.resolve_sensor_def("strategy_rebuild_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert [target.job_name for target in sensor.targets] == ["strategy_rebuild_job"]


def test_the_weekly_schedule_rebuilds_each_platform_at_its_first_new_outcome(tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:  # a schedule opens its instance by reference
        instance.add_dynamic_partitions("platforms", ["x", "tiktok"])
        with dg.build_schedule_context(instance=instance) as context:
            answer = strategy_refresh_schedule(context)
            assert isinstance(answer, Iterator)
            requests = [each for each in answer if isinstance(each, dg.RunRequest)]
    assert {request.partition_key for request in requests} == {"x", "tiktok"}
    for request in requests:
        assert request.run_config == {"ops": {"feedback__strategies": {"config": {"minimum_new_outcomes": 1}}}}


def test_a_purge_is_a_dry_run_by_hand_and_a_real_one_by_the_schedule(definitions: dg.Definitions) -> None:
    assert PurgeConfig() == PurgeConfig(dry_run=True, approved_plan_hash="")
    with dg.build_schedule_context() as context:
        data = definitions.resolve_schedule_def("retention_schedule").evaluate_tick(context)
    (request,) = data.run_requests or []
    assert request.run_config == {"ops": {"retention__purges": {"config": {"dry_run": False}}}}


def test_the_comparison_of_everything_is_a_job_of_its_own(definitions: dg.Definitions) -> None:
    def checks(job: str) -> set[str]:
        asset_layer = definitions.resolve_job_def(job).asset_layer
        return {key.asset_key.to_user_string() for key in asset_layer.asset_graph.asset_check_keys}

    assert checks("cloud_sync_job") == set()
    assert checks("cloud_parity_job") == {f"cloud/{name}" for name in SYNCED}
    assert not definitions.resolve_job_def("cloud_parity_job").asset_layer.selected_asset_keys


def test_who_waits_for_a_strategy_waits_for_no_comparison_of_indexes(definitions: dg.Definitions) -> None:
    def checks(job: str) -> set[str]:
        return {key.name for key in definitions.resolve_job_def(job).asset_layer.asset_graph.asset_check_keys}

    assert checks("strategy_rebuild_job") == {"every_strategy_cites_its_outcomes"}
    assert {"every_strategy_is_fresh", "every_vector_is_in_the_index"} <= checks("memory_refresh_job")


def test_the_schedules_of_the_cloud_skip_where_there_is_none(database_url: str) -> None:
    for schedule in (cloud_sync_schedule, cloud_parity_schedule):
        for cloud, kind in ((Cloud(), dg.SkipReason), (Cloud(PostgresCloud(database_url)), dg.RunRequest)):
            with dg.build_schedule_context() as context:
                assert isinstance(schedule(context, cloud=cloud), kind)


# --- full runs --------------------------------------------------------------------------------------------------


class Project:
    """The definitions on real adapters, with the sample in the database."""

    def __init__(
        self,
        database: Database,
        index: VectorIndex,
        instance: dg.DagsterInstance,
        archives: Path = Path("archives"),
        cloud: Cloud | None = None,
    ) -> None:
        with database.connection() as connection:
            embedder = Embedder(known_names=prospects.names(connection))
        self.vector_db = VectorDB(database, index, embedder.space_of)
        self.instance = instance
        self.definitions = build_definitions(
            {
                "database": database,
                "embedder": embedder,
                "vector_db": self.vector_db,
                "retention": RetentionRules(load_policy(None), archives),
                "cloud": cloud or Cloud(),
            }
        )

    def run(
        self, job: str, partition: str | None = None, config: Mapping[str, object] | None = None
    ) -> dg.ExecuteInProcessResult:
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition, run_config=QUIET | dict(config or {})
        )
        assert result.success
        assert all(each.passed for each in result.get_asset_check_evaluations())
        return result


def ingest_sample(database: Database, folder: Path) -> None:
    for kind, path in write_sample(folder).items():
        assert ingest_file(database, kind, path).rejected == 0


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
    """What each materialisation and observation of a run says, by asset."""
    said = [
        (each.asset_key, each.metadata) for each in map(_materialisation, result.get_asset_materialization_events())
    ]
    for event in result.get_asset_observation_events():
        observation = event.asset_observation_data.asset_observation
        said.append((observation.asset_key, observation.metadata))
    return {
        asset_key.to_user_string(): {name: value.value for name, value in metadata.items()}
        for asset_key, metadata in said
    }


def _materialisation(event: dg.DagsterEvent) -> dg.AssetMaterialization:
    return event.step_materialization_data.materialization


@pytest.fixture(params=["chroma", "pgvector"])
def project(
    request: pytest.FixtureRequest, database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> Project:
    ingest_sample(database, tmp_path)
    if request.param == "pgvector":
        return Project(database, HnswIndex(database), instance)
    return Project(database, emptied_chroma(database, request.getfixturevalue("chroma_server")), instance)


def test_a_run_on_the_sample_counts_what_came_out_and_a_second_embeds_nothing(project: Project) -> None:
    sample = make_sample()
    posts, observations = len(sample.posts), len(sample.posts) + len(sample.outcomes)
    first = project.run("memory_refresh_job")
    metadata = metadata_of(first)
    assert {asset: counts["dagster/row_count"] for asset, counts in metadata.items()} == {
        "sources/posts": posts,
        "sources/outcomes": observations,
        "sources/prospects": 60,
        "sources/lessons": 20,
        "feedback/outcome_classifications": posts,
        "vectors/content_embeddings": posts,
        "vectors/outcome_embeddings": posts,
        "vectors/prospect_embeddings": 60,
        "vectors/lesson_embeddings": 20,
    }
    assert metadata["feedback/outcome_classifications"]["new_snapshots"] == observations
    assert metadata["vectors/prospect_embeddings"]["redactions"].keys() == {"email", "phone", "name"}
    assert len(list(first.get_asset_check_evaluations())) == 10

    again = metadata_of(project.run("memory_refresh_job"))
    for name in COLLECTIONS:
        counts = again[f"vectors/{name}"]
        assert counts["summary"].startswith("nothing to embed")
        assert (counts["inserted"], counts["deleted"], counts["metadata_changed"], counts["mended_in_index"]) == (
            0,
        ) * 4
        assert counts["skipped_unchanged"] == counts["dagster/row_count"]
    assert again["feedback/outcome_classifications"]["new_snapshots"] == 0

    project.instance.add_dynamic_partitions("platforms", PLATFORMS)
    built = metadata_of(project.run("strategy_rebuild_job", "tiktok"))["feedback/strategies"]
    assert (built["inserted"], built["dagster/partition_row_count"]) == (1, 1)
    example = re.search(r"^> (50% of the next posts: .*)$", STRATEGIES.read_text(encoding="utf-8"), re.MULTILINE)
    assert example is not None
    assert f"- {example[1]}\n" in built["summary"]
    assert built["effects"].startswith("![effects](data:image/png;base64,")
    assert built["topic_map"].startswith("![topics](data:image/png;base64,")
    unchanged = metadata_of(project.run("strategy_rebuild_job", "tiktok"))["feedback/strategies"]
    assert (unchanged["inserted"], unchanged["new_outcomes"]) == (0, 0)
    assert unchanged["strategy_id"] == built["strategy_id"]


@pytest.mark.slow
def test_the_retention_job_shows_what_would_go_and_purges_it_when_told(
    database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    ingest_sample(database, tmp_path)
    project = Project(database, HnswIndex(database), instance, tmp_path / "archives")
    project.run("memory_refresh_job")
    with database.connection() as connection:
        connection.execute(
            "UPDATE actp_feedback_posts SET published_at = now() - CASE WHEN (platform, post_id) IN"
            " (SELECT platform, post_id FROM actp_feedback_posts ORDER BY 1, 2 LIMIT 10)"
            " THEN interval '9 years' ELSE interval '9 days' END"
        )
        connection.execute("UPDATE outcome_snapshots SET strategy_id = 1")
        connection.execute(
            "UPDATE prospects SET first_seen_at = now() - interval '91 days' WHERE prospect_id IN"
            " (SELECT prospect_id FROM prospects ORDER BY 1 LIMIT 5)"
        )
    dry = metadata_of(project.run("retention_job"))
    assert (dry["retention/plans"]["dagster/row_count"], dry["retention/purges"]["dagster/row_count"]) == (15, 15)
    assert dry["retention/purges"]["summary"] == "15 documents would be purged, 0 of the plan kept"
    assert (dry["retention/purges"]["is_dry_run"], dry["retention/purges"]["deleted"]) == (True, 0)
    assert "| content_embeddings | 1200 | 10 | 0 | 0 | 0 | 1190 | 0 | 0 |" in dry["retention/plans"]["counts"]
    assert dry["retention/plans"]["ages"].startswith("![ages](data:image/png;base64,")
    config = {"ops": {"retention__purges": {"config": {"dry_run": False}}}}
    live = metadata_of(project.run("retention_job", config=config))["retention/purges"]
    assert (live["deleted"], live["plan_hash"]) == (15, dry["retention/plans"]["plan_hash"])
    assert metadata_of(project.run("retention_job", config=config))["retention/plans"]["dagster/row_count"] == 0
    project.run("memory_refresh_job")
    assert (project.vector_db.count("content_embeddings"), project.vector_db.count("prospect_embeddings")) == (1190, 55)


def test_a_refused_purge_fails_the_run_at_once_and_says_what_to_do(
    database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    ingest_sample(database, tmp_path)
    project = Project(database, HnswIndex(database), instance, tmp_path / "archives")
    project.run("memory_refresh_job")
    with database.connection() as connection:
        connection.execute("UPDATE prospects SET first_seen_at = now() - interval '91 days'")
    result = project.definitions.resolve_job_def("retention_job").execute_in_process(
        instance=instance,
        run_config=QUIET | {"ops": {"retention__purges": {"config": {"dry_run": False}}}},
        raise_on_error=False,
    )
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "it would purge 60 of the 60 documents of prospect_embeddings" in str(failure)
    assert project.vector_db.count("prospect_embeddings") == 60


def test_a_run_on_the_sample_copies_what_may_leave_and_a_second_sends_nothing(
    database: Database, database_url: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    ingest_sample(database, tmp_path)
    with contextlib.closing(Cloud(PostgresCloud(database_url))) as cloud:
        project = Project(database, HnswIndex(database), instance, cloud=cloud)
        project.run("memory_refresh_job")
        first = metadata_of(project.run("cloud_sync_job"))
        rows = len(make_sample().posts)
        counts = {name: (each["dagster/row_count"], each["inserted"]) for name, each in first.items()}
        assert counts == {
            "cloud/content_embeddings": (rows, rows),
            "cloud/outcome_embeddings": (rows, rows),
            "cloud/lesson_embeddings": (20, 20),
        }
        assert all(each["sent_bytes"] > 20 * 6_144 and each["metadata_left_out"] == 0 for each in first.values())
        again = metadata_of(project.run("cloud_sync_job"))
        assert [(each["requests"], each["sent_bytes"]) for each in again.values()] == [(0, 0)] * 3
        assert len(list(project.run("cloud_parity_job").get_asset_check_evaluations())) == 3


def test_without_a_cloud_the_copies_are_a_success_with_zeros(database: Database, instance: dg.DagsterInstance) -> None:
    said = metadata_of(Project(database, HnswIndex(database), instance).run("cloud_sync_job"))
    assert {(each["dagster/row_count"], each["sent_bytes"]) for each in said.values()} == {(0, 0)}
    assert all("no cloud is configured" in each["summary"] for each in said.values())
    checks = Project(database, HnswIndex(database), instance).run("cloud_parity_job").get_asset_check_evaluations()
    assert [each.passed for each in checks] == [True] * 3


def test_no_personal_data_of_the_sample_is_in_dagsters_records(
    database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    ingest_sample(database, tmp_path)
    with database.connection() as connection:
        connection.execute("UPDATE prospects SET first_seen_at = now() - interval '91 days'")
    project = Project(database, HnswIndex(database), instance)
    runs = [project.run("memory_refresh_job"), project.run("retention_job")]
    records = "".join(str(event) for run in runs for event in run.all_events)
    for prospect in make_sample().prospects:
        assert str(prospect["email"]) not in records
        assert str(prospect["phone"]) not in records
        assert str(prospect["name"]) not in records
