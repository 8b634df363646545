"""What `everreach up` says of where things are; what it does is in `tests/e2e/test_up.py`."""

import pytest

from everreach_assets.supervisor import places_of
from resources.addresses import Addresses
from resources.settings import Settings


def test_of_servers_of_ones_own_the_address_is_said_and_no_password() -> None:
    settings = Settings(_env_file=None, vector_backend="pgvector")
    url = "postgresql://me:hunter2@10.1.2.3:5433/everreach"
    said = places_of(settings, Addresses(url, url, None, 8000), []).splitlines()
    assert "  database    Postgres at 10.1.2.3:5433/everreach; 'everreach psql' opens it" in said
    assert "  index       pgvector, in the database" in said
    assert "  logs        Dagster's and the service's are here" in said
    assert "hunter2" not in str(said)


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("10.1.2.3", "10.1.2.3:8001"),
        ("http://me:hunter2@10.1.2.3", "10.1.2.3:8001"),
        ("http://me:hunter2@10.1.2.3:9000", "10.1.2.3:9000"),
        ("fd00::7", "[fd00::7]:8001"),
        ("http://[fd00::7]:9000", "[fd00::7]:9000"),
    ],
)
def test_of_a_chroma_of_ones_own_the_address_is_said_and_no_password(host: str, place: str) -> None:
    settings = Settings(_env_file=None, vector_backend="chroma", chroma_host=host)
    said = places_of(settings, Addresses("postgresql:///x", "postgresql:///x", settings.chroma_host, 8001), [])
    assert f"  index       Chroma at {place}" in said.splitlines()
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "localhost"), ("127.0.0.1", "localhost"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")],  # noqa: S104
)
def test_the_service_is_said_to_be_where_it_listens(host: str, shown: str) -> None:
    settings = Settings(_env_file=None, everreach_service_host=host)
    said = places_of(settings, Addresses("postgresql:///x", "postgresql:///x", "127.0.0.1", 8000), []).splitlines()
    assert f"  metrics     http://{shown}:9090/metrics" in said
