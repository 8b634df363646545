"""`everreach embedding`: costs, quota and cache of the providers, and the texts that they have no vector for."""

import click

from everreach_assets.commands.embedding_spaces import SPACE_COMMANDS
from everreach_assets.commands.shared import open_database, read_settings
from everreach_assets.domain.collections import COLLECTIONS


@click.group()
def embedding() -> None:
    """The embedding providers: costs, quota, cache, texts without a vector; spaces, healing, changing the model."""


@embedding.command()
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 36_500), help="So many, with today's.")
def costs(days: int) -> None:
    """What calls cost by UTC day, run, asset, provider and model."""
    from everreach_assets.reports import cost_table
    from resources import provider_calls

    with open_database(read_settings()) as database, database.connection() as connection:
        rows = provider_calls.costs(connection, days)
    click.echo(cost_table(rows))


@embedding.command()
def quota() -> None:
    """How much of today's quota of provider calls is used."""
    from everreach_assets.domain.metric_catalogue import VALUE_SETS
    from resources.embedding_quota import open_quota

    settings = read_settings()
    with open_database(settings) as database:
        opened = open_quota(settings, database)
        states = {provider: opened.state(provider) for provider in VALUE_SETS["provider"]}
    for provider, state in states.items():
        if state.daily_quota is None:
            click.echo(f"{provider}: {state.current_count:,} calls today, without a limit")
            continue
        click.echo(
            f"{provider}: {state.current_count:,} of {state.daily_quota:,} calls used, {state.remaining:,} remain "
            f"until {state.reset_at:%Y-%m-%d %H:%M} UTC"
        )


@embedding.command()
@click.option("--clear", "is_clear", is_flag=True, help="Remove every entry; texts are then paid for again.")
def cache(is_clear: bool) -> None:
    """What the cache of vectors holds, and how often it helped."""
    import contextlib

    from resources.embedding_cache import open_cache

    settings = read_settings()
    with open_database(settings) as database, contextlib.closing(open_cache(settings, database)) as opened:
        if is_clear:
            click.echo(f"{opened.clear():,} entries removed.")
        stats = opened.stats()
    ratio = "nothing was asked for yet" if stats.hit_ratio is None else f"{stats.hit_ratio:.1%} of what was asked for"
    oldest = f", the oldest of {stats.oldest_at:%Y-%m-%d %H:%M} UTC" if stats.oldest_at else ""
    click.echo(
        f"{stats.backend}: {stats.entries:,} of {stats.max_entries:,} entries, {stats.bytes / 1e6:,.1f} MB{oldest}\n"
        f"kept for {stats.ttl_seconds / 86_400:,.1f} days; {stats.hits:,} hits, {stats.misses:,} misses: {ratio}"
    )
    if stats.pending_erasures:
        click.echo(f"{stats.pending_erasures:,} erased texts wait until the cache answers.")


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


for command in SPACE_COMMANDS:
    embedding.add_command(command)
