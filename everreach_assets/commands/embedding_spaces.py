"""Of `everreach embedding`: the spaces of the vectors, healing after an outage, and changing the model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.shared import read_settings
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput

if TYPE_CHECKING:
    from everreach_assets.memory import Memory

COLLECTION = click.argument("collection", required=False, type=click.Choice(tuple(COLLECTIONS)))
ALL = click.option("--all", "is_all", is_flag=True, help="Every collection that it concerns.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("spaces")
def show_spaces() -> None:
    """The vectors of each collection by what made them, and what the settings name."""
    from everreach_assets import migration
    from everreach_assets.domain.spaces import leading
    from everreach_assets.memory import open_memory
    from resources import spaces

    with open_memory(read_settings()) as memory:
        for name in COLLECTIONS:
            in_force, named = memory.vector_db.space(name), memory.embedder.space_of(name)
            with memory.database.connection() as connection:
                rows = spaces.rows_by_space(connection, name)
                waiting = spaces.waiting(connection, name)
                known = spaces.of_collection(connection, name)
            click.echo(
                f"{name}: in force {in_force}"
                + (f"; the settings name {named.beside(in_force)}" if named != in_force else "")
            )
            for space, count in rows.items():
                click.echo(f"  {count:>9,} vectors of {space}")
            if waiting:
                click.echo(f"  {waiting:>9,} of them wait: 'everreach embedding heal'")
            if known and known.kept and known.kept_until:
                click.echo(f"  {known.kept} is kept until {known.kept_until:%Y-%m-%d}")
            if known and known.target and name == leading(name):
                left = migration.remaining(name, database=memory.database, embedder=memory.embedder)
                click.echo(f"  {known.target} is being filled, {left:,} documents remain")


@click.command()
def heal() -> None:
    """Bring the vectors that a backup made into the space in force. Exits with 1 where some still wait."""
    from everreach_assets import healing
    from everreach_assets.memory import open_memory

    with open_memory(read_settings()) as memory:
        reports = healing.heal(database=memory.database, embedder=memory.embedder, vector_db=memory.vector_db)
    for report in reports:
        click.echo(str(report))
    if any(report.waiting for report in reports):
        raise click.exceptions.Exit(1)


@click.command()
@COLLECTION
@ALL
@click.option("--to", "model", required=True, metavar="PROVIDER/MODEL", help="Such as openai/text-embedding-3-large.")
@click.option("--width", type=click.IntRange(1, 1536), help="Components of the model; without it EMBEDDING_WIDTH.")
@click.option("--background", is_flag=True, help="Only begin: embedding_migration_job fills, 'switch' ends it.")
@YES
def migrate(collection: str | None, is_all: bool, model: str, width: int | None, background: bool, yes: bool) -> None:
    """Move COLLECTION to another model: fill a second space, compare, then switch. Searches go on meanwhile."""
    from everreach_assets import migration
    from everreach_assets.memory import open_memory
    from resources.provider_choice import space_named

    _check_choice(collection, is_all)
    with open_memory(read_settings()) as memory:
        target = space_named(memory.settings, model, width)
        names = migration.chosen(collection, target)
        if collection is None:
            names = [
                name for name in names if memory.vector_db.held_spaces(name) and memory.vector_db.space(name) != target
            ]
        for name in names:
            migration.begin(name, target, database=memory.database, vector_db=memory.vector_db)
            if background:
                click.echo(f"{name}: embedding_migration_job fills {target} from now on")
            else:
                _switch(memory, name, yes=yes)
        if not names:
            click.echo(f"Every collection that {target} may see is in it, or empty.")


@click.command()
@COLLECTION
@ALL
@YES
def switch(collection: str | None, is_all: bool, yes: bool) -> None:
    """Fill what is left of a migration, compare the two spaces, and put the new one in force."""
    _of_each_migration(collection, is_all, lambda memory, name: _switch(memory, name, yes=yes))


@click.command()
@COLLECTION
@ALL
@YES
def abandon(collection: str | None, is_all: bool, yes: bool) -> None:
    """End a migration without a switch. What was filled is deleted."""
    from everreach_assets import migration

    def end(memory: "Memory", name: str) -> None:
        if not yes:
            click.confirm(f"Delete what was filled for {name}?", abort=True)
        deleted = migration.abandon(name, database=memory.database, vector_db=memory.vector_db)
        click.echo(f"{name}: {deleted:,} vectors deleted, nothing is being filled")

    _of_each_migration(collection, is_all, end)


@click.command()
@COLLECTION
@ALL
def switch_back(collection: str | None, is_all: bool) -> None:
    """Put the space before the last switch in force again, as long as it is kept."""
    from everreach_assets import migration
    from everreach_assets.memory import open_memory
    from resources import spaces

    _check_choice(collection, is_all)
    with open_memory(read_settings()) as memory:
        with memory.database.connection() as connection:
            kept = [name for name in migration.chosen(collection) if spaces.has_kept(connection, name)]
        for name in kept if is_all else migration.chosen(collection):
            changed = migration.switch_back(
                name,
                keep_days=memory.settings.embedding_space_kept_days,
                database=memory.database,
                vector_db=memory.vector_db,
            )
            click.echo(f"{name}: {changed:,} documents are in {memory.vector_db.space(name)} again")
        if is_all and not kept:
            click.echo("No space is kept.")


def _of_each_migration(collection: str | None, is_all: bool, act: "Callable[[Memory, str], None]") -> None:
    from everreach_assets import migration
    from everreach_assets.memory import open_memory
    from resources import spaces

    _check_choice(collection, is_all)
    with open_memory(read_settings()) as memory:
        with memory.database.connection() as connection:
            names = spaces.migrating(connection)
        for name in names if is_all else migration.chosen(collection):
            act(memory, name)
        if is_all and not names:
            click.echo("No migration is under way.")


def _switch(memory: "Memory", collection: str, *, yes: bool) -> None:
    from everreach_assets import migration

    click.echo(str(migration.fill(collection, database=memory.database, embedder=memory.embedder)))
    for comparison in migration.compare(collection, database=memory.database):
        click.echo(str(comparison))
    target = migration.target_of(collection, database=memory.database)
    if not yes:
        click.confirm(f"Put {target} in force for {collection}?", abort=True)
    changed = migration.switch(
        collection,
        keep_days=memory.settings.embedding_space_kept_days,
        database=memory.database,
        embedder=memory.embedder,
        vector_db=memory.vector_db,
    )
    click.echo(
        f"{collection}: {changed:,} documents are in {target}; the space before is kept for "
        f"{memory.settings.embedding_space_kept_days} days ('everreach embedding switch-back')"
    )


def _check_choice(collection: str | None, is_all: bool) -> None:
    if (collection is None) != is_all:
        raise InvalidInput("name a collection, or --all")


SPACE_COMMANDS = (show_spaces, heal, migrate, switch, switch_back, abandon)
