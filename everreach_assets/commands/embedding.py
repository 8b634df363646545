"""`everreach embedding`: the texts that a provider has no vector for."""

import click

from everreach_assets.commands.shared import open_database, read_settings
from everreach_assets.domain.collections import COLLECTIONS


@click.group()
def embedding() -> None:
    """Embedding: what a provider has no vector for."""


@embedding.command("dead-letters")
@click.option("--collection", type=click.Choice(sorted(COLLECTIONS)), help="Only these.")
@click.option("-n", default=20, show_default=True, type=click.IntRange(min=1), help="How many, the newest first.")
@click.option("--retry", is_flag=True, help="Let the next run ask for them again.")
def dead_letters(collection: str | None, n: int, retry: bool) -> None:
    """Texts that a provider refuses or answers falsely, by document. They are not sent again until they change."""
    from everreach_assets.domain.embedding_results import REASONS
    from resources import embedding_dead_letters

    with open_database(read_settings()) as database, database.connection() as connection:
        letters = embedding_dead_letters.listed(connection, collection, n)
        forgotten = embedding_dead_letters.forget(connection, collection) if retry else 0
    for each in letters:
        document = each.doc_id or f"text {each.input_sha256.hex()[:12]}"
        click.echo(
            f"{each.failed_at:%Y-%m-%d %H:%M}  {each.collection}  {document}  {each.provider}  {REASONS[each.reason]}"
        )
    if not letters:
        click.echo("There are none.")
    if retry:
        click.echo(f"The next run asks for {forgotten:,} of them again.")
