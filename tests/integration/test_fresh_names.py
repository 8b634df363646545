"""The names that a long-lived process scrubs: those that are committed, and not for ever those that were."""

import psycopg

from resources.database import Database
from resources.prospects import RELOAD_SECONDS, FreshNames


class Known:
    """Learns names as the embedder does, and counts how often it is told."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.times = 0

    def know(self, names: list[str], *, only: bool = False) -> None:
        self.names = set(names) | (set() if only else self.names)
        self.times += 1


def test_new_names_are_learned_once_and_erased_ones_are_forgotten(database: Database) -> None:
    seconds = 1_000.0
    known = Known()
    names = FreshNames(database, known, clock=lambda: seconds)

    def change(statement: str) -> set[str]:
        with database.connection() as connection:
            connection.execute(statement.encode())
        names.refresh()
        return known.names

    insert = "INSERT INTO prospects (prospect_id, name, text_sha256) VALUES"
    assert change(f"{insert} ('p1', 'Ann', ''), ('p2', ' ', '')") == {"Ann"}
    assert change(f"{insert} ('p3', 'Bob', '')") == {"Ann", "Bob"}
    times = known.times
    assert change("UPDATE prospects SET notes = 'other'") == {"Ann", "Bob"}
    assert known.times == times  # no name was written
    assert change("UPDATE prospects SET name = 'Cid' WHERE prospect_id = 'p3'") == {"Ann", "Bob", "Cid"}
    assert change("DELETE FROM prospects WHERE prospect_id = 'p1'") == {"Ann", "Bob", "Cid"}
    seconds += RELOAD_SECONDS + 1
    assert change("SELECT 1") == {"Cid"}


def test_a_name_is_learned_whichever_transaction_ends_first(database: Database) -> None:
    known = Known()
    names = FreshNames(database, known)
    insert = "INSERT INTO prospects (prospect_id, name, text_sha256) VALUES (%s, %s, '')"
    with psycopg.connect(database.url) as early, psycopg.connect(database.url, autocommit=True) as late:
        early.execute(insert, ("p1", "Ann"))
        late.execute(insert, ("p2", "Bob"))
        names.refresh()
        assert known.names == {"Bob"}
        late.execute(insert, ("p3", "Cid"))
        names.refresh()
        assert known.names == {"Bob", "Cid"}
        early.commit()
        names.refresh()
        assert known.names == {"Ann", "Bob", "Cid"}
