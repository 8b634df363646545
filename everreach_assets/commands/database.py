"""`everreach migrate` and `everreach psql`: the schema, and a look inside."""

import click

from everreach_assets.commands.shared import read_settings


@click.command()
@click.option("--down", "steps", type=click.IntRange(min=1), help="Undo this many of the newest migrations.")
@click.option("--yes", is_flag=True, help="Do not ask before data are deleted.")
def migrate(steps: int | None, yes: bool) -> None:
    """Bring the database to the newest schema, or undo migrations."""
    from resources import migrations
    from resources.servers import running_servers

    if steps and not yes:
        click.confirm("Undoing a migration deletes the data in its tables. Go on?", abort=True)
    with running_servers(read_settings()) as addresses:
        url = addresses.database_url
        changed = migrations.roll_back(url, steps=steps) if steps else migrations.migrate(url)
    for name in changed:
        click.echo(f"{'Undone' if steps else 'Applied'}: {name}")
    if not changed:
        click.echo("Nothing to undo." if steps else "The schema is the newest.")


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS are psql's own, such as -c 'SELECT 1'."""
    import os
    import subprocess

    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from resources.embedded_postgres import postgres_binaries
    from resources.servers import running_servers

    with running_servers(read_settings()) as addresses:
        address = conninfo_to_dict(addresses.database_url)
        password = str(address.pop("password", ""))  # not among the arguments, which every user of the machine may see
        command = [str(postgres_binaries() / "psql"), *arguments, make_conninfo("", **address)]
        environment = os.environ | ({"PGPASSWORD": password} if password else {})
        finished = subprocess.run(command, env=environment, check=False)
    raise click.exceptions.Exit(finished.returncode)
