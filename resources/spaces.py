"""Which space is in force for a collection, which one a migration fills, which one is kept: rows of Postgres.

What does not belong here: vectors (`vector_store.py`, `vectors_aside.py`), and who embeds in a space (`embedder.py`).
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.spaces import Space, leading, sharing
from resources.database import Connection, Database

COLUMNS = "provider, model, width, version"


@dataclass(frozen=True)
class CollectionSpaces:
    """The spaces of a collection.

    Attributes:
        in_force: that searches and new vectors are in.
        target: that a migration fills, if one is under way.
        kept: the one before the last switch, which can be switched back to until `kept_until`.
    """

    in_force: Space
    target: Space | None
    kept: Space | None
    kept_until: dt.datetime | None


class SpacesInForce:
    """Answers the space in force of a collection, by its name.

    It is the recorded one for as long as there are vectors. A collection without any takes the one that the settings
    name.

    Args:
        named_by_settings: the space that the settings name for a collection.
    """

    def __init__(self, database: Database, named_by_settings: Callable[[str], Space]) -> None:
        self._database = database
        self._named_by_settings = named_by_settings

    def __call__(self, collection: str) -> Space:
        with self._database.connection() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS}, EXISTS (SELECT FROM vector_embeddings WHERE collection = ANY(%s))"  # noqa: S608
                " FROM collection_spaces JOIN embedding_spaces USING (space_id) WHERE collection = %s",
                (list(sharing(collection)), leading(collection)),
            ).fetchone()
            recorded = None if row is None else Space(*row[:-1])
            if recorded is not None and row and row[-1]:
                return recorded
            wanted = self._named_by_settings(collection)
            if wanted != recorded:
                with connection.transaction():
                    put_in_force(connection, collection, wanted)
        return wanted


def register(connection: Connection, space: Space) -> None:
    """Note what the space's id stands for; once is enough."""
    connection.execute(
        "INSERT INTO embedding_spaces (space_id, provider, model, width, version) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (space.space_id, space.provider, space.model, space.width, space.version),
    )


def of_collection(connection: Connection, collection: str) -> CollectionSpaces | None:
    """The recorded spaces of the collection; None where it never had a vector."""
    row = connection.execute(
        "SELECT space_id, target_space_id, kept_space_id, kept_until FROM collection_spaces WHERE collection = %s",
        (leading(collection),),
    ).fetchone()
    if row is None:
        return None
    known = _by_id(connection)
    return CollectionSpaces(known[row[0]], known.get(row[1]), known.get(row[2]), row[3])


def aside(connection: Connection, collection: str) -> list[str]:
    """Ids of the spaces, target and kept, of which vectors stand aside."""
    row = connection.execute(
        "SELECT array_remove(ARRAY[target_space_id, kept_space_id], NULL) FROM collection_spaces WHERE collection = %s",
        (leading(collection),),
    ).fetchone()
    return list(row[0]) if row else []


def put_in_force(connection: Connection, collection: str, space: Space) -> None:
    """Record the space as the one in force, in the caller's transaction. No vector is touched."""
    register(connection, space)
    connection.execute(
        "INSERT INTO collection_spaces AS known (collection, space_id) VALUES (%(collection)s, %(space_id)s)"
        " ON CONFLICT (collection) DO UPDATE SET space_id = excluded.space_id, in_force_since = now(),"
        " target_space_id = nullif(known.target_space_id, excluded.space_id), kept_space_id = NULL, kept_until = NULL"
        " WHERE known.space_id <> excluded.space_id",
        {"collection": leading(collection), "space_id": space.space_id},
    )


def held(connection: Connection, collection: str) -> list[Space]:
    """The spaces that the collection has vectors in, the one in force first. Aside ones do not count."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM embedding_spaces AS spaces"  # noqa: S608 - a constant
        " WHERE EXISTS (SELECT FROM vector_embeddings AS stored"
        "     WHERE stored.collection = %(collection)s AND stored.space_id = spaces.space_id)"
        " ORDER BY space_id <> coalesce((SELECT known.space_id FROM collection_spaces AS known"
        "     WHERE known.collection = %(leading)s), ''), created_at, space_id",
        {"collection": collection, "leading": leading(collection)},
    )
    return [Space(*row) for row in rows]


def rows_by_space(connection: Connection, collection: str) -> dict[Space, int]:
    """How many vectors the collection has in each space."""
    known = _by_id(connection)
    rows = connection.execute(
        "SELECT space_id, count(*) FROM vector_embeddings WHERE collection = %s GROUP BY space_id ORDER BY 2 DESC, 1",
        (collection,),
    )
    return {known[space_id]: count for space_id, count in rows}


def waiting(connection: Connection, collection: str) -> int:
    """Vectors of our texts that are in another space than the one in force, and wait to be healed."""
    row = connection.execute(
        """
        SELECT count(*) FROM embedding_spaces AS other
        JOIN vector_embeddings AS stored ON stored.collection = %s AND stored.space_id = other.space_id
        WHERE stored.text_sha256 IS NOT NULL
            AND other.space_id <> (SELECT space_id FROM collection_spaces WHERE collection = %s)
        """,
        (collection, leading(collection)),
    ).fetchone()
    return int(row[0]) if row else 0


def any_waiting(connection: Connection) -> bool:
    """Whether any vector of our texts is in another space than the one in force."""
    return any(waiting(connection, name) for name in COLLECTIONS)


def has_kept(connection: Connection, collection: str) -> bool:
    """Whether the space before the last switch is kept."""
    known = of_collection(connection, collection)
    return known is not None and known.kept is not None


def begin_migration(connection: Connection, collection: str, target: Space) -> None:
    """Record which space is to be filled; the caller has checked that it is not the one in force.

    What is kept of it counts as filled, and is no longer removed when its time has come.
    """
    register(connection, target)
    forget(connection, collection, target)
    connection.execute(
        "UPDATE collection_spaces SET target_space_id = %s WHERE collection = %s",
        (target.space_id, leading(collection)),
    )


def lock(connection: Connection, collection: str) -> CollectionSpaces | None:
    """As `of_collection`; nobody else changes them until the transaction ends."""
    connection.execute("SELECT FROM collection_spaces WHERE collection = %s FOR UPDATE", (leading(collection),))
    return of_collection(connection, collection)


def record_switch(connection: Connection, collection: str, new: Space, *, keep_days: int) -> None:
    """Record that `new` is in force now, and the space before it is kept so long."""
    connection.execute(
        "UPDATE collection_spaces SET space_id = %(new)s, in_force_since = now(), target_space_id = NULL,"
        " kept_space_id = space_id, kept_until = now() + make_interval(days => %(days)s)"
        " WHERE collection = %(collection)s",
        {"collection": leading(collection), "new": new.space_id, "days": keep_days},
    )


def forget(connection: Connection, collection: str, space: Space) -> None:
    """Record that the space is neither filled nor kept any longer."""
    connection.execute(
        "UPDATE collection_spaces SET target_space_id = nullif(target_space_id, %(space_id)s),"
        " kept_until = CASE WHEN kept_space_id = %(space_id)s THEN NULL ELSE kept_until END,"
        " kept_space_id = nullif(kept_space_id, %(space_id)s) WHERE collection = %(collection)s",
        {"collection": leading(collection), "space_id": space.space_id},
    )


def migrating(connection: Connection) -> list[str]:
    """The collections for which a second space is being filled."""
    rows = connection.execute(
        "SELECT collection FROM collection_spaces WHERE target_space_id IS NOT NULL ORDER BY collection"
    )
    return [collection for (collection,) in rows]


def expired(connection: Connection) -> list[str]:
    """The collections whose kept space may go."""
    rows = connection.execute("SELECT collection FROM collection_spaces WHERE kept_until < now() ORDER BY collection")
    return [collection for (collection,) in rows]


def _by_id(connection: Connection) -> dict[str, Space]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM embedding_spaces")  # noqa: S608 - a constant
    return {space.space_id: space for space in (Space(*row) for row in rows)}
