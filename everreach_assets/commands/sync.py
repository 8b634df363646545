"""`everreach sync`: the cloud, brought to what may leave."""

import contextlib

import click

from everreach_assets.commands.shared import open_database, progress_bar, read_settings
from everreach_assets.domain.errors import InvalidInput


@click.command()
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

    if is_plan + is_check + is_mend > 1 or (even_most and not is_mend):
        raise InvalidInput("--plan, --check and --mend exclude each other, and --even-most belongs to --mend")
    settings = read_settings()
    with contextlib.closing(open_cloud(settings)) as cloud, open_database(settings) as database:
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
            with progress_bar(name) as on_progress:
                report = cloud_sync.sync_collection(name, database=database, cloud=cloud, on_progress=on_progress)
            click.echo(str(report))
            is_whole &= not report.unsettled
    if not is_whole:
        raise click.exceptions.Exit(1)
