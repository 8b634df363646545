"""Stores whose documents expire, on a real Postgres, with HNSW or with a real Chroma."""

from pathlib import Path

import pytest

from resources.database import Database
from resources.hnsw_index import HnswIndex
from tests.indexes import emptied_chroma
from tests.retention_store import DAY, Store


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Store:
    return Store(database, HnswIndex(database), tmp_path / "archives")


@pytest.fixture(params=["chroma", "pgvector"])
def on_either(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Store:
    if request.param == "pgvector":
        return Store(database, HnswIndex(database), tmp_path / "archives")
    return Store(database, emptied_chroma(database, request.getfixturevalue("chroma_server")), tmp_path / "archives")


@pytest.fixture
def expired(store: Store) -> Store:
    """Ten posts with outcomes, of which four have expired, and four people, of whom three have."""
    for number in range(10):
        store.add_post(f"p{number}", 400 * DAY if number < 4 else 10 * DAY, label="hit")
    for number in range(4):
        store.add_prospect(f"z{number}", 100 * DAY if number < 3 else DAY)
    store.embed()
    return store
