"""The embedded servers, started, shared, killed and stopped for real."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pytest

from everreach_assets.domain.errors import Unavailable
from everreach_assets.supervisor import clean_data
from resources.addresses import Addresses, child_environment, prepare_dagster_home
from resources.embedded_chroma import chroma_process, ensure_chroma, stop_chroma
from resources.ports import answers_http, is_port_free
from resources.processes import end_processes, is_alive, listens
from resources.servers import embedded_processes, running_servers, stop_unused_servers
from resources.settings import Settings
from tests.conftest import running_chroma
from tests.servers import reserved_port

pytestmark = pytest.mark.slow  # servers are started, frozen and killed


def settings_for(home: Path, **values: Any) -> Settings:
    return Settings(**({"_env_file": None, "everreach_home": home, "chroma_port": reserved_port()} | values))


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a data folder of their own, whose name has what a shell or an address could trip over."""
    settings = settings_for(tmp_path / "data folder é %41")
    yield settings
    end_processes(embedded_processes(settings).values(), grace_seconds=10)


@pytest.fixture
def postgres_only(settings: Settings) -> Settings:
    """The same without Chroma, which takes as long to start as everything else."""
    return settings.model_copy(update={"vector_backend": "pgvector"})


def rows(url: str, query: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_servers_answer_inside_the_block_and_are_gone_after_it(settings: Settings) -> None:
    with running_servers(settings) as addresses:
        processes = embedded_processes(settings)
        assert set(processes) == {"Chroma", "Postgres"}
        assert rows(addresses.database_url, "SELECT count(*) FROM vector_embeddings") == [(0,)]
        assert rows(addresses.dagster_database_url, "SELECT current_database()") == [("dagster",)]
        assert (addresses.chroma_host, addresses.chroma_port) == ("127.0.0.1", settings.chroma_port)
        assert answers_http(addresses.chroma_port, "/api/v2/heartbeat")
    assert embedded_processes(settings) == {}
    assert not any(is_alive(process) for process in processes.values())


def test_servers_are_reachable_from_this_machine_only(settings: Settings) -> None:
    with running_servers(settings):
        for process in embedded_processes(settings).values():
            listening = [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
            assert {one.laddr.ip for one in listening} <= {"127.0.0.1"}
        assert stat.S_IMODE((settings.home / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((settings.home / "chroma").stat().st_mode) == 0o700


def test_what_was_written_is_there_after_a_restart(postgres_only: Settings) -> None:
    with running_servers(postgres_only) as addresses, psycopg.connect(addresses.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with running_servers(postgres_only) as addresses:
        assert rows(addresses.database_url, "SELECT answer FROM kept") == [(42,)]


def test_the_last_user_stops_the_servers_and_no_earlier_one_does(postgres_only: Settings) -> None:
    with running_servers(postgres_only) as first:
        before = embedded_processes(postgres_only)
        with running_servers(postgres_only) as second:
            assert second == first
        assert embedded_processes(postgres_only) == before
        assert stop_unused_servers(postgres_only) == []
    assert embedded_processes(postgres_only) == {}


def test_data_are_deleted_where_the_settings_say_and_never_under_a_command_that_uses_them(
    postgres_only: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_servers(postgres_only):
        with pytest.raises(Unavailable, match="still uses Postgres, so no data was deleted"):
            clean_data(postgres_only)
        assert "Nothing is running" not in capsys.readouterr().out
        assert (postgres_only.home / "postgres").is_dir()
    assert clean_data(postgres_only) == 0
    assert not postgres_only.home.exists()
    assert str(postgres_only.home) in capsys.readouterr().out
    assert clean_data(postgres_only) == 0
    assert "There is no data" in capsys.readouterr().out


def test_two_starters_at_once_share_one_start(settings: Settings) -> None:
    program = (
        "import sys; from resources.servers import *; from resources.settings import Settings\n"
        "with running_servers(Settings(_env_file=None)):\n"
        "    print(*sorted(p.pid for p in embedded_processes(Settings(_env_file=None)).values()), flush=True)\n"
        "    sys.stdin.read()"
    )
    environment = os.environ | {"EVERREACH_HOME": str(settings.home), "CHROMA_PORT": str(settings.chroma_port)}
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    seen = {starter.stdout.readline() for starter in starters if starter.stdout}
    for starter in starters:
        starter.communicate()
    assert len(seen) == 1
    assert len(next(iter(seen)).split()) == 2
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert embedded_processes(settings) == {}


def test_a_chroma_of_others_that_took_the_port_meanwhile_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(port: int) -> bool:
        looks.append(port)
        return len(looks) == 1 or is_port_free(port)  # a moment ago it was free

    monkeypatch.setattr("resources.embedded_chroma.is_port_free", look)
    (tmp_path / "chroma.log").write_text("of the last run")
    with running_chroma(tmp_path) as taken:
        try:
            port = ensure_chroma(tmp_path, taken)
            assert port != taken
            ours = chroma_process(tmp_path)
            assert ours is not None
            assert ours[1] == port
            assert listens(ours[0], port)
            assert (tmp_path / "chroma.log.1").read_text() == "of the last run"
        finally:
            stop_chroma(tmp_path)
        assert answers_http(taken, "/api/v2/heartbeat")  # the others keep theirs


@pytest.mark.parametrize("killed", ["Chroma", "Postgres"])
def test_a_killed_server_is_started_again_with_its_data(settings: Settings, killed: str) -> None:
    with running_servers(settings) as addresses:
        with psycopg.connect(addresses.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        end_processes([embedded_processes(settings)[killed]], signals=(), grace_seconds=10)  # SIGKILL at once
        with running_servers(settings) as again:
            assert rows(again.database_url, "SELECT answer FROM kept") == [(42,)]
            assert set(embedded_processes(settings)) == {"Chroma", "Postgres"}
    assert embedded_processes(settings) == {}


def test_servers_of_a_killed_command_are_found_and_stopped(settings: Settings) -> None:
    program = (
        "import os, signal; from resources.servers import *; from resources.settings import Settings\n"
        "with running_servers(Settings(_env_file=None)): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"EVERREACH_HOME": str(settings.home), "CHROMA_PORT": str(settings.chroma_port)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert set(embedded_processes(settings)) == {"Chroma", "Postgres"}
    assert set(stop_unused_servers(settings)) == {"Chroma", "Postgres"}
    assert embedded_processes(settings) == {}


def test_a_pid_file_that_names_another_program_does_not_stop_a_start(settings: Settings) -> None:
    with running_servers(settings):
        pass
    lines = [str(os.getpid()), str(settings.home / "postgres"), "1", "5432", "/nowhere", "", "0 0", "ready"]
    (settings.home / "postgres" / "postmaster.pid").write_text("\n".join(lines))
    (settings.home / "postgres" / ".s.PGSQL.5432.lock").write_text("\n".join(lines))
    (settings.home / "servers.json").write_text(
        json.dumps({"chroma": {"pid": os.getpid(), "started_at": 1.0, "port": 1}})
    )
    assert embedded_processes(settings) == {}
    with running_servers(settings) as addresses:
        assert rows(addresses.database_url, "SELECT 1") == [(1,)]


def test_a_taken_chroma_port_is_replaced_by_a_free_one(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.chroma_port)),
        running_servers(settings) as addresses,
    ):
        assert addresses.chroma_port != settings.chroma_port
        assert answers_http(addresses.chroma_port, "/api/v2/heartbeat")


def test_pgvector_needs_no_chroma(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, vector_backend="pgvector")
    with running_servers(settings) as addresses:
        assert set(embedded_processes(settings)) == {"Postgres"}
        assert addresses.chroma_host is None


def test_named_servers_are_used_and_nothing_is_started(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path / "unused", everreach_database_url=database_url, chroma_host="10.1.2.3")
    with running_servers(settings) as addresses:
        assert addresses.database_url == database_url
        assert (addresses.chroma_host, addresses.chroma_port) == ("10.1.2.3", settings.chroma_port)
        assert rows(addresses.dagster_database_url, "SELECT current_database()") == [("dagster",)]
    assert not (tmp_path / "unused").exists()


def test_a_named_database_that_does_not_answer_is_explained_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://someone:hunter2@127.0.0.1:{reserved_port()}/everreach"
    with (
        pytest.raises(Unavailable, match="EVERREACH_DATABASE_URL") as caught,
        running_servers(settings_for(tmp_path, everreach_database_url=url, chroma_host="10.1.2.3")),
    ):
        pytest.fail("there is no server")
    assert "hunter2" not in str(caught.value)


def test_a_long_data_folder_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / ("long" * 30), vector_backend="pgvector")
    with running_servers(settings) as addresses:
        assert rows(addresses.database_url, "SELECT 1") == [(1,)]


def test_broken_data_are_explained_with_the_end_of_the_log(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, vector_backend="pgvector")
    with running_servers(settings):
        pass
    (tmp_path / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(Unavailable, match=r"(?s)Postgres does not start.*pg_control"), running_servers(settings):
        pytest.fail("the data are broken")
    assert embedded_processes(settings) == {}


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="EVERREACH_HOME"), running_servers(settings_for(tmp_path / "file" / "home")):
        pytest.fail("a file is no folder")


def test_children_find_the_same_servers_and_settings_in_any_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = Addresses("postgresql://10.1.2.3/everreach", "postgresql://10.1.2.3/dagster", "127.0.0.1", 8123)
    environment = child_environment(settings.model_copy(update={"embedding_model": "other"}), addresses)
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    child = Settings(_env_file=None)
    assert child.home == settings.home
    assert child.embedding_model == "other"
    with running_servers(child) as found:
        assert found == addresses


def test_dagster_home_has_an_instance_that_dagster_can_load(postgres_only: Settings) -> None:
    with running_servers(postgres_only) as addresses:
        prepare_dagster_home(postgres_only)
        program = (
            "import dagster as dg\n"
            "with dg.DagsterInstance.get() as instance:\n"
            "    print(type(instance.run_storage).__name__, instance.get_runs_count(), instance.telemetry_enabled)"
        )
        finished = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | child_environment(postgres_only, addresses),
            capture_output=True,
            text=True,
            check=True,
        )
    assert finished.stdout.split() == ["PostgresRunStorage", "0", "False"]


def test_a_process_that_ignores_the_first_signal_is_killed() -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout
        stubborn.stdout.readline()
        started = time.monotonic()
        end_processes([psutil.Process(stubborn.pid)], grace_seconds=0.5)
        assert time.monotonic() - started < 5
        assert not psutil.pid_exists(stubborn.pid)
