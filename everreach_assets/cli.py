# ruff: noqa: PLC0415 - modules that take long to load are imported inside the commands: `everreach --help` answers at once
"""The `everreach` command: it reads arguments, calls one function and prints what came out.

What does not belong here: what the commands do.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everreach_assets.domain.collections import COLLECTIONS, CONTENT
from everreach_assets.domain.errors import EverReachError, InvalidInput

if TYPE_CHECKING:
    from everreach_assets.domain.mappings import Kind
    from everreach_assets.domain.retention import PlanItem
    from resources.database import Database
    from resources.retention import Plan
    from resources.settings import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _WrongInput(click.ClickException):
    exit_code = click.UsageError.exit_code


class _Group(click.Group):
    """A group whose errors of ours are one message and an exit code, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            raise _WrongInput(str(error)) from error
        except EverReachError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="everreach-assets")
def main() -> None:
    """Shared memory and feedback loop of EverReach OS."""


@main.command()
@click.argument("kind", type=click.Choice(["posts", "outcomes", "prospects", "lessons"]))
@click.argument("file", type=FILE)
@click.option("--map", "mapping_file", type=FILE, help="Mapping of the file's columns (YAML).")
@click.option("--platform", help="Platform of every row that names none.")
def ingest(kind: "Kind", file: Path, mapping_file: Path | None, platform: str | None) -> None:
    """Read FILE (CSV or JSONL) into the database. The same file twice changes nothing."""
    from everreach_assets.domain.mappings import load_mapping
    from resources.database import Database
    from resources.intake import ingest_file
    from resources.servers import running_servers

    mapping = load_mapping(mapping_file) if mapping_file else None
    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        _progress_bar(file.name) as on_progress,
    ):
        report = ingest_file(database, kind, file, mapping, platform=platform, on_progress=on_progress)
    click.echo(str(report))
    if report.is_unreadable:
        raise click.exceptions.Exit(1)


@main.command()
@click.option("--kind", type=click.Choice(["posts", "outcomes", "prospects", "lessons"]), help="Only these.")
@click.option("-n", default=20, show_default=True, type=click.IntRange(min=1), help="How many, the newest first.")
def dead_letters(kind: "Kind | None", n: int) -> None:
    """Rows that could not be taken in: file, line and reason. The rows themselves stay in the database."""
    from resources import intake
    from resources.database import Database
    from resources.servers import running_servers

    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        letters = intake.dead_letters(connection, kind, n)
    for letter in letters:
        click.echo(f"{letter.rejected_at:%Y-%m-%d %H:%M}  {letter.kind}  {letter.file}:{letter.line}  {letter.reason}")
    if not letters:
        click.echo("There are none.")


@main.command()
@click.option("--posts", type=FILE, help="A file of your own posts; without it, the synthetic sample.")
@click.option("--platform", help="Platform of every row that names none.")
@click.option("--map", "mapping_file", type=FILE, help="Mapping of the file's columns (YAML).")
@click.option("--query", default="how to get more people to answer a post", show_default=True)
def run(posts: Path | None, platform: str | None, mapping_file: Path | None, query: str) -> None:
    """Read posts and outcomes, materialise every asset, print what came out."""
    from everreach_assets import main_job

    main_job.run(_settings(), posts=posts, platform=platform, mapping_file=mapping_file, query=query)


@main.command()
@click.argument("text")
@click.option("--collection", type=click.Choice(tuple(COLLECTIONS)), default=CONTENT.name, show_default=True)
@click.option("-n", default=5, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--where", help='Filter on metadata, in JSON: \'{"platform": "x", "score": {"$gt": 1}}\'.')
def search(text: str, collection: str, n: int, where: str | None) -> None:
    """The documents most similar to TEXT, nearest first, with their metadata and the beginning of their text."""
    import json

    from everreach_assets.memory import open_memory
    from resources import documents

    try:
        condition = json.loads(where) if where else None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"--where is no JSON: {error}") from None
    with open_memory(_settings()) as memory:
        query = memory.embedder.embed_query(collection, text)
        matches = memory.vector_db.search(collection, query.vector, n, condition)
        with memory.database.connection() as connection:
            texts = documents.texts(connection, collection, [match.doc_id for match in matches])
        excerpts = {doc_id: memory.embedder.excerpt(collection, found) for doc_id, found in texts.items()}
    for match in matches:
        click.echo(f"{1 - match.distance:.3f}  {match.doc_id}  {json.dumps(dict(match.metadata), ensure_ascii=False)}")
        if excerpt := excerpts.get(match.doc_id):
            click.echo(f"       {excerpt}")
    if not matches:
        click.echo(f"Nothing in {collection} matches.")


@main.group()
def index() -> None:
    """The search index: check it against the database, or make it again."""


@index.command()
def check() -> None:
    """Say what the index lacks. Exits with 1 where it is not whole."""
    from everreach_assets.memory import open_memory

    with open_memory(_settings()) as memory:
        reports = [memory.vector_db.check_index(name) for name in COLLECTIONS]
    for report in reports:
        click.echo(str(report))
    if not all(report.is_whole for report in reports):
        click.echo("'everreach index rebuild' makes it whole, without calling a provider.")
        raise click.exceptions.Exit(1)


@index.command()
@click.argument("collection", required=False, type=click.Choice(tuple(COLLECTIONS)))
def rebuild(collection: str | None) -> None:
    """Make the index of COLLECTION, or of all, again from the vectors in the database."""
    from everreach_assets.memory import open_memory

    with open_memory(_settings()) as memory:
        for name in [collection] if collection else list(COLLECTIONS):
            memory.vector_db.rebuild_index(name)
            click.echo(str(memory.vector_db.check_index(name)))


@main.command()
@click.argument("collection", required=False)
@click.option("--plan", "is_plan", is_flag=True, help="Say what would be sent, by action, and send nothing.")
@click.option("--check", "is_check", is_flag=True, help="Compare every row. Exits with 1 where the cloud differs.")
@click.option("--mend", "is_mend", is_flag=True, help="Compare every row, then send or remove what differs.")
@click.option("--even-most", is_flag=True, help="With --mend: remove unknown rows, though most of the cloud's are.")
@click.option("--retry", is_flag=True, help="Try dead letters again.")
def sync(collection: str | None, is_plan: bool, is_check: bool, is_mend: bool, even_most: bool, retry: bool) -> None:
    """Send the cloud what changed in COLLECTION, or in all that may leave. Exits with 1 where rows were refused."""
    from everreach_assets import cloud_parity, cloud_sync
    from resources import sync_ledger
    from resources.cloud_store import open_cloud
    from resources.database import Database
    from resources.servers import running_servers

    if is_plan + is_check + is_mend > 1 or (even_most and not is_mend):
        raise InvalidInput("--plan, --check and --mend exclude each other, and --even-most belongs to --mend")
    settings = _settings()
    with (
        contextlib.closing(open_cloud(settings)) as cloud,
        running_servers(settings) as addresses,
        Database(addresses.database_url) as database,
    ):
        is_whole = True
        for name in cloud_sync.chosen(collection):
            if is_plan:
                click.echo(str(cloud_sync.plan_collection(name, database=database, cloud=cloud)))
                continue
            if is_check or is_mend:
                parity = cloud_parity.compare(name, database=database, cloud=cloud)
                click.echo(str(parity))
                is_whole &= is_mend or parity.is_equal
                if is_check:
                    continue
                cloud_parity.mend(parity, database=database, cloud=cloud, even_most=even_most)
            if retry:
                with database.connection() as connection:
                    sync_ledger.retry_dead_letters(connection, name)
            with _progress_bar(name) as on_progress:
                report = cloud_sync.sync_collection(name, database=database, cloud=cloud, on_progress=on_progress)
            click.echo(str(report))
            is_whole &= not report.unsettled
    if not is_whole:
        raise click.exceptions.Exit(1)


@main.group()
def strategy() -> None:
    """The strategies in force."""


@strategy.command()
@click.argument("platform")
def show(platform: str) -> None:
    """The strategy in force on PLATFORM, with the posts that each claim rests on."""
    from everreach_assets.reports import claim_list
    from resources import outcomes, strategies
    from resources.database import Database
    from resources.servers import running_servers

    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        stored = strategies.strategy_in_force(connection, platform)
        known = outcomes.platforms(connection)
    if stored is None:
        raise InvalidInput(f"there is no strategy for {platform!r}; platforms with posts: {', '.join(known) or 'none'}")
    click.echo(
        f"Strategy {stored.strategy_id} of {platform}, built {stored.created_at:%Y-%m-%d %H:%M} UTC "
        f"from {stored.outcomes:,} outcomes"
    )
    click.echo(claim_list(stored.claims))


@main.group()
def grafana() -> None:
    """The dashboards of grafana/ in a Grafana server."""


@grafana.command(name="import")
@click.argument("files", nargs=-1, type=FILE)
@click.option("--folder", "folder_uid", help="Uid of the folder there; without it, the top.")
def import_dashboards(files: tuple[Path, ...], folder_uid: str | None) -> None:
    """Bring FILES, or every dashboard of grafana/, to the server that GRAFANA_URL names."""
    from resources.grafana import Grafana, read_dashboard
    from resources.settings import PROJECT_FOLDER

    paths = files or tuple(sorted((PROJECT_FOLDER / "grafana").glob("*.json")))
    if not paths:
        raise InvalidInput(f"there is no dashboard in {PROJECT_FOLDER / 'grafana'}: name a file")
    dashboards = [read_dashboard(path) for path in paths]
    with Grafana.from_settings(_settings()) as server:
        for dashboard in dashboards:
            click.echo(f"{dashboard['title']}: {server.import_dashboard(dashboard, folder_uid=folder_uid)}")


@main.command()
def serve() -> None:
    """Run the service alone: /metrics and the API. 'everreach up' runs it beside the rest."""
    from everreach_assets.service import server

    server.serve(_settings())


@main.group()
def metrics() -> None:
    """What is counted: record, look, allow values of labels."""


@metrics.command("record")
@click.argument("metric")
@click.argument("value", type=float)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Once for each label of the metric.")
@click.option("--record-id", help="Names this recording: the same again adds nothing.")
def metrics_record(metric: str, value: float, labels: tuple[str, ...], record_id: str | None) -> None:
    """Add VALUE to a counter, set a gauge, or observe it in a histogram."""
    from resources.database import Database
    from resources.metric_records import Record, record_from_outside
    from resources.servers import running_servers

    pairs = [label.partition("=") for label in labels]
    if unnamed := [name for name, equals, _ in pairs if not (name and equals)]:
        raise InvalidInput(f"--label {unnamed[0]}: write NAME=VALUE, such as platform=linkedin")
    record = Record(metric, value, {name: given for name, _, given in pairs})
    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        is_new = record_from_outside(connection, [record], record_id=record_id)
    click.echo("Recorded." if is_new else f"{record_id} was recorded before; nothing was added.")


@metrics.command("allow")
@click.argument("value_set", metavar="SET")
@click.argument("value")
def metrics_allow(value_set: str, value: str) -> None:
    """Let VALUE be a label's value of its own, and not 'other', wherever SET is meant."""
    from resources.database import Database
    from resources.metric_records import allow_value
    from resources.servers import running_servers

    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        is_new = allow_value(connection, value_set, value)
    click.echo(f"{value_set} now holds {value}." if is_new else f"{value_set} held {value} already.")


@metrics.command("show")
@click.argument("prefix", default="")
@click.option("--all", "with_zeros", is_flag=True, help="The counters that are still 0, too.")
def metrics_show(prefix: str, with_zeros: bool) -> None:
    """What is recorded now, of the metrics whose names start with PREFIX."""
    from resources.database import Database
    from resources.metric_records import Buckets, stored
    from resources.servers import running_servers

    with (
        running_servers(_settings()) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        samples = [each for each in stored(connection) if each.metric.startswith(prefix)]
    shown = [each for each in samples if each.value or with_zeros]
    for each in shown:
        labels = ",".join(f'{name}="{value}"' for name, value in each.labels.items())
        value = (
            f"{sum(each.value.counts):,.0f} observations, sum {each.value.sum:,.6g}"
            if isinstance(each.value, Buckets)
            else f"{each.value:,.6g}"
        )
        click.echo(f"{each.metric}{{{labels}}}  {value}" if labels else f"{each.metric}  {value}")
    if not shown:
        click.echo("Nothing is recorded yet." if not samples else "All are 0; --all shows them.")


@main.group()
def retention() -> None:
    """How long documents are kept: plans, purges, holds, archives."""


@retention.command()
@click.option("-n", "shown", default=5, show_default=True, type=click.IntRange(0, 1_000_000), help="Show so many.")
def plan(shown: int) -> None:
    """Say what has expired, and store it as a plan with a hash. Nothing is purged."""
    from everreach_assets import retention as steps
    from everreach_assets.domain.retention import approval_reason
    from everreach_assets.memory import open_retention

    settings = _settings()
    rules = open_retention(settings)
    with _open_database(settings) as database:
        made = steps.make_plan(rules.policy, database=database)
        _print_plan(made, steps.planned_items(made, shown, database=database))
    if reason := approval_reason(made.counts):
        click.echo(f"It needs approval: {reason}.")
    click.echo(f"Plan {made.plan_hash}\n'everreach retention purge --plan HASH' carries it out, within 24 hours.")


@retention.command()
@click.option("--plan", "plan_hash", help="Hash of the plan to carry out; naming it approves of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(plan_hash: str | None, yes: bool) -> None:
    """Carry out a plan, or make one and carry it out. What goes is archived first."""
    from everreach_assets import retention as steps
    from everreach_assets.memory import open_memory, open_retention

    with open_memory(_settings()) as memory:
        rules = open_retention(memory.settings)
        if plan_hash is None:
            made = steps.make_plan(rules.policy, database=memory.database)
            _print_plan(made, steps.planned_items(made, 5, database=memory.database))
        expected = steps.purge(
            rules, database=memory.database, vector_db=memory.vector_db, approved_plan_hash=plan_hash or ""
        )
        click.echo(f"{expected}.")
        if not yes:
            click.confirm("Archive and delete them?", abort=True)
        report = steps.purge(
            rules,
            database=memory.database,
            vector_db=memory.vector_db,
            approved_plan_hash=plan_hash or "",
            dry_run=False,
        )
    click.echo(f"{report}.")
    for receipt in report.receipts:
        click.echo(f"{receipt.collection}: {receipt.purged:,} in {rules.archives / receipt.archive}")


@retention.command()
@click.argument("archive", type=FILE)
@click.option("--id", "doc_ids", multiple=True, help="Only this document; may be given again.")
def restore(archive: Path, doc_ids: tuple[str, ...]) -> None:
    """Bring back what was purged into ARCHIVE, as it was, with a hold on each document."""
    from everreach_assets import retention as steps
    from everreach_assets.memory import open_memory

    with open_memory(_settings()) as memory:
        report = steps.restore(
            archive,
            database=memory.database,
            vector_db=memory.vector_db,
            restored_by=_user(),
            doc_ids=doc_ids or None,
        )
    click.echo(f"{report.collection}: {len(report.restored):,} restored and held, {report.left:,} left as they are.")


@retention.group()
def hold() -> None:
    """What must be kept whatever its age."""


@hold.command()
@click.argument("scope", type=click.Choice(["everything", "collection", "document", "platform", "account"]))
@click.argument("subject", required=False)
@click.option("--reason", required=True, help="Why; without personal data.")
@click.option("--collection", type=click.Choice(tuple(COLLECTIONS)), help="Of a document; without it, in each.")
@click.option("--by", help="Who places it; without it, the user of this machine.")
def add(scope: str, subject: str | None, reason: str, collection: str | None, by: str | None) -> None:
    """Keep everything, or a collection, a document (its id), a platform, or an account (platform:account)."""
    from resources import retention as rows

    platform, _, account = (subject or "").partition(":")
    named = {
        "everything": {"doc_id": subject},  # naming one is refused
        "collection": {"collection": subject},
        "document": {"doc_id": subject, "collection": collection},
        "platform": {"platform": subject},
        "account": {"platform": platform or None, "account": account or None},
    }[scope]
    if collection and scope != "document":
        raise InvalidInput("--collection belongs to a document; a whole collection is 'hold add collection NAME'")
    if scope == "collection" and subject not in COLLECTIONS:
        raise InvalidInput(f"there is no collection {subject!r}; there are {', '.join(COLLECTIONS)}")
    with _open_database(_settings()) as database, database.connection() as connection:
        number = rows.place_hold(connection, scope, reason=reason, placed_by=by or _user(), **named)
        is_late = scope == "document" and rows.is_purged(connection, subject or "")
    click.echo(f"Hold {number} is in force.")
    if is_late:
        click.echo(f"{subject} was purged before: 'everreach retention restore ARCHIVE --id {subject}' brings it back.")


@hold.command(name="list")
def list_holds() -> None:
    """The holds in force."""
    from resources import retention as rows

    with _open_database(_settings()) as database, database.connection() as connection:
        found = rows.holds(connection)
    for each in found:
        click.echo(
            f"{each.hold_id:>6}  {each.subject}  since {each.placed_at:%Y-%m-%d} by {each.placed_by}: {each.reason}"
        )
    if not found:
        click.echo("Nothing is held.")


@hold.command()
@click.argument("hold_ids", metavar="HOLD...", nargs=-1, required=True, type=int)
@click.option("--by", help="Who lifts it; without it, the user of this machine.")
def lift(hold_ids: tuple[int, ...], by: str | None) -> None:
    """End holds by their numbers. They stay on record."""
    from resources import retention as rows

    with _open_database(_settings()) as database, database.connection() as connection:
        lifted = rows.lift_holds(connection, hold_ids, by or _user())
    click.echo(f"{lifted} of {len(hold_ids)} lifted.")
    if lifted < len(hold_ids):
        raise InvalidInput("the others are not in force; 'everreach retention hold list' shows those that are")


@main.command()
def up() -> None:
    """Run the servers, the Dagster UI, sensors and schedules until Ctrl-C."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.up(_settings()))


@main.command()
def monitoring() -> None:
    """Run Prometheus and Alertmanager beside 'everreach up' until Ctrl-C, where they are installed."""
    from everreach_assets import monitoring as command

    raise click.exceptions.Exit(command.run(_settings()))


@main.command()
def down() -> None:
    """Stop what 'everreach up' started, also after it was killed."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.down(_settings()))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS are psql's own, such as -c 'SELECT 1'."""
    import os
    import subprocess

    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from resources.servers import postgres_binaries, running_servers

    with running_servers(_settings()) as addresses:
        address = conninfo_to_dict(addresses.database_url)
        password = str(address.pop("password", ""))  # not among the arguments, which every user of the machine may see
        command = [str(postgres_binaries() / "psql"), *arguments, make_conninfo("", **address)]
        environment = os.environ | ({"PGPASSWORD": password} if password else {})
        finished = subprocess.run(command, env=environment, check=False)
    raise click.exceptions.Exit(finished.returncode)


@main.command()
def clean_data() -> None:
    """Stop what runs and delete the data folder (EVERREACH_HOME), for good."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.clean_data(_settings()))


@main.command()
@click.option("--down", "steps", type=click.IntRange(min=1), help="Undo this many of the newest migrations.")
@click.option("--yes", is_flag=True, help="Do not ask before data are deleted.")
def migrate(steps: int | None, yes: bool) -> None:
    """Bring the database to the newest schema, or undo migrations."""
    from resources import migrations
    from resources.servers import running_servers

    if steps and not yes:
        click.confirm("Undoing a migration deletes the data in its tables. Go on?", abort=True)
    with running_servers(_settings()) as addresses:
        url = addresses.database_url
        changed = migrations.roll_back(url, steps=steps) if steps else migrations.migrate(url)
    for name in changed:
        click.echo(f"{'Undone' if steps else 'Applied'}: {name}")
    if not changed:
        click.echo("Nothing to undo." if steps else "The schema is the newest.")


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def sample(folder: Path) -> None:
    """Write the synthetic sample files into FOLDER."""
    from everreach_assets.domain.sample import write_sample

    write_sample(folder)
    click.echo(f"The sample is in {folder}; read it with 'everreach ingest posts {folder}/posts.csv' and so on.")


def _settings() -> "Settings":
    """The settings.

    Raises:
        InvalidInput: a variable has a wrong value. The message does not repeat it: it may be a secret.
    """
    from pydantic import ValidationError

    from resources.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors())
        raise InvalidInput(f"{problems}. Correct the environment or the file .env (see .env.example)") from None


@contextlib.contextmanager
def _open_database(settings: "Settings") -> "Iterator[Database]":
    from resources.database import Database
    from resources.servers import running_servers

    with running_servers(settings) as addresses, Database(addresses.database_url) as database:
        yield database


def _user() -> str:
    """The name of the user whose process this is."""
    import os
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _print_plan(made: "Plan", items: "list[PlanItem]") -> None:
    from everreach_assets.reports import item_table, plan_table

    click.echo(plan_table(made.counts))
    click.echo(f"\n{item_table(items)}\n")


@contextlib.contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that takes bytes read and bytes in all; it is drawn on a terminal only, and not in a log file."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
