"""`everreach strategy`: the strategies in force."""

import click

from everreach_assets.commands.shared import open_database, read_settings
from everreach_assets.domain.errors import InvalidInput


@click.group()
def strategy() -> None:
    """The strategies in force."""


@strategy.command()
@click.argument("platform")
def show(platform: str) -> None:
    """The strategy in force on PLATFORM, with the posts that each claim rests on."""
    from resources import outcomes, strategies

    with open_database(read_settings()) as database, database.connection() as connection:
        stored = strategies.strategy_in_force(connection, platform)
        known = outcomes.platforms(connection)
    if stored is None:
        raise InvalidInput(f"there is no strategy for {platform!r}; platforms with posts: {', '.join(known) or 'none'}")
    click.echo(
        f"Strategy {stored.strategy_id} of {platform}, built {stored.created_at:%Y-%m-%d %H:%M} UTC "
        f"from {stored.outcomes:,} outcomes"
    )
    click.echo(stored.summary)
