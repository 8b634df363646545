"""`everreach metrics`: what is counted."""

import click

from everreach_assets.commands.shared import open_database, read_settings
from everreach_assets.domain.errors import InvalidInput


@click.group()
def metrics() -> None:
    """What is counted: record, look, allow values of labels."""


@metrics.command("record")
@click.argument("metric")
@click.argument("value", type=float)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Once for each label of the metric.")
@click.option("--record-id", help="Names this recording: the same again adds nothing.")
def metrics_record(metric: str, value: float, labels: tuple[str, ...], record_id: str | None) -> None:
    """Add VALUE to a counter, set a gauge, or observe it in a histogram."""
    from resources.metric_records import Record, record_from_outside

    pairs = [label.partition("=") for label in labels]
    if unnamed := [name for name, equals, _ in pairs if not (name and equals)]:
        raise InvalidInput(f"--label {unnamed[0]}: write NAME=VALUE, such as platform=linkedin")
    record = Record(metric, value, {name: given for name, _, given in pairs})
    with open_database(read_settings()) as database, database.connection() as connection:
        is_new = record_from_outside(connection, [record], record_id=record_id)
    click.echo("Recorded." if is_new else f"{record_id} was recorded before; nothing was added.")


@metrics.command("allow")
@click.argument("value_set", metavar="SET")
@click.argument("value")
def metrics_allow(value_set: str, value: str) -> None:
    """Let VALUE be a label's value of its own, and not 'other', wherever SET is meant."""
    from resources.metric_records import allow_value

    with open_database(read_settings()) as database, database.connection() as connection:
        is_new = allow_value(connection, value_set, value)
    click.echo(f"{value_set} now holds {value}." if is_new else f"{value_set} held {value} already.")


@metrics.command("show")
@click.argument("prefix", default="")
@click.option("--all", "with_zeros", is_flag=True, help="The counters that are still 0, too.")
def metrics_show(prefix: str, with_zeros: bool) -> None:
    """What is recorded now, of the metrics whose names start with PREFIX."""
    from resources.metric_records import Buckets, stored

    with open_database(read_settings()) as database, database.connection() as connection:
        samples = [each for each in stored(connection) if each.metric.startswith(prefix)]
    shown = [each for each in samples if each.value or with_zeros]
    for each in shown:
        labels = ",".join(f'{name}="{value}"' for name, value in each.labels.items())
        value = (
            f"{sum(each.value.counts):,.0f} observations, sum {each.value.sum:,.6g}"
            if isinstance(each.value, Buckets)
            else f"{each.value:,.6g}"
        )
        click.echo(f"{each.metric}{{{labels}}}  {value}" if labels else f"{each.metric}  {value}")
    if not shown:
        click.echo("Nothing is recorded yet." if not samples else "All are 0; --all shows them.")
