"""The `everreach` command: the group, what it makes of errors, and its subcommands by name.

What does not belong here: the subcommands (`commands/`, one file per noun).
"""

from typing import Any

import click

from everreach_assets.commands import (
    database,
    embedding,
    grafana,
    index,
    ingest,
    metrics,
    outcomes,
    pii,
    processes,
    retention,
    run,
    sample,
    search,
    strategy,
    sync,
)
from everreach_assets.domain.errors import EverReachError, InvalidInput


class _WrongInput(click.ClickException):
    exit_code = click.UsageError.exit_code


class _Group(click.Group):
    """A group whose errors of ours are one message and an exit code, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            raise _WrongInput(str(error)) from error
        except EverReachError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="everreach-assets")
def main() -> None:
    """Shared memory and feedback loop of EverReach OS."""


main.add_command(ingest.ingest)
main.add_command(ingest.dead_letters)
main.add_command(run.run)
main.add_command(sample.sample)
main.add_command(search.search)
main.add_command(index.index)
main.add_command(embedding.embedding)
main.add_command(outcomes.outcomes)
main.add_command(strategy.strategy)
main.add_command(sync.sync)
main.add_command(retention.retention)
main.add_command(metrics.metrics)
main.add_command(pii.pii)
main.add_command(grafana.grafana)
main.add_command(processes.up)
main.add_command(processes.down)
main.add_command(processes.serve)
main.add_command(processes.monitoring)
main.add_command(processes.clean_data)
main.add_command(database.migrate)
main.add_command(database.psql)
