"""How many rows the source tables have, and whether anything in them changed."""

import datetime as dt
from dataclasses import dataclass

from psycopg import sql

from resources.database import Connection

TABLES = {
    "posts": "actp_feedback_posts",
    "outcomes": "outcome_snapshots",
    "prospects": "prospects",
    "lessons": "lessons",
}
CHANGED_AT = {"outcomes": "recorded_at"}


@dataclass(frozen=True)
class SourceState:
    """Rows of a table and the time of the last change; None while it is empty."""

    rows: int
    changed_at: dt.datetime | None

    @property
    def changed_at_text(self) -> str:
        return "never" if self.changed_at is None else f"{self.changed_at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def version(self) -> str:
        """Another one whenever a row was added, changed or removed."""
        return f"{self.rows}-{self.changed_at.isoformat() if self.changed_at else 'empty'}"


def state(connection: Connection, noun: str) -> SourceState:
    """The state of the table of `posts`, `outcomes`, `prospects` or `lessons`."""
    row = connection.execute(
        sql.SQL("SELECT count(*), max({changed_at}) FROM {table}").format(
            changed_at=sql.Identifier(CHANGED_AT.get(noun, "updated_at")), table=sql.Identifier(TABLES[noun])
        )
    ).fetchone()
    return SourceState(*row) if row else SourceState(0, None)
