"""`everreach strategy`: the strategies in force, those before them and those that were held, and scoring by them."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.shared import Moment, open_database, read_settings, refuse_unknown_platform, user
from everreach_assets.domain.errors import InvalidInput, NotFound, Refused
from everreach_assets.domain.printing import printable_line

if TYPE_CHECKING:
    from resources.database import Connection
    from resources.settings import Settings
    from resources.strategies import StoredStrategy
    from resources.strategy_history import HistoryEntry


CITED_CHARACTERS = 100
"""Of a cited post's text: enough to know it again."""


def _name(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The name itself, if it is one that may be stored and shown."""
    from everreach_assets.domain.posts import tag_fault

    if value and (fault := tag_fault(value)):
        raise InvalidInput(f"{param.opts[0]} {fault}")
    return value


@click.group()
def strategy() -> None:
    """The strategies in force, their history, and scores of drafts."""


@strategy.command()
@click.argument("platform")
@click.option("--as-of", "moment", type=Moment(), help="What was in force then, such as 2026-03-01T12:00:00Z.")
@click.option("--held", is_flag=True, help="The last one that the gate held back, instead.")
@click.option("--json", "as_json", is_flag=True, help="The whole of it, as docs/strategy.schema.json describes it.")
def show(platform: str, moment: dt.datetime | None, held: bool, as_json: bool) -> None:
    """The strategy in force on PLATFORM: its claims, the posts that each rests on, its backtest."""
    from everreach_assets.drafts import in_force
    from resources import strategy_history

    if held and moment:
        raise click.UsageError("--held and --as-of exclude each other: what is held was never in force")
    settings = read_settings()
    with open_database(settings) as database, database.connection() as connection:
        if held:
            stored = strategy_history.latest_held(connection, platform)
            if stored is None:
                raise NotFound(f"no strategy of {platform!r} was held: 'everreach strategy list' shows those there are")
        elif moment:
            stored = strategy_history.in_force_at(connection, platform, moment)
        else:
            stored = in_force(connection, platform)
        cited = "" if as_json else _cited(stored, connection, settings)
    if as_json:
        if stored.content is None:
            raise NotFound(f"strategy {stored.strategy_id} was built by an earlier version: see it without --json")
        click.echo(stored.content.model_dump_json(indent=2))
        return
    click.echo(
        f"Strategy {stored.strategy_id} of {platform}, {stored.status}, knows what was labelled until "
        f"{_time(stored.created_at)}: {stored.outcomes:,} outcomes"
    )
    click.echo(f"{stored.summary}\n{_wording(stored)}{cited}".rstrip())


@strategy.command(name="list")
@click.argument("platform", required=False)
def list_strategies(platform: str | None) -> None:
    """What was in force when on PLATFORM, or on each, and what was held, with the reason. Oldest first."""
    from resources import strategy_history

    with open_database(read_settings()) as database, database.connection() as connection:
        entries = strategy_history.history(connection, platform)
        if platform is not None and not entries:
            refuse_unknown_platform(connection, platform)
    widest = max((len(_state(each)) for each in entries), default=0)
    for each in entries:
        click.echo(
            f"{each.strategy_id:>5}  {each.platform:<10}  {_state(each):<{widest}}  "
            f"{each.outcomes:,} outcomes, {each.new_outcomes:,} new: {each.reason or 'built before there was a gate'}"
        )
    if not entries:
        click.echo(f"There are no strategies{f' of {platform}' if platform else ''} yet.")


@strategy.command()
@click.argument("platform")
@click.argument("old", type=int, required=False)
@click.argument("new", type=int, required=False)
def diff(platform: str, old: int | None, new: int | None) -> None:
    """What strategy NEW of PLATFORM says otherwise than OLD. Without numbers: the one in force, and the one before."""
    from everreach_assets.domain.strategy_changes import changes_between
    from everreach_assets.drafts import in_force
    from everreach_assets.reports import change_list
    from resources import strategy_history

    with open_database(read_settings()) as database, database.connection() as connection:
        later = (
            in_force(connection, platform)
            if new is None
            else strategy_history.strategy_numbered(connection, platform, new)
        )
        earlier = (
            strategy_history.before(connection, later)
            if old is None
            else strategy_history.strategy_numbered(connection, platform, old)
        )
    if earlier is None:
        raise NotFound(f"strategy {later.strategy_id} is the first of {platform}: there is none to compare it with")
    for each in (earlier, later):
        if each.content is None:
            raise NotFound(f"strategy {each.strategy_id} was built by an earlier version, and cannot be compared")
    assert earlier.content is not None and later.content is not None  # noqa: PT018, S101 - for the type checker
    click.echo(f"From strategy {earlier.strategy_id} to {later.strategy_id} of {platform}:")
    click.echo(change_list(changes_between(earlier.content.claims, later.content.claims)))


@strategy.command()
@click.argument("platform")
@click.option("--to", "target", type=int, metavar="ID", help="Number of a strategy that was in force; see 'list'.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--by", callback=_name, help="Who decides it; without it, the user of this machine.")
def rollback(platform: str, target: int | None, yes: bool, by: str | None) -> None:
    """Put an earlier strategy of PLATFORM in force again; without --to, the one made last before that in force.

    The next rebuild is compared with it. What the other had consumed stays consumed.
    """
    from everreach_assets.drafts import in_force
    from resources import strategy_history

    with open_database(read_settings()) as database:
        with database.connection() as connection:
            current = in_force(connection, platform)
            earlier = (
                strategy_history.before(connection, current)
                if target is None
                else strategy_history.strategy_numbered(connection, platform, target)
            )
        if earlier is None:
            raise NotFound(f"strategy {current.strategy_id} is the first of {platform}: there is none to go back to")
        if not yes:
            click.confirm(
                f"Put strategy {earlier.strategy_id} of {platform} ({_time(earlier.created_at)}) in force, in place of "
                f"{current.strategy_id} ({_time(current.created_at)})?",
                abort=True,
            )
        with database.transaction() as connection:
            strategy_history.roll_back(
                connection,
                platform,
                old=current.strategy_id,
                new=earlier.strategy_id,
                decided_by=by or user(),
            )
    click.echo(f"Strategy {earlier.strategy_id} of {platform} is in force again.")


@strategy.command()
@click.argument("platform")
@click.argument("text")
@click.option("--account", required=True, help="Who will publish it.")
@click.option("--type", "post_type", default="", help="Such as video or carousel; without it, open.")
@click.option(
    "--when", type=Moment(), help="When it will be published, such as 2026-03-02T16:00:00Z; without it, open."
)
@click.option("--json", "as_json", is_flag=True, help="As the service answers it.")
def score(platform: str, text: str, account: str, post_type: str, when: dt.datetime | None, as_json: bool) -> None:
    """What the draft TEXT may be expected to get on PLATFORM, and why.

    TEXT - is read from the standard input. A text that begins with a hyphen follows after --, as the last argument.
    """
    from everreach_assets.domain.posts import check_draft

    if not account:
        raise InvalidInput("--account is empty: name who will publish the draft; one without posts is taken too")
    if text == "-":
        with click.open_file("-", errors="replace") as standard_input:
            text = standard_input.read().rstrip("\n")
    check_draft(text, platform, account, when, post_type)
    from everreach_assets.drafts import DraftScorer  # only now: the model takes seconds to import
    from everreach_assets.memory import open_memory
    from everreach_assets.reports import draft_report

    with open_memory(read_settings()) as memory:
        scorer = DraftScorer(memory.database, memory.embedder, memory.vector_db)
        scored = scorer.score(text, platform, account, when, post_type)
    if as_json:
        click.echo(scored.score.model_dump_json(indent=2))
        return
    assert scored.strategy.content is not None  # noqa: S101 - one without content scores nothing
    click.echo(draft_report(scored.score, scored.strategy.content))
    click.echo(f"By strategy {scored.strategy.strategy_id} of {platform}.")


def _wording(stored: "StoredStrategy") -> str:
    sentences = stored.content.wording if stored.content else {}
    if not sentences:
        return ""
    return "\nIn other words, by a language model:\n" + "\n".join(f"- {each}" for each in sentences.values())


def _cited(stored: "StoredStrategy", connection: "Connection", settings: "Settings") -> str:
    """The posts that the claims rest on, each with its address, where one is known, and the beginning of its text."""
    from everreach_assets.domain.scrubbing import Scrubber
    from resources import posts, prospects
    from resources.name_model import open_name_model

    claims = stored.content.claims if stored.content else []
    doc_ids = sorted({doc_id for each in claims for doc_id in (*each.exemplars, *each.counter_exemplars)})
    if not doc_ids:
        return ""
    scrubber = Scrubber(prospects.names(connection), name_model=open_name_model(settings))
    addresses, texts = posts.addresses(connection, doc_ids), posts.texts(connection, doc_ids)

    def scrubbed(text: str) -> str:
        try:
            return printable_line(scrubber.scrub(text).text)
        except Refused:
            return "(left out: the scrubber refuses it)"

    def shown(doc_id: str) -> str:
        parts = scrubbed(addresses.get(doc_id, "")), scrubbed(texts.get(doc_id, ""))[:CITED_CHARACTERS]
        return "  ".join(filter(None, parts)) or "no text"

    return "\n\nThe posts that are cited:\n" + "\n".join(f"- {doc_id}  {shown(doc_id)}" for doc_id in doc_ids)


def _state(entry: "HistoryEntry") -> str:
    if entry.since is None:
        return f"held on {_time(entry.created_at)}"
    until = f"until {_time(entry.until)}" if entry.until else "in force"
    again = f", again by {printable_line(entry.decided_by)}" if entry.decided_by else ""
    return f"{_time(entry.since)} {until}{again}"


def _time(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
