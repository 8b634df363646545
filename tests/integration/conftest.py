"""What several files of this folder stand on, beside the servers of `tests/conftest.py`."""

from collections.abc import Iterator

import dagster as dg
import pytest

from everreach_assets.build import build_definitions
from resources.database import Database
from resources.settings import Settings
from tests.embedding_operations import Operations
from tests.openai_server import OpenAIServer
from tests.voyage_server import VoyageServer


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    return build_definitions()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def operations(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operations]:
    """OpenAI and Voyage answer on loopback, and nothing of this machine's environment is a setting."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    voyage = VoyageServer()
    with OpenAIServer().running() as openai, voyage.running():
        yield Operations(database, openai, voyage)
