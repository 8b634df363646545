"""The file of tokens that callers of the service may present.

What does not belong here: comparing them (`everreach_assets/service/auth.py`).
"""

import os
import stat
from pathlib import Path

from everreach_assets.domain.errors import Refused, Unavailable

FILE_BYTES = 65_536


def tokens_in_file(path: Path) -> list[str]:
    """The tokens of the file, one on each line; empty lines and lines that begin with # are none.

    Raises:
        Unavailable: it cannot be read.
        Refused: others may read it, or its group may change it; or it is no file of tokens. No message quotes a line.
    """
    try:
        with path.open("rb") as file:
            refuse_shared_file("EVERREACH_API_TOKENS_FILE", path, os.fstat(file.fileno()))
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"EVERREACH_API_TOKENS_FILE: {path} cannot be read ({error.strerror})") from error
    lines = [line.strip() for line in content.decode("ascii", "replace").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if len(content) > FILE_BYTES or not all(token.isascii() and len(token.split()) == 1 for token in tokens):
        raise Refused(
            f"EVERREACH_API_TOKENS_FILE: {path} is no file of tokens: one token of ASCII without blanks on each line, "
            f"{FILE_BYTES:,} bytes at most"
        )
    return tokens


def refuse_shared_file(setting: str, path: Path, status: os.stat_result) -> None:
    """Refuse a file of secrets that others may read. A group may read it: so Kubernetes hands out its secrets.

    Raises:
        Refused: it is no plain file, others have any right on it, or its group may write.
    """
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{setting}: {path} is no plain file")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise Refused(f"{setting}: others may read or change {path}: chmod 600 it, and replace what was in it")
