"""The database's clock, and what it said before: a purge trusts it only where it never jumped."""

import datetime as dt

from resources.database import Connection

READINGS_KEPT = 50


def now(connection: Connection) -> dt.datetime:
    """The time of the database, at which the transaction began."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return row[0]  # type: ignore[no-any-return]


def readings(connection: Connection) -> list[dt.datetime]:
    """What the clock said at each plan, in their order."""
    return [each for (each,) in connection.execute("SELECT read_at FROM retention_clock ORDER BY seq")]


def note(connection: Connection) -> None:
    """Write down what the clock says now."""
    connection.execute("INSERT INTO retention_clock DEFAULT VALUES")
    connection.execute(
        "DELETE FROM retention_clock WHERE seq <= (SELECT max(seq) FROM retention_clock) - %s", (READINGS_KEPT,)
    )
