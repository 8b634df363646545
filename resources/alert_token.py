"""The token that Alertmanager shows to the relay: the setting's, else one of our own making in the data folder.

What does not belong here: checking it (`everreach_assets/service/relay.py`).
"""

import contextlib
import os
import secrets
from pathlib import Path

from everreach_assets.domain.errors import Unavailable
from resources.settings import Settings


def token_file(settings: Settings) -> Path:
    """Where Alertmanager reads it (`credentials_file`)."""
    return settings.home / "alert-token"


def alert_token(settings: Settings) -> str | None:
    """The token in force; None where none is set and none was made."""
    if settings.everreach_alert_token is not None:
        return settings.everreach_alert_token.get_secret_value()
    try:
        return token_file(settings).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def keep_alert_token(settings: Settings) -> Path:
    """Make the file hold the token in force, readable by its owner alone; one is made where there is none.

    Raises:
        Unavailable: the file cannot be written.
    """
    path = token_file(settings)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.everreach_alert_token is not None:
            _write(path, settings.everreach_alert_token.get_secret_value(), replaces=True)
        elif alert_token(settings) is None:
            _write(path, secrets.token_urlsafe(32), replaces=path.exists())  # an empty file opens no door
        path.chmod(0o600)
    except OSError as error:
        raise Unavailable(f"the alert token {path} cannot be kept ({error}): check the folder's permissions") from error
    return path


def _write(path: Path, token: str, *, replaces: bool) -> None:
    """Write it whole. Without `replaces` the first of two who write at once wins, and both end with one token."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{token}\n")
    try:
        if replaces:
            unfinished.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
