"""What several commands need: the settings, the database while a command runs, times that are typed, which platforms
there are, the progress bar, the user's name.

What does not belong here: what one command alone needs.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everreach_assets.domain.errors import InvalidInput

if TYPE_CHECKING:
    from resources.database import Connection, Database
    from resources.settings import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Moment(click.ParamType[dt.datetime]):
    """A time with its zone."""

    name = "time"

    def convert(
        self, value: str | dt.datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        try:
            moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2026-03-01T12:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone: write it as 2026-03-01T12:00:00Z", param, ctx)
        try:
            return moment.astimezone(dt.UTC)
        except OverflowError:
            self.fail(f"{value!r} is beyond the years that there are", param, ctx)


def read_settings() -> "Settings":
    """The settings.

    Raises:
        InvalidInput: a variable has a wrong value. The message does not repeat it: it may be a secret.
    """
    from pydantic import ValidationError

    from resources.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors())
        raise InvalidInput(f"{problems}. Correct the environment or the file .env (see .env.example)") from None


@contextlib.contextmanager
def open_database(settings: "Settings") -> "Iterator[Database]":
    """The database, which is started where it does not run, and stopped again if it was started here."""
    from resources.database import Database
    from resources.servers import running_servers

    with running_servers(settings) as addresses, Database(addresses.database_url) as database:
        yield database


def refuse_unknown_platform(connection: "Connection", platform: str) -> None:
    """Check that there are posts of the platform.

    Raises:
        InvalidInput: there are none, and the message names the platforms that have some; or it is no platform's name.
    """
    from everreach_assets.domain.posts import check_platform
    from resources import outcomes

    check_platform(platform)
    known = outcomes.platforms(connection)
    if platform not in known:
        raise InvalidInput(f"there are no posts of {platform!r}; platforms with posts: {', '.join(known) or 'none'}")


def user() -> str:
    """The name of the user whose process this is."""
    import os
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that takes bytes read and bytes in all; it is drawn on a terminal only, and not in a log file."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
