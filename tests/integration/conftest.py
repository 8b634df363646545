"""What several files of this folder stand on, beside the servers of `tests/conftest.py`."""

from collections.abc import Iterator

import dagster as dg
import pytest

from everreach_assets.build import build_definitions


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    return build_definitions()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened
