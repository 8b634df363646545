"""`everreach up`, `down`, `serve`, `monitoring`, `clean-data`: the processes of this machine."""

import click

from everreach_assets.commands.shared import read_settings


@click.command()
def up() -> None:
    """Run the servers, the Dagster UI, sensors and schedules until Ctrl-C."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.up(read_settings()))


@click.command()
def down() -> None:
    """Stop what 'everreach up' started, also after it was killed."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.down(read_settings()))


@click.command()
def monitoring() -> None:
    """Run Prometheus and Alertmanager beside 'everreach up' until Ctrl-C, where they are installed."""
    from everreach_assets import monitoring as command

    raise click.exceptions.Exit(command.run(read_settings()))


@click.command()
def serve() -> None:
    """Run the service alone: /metrics and the API. 'everreach up' runs it beside the rest."""
    from everreach_assets.service import server

    server.serve(read_settings())


@click.command()
def clean_data() -> None:
    """Stop what runs and delete the data folder (EVERREACH_HOME), for good."""
    from everreach_assets import supervisor

    raise click.exceptions.Exit(supervisor.clean_data(read_settings()))
