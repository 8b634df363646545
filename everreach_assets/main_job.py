"""What `make run` does: read posts and outcomes, materialise every asset through Dagster, print what came out.

What belongs here: the order of the steps and what is printed. What does not: anything that `make up` does differently.
"""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster_shared.error import SerializableErrorInfo
from rich.console import Console
from rich.table import Table

from everreach_assets.build import build_definitions
from everreach_assets.domain.collections import COLLECTIONS, CONTENT, PROSPECTS
from everreach_assets.domain.errors import EverReachError, InvalidInput
from everreach_assets.domain.mapping_files import FileMapping, Kind, load_mapping
from everreach_assets.domain.sample import ACCOUNTS, PROSPECT_IDS, write_sample
from everreach_assets.lost_runs import fail_lost_runs, process_tag
from everreach_assets.memory import open_database, open_embedder, open_vector_db
from everreach_assets.partitions import platforms, shards, weeks
from everreach_assets.reports import LABELS, advice_line, claim_posts, labels_by_platform
from everreach_assets.search import search_text
from resources import outcomes as outcome_rows
from resources import posts as post_rows
from resources import sources as source_rows
from resources import strategies as strategy_rows
from resources import strategy_history
from resources.addresses import child_environment, prepare_dagster_home
from resources.database import Database
from resources.embedder import Embedder
from resources.intake import ingest_file
from resources.retention import holds
from resources.servers import running_servers
from resources.settings import Settings
from resources.vector_db import VectorDB

SIMILAR_POSTS = 5
CLAIMS_SHOWN = 3
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The steps' own log lines are in the Dagster UI; the terminal gets what came out, or in a sentence why nothing did."""


@dataclass
class Steps:
    """How long each step took, in seconds."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.console.print(f"... {name}", style="dim")
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run(
    settings: Settings,
    *,
    posts: Path | None = None,
    platform: str | None = None,
    mapping_file: Path | None = None,
    query: str,
) -> None:
    """Run the main job on the sample, or on a person's own posts.

    Raises:
        InvalidInput: the mapping or the file is no such thing; nothing was written.
        Unavailable: a server could not be started or did not answer.
        EverReachError: a run failed; it is in the Dagster UI with its error.
    """
    if posts is None and (platform or mapping_file):
        raise InvalidInput("a platform or a mapping belongs to a file of posts: add --posts FILE (POSTS=FILE to make)")
    mapping = load_mapping(mapping_file) if mapping_file else None
    _interrupts_reach_dagster()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    steps = Steps(console)
    with contextlib.ExitStack() as stack:
        with steps.step("start servers"):
            addresses = stack.enter_context(running_servers(settings))
        # Dagster's configuration and the resources of its runs read the environment, as they do under `make up`.
        os.environ.update(child_environment(settings, addresses))
        settings = addresses.applied_to(settings)
        database = stack.enter_context(open_database(settings))
        with steps.step("read the files"):
            files = _own_files(posts) if posts else _sample_files(stack)
            for kind, path in files.items():
                _ingest(console, database, kind, path, mapping, platform)
            if not posts:
                hold_the_sample(database)
        with steps.step("load Dagster"):
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(prepare_dagster_home(settings))))
            fail_lost_runs(instance, launcher_is_gone=False)
            definitions = build_definitions()
        with steps.step("label and embed"):
            _materialise(definitions, instance, "memory_refresh_job")
        with steps.step("build strategies"):
            _build_strategies(definitions, instance, database)
        with steps.step("search"):
            embedder = stack.enter_context(contextlib.closing(open_embedder(settings, database)))
            vector_db = stack.enter_context(contextlib.closing(open_vector_db(settings, database, embedder)))
            similar = _similar_posts(query, database, embedder, vector_db)
        if posts:
            _warn_of_the_sample(console, database)
        _print_counts(console, database, vector_db)
        _print_labels(console, database)
        _print_strategies(console, database)
        _print_similar(console, database, embedder, query, similar)
        with steps.step("cloud, retention, spaces, week"):
            _materialise_the_rest(definitions, instance)
    _print_times(console, steps)
    _print_next(console, settings)


def _own_files(posts: Path) -> dict[Kind, Path]:
    return {"posts": posts}


def _sample_files(stack: contextlib.ExitStack) -> dict[Kind, Path]:
    return write_sample(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everreach-sample-"))))


def hold_the_sample(database: Database) -> None:
    """Keep the sample's posts and people whatever their age, by a hold on each account and person.

    The posts' dates stand still, and the people all came on one day: else the nightly purge would come to want more at
    once than it may. Holds in force are not placed again; those that somebody has lifted are.
    """
    subjects = [("account", {"platform": each.platform, "account": each.name}) for each in ACCOUNTS]
    subjects += [("document", {"collection": PROSPECTS.name, "doc_id": each}) for each in PROSPECT_IDS]
    with database.transaction() as connection:
        held = {(each.platform, each.account, each.doc_id) for each in holds.in_force(connection)}
        for scope, named in subjects:
            if (named.get("platform"), named.get("account"), named.get("doc_id")) not in held:
                holds.place(connection, scope, **named, reason="the sample", placed_by="everreach run")


def _ingest(
    console: Console, database: Database, kind: Kind, path: Path, mapping: FileMapping | None, platform: str | None
) -> None:
    report = ingest_file(database, kind, path, mapping, platform=platform)
    for line in str(report).splitlines():
        console.print(f"    {line}")
    if report.is_unreadable:
        raise InvalidInput(
            f"{path.name}: none of its {report.rows:,} rows could be read; the reasons are above. "
            "A mapping (--map FILE, or MAP=FILE to make; see docs/intake.md) names its columns"
        )


def _build_strategies(definitions: dg.Definitions, instance: dg.DagsterInstance, database: Database) -> None:
    with database.connection() as connection:
        names = outcome_rows.platforms(connection)
    instance.add_dynamic_partitions(platforms.name or "", names)
    for name in names:
        # One new outcome is enough here: who runs the job by hand wants to see what it gives.
        config = {"ops": {"feedback__strategies": {"config": {"minimum_new_outcomes": 1}}}}
        _materialise(
            definitions,
            instance,
            "strategy_rebuild_job",
            partition_key=name,
            asset_selection=[dg.AssetKey(["feedback", "strategies"])],  # the rest of the job has just been done
            run_config=config,
        )


def _materialise_the_rest(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """What no strategy rests on. It comes after the results: a cloud that is away does not keep them from anybody."""
    for name in ("cloud_sync_job", "retention_job", "heal_embeddings_job"):
        _materialise(definitions, instance, name)
    keys = shards.get_partition_keys()
    every_shard = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    _materialise(definitions, instance, "embedding_migration_job", tags=every_shard)
    _materialise(definitions, instance, "weekly_changes_job", partition_key=weeks.get_last_partition_key())


def _materialise(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job_name: str,
    *,
    partition_key: str | None = None,
    asset_selection: Sequence[dg.AssetKey] | None = None,
    run_config: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    result = definitions.resolve_job_def(job_name).execute_in_process(
        instance=instance,
        partition_key=partition_key,
        asset_selection=asset_selection,
        run_config={**(run_config or {}), **QUIET},
        tags={**process_tag(), **(tags or {})},
        raise_on_error=False,
    )
    if result.success:
        return
    failures = {event.step_key: _root_error(event) for event in result.all_events if event.is_step_failure}
    if any(error.cls_name == "DagsterExecutionInterruptedError" for error in failures.values()):
        raise KeyboardInterrupt
    reasons = "; ".join(f"{step}: {error.message.strip()}" for step, error in failures.items())
    raise EverReachError(
        f"run {result.run_id} of {job_name} failed at {reasons or 'its start'} ('make up' shows it in the Dagster UI)"
    )


def _root_error(failure: dg.DagsterEvent) -> SerializableErrorInfo:
    """What went wrong at first: Dagster wraps it in errors of its own."""
    error = failure.step_failure_data.error
    assert error is not None  # noqa: S101 - a failed step has one
    while error.cause is not None:
        error = error.cause
    return error


def _interrupts_reach_dagster() -> None:
    """The end of the terminal, and SIGTERM, end the job as Ctrl-C does: runs and servers with it."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def _similar_posts(query: str, database: Database, embedder: Embedder, vector_db: VectorDB) -> list[tuple[str, float]]:
    """Ids and scores of the posts nearest to the query; none where it has nothing to search with."""
    with contextlib.suppress(InvalidInput):
        result = search_text(
            CONTENT.name, query, SIMILAR_POSTS, database=database, embedder=embedder, vector_db=vector_db
        )
        return [(each.doc_id, each.score) for each in result.found]
    return []


def _warn_of_the_sample(console: Console, database: Database) -> None:
    with database.connection() as connection:
        synthetic = post_rows.synthetic_posts(connection)
    if synthetic:
        console.print(
            f"\nAmong your posts are the {synthetic:,} synthetic ones of the sample, in numbers and strategies too. "
            "'make clean-data' removes all data; EVERREACH_HOME=another-folder keeps yours apart.",
            style="bold",
        )


def _print_counts(console: Console, database: Database, vector_db: VectorDB) -> None:
    table = _titled("In the database")
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_column("")
    with database.connection() as connection:
        for noun in source_rows.TABLES:
            table.add_row(noun, f"{source_rows.state(connection, noun).rows:,}", "")
    for name in COLLECTIONS:
        table.add_row(f"vectors in {name}", f"{vector_db.count(name):,}", f"{vector_db.space(name)}")
    console.print(table)
    console.print(f"Searches are answered by {vector_db.backend}.")
    if vector_db.space(CONTENT.name).provider == "local":
        console.print(
            "Vectors are made on this machine by hashing: alike means spelled alike. "
            "Set OPENAI_API_KEY for vectors of meaning."
        )


def _print_labels(console: Console, database: Database) -> None:
    table = _titled("Labels by platform (posts)")
    table.add_column("platform")
    for label in LABELS:
        table.add_column(label.replace("_", " "), justify="right")
    with database.connection() as connection:
        labels = outcome_rows.label_counts(connection)
    for platform, *counts in labels_by_platform(labels).itertuples():
        table.add_row(platform, *(f"{count:,}" for count in counts))
    console.print(table)


def _print_strategies(console: Console, database: Database) -> None:
    console.print("\nStrategies (how the posts with a trait do against the others, with interval)", style="bold")
    with database.connection() as connection:
        platforms_with_posts = outcome_rows.platforms(connection)
        for platform in platforms_with_posts:
            stored = strategy_rows.strategy_in_force(connection, platform)
            held = strategy_history.latest_held(connection, platform)
            if stored is None:
                console.print(f"{platform}: {f'held, {held.reason}' if held else 'none yet, no outcome could be used'}")
                continue
            console.print(f"{platform}: strategy {stored.strategy_id}, from {stored.outcomes:,} outcomes")
            if held and held.strategy_id > stored.strategy_id:
                console.print(f"  a later one, {held.strategy_id}, is held: {held.reason}")
            claims = [each for each in stored.content.claims if not each.explained_by] if stored.content else []
            for claim in claims[:CLAIMS_SHOWN]:
                console.print(f"  {advice_line(claim)}\n      {claim_posts(claim)}")
            if not claims:
                console.print("  nothing stands out yet")
    if not platforms_with_posts:
        console.print("none yet: there are no posts")


def _print_similar(
    console: Console, database: Database, embedder: Embedder, query: str, similar: list[tuple[str, float]]
) -> None:
    console.print(f'\nMost similar to "{embedder.excerpt(CONTENT.name, query)}"', style="bold")
    with database.connection() as connection:
        texts = post_rows.texts(connection, [doc_id for doc_id, _ in similar])
    for doc_id, score in similar:
        console.print(f"  {score:.2f}  {doc_id:30}  {embedder.excerpt(CONTENT.name, texts[doc_id])}")
    if not similar:
        console.print("  nothing: no post has a text")


def _print_times(console: Console, steps: Steps) -> None:
    table = _titled("Time")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("all", f"{sum(steps.seconds.values()):.1f}")
    console.print(table)


def _print_next(console: Console, settings: Settings) -> None:
    console.print("\nNext", style="bold")
    console.print(
        f"  make up                                        the same in the Dagster UI, at "
        f"http://localhost:{settings.everreach_webserver_port}\n"
        "  .venv/bin/everreach search 'your words'        the posts most similar to them\n"
        "  make run POSTS=file.csv PLATFORM=facebook MAP=docs/mappings/facebook.yaml\n"
        f"The data is in {settings.home}."
    )


def _titled(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
