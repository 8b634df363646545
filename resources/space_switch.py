"""Putting another space in force, in one step: the index first, then one transaction, then what may lag.

    index of the new space complete  ──►  one transaction: vectors, ledger, space in force  ──►  name, deliveries

A search finds the old vectors until the transaction commits and the new ones from then on; killed anywhere, the next
call does the rest. What does not belong here: filling the new space (`everreach_assets/migration.py`).
"""

import contextlib

from everreach_assets.domain.spaces import Space, sharing
from resources import documents, spaces, vector_store, vectors_aside
from resources.database import Connection, Database
from resources.vector_index import VectorIndex


def switch(database: Database, index: VectorIndex, collection: str, new: Space, *, keep_days: int) -> int:
    """Put `new` in force for the collection and those that share its space; answers how many documents changed.

    A document that has no vector in `new` keeps its old one, and waits to be healed.

    Args:
        keep_days: how long the vectors of the space before are kept, to be switched back to.

    Raises:
        Unavailable: the database or the index did not answer. Either nothing is switched, or only deliveries are
            pending, which the next run makes up for.
    """
    names = sharing(collection)
    with contextlib.ExitStack() as stack:
        in_index = {name: index.prepare(name, new.space_id) for name in names}
        for name in names:
            with database.connection() as connection:
                incoming = vectors_aside.count(connection, name, new.space_id)
            stack.enter_context(index.loading(name, new.space_id, incoming))
        with documents.comparison(database) as connection:
            changed = 0
            before = spaces.lock(connection, collection)
            if before is not None and before.in_force != new:
                for name in names:
                    changed += vectors_aside.swap(
                        connection,
                        name,
                        old_id=before.in_force.space_id,
                        new_id=new.space_id,
                        in_index=in_index[name],
                        targets=index.targets,
                    )
                spaces.record_switch(connection, collection, new, keep_days=keep_days)
                if before.kept not in (None, new):
                    _delete_aside(connection, names, before.kept)
        for name in names:
            index.put_in_force(name, new.space_id)
    if before is not None and before.kept not in (None, new, before.in_force):
        for name in names:
            _forget_index(database, index, name, before.kept)
    return changed


def forget_aside(database: Database, index: VectorIndex, collection: str, space: Space) -> int:
    """Delete what is aside of the space, for all collections that share it, and its index; answers how many vectors."""
    names = sharing(collection)
    with database.transaction() as connection:
        spaces.lock(connection, collection)
        deleted = _delete_aside(connection, names, space)
        spaces.forget(connection, collection, space)
    for name in names:
        _forget_index(database, index, name, space)
    return deleted


def _delete_aside(connection: Connection, names: tuple[str, ...], space: Space) -> int:
    return sum(vectors_aside.delete(connection, name, space.space_id) for name in names)


def _forget_index(database: Database, index: VectorIndex, name: str, space: Space) -> None:
    """Drop the index of a space that no vector in use is of."""
    with database.connection() as connection:
        is_used = vector_store.count(connection, name, space.space_id) > 0
    if not is_used:
        index.forget(name, space.space_id)
