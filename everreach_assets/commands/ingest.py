"""`everreach ingest` and `everreach dead-letters`: rows of files, and those that could not be taken in."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.shared import FILE, open_database, progress_bar, read_settings

if TYPE_CHECKING:
    from everreach_assets.domain.mapping_files import Kind


@click.command()
@click.argument("kind", type=click.Choice(["posts", "outcomes", "prospects", "lessons"]))
@click.argument("file", type=FILE)
@click.option("--map", "mapping_file", type=FILE, help="Mapping of the file's columns (YAML).")
@click.option("--platform", help="Platform of every row that names none.")
def ingest(kind: "Kind", file: Path, mapping_file: Path | None, platform: str | None) -> None:
    """Read FILE (CSV or JSONL) into the database. The same file twice changes nothing."""
    from everreach_assets.domain.mapping_files import load_mapping
    from resources.intake import ingest_file

    mapping = load_mapping(mapping_file) if mapping_file else None
    with open_database(read_settings()) as database, progress_bar(file.name) as on_progress:
        report = ingest_file(database, kind, file, mapping, platform=platform, on_progress=on_progress)
    click.echo(str(report))
    if report.is_unreadable:
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--kind", type=click.Choice(["posts", "outcomes", "prospects", "lessons"]), help="Only these.")
@click.option("-n", default=20, show_default=True, type=click.IntRange(min=1), help="How many, the newest first.")
def dead_letters(kind: "Kind | None", n: int) -> None:
    """Rows that could not be taken in: file, line and reason. The rows themselves stay in the database."""
    from resources import intake

    with open_database(read_settings()) as database, database.connection() as connection:
        letters = intake.dead_letters(connection, kind, n)
    for letter in letters:
        click.echo(f"{letter.rejected_at:%Y-%m-%d %H:%M}  {letter.kind}  {letter.file}:{letter.line}  {letter.reason}")
    if not letters:
        click.echo("There are none.")
