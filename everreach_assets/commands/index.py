"""`everreach index`: the search index, checked or made again."""

import click

from everreach_assets.commands.shared import read_settings
from everreach_assets.domain.collections import COLLECTIONS


@click.group()
def index() -> None:
    """The search index: check it against the database, or make it again."""


@index.command()
def check() -> None:
    """Say what the index lacks. Exits with 1 where it is not whole."""
    from everreach_assets.memory import open_memory

    with open_memory(read_settings()) as memory:
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

    with open_memory(read_settings()) as memory:
        for name in [collection] if collection else list(COLLECTIONS):
            memory.vector_db.rebuild_index(name)
            click.echo(str(memory.vector_db.check_index(name)))
