"""What is read of prospects. How they are written is `merge.py`'s."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from resources.database import Connection, Database

RELOAD_SECONDS = 600.0
"""After which all names are read anew, so that a process forgets those of people who were erased."""


def names(connection: Connection) -> list[str]:
    """The names of the people we know, to be scrubbed from every text."""
    return [name for (name,) in connection.execute("SELECT DISTINCT name FROM prospects WHERE name ~ '\\S'")]


def names_changed_since(connection: Connection, horizon: str) -> tuple[list[str], str]:
    """The names that were written by transactions which had not ended at the horizon, and the horizon of now.

    A transaction that began before the last look and ended after it is not missed, as it would be by its time.

    Args:
        horizon: as this function answered it the last time; "0" for all names.
    """
    row = connection.execute(
        "SELECT coalesce(array_agg(DISTINCT name) FILTER (WHERE name ~ '\\S'), '{}'),"
        " pg_snapshot_xmin(pg_current_snapshot())::text FROM prospects WHERE name_written_by >= %s::xid8",
        (horizon,),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row


class Learner(Protocol):
    """Who scrubs names: the embedder."""

    def know(self, names: list[str], *, only: bool = False) -> None: ...


class FreshNames:
    """Keeps a long-lived process's embedder at the names that are committed: asked before each text, it costs a look
    into an index.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, database: Database, learner: Learner, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._learner = learner
        self._clock = clock
        self._lock = threading.Lock()
        self._horizon = "0"
        self._all_read_at = 0.0
        self._recent: set[str] = set()

    def refresh(self) -> None:
        """Let the learner know every name that is committed now.

        Raises:
            Unavailable: the database does not answer; no text may be embedded then.
        """
        with self._lock:
            reads_all = self._horizon == "0" or self._clock() - self._all_read_at > RELOAD_SECONDS
            with self._database.connection() as connection:
                found, horizon = names_changed_since(connection, "0" if reads_all else self._horizon)
            # While a transaction is open, what was written since it began is found again with each look.
            if reads_all or not self._recent.issuperset(found):
                self._learner.know(found, only=reads_all)
            self._recent = set() if reads_all else set(found)
            self._horizon = horizon
            if reads_all:
                self._all_read_at = self._clock()
