"""`everreach grafana`: the dashboards, brought to a server."""

from pathlib import Path

import click

from everreach_assets.commands.shared import FILE, read_settings
from everreach_assets.domain.errors import InvalidInput


@click.group()
def grafana() -> None:
    """The dashboards of grafana/ in a Grafana server."""


@grafana.command(name="import")
@click.argument("files", nargs=-1, type=FILE)
@click.option("--folder", "folder_uid", help="Uid of the folder there; without it, the top.")
def import_dashboards(files: tuple[Path, ...], folder_uid: str | None) -> None:
    """Bring FILES, or every dashboard of grafana/, to the server that GRAFANA_URL names."""
    from resources.grafana import Grafana, read_dashboard
    from resources.settings import PROJECT_FOLDER

    paths = files or tuple(sorted((PROJECT_FOLDER / "grafana").glob("*.json")))
    if not paths:
        raise InvalidInput(f"there is no dashboard in {PROJECT_FOLDER / 'grafana'}: name a file")
    dashboards = [read_dashboard(path) for path in paths]
    with Grafana.from_settings(read_settings()) as server:
        for dashboard in dashboards:
            click.echo(f"{dashboard['title']}: {server.import_dashboard(dashboard, folder_uid=folder_uid)}")
