"""Whose a host is: what holds every row stays with the operator, and a cloud is never reached in clear text."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from everreach_assets.build import database_resource
from everreach_assets.cli import main
from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.memory import open_database
from resources.cloud_store import open_cloud
from resources.hosts import postgres_hosts, refuse_clear_text, refuse_foreign_hosts
from resources.settings import Settings

PUBLIC = "203.0.113.7"  # kept for documentation: nobody has it (RFC 5737)


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


def settings(**given: Any) -> Settings:
    if "everreach_database_url" in given:
        given["everreach_database_url"] = SecretStr(given["everreach_database_url"])
    return Settings(_env_file=None, **{"chroma_host": None, "everreach_trusted_hosts": ""} | given)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///everreach?host=/tmp/sockets",
        "postgresql:///everreach",
        "postgresql://localhost/everreach",
        "postgresql://me:secret@127.0.0.1:5433/everreach",
        "postgresql://[::1]/everreach",
        "postgresql://10.1.2.3/everreach",
        "postgresql://172.16.0.9,192.168.1.4/everreach",
        "postgresql://[fd00::1]/everreach",
        "postgresql://10.1.2.3:5432,10.1.2.4:5433/everreach",
    ],
)
def test_a_database_of_ones_own_is_taken(url: str) -> None:
    refuse_foreign_hosts(settings(everreach_database_url=url))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:secret@{PUBLIC}/everreach",
        f"postgresql://127.0.0.1,{PUBLIC}/everreach",
        f"postgresql:///everreach?host={PUBLIC}",
        f"postgresql://localhost/everreach?hostaddr={PUBLIC}",
        "postgresql://172.32.0.1/everreach",
        "postgresql://[2001:db8::1]/everreach",
        f"postgresql://[::ffff:{PUBLIC}]/everreach",
        "postgresql://no-such-host.invalid/everreach",
        f"postgresql://10.1.2.3:5432,{PUBLIC}:5433/everreach",
    ],
)
def test_a_database_on_another_host_is_refused_with_host_and_next_step(url: str) -> None:
    with pytest.raises(Refused, match=r"EVERREACH_DATABASE_URL names .*EVERREACH_TRUSTED_HOSTS") as refused:
        refuse_foreign_hosts(settings(everreach_database_url=url))
    assert "secret" not in str(refused.value)


def test_the_host_of_the_environment_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", PUBLIC)
    with pytest.raises(Refused, match=PUBLIC):
        refuse_foreign_hosts(settings(everreach_database_url="postgresql:///everreach"))


def test_an_address_that_hides_its_host_is_refused() -> None:
    with pytest.raises(InvalidInput, match="write host and port"):
        postgres_hosts("postgresql:///everreach?service=elsewhere")
    with pytest.raises(InvalidInput, match="could not be read"):
        postgres_hosts("postgresql://localhost/everreach?nonsense=secret")


@pytest.mark.parametrize(
    "host", [PUBLIC, f"https://{PUBLIC}", f"{PUBLIC}:8000", "index.invalid", "2001:db8::1", "[2001:db8::1]"]
)
def test_an_index_on_another_host_is_refused_where_it_is_used(host: str) -> None:
    with pytest.raises(Refused, match="CHROMA_HOST"):
        refuse_foreign_hosts(settings(chroma_host=host))
    refuse_foreign_hosts(settings(chroma_host=host, vector_backend="pgvector"))


@pytest.mark.parametrize("host", ["fd00::7", "[fd00::7]", "::1", "http://[fe80::1]:8000", "10.1.2.3"])
def test_an_index_on_this_machine_or_in_a_private_network_is_taken(host: str) -> None:
    refuse_foreign_hosts(settings(chroma_host=host))


@pytest.mark.parametrize("host", ["2001:db8:0:0::1", "[2001:DB8::1]", "https://[2001:db8::1]:8000"])
@pytest.mark.parametrize("trusted", ["2001:db8::1", "[2001:db8::1]", "x.example, 2001:DB8:0:0:0::1"])
def test_an_ipv6_address_is_trusted_however_it_is_written(host: str, trusted: str) -> None:
    refuse_foreign_hosts(settings(chroma_host=host, everreach_trusted_hosts=trusted))


def test_an_operator_may_say_that_a_host_is_theirs() -> None:
    trusted = f" other.example , {PUBLIC.upper()},DB.example.org"
    refuse_foreign_hosts(settings(everreach_database_url=f"postgresql://{PUBLIC}/x", everreach_trusted_hosts=trusted))
    refuse_foreign_hosts(
        settings(everreach_database_url="postgresql://db.example.org/x", everreach_trusted_hosts=trusted)
    )
    with pytest.raises(Refused):
        refuse_foreign_hosts(
            settings(everreach_database_url="postgresql://b.example.org/x", everreach_trusted_hosts=trusted)
        )


@pytest.mark.parametrize("command", ["run", "serve", "sync", "up"])
def test_a_command_that_is_pointed_at_a_foreign_database_refuses_and_starts_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERREACH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERREACH_DATABASE_URL", f"postgresql://me:secret@{PUBLIC}/x")
    result = CliRunner().invoke(main, [command])
    assert result.exit_code != 0
    assert f"Error: EVERREACH_DATABASE_URL names {PUBLIC}, which is neither this machine" in result.output
    assert "secret" not in result.output
    assert {path.name for path in (tmp_path / "home").glob("*")} <= {"up.lock"}


def test_a_database_is_not_opened_where_it_or_the_index_is_on_another_host() -> None:
    with pytest.raises(Refused, match=f"EVERREACH_DATABASE_URL names {PUBLIC}"):
        open_database(settings(everreach_database_url=f"postgresql://{PUBLIC}/x"))
    with pytest.raises(Refused, match=f"CHROMA_HOST names {PUBLIC}"):
        open_database(settings(everreach_database_url="postgresql://127.0.0.1/x", chroma_host=PUBLIC))


def test_dagsters_own_processes_are_refused_a_foreign_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A code server that was started by itself: no command has looked at the settings before its runs do."""
    monkeypatch.setenv("EVERREACH_DATABASE_URL", f"postgresql://me:secret@{PUBLIC}/x")
    with pytest.raises(dg.DagsterError) as failed, dg.build_resources({"database": database_resource}):
        pass
    assert isinstance(failed.value.__cause__, Refused)
    assert PUBLIC in str(failed.value.__cause__)
    assert "secret" not in str(failed.value.__cause__)


@pytest.mark.parametrize("mode", ["", "?sslmode=disable", "?sslmode=allow", "?sslmode=prefer"])
def test_a_cloud_database_without_tls_is_refused(mode: str) -> None:
    with pytest.raises(Refused, match="sslmode=require"):
        refuse_clear_text(f"postgresql://me:secret@{PUBLIC}/cloud{mode}")
    refuse_clear_text(f"postgresql://127.0.0.1/cloud{mode}")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_cloud_database_with_tls_is_taken(mode: str) -> None:
    refuse_clear_text(f"postgresql://{PUBLIC}/cloud?sslmode={mode}")


def test_a_cloud_is_opened_only_whole_and_safe() -> None:
    assert not open_cloud(settings()).is_configured
    for backend, missing in (("chroma", "CLOUD_CHROMA_HOST"), ("pgvector", "CLOUD_DATABASE_URL")):
        with pytest.raises(InvalidInput, match=missing):
            open_cloud(settings(cloud_vector_backend=backend))
    with pytest.raises(Refused, match="clear text"):
        open_cloud(settings(cloud_vector_backend="chroma", cloud_chroma_host=PUBLIC, cloud_chroma_ssl=False))
    with pytest.raises(Refused, match="sslmode"):
        open_cloud(settings(cloud_vector_backend="pgvector", cloud_database_url=SecretStr(f"postgresql://{PUBLIC}/c")))


def test_no_secret_is_in_what_names_a_cloud() -> None:
    url = SecretStr("postgresql://me:hunter2@127.0.0.1:5433/cloud")
    assert open_cloud(settings(cloud_vector_backend="pgvector", cloud_database_url=url)).address == (
        "postgresql://127.0.0.1:5433/cloud"
    )
    chroma = settings(
        cloud_vector_backend="chroma", cloud_chroma_host="cloud.invalid", cloud_chroma_token=SecretStr("hunter2")
    )
    assert open_cloud(chroma).address == "https://cloud.invalid:443/default_tenant/default_database"
    chroma = settings(cloud_vector_backend="chroma", cloud_chroma_host="2001:db8::1")
    assert open_cloud(chroma).address == "https://[2001:db8::1]:443/default_tenant/default_database"
