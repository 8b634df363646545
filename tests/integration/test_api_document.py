"""The OpenAPI document against its specification and against the running service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.metrics import METRICS
from tests.api_server import TOKEN, Api, served, settings_of


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with served(settings_of(database_url)) as opened:
        yield opened


def test_the_document_is_openapi_3_1(api: Api) -> None:
    document = api.client.get("/openapi.json", headers={"Authorization": ""}).json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["openapi"] == "3.1.0"
    broken = json.loads(json.dumps(document))
    del broken["paths"]["/api/v1/search"]["post"]["responses"]["200"]["description"]
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_the_document_says_who_needs_a_token_and_which_values_there_are(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    open_to_all = {
        path
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if operation["security"] == []
    }
    assert open_to_all == {"/healthz", "/readyz", "/api/v1/embedding/health"}
    schemas = document["components"]["schemas"]
    assert schemas["SearchRequest"]["properties"]["collection"]["enum"] == list(COLLECTIONS)
    assert METRICS.keys() <= schemas["OutcomeBody"]["properties"]["metrics"]["properties"].keys()


def test_the_examples_of_the_document_are_taken(api: Api) -> None:
    schemas = api.client.get("/openapi.json").json()["components"]["schemas"]
    example = schemas["SearchRequest"]["example"]
    assert api.search(**example).status_code == 200
    assert api.search(**example, where=schemas["Filter"]["example"]).status_code == 200
    assert api.record(schemas["OutcomeBody"]["example"]).status_code == 200


@pytest.mark.slow
def test_the_service_does_what_its_document_says(api: Api, tmp_path: Path) -> None:
    """schemathesis calls every operation with what the document allows and forbids: no answer outside the document, no
    500, no token that is not needed, nothing taken that the document forbids."""
    (tmp_path / "schemathesis.toml").write_text(
        # What no schema can say is refused with 422: 96 bytes of 90 characters, two names for one metric, a filter of
        # 70 comparisons. A batch is taken in part, with 207, where an item of it is wrong. Of a platform without a
        # strategy there is none to be found.
        "[checks]\n"
        'positive_data_acceptance.expected-statuses = ["2xx", "404", "422"]\n'
        'negative_data_rejection.expected-statuses = ["207", "400", "401", "404", "405", "408", "413", "415", "422"]\n'
    )
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(tmp_path / "schemathesis.toml"),
        "run",
        f"{api.address}/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", "all"),
        *("--max-examples", "60"),
        *("--seed", "7"),
        *("--suppress-health-check", "all"),
        "--no-color",
    ]
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stdout[-8_000:] + finished.stderr[-2_000:]
    # It warns that no platform that it thinks of has a strategy; what passed is each operation in each of its phases.
    assert sum(map(int, re.findall(r"(\d+) passed", finished.stdout))) > 20, finished.stdout[-2_000:]
