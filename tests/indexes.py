"""An index of either backend on the servers that the tests share, with nothing in it; and whose vectors one holds."""

from collections.abc import Iterator, Mapping

import numpy as np

from everreach_assets.domain.vectors import Vector
from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.vector_index import VectorIndex


def emptied_chroma(database: Database, server: tuple[str, int]) -> ChromaIndex:
    """An index on the Chroma server, wiped of what another test left there."""
    index = ChromaIndex(database, *server)
    for each in index._client.list_collections():
        index._client.delete_collection(each.name)
    return index


def emptied_index(backend: str, database: Database, chroma_server: tuple[str, int]) -> ChromaIndex | HnswIndex:
    """The index of the backend; that of pgvector is as empty as the database."""
    return emptied_chroma(database, chroma_server) if backend == "chroma" else HnswIndex(database)


def assert_of_own_models(database: Database, index: VectorIndex, own: Mapping[str, Vector]) -> None:
    """Every vector, in Postgres, aside and in Chroma, is one that the model of its space makes.

    Args:
        own: by space id the vectors that its model makes, of every text that there was: shape (texts, components).
    """
    for space_id, vector in (*_in_postgres(database), *(_in_chroma(index) if isinstance(index, ChromaIndex) else ())):
        assert np.isclose(own[space_id] @ vector, 1.0, atol=1e-5).any(), space_id


def _in_postgres(database: Database) -> list[tuple[str, Vector]]:
    with database.connection() as connection:
        rows = connection.execute(
            "SELECT space_id, embedding FROM vector_embeddings UNION ALL SELECT space_id, embedding FROM vectors_aside"
        ).fetchall()
    return [(str(space_id), embedding.to_numpy()) for space_id, embedding in rows]


def _in_chroma(index: ChromaIndex) -> Iterator[tuple[str, Vector]]:
    for each in index._client.list_collections():
        handle = index._client.get_collection(each.name, embedding_function=None)
        held = handle.get(include=["embeddings"])["embeddings"]
        assert held is not None
        yield from ((str((each.metadata or {})["space_id"]), np.asarray(vector)) for vector in held)
