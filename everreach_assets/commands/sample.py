"""`everreach sample`: the synthetic files."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def sample(folder: Path) -> None:
    """Write the synthetic sample files into FOLDER."""
    from everreach_assets.domain.sample import write_sample

    write_sample(folder)
    click.echo(f"The sample is in {folder}; read it with 'everreach ingest posts {folder}/posts.csv' and so on.")
