"""`everreach retention hold`: what must be kept whatever its age."""

import click

from everreach_assets.commands.shared import open_database, read_settings, user
from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.errors import InvalidInput


@click.group()
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
    from resources.retention import holds, purges

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
    with open_database(read_settings()) as database, database.connection() as connection:
        number = holds.place(connection, scope, reason=reason, placed_by=by or user(), **named)
        is_late = scope == "document" and purges.is_purged(connection, subject or "")
    click.echo(f"Hold {number} is in force.")
    if is_late:
        click.echo(f"{subject} was purged before: 'everreach retention restore ARCHIVE --id {subject}' brings it back.")


@hold.command(name="list")
def list_holds() -> None:
    """The holds in force."""
    from resources.retention import holds

    with open_database(read_settings()) as database, database.connection() as connection:
        found = holds.in_force(connection)
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
    from resources.retention import holds

    with open_database(read_settings()) as database, database.connection() as connection:
        lifted = holds.lift(connection, hold_ids, by or user())
    click.echo(f"{lifted} of {len(hold_ids)} lifted.")
    if lifted < len(hold_ids):
        raise InvalidInput("the others are not in force; 'everreach retention hold list' shows those that are")
