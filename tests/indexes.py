"""An index of either backend on the servers that the tests share, with nothing in it."""

from resources.chroma_index import ChromaIndex
from resources.database import Database
from resources.hnsw_index import HnswIndex


def emptied_chroma(database: Database, server: tuple[str, int]) -> ChromaIndex:
    """An index on the Chroma server, wiped of what another test left there."""
    index = ChromaIndex(database, *server)
    for each in index._client.list_collections():
        index._client.delete_collection(each.name)
    return index


def emptied_index(backend: str, database: Database, chroma_server: tuple[str, int]) -> ChromaIndex | HnswIndex:
    """The index of the backend; that of pgvector is as empty as the database."""
    return emptied_chroma(database, chroma_server) if backend == "chroma" else HnswIndex(database)
