"""`everreach pii`: what the scrubber takes out of the texts of a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from everreach_assets.commands.shared import FILE, open_database, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from everreach_assets.domain.pii_scores import LabelledText, Outcome
    from everreach_assets.domain.scrubbing import Scrubber
    from resources.labelled_files import Shape

SHAPES = ("spans", "presidio", "conll", "posts")


@click.group()
def pii() -> None:
    """Personal data in texts: what is scrubbed before anything is embedded."""


@pii.command()
@click.argument("file", type=FILE)
@click.option("--shape", type=click.Choice(SHAPES), help="Of FILE; without it, what its name says (docs/privacy.md).")
@click.option("--text", "text_column", default="text", show_default=True, help="Column of the texts of posts.")
@click.option("--encoding", default="utf-8-sig", show_default=True, help="Of FILE.")
@click.option("--prospects", is_flag=True, help="Scrub as texts of prospects: handles and profile links go, too.")
@click.option("--known-people", is_flag=True, help="Take out the names of the prospects in the database, too.")
@click.option(
    "--show-personal-data", type=click.IntRange(min=1), metavar="N", help="Print the first N spans that would go."
)
def report(
    file: Path,
    shape: "Shape | None",
    text_column: str,
    encoding: str,
    prospects: bool,
    known_people: bool,
    show_personal_data: int | None,
) -> None:
    """What would be taken out of the texts in FILE, by kind; with labels, how much of it should be. Writes nothing."""
    import itertools
    import time

    from everreach_assets.domain.pii_scores import measure
    from resources.labelled_files import read_labelled

    scrubber = _scrubber(prospects=prospects, known_people=known_people)
    texts = list(read_labelled(file, shape, text_column=text_column, encoding=encoding))
    start = time.perf_counter()
    outcome = measure(scrubber, texts)
    seconds = time.perf_counter() - start
    click.echo(f"{outcome.texts:,} texts, scrubber {scrubber.version}, {outcome.texts / seconds:,.0f} a second")
    _print_outcome(outcome)
    if show_personal_data:
        for kind, span in itertools.islice(_removed(scrubber, texts), show_personal_data):
            click.echo(f"{kind}: {span!r}")


def _scrubber(*, prospects: bool, known_people: bool) -> "Scrubber":
    from everreach_assets.domain.scrubbing import Scrubber
    from resources.name_model import open_name_model
    from resources.prospects import names

    settings = read_settings()
    known: list[str] = []
    if known_people:
        with open_database(settings) as database, database.connection() as connection:
            known = names(connection)
    return Scrubber(known, handles_are_personal=prospects, name_model=open_name_model(settings))


def _removed(scrubber: "Scrubber", texts: "list[LabelledText]") -> "Iterator[tuple[str, str]]":
    from everreach_assets.domain.errors import Refused

    for each in texts:
        try:
            removals = scrubber.removals(each.text)
        except Refused:
            continue
        yield from ((kind, each.text[start:end]) for start, end, kind in removals)


def _print_outcome(outcome: "Outcome") -> None:
    share = outcome.altered / outcome.texts if outcome.texts else 0.0
    click.echo(f"altered: {outcome.altered:,} ({share:.2%}); refused, and never embedded: {outcome.refused:,}")
    for kind, spans in sorted(outcome.spans.items()):
        click.echo(f"{kind}: {spans:,} spans in {outcome.texts_with[kind]:,} texts")
    for kind, score in sorted(outcome.scores.items()):
        if score.labelled or score.removed:
            click.echo(
                f"{kind} against {score.labelled:,} labels: recall {score.recall:.3f}, "
                f"precision {score.precision:.3f}, {score.partial} partly left, {score.wrong} wrong"
            )
