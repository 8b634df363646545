"""`everreach run`: the main job, from files to a strategy."""

from pathlib import Path

import click

from everreach_assets.commands.shared import FILE, read_settings


@click.command()
@click.option("--posts", type=FILE, help="A file of your own posts; without it, the synthetic sample.")
@click.option("--platform", help="Platform of every row that names none.")
@click.option("--map", "mapping_file", type=FILE, help="Mapping of the file's columns (YAML).")
@click.option("--query", default="how to get more people to answer a post", show_default=True)
def run(posts: Path | None, platform: str | None, mapping_file: Path | None, query: str) -> None:
    """Read posts and outcomes, materialise every asset, print what came out."""
    from everreach_assets import main_job

    main_job.run(read_settings(), posts=posts, platform=platform, mapping_file=mapping_file, query=query)
