"""`everreach grafana import` against a server that refuses what Grafana refuses."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from everreach_assets.cli import main
from everreach_assets.domain.errors import InvalidInput, Unavailable
from resources.grafana import Grafana, import_body, read_dashboard
from tests.grafana_server import TOKEN, FakeGrafana, running_grafana
from tests.servers import reserved_port

GRAFANA = Path(__file__).parents[2] / "grafana"
OVERVIEW = GRAFANA / "everreach-overview.json"


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    with running_grafana() as server:
        yield server


def everreach(url: str, *arguments: str | Path, token: str = TOKEN) -> Result:
    environment = {"GRAFANA_URL": url, "GRAFANA_TOKEN": token}
    return CliRunner().invoke(main, ["grafana", "import", *map(str, arguments)], env=environment)


def test_every_dashboard_is_imported_whole_and_again(grafana: FakeGrafana) -> None:
    for _ in range(2):
        result = everreach(f"{grafana.url}/", "--folder", "everreach")
        assert result.exit_code == 0, result.output
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in GRAFANA.glob("*.json")}
    assert grafana.dashboards == {uid: board | {"folderUid": "everreach"} for uid, board in files.items()}
    assert f"EverReach: overview: {grafana.url}/d/everreach-overview" in result.output


def test_one_file_may_be_named(grafana: FakeGrafana) -> None:
    assert everreach(grafana.url, OVERVIEW).exit_code == 0
    assert list(grafana.dashboards) == ["everreach-overview"]


def test_the_raw_file_would_be_refused(grafana: FakeGrafana) -> None:
    """What the first sketch's curl command posted; the server here refuses it as Grafana does."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{grafana.url}/api/dashboards/import", content=OVERVIEW.read_bytes(), headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (422, "Dashboard must be set")


@pytest.mark.parametrize(
    ("token", "says"), [("glsa_wrong", "GRAFANA_TOKEN is not valid"), ("glsa_viewer", "needs the role Editor")]
)
def test_a_token_that_may_not_is_named(grafana: FakeGrafana, token: str, says: str) -> None:
    result = everreach(grafana.url, OVERVIEW, token=token)
    assert result.exit_code == 2
    assert says in result.output
    assert token not in result.output
    assert not grafana.dashboards


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"uid": "x" * 41}, "uid too long"),
        ({"uid": "a b"}, "illegal characters"),
    ],
)
def test_what_grafana_refuses_is_passed_on(grafana: FakeGrafana, change: dict[str, Any], says: str) -> None:
    dashboard = read_dashboard(OVERVIEW) | change
    with Grafana(grafana.url, TOKEN) as server, pytest.raises(InvalidInput, match=says):
        server.import_dashboard(dashboard)


def test_an_unknown_folder_is_named(grafana: FakeGrafana) -> None:
    result = everreach(grafana.url, OVERVIEW, "--folder", "nowhere")
    assert result.exit_code == 2
    assert "folder not found" in result.output


def test_a_server_that_fails_or_is_not_there_can_be_tried_again(grafana: FakeGrafana) -> None:
    grafana.fails = True
    with Grafana(grafana.url, TOKEN) as server, pytest.raises(Unavailable, match="500"):
        server.import_dashboard(read_dashboard(OVERVIEW))
    nobody = everreach(f"http://127.0.0.1:{reserved_port()}", OVERVIEW)
    assert nobody.exit_code == 1
    assert "check GRAFANA_URL" in nobody.output


def test_another_address_than_grafanas_is_named(grafana: FakeGrafana) -> None:
    result = everreach(f"{grafana.url}/wrong", OVERVIEW)
    assert result.exit_code == 2
    assert "404" in result.output


def test_without_address_or_token_it_says_what_is_needed() -> None:
    result = everreach("", token="")
    assert result.exit_code == 2
    assert "GRAFANA_URL and GRAFANA_TOKEN are needed" in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "is no dashboard"),
        ('{"dashboard": {"title": "a", "uid": "b"}}', "is no dashboard"),
        ('{"title": "a", "uid": "b", "__inputs": [{"name": "DS"}]}', "exported for sharing"),
    ],
)
def test_a_file_that_is_no_dashboard_is_refused_before_anything_is_sent(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(InvalidInput, match=says):
        read_dashboard(tmp_path / "file.json")


def test_the_body_leaves_the_dashboard_as_it_is() -> None:
    dashboard = read_dashboard(OVERVIEW)
    before = copy.deepcopy(dashboard)
    body = import_body(dashboard, "everreach")
    assert body == {"dashboard": before, "overwrite": True, "inputs": [], "folderUid": "everreach"}


def test_provisioning_names_the_data_source_and_the_folder() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/everreach.yml").read_text(encoding="utf-8"))
    (source,) = sources["datasources"]
    assert (source["type"], source["isDefault"], source["url"]) == ("prometheus", True, "${EVERREACH_PROMETHEUS_URL}")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/everreach.yml").read_text("utf-8"))["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "${EVERREACH_DASHBOARDS}")
