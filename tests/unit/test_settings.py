"""The settings, and the file that lists them."""

import itertools
import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from resources.settings import Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
NAMES = {name.upper() for name in Settings.model_fields}


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_the_example_lists_every_setting_once_and_nothing_else() -> None:
    listed = re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(NAMES)


def test_the_example_holds_the_defaults() -> None:
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name in NAMES:
            default = Settings.model_fields[name.lower()].default
            assert value == ("" if default is None else str(default)), name


def test_every_setting_in_the_example_has_a_comment_above_it() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if line.partition("=")[0] in NAMES:
            assert above.startswith("# "), line


def test_a_variable_wins_over_the_file_and_an_empty_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("CHROMA_PORT=8100\nEVERREACH_WEBSERVER_PORT=3100\n")
    monkeypatch.setenv("CHROMA_PORT", "8200")
    monkeypatch.setenv("EVERREACH_WEBSERVER_PORT", "")
    settings = Settings(_env_file=file)
    assert (settings.chroma_port, settings.everreach_webserver_port) == (8200, 3100)


def test_the_home_does_not_move_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(_env_file=None).home == EXAMPLE.parent / ".everreach"
    assert Settings(_env_file=None, everreach_home=Path("mine")).home == EXAMPLE.parent / "mine"
    assert Settings(_env_file=None, everreach_home=tmp_path).home == tmp_path


@pytest.mark.parametrize(
    "address",
    [
        "mysql://bob:s3cretpw@db.example/x",
        "postgresql://bob:s3%zzcretpw@localhost:5999/x",
        "postgresql://bob:s3cre tpw@localhost/x",
        "host=127.0.0.1 port=5999 password=s3cretpw user=bob",
        "postgresql://bob:s3cretp@w@127.0.0.1:5999/x",
        "postgresql://bob:s3cr#etpw@127.0.0.1:5999/x",
        "postgresql://bob:s3cretpw@localhost:notaport/x",
        "s3cretpw",
    ],
)
@pytest.mark.parametrize("name", ["everreach_database_url", "everreach_dagster_database_url", "cloud_database_url"])
def test_an_address_that_is_none_is_refused_and_no_part_of_it_is_repeated(name: str, address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(_env_file=None, **{name: SecretStr(address)})  # type: ignore[arg-type]
    (problem,) = caught.value.errors()
    assert "postgresql://user:password@host:port/database" in problem["msg"]
    assert not re.search(r"s3|tpw|w@127|notaport", problem["msg"])


@pytest.mark.parametrize(
    "address",
    ["postgresql://bob:s3cret%40pw@db.example:5432/x?sslmode=require", "postgresql://postgres@/x?host=%2Ftmp%2Fa"],
)
def test_an_address_of_a_server_or_a_socket_is_taken(address: str) -> None:
    assert Settings(_env_file=None, everreach_database_url=SecretStr(address)).database_url() == address


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        _env_file=None,
        openai_api_key=SecretStr("sk-secret"),
        everreach_database_url=SecretStr("postgresql://someone:hunter2@host/everreach"),
    )
    assert "sk-secret" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_a_port_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_PORT", "70000")
    with pytest.raises(ValidationError, match="chroma_port"):
        Settings(_env_file=None)
