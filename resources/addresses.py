"""Where the servers and Dagster's folder are, and how a child process is told.

What does not belong here: starting them (`resources/servers.py`).
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from resources.server_files import explained, make_folder, write_whole
from resources.settings import PROJECT_FOLDER, Settings


@dataclass(frozen=True)
class Addresses:
    """Where the servers are. The database addresses may carry a password: they are left out of the repr."""

    database_url: str = field(repr=False)
    dagster_database_url: str = field(repr=False)
    chroma_host: str | None
    chroma_port: int

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with these addresses in them, as a child process would read them."""
        return settings.model_copy(
            update={
                "everreach_database_url": SecretStr(self.database_url),
                "everreach_dagster_database_url": SecretStr(self.dagster_database_url),
                "chroma_host": self.chroma_host,
                "chroma_port": self.chroma_port,
            }
        )


def child_environment(settings: Settings, addresses: Addresses) -> dict[str, str]:
    """The variables with which a child process finds these servers and these settings, whatever its folder."""
    values = addresses.applied_to(settings).model_dump() | {
        "everreach_home": settings.home,
        "retention_policy_file": settings.policy_file,
        "label_rules_file": settings.rules_file,
        "dagster_home": dagster_home(settings),
    }
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }


def dagster_home(settings: Settings) -> Path:
    """The folder of Dagster's configuration, logs and artifacts."""
    return settings.home / "dagster"


def prepare_dagster_home(settings: Settings) -> Path:
    """Put the project's dagster.yaml where Dagster reads it; answers that folder (DAGSTER_HOME).

    Raises:
        Unavailable: the folder cannot be written.
    """
    folder = dagster_home(settings)
    with explained(settings.home):
        make_folder(settings.home)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(folder / "dagster.yaml", (PROJECT_FOLDER / "dagster.yaml").read_text(encoding="utf-8"))
    return folder
