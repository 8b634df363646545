"""`everreach outcomes`: labels of posts, how good they are and what they were."""

import datetime as dt
import json
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.shared import Moment, open_database, progress_bar, read_settings, refuse_unknown_platform
from everreach_assets.domain.errors import InvalidInput

if TYPE_CHECKING:
    from rich.table import Table

    from everreach_assets.domain.label_report import LabelReport


@click.group()
def outcomes() -> None:
    """Labels of posts: how good they are, and what they were."""


@outcomes.command()
@click.argument("platform", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def report(platform: str | None, as_json: bool) -> None:
    """Shares of the labels over accounts, stability, and two common rules beside. Writes nothing."""
    import dataclasses

    from rich.console import Console

    from everreach_assets.classification import load_label_rules
    from everreach_assets.domain import label_report
    from resources import outcomes as rows

    settings = read_settings()
    rules = load_label_rules(settings.rules_file)
    reports = {}
    with (
        progress_bar("labelling") as show,
        open_database(settings) as database,
        database.connection() as connection,
    ):
        if platform is not None:
            refuse_unknown_platform(connection, platform)
        names = [platform] if platform else rows.platforms(connection)
        for done, name in enumerate(names):
            show(done, len(names))
            reports[name] = label_report.report(rows.observed_posts(connection, name), rules.of(name))
    if as_json:
        click.echo(json.dumps({name: dataclasses.asdict(each) for name, each in reports.items()}, indent=2))
        return
    console = Console(highlight=False)
    for name, each in reports.items():
        console.print(_table(name, each))
        console.print(
            f"  borderline {each.borderline:.1%} of the compared posts; without a fifth of the snapshots "
            f"{each.same_label:.1%} keep their label\n"
        )
    console.print(
        f"fixed threshold: {label_report.FIXED_VIEWS:,.0f} views, reach or the like, or "
        f"{label_report.FIXED_INTERACTIONS:,.0f} interactions\n"
        f"3 x median: {label_report.FIXED_MULTIPLE:.0f} times what is typical of the posts that a post is compared with"
    )


@outcomes.command()
@click.argument("platform")
@click.argument("post_id")
@click.option("--as-of", type=Moment(), help="As it was known then, such as 2026-07-01T12:00:00Z. Default: now.")
@click.option("--valid-at", type=Moment(), help="The label that held then, of what was known. Default: the latest.")
def history(platform: str, post_id: str, as_of: dt.datetime | None, valid_at: dt.datetime | None) -> None:
    """Every label that a post has had, with what it rests on, and the one that holds."""
    from resources import outcomes as rows
    from resources.strategies import now

    with open_database(read_settings()) as database, database.connection() as connection:
        for option, moment in (("--as-of", as_of), ("--valid-at", valid_at)):
            if moment is not None and moment > now(connection):
                raise InvalidInput(f"{option}: {_shown(moment)} is yet to come")
        found = rows.label_history(connection, platform, post_id, known_at=as_of)
        if not found:
            refuse_unknown_platform(connection, platform)
    if not found:
        raise InvalidInput(
            "there is no label of that post, or none was known at that time; 'everreach run' labels what was ingested"
        )
    for row in found:
        sure = "" if row.confidence is None else f", confidence {row.confidence:.2f}"
        marks = f"{', final' if row.is_final else ', provisional'}{sure}{', borderline' if row.is_borderline else ''}"
        until = f" until {_shown(row.superseded_at)}" if row.superseded_at else ""
        click.echo(
            f"{row.label}: observed {_shown(row.observed_at)}, known from {_shown(row.labelled_at)}{until} "
            f"({row.checkpoint or 'no age'}{marks}, classifier {row.classifier_version})\n    {row.reason}"
        )
    holds = rows.label_at(found, valid_at)
    click.echo(f"holds: {holds.label}" if holds else "holds: none, it was not observed yet")


def _shown(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}Z"


def _table(platform: str, figures: "LabelReport") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{platform}: {figures.compared:,} of {figures.posts:,} posts compared, "
        f"{figures.accounts:,} accounts with 20 of them",
        title_justify="left",
    )
    for name in ("", "share", "p5-p95 over accounts", "stays viral or not"):
        table.add_column(name, justify="right" if name else "left")
    for label, shares in figures.shares.items():
        spread = "" if label == "insufficient_data" or not figures.accounts else f"{shares.p5:.1%} - {shares.p95:.1%}"
        stays = f"{figures.same_viral[label]:.1%}" if label in figures.same_viral else ""
        name = "insufficient (of all)" if label == "insufficient_data" else label
        table.add_row(name, f"{shares.overall:.1%}", spread, stays)
    for rule, shares in list(figures.rules.items())[1:]:
        spread = f"{shares.p5:.1%} - {shares.p95:.1%}" if figures.accounts else ""
        table.add_row(f"viral by {rule}", f"{shares.overall:.1%}", spread, f"{figures.same_viral[rule]:.1%}")
    return table
