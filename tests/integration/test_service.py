"""The service's routes on the real application and a real Postgres: who may call, and what is refused."""

import functools
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.testclient import TestClient

from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.service.app import create_app
from everreach_assets.service.bodies import BODY_BYTES
from everreach_assets.service.server import (
    is_loopback,
    listening,
    refuse_open_address,
    serve,
    server_config,
    tls_options,
)
from resources.database import Database
from resources.ports import answers_http
from resources.settings import Settings
from tests.api_server import certificate

DMS = "everreach_dms_sent_total"
TOKEN = {"Authorization": "Bearer first-token"}


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        _env_file=None,
        everreach_database_url=SecretStr(database_url),
        everreach_api_tokens=SecretStr("first-token, second-token"),
    )


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[TestClient]:
    with TestClient(create_app(settings, database), raise_server_exceptions=False) as opened:
        yield opened


def dms(value: object = 1, platform: str = "x") -> dict[str, object]:
    return {"metric": DMS, "labels": {"platform": platform}, "value": value}


def post(client: TestClient, body: object, headers: dict[str, str] = TOKEN) -> Any:
    return client.post("/api/v1/metrics", content=json.dumps(body).encode(), headers=headers)


def shown(client: TestClient, start: str) -> list[str]:
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith(start)]


def test_what_is_posted_is_shown(client: TestClient) -> None:
    assert shown(client, f'{DMS}{{platform="x"}}') == [f'{DMS}{{platform="x"}} 0.0']
    answer = post(client, {"records": [dms(2), dms(3)], "record_id": "request-7"})
    assert (answer.status_code, answer.json()) == (200, {"recorded": True})
    assert post(client, {"records": [dms(2), dms(3)], "record_id": "request-7"}).json() == {"recorded": False}
    assert shown(client, f'{DMS}{{platform="x"}}') == [f'{DMS}{{platform="x"}} 5.0']


def test_each_of_several_tokens_passes_and_nothing_else_does(client: TestClient) -> None:
    body = {"records": [dms()]}
    assert post(client, body, {"Authorization": "Bearer second-token"}).status_code == 200
    assert post(client, body, {"Authorization": "bearer  first-token"}).status_code == 200
    for header in ("", "Bearer", "Bearer ", "Bearer wrong", "Basic first-token", "first-token", "Bearer first-token,"):
        refused = post(client, body, {"Authorization": header})
        assert refused.status_code == 401, header
        assert "EVERREACH_API_TOKENS" in refused.json()["error"]
        assert refused.headers["www-authenticate"] == "Bearer"
    assert shown(client, f'{DMS}{{platform="x"}}') == [f'{DMS}{{platform="x"}} 2.0']


def test_without_a_token_set_nobody_may_record(settings: Settings, database: Database) -> None:
    closed = settings.model_copy(update={"everreach_api_tokens": None})
    with TestClient(create_app(closed, database)) as client:
        for header in ("", "Bearer ", "Bearer None"):
            refused = post(client, {"records": [dms()]}, {"Authorization": header})
            assert refused.status_code == 401
            assert "no token is set" in refused.json()["error"]


def test_looking_needs_no_token(client: TestClient) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}


def test_every_part_of_a_scrape_succeeds_on_a_whole_database(client: TestClient) -> None:
    lines = shown(client, "everreach_exporter_collector_success")
    assert len(lines) > 3
    assert [line for line in lines if not line.endswith(" 1.0")] == []


NO_JSON: list[tuple[bytes, str]] = [
    (b"", "no JSON"),
    (b"{", "no JSON"),
    (b"\xff\xfe", "no JSON"),
    (b"[" * 200_000, "nested deeper"),
    (b"[" * 40 + b"]" * 40, "nested deeper"),
    (b'{"records": [{"metric": "x", "value": NaN}]}', "NaN is no number"),
    (b'{"records": [{"metric": "x", "value": -Infinity}]}', "-Infinity is no number"),
    (b'{"records": [{"metric": "x", "value": 1e400}]}', "too large"),
    (b'{"records": [{"metric": "x", "value": 1%s}]}' % (b"0" * 5_000), "no JSON"),
    (b'{"records": [], "records": []}', "one name twice"),
]

NOT_ACCEPTED: list[tuple[object, str]] = [
    ([], "body: "),
    ("records", "body: "),
    ({"records": {}}, "records: Input should be a valid list"),
    ({"records": [], "extra": 1}, "extra: Extra inputs are not permitted"),
    ({"records": [1]}, "records.0: "),
    ({"records": [dms() | {"more": 1}]}, "records.0.more: Extra inputs"),
    ({"records": [{"metric": DMS, "labels": [], "value": 1}]}, "records.0.labels: "),
    ({"records": [{"metric": DMS, "labels": {"platform": 3}, "value": 1}]}, "records.0.labels.platform: "),
    ({"records": [dms(), dms("7")]}, "records.1.value"),
    ({"records": [dms(True)]}, "records.0.value"),
    ({"records": [dms(None)]}, "records.0.value"),
    ({"records": [dms([1, 2])]}, "records.0: everreach_dms_sent_total: value is a number"),
    ({"records": [dms(-1)]}, "never goes down"),
    ({"records": [{"metric": "everreach_mystery", "value": 1}]}, "'everreach_mystery': there is no such metric"),
    ({"records": [{"metric": DMS, "value": 1}]}, "lacks the label platform"),
    ({"records": [dms(platform="\0")]}, "metrics: "),
    ({"records": [dms(platform="\ud800")]}, "metrics: "),
    ({"records": [dms()], "record_id": 7}, "record_id: "),
    ({"records": [dms()], "record_id": ""}, "record_id"),
    ({"records": [dms()], "record_id": "a\0b"}, "record_id"),
    ({"records": [dms()], "record_id": "\ud800"}, "record_id"),
    ({"records": [dms()], "record_id": "r" * 201}, "record_id"),
]


def test_a_body_that_cannot_be_recorded_is_refused_with_the_reason(client: TestClient) -> None:
    wrong = [(400, content, reason) for content, reason in NO_JSON]
    wrong += [(422, json.dumps(body).encode(), reason) for body, reason in NOT_ACCEPTED]
    for status, content, reason in wrong:
        refused = client.post("/api/v1/metrics", content=content, headers=TOKEN)
        assert (refused.status_code, reason in refused.json()["error"]) == (status, True), (content[:80], refused.text)
    assert shown(client, f'{DMS}{{platform="x"}}') == [f'{DMS}{{platform="x"}} 0.0']


def test_what_the_project_counts_itself_is_not_recorded_from_outside(client: TestClient) -> None:
    label = {"platform": "x", "classification": "flop"}
    refused = post(client, {"records": [{"metric": "everreach_posts_classified_total", "labels": label, "value": 1}]})
    assert refused.status_code == 422
    assert "everreach_posts_classified_total: it is not recorded from outside" in refused.json()["error"]
    assert DMS in refused.json()["error"]


def test_a_body_over_the_limit_is_refused_also_where_its_length_is_not_stated(client: TestClient) -> None:
    chunks = (b" " * 65_536 for _ in range(BODY_BYTES // 65_536 + 1))
    refused = client.post("/api/v1/metrics", content=chunks, headers=TOKEN)
    assert refused.status_code == 413
    assert f"{BODY_BYTES:,} bytes" in refused.json()["error"]


def test_what_does_not_exist_is_said_in_json(client: TestClient) -> None:
    nothing = client.get("/nothing", headers={"X-Request-ID": "mine-7"})
    assert (nothing.status_code, nothing.headers["x-request-id"]) == (404, "mine-7")
    assert nothing.json() == {
        "error": "there is no such path: /openapi.json lists those that there are",
        "details": [],
        "request_id": "mine-7",
    }
    refused = client.delete("/metrics")
    assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "does not take this method" in refused.json()["error"]


def test_an_error_of_the_service_does_not_quote_what_was_sent(client: TestClient, settings: Settings) -> None:
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute("DROP FUNCTION record_metrics")
    failed = post(client, {"records": [dms()]})
    assert failed.status_code == 500
    assert failed.json()["error"] == "an error of the service itself; its log says more under this request_id"


@pytest.mark.slow
def test_a_hundred_thousand_hostile_values_make_no_series(client: TestClient) -> None:
    before = len(client.get("/metrics").text.splitlines())
    for start in range(0, 100_000, 10_000):
        hostile = [dms(platform=f"p{number}") for number in range(start, start + 10_000)]
        assert post(client, {"records": hostile}).status_code == 200
    assert len(client.get("/metrics").text.splitlines()) == before
    assert shown(client, f'{DMS}{{platform="other"}}') == [f'{DMS}{{platform="other"}} 100000.0']


OPEN = Settings(_env_file=None, everreach_service_host="0.0.0.0")  # noqa: S104 - it is refused


def test_an_open_address_without_tokens_is_refused() -> None:
    with pytest.raises(Refused, match="set EVERREACH_API_TOKENS"):
        serve(OPEN)


def test_an_open_address_without_tls_is_refused_unless_a_proxy_is_stated(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token\n")
    tokens.chmod(0o600)
    for given in ({"everreach_api_tokens": SecretStr("first-token")}, {"everreach_api_tokens_file": tokens}):
        opened = OPEN.model_copy(update=given)
        with pytest.raises(Refused, match="in clear: set EVERREACH_TLS_CERTIFICATE and EVERREACH_TLS_KEY"):
            serve(opened)
        refuse_open_address(opened.model_copy(update={"everreach_behind_tls_proxy": True}))
        files = {"everreach_tls_certificate": tmp_path / "c", "everreach_tls_key": tmp_path / "k"}
        refuse_open_address(opened.model_copy(update=files))


def test_a_file_of_tokens_that_others_may_read_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("secret-of-the-file\n")
    file.chmod(0o644)
    with pytest.raises(Refused, match=r"others may read or change .*: chmod 600 it") as refused:
        serve(Settings(_env_file=None, everreach_api_tokens_file=file))
    assert "secret" not in str(refused.value)


def test_with_a_certificate_the_service_speaks_https_and_nothing_else(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    files = dict(zip(("everreach_tls_certificate", "everreach_tls_key"), certificate(tmp_path), strict=True))
    with listening("127.0.0.1", 0) as listener:
        config = server_config(create_app(settings, database), **tls_options(settings.model_copy(update=files)))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        trust = ssl.create_default_context(cafile=files["everreach_tls_certificate"])
        try:
            assert httpx.get(f"https://{place}/healthz", verify=trust, trust_env=False).json() == {"status": "ok"}
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"http://{place}/healthz", trust_env=False)
            answers = functools.partial(answers_http, listener.getsockname()[1], "/healthz")
            assert answers(certificate=files["everreach_tls_certificate"])
            (tmp_path / "other").mkdir()
            assert not answers(certificate=certificate(tmp_path / "other")[0])
            assert not answers(certificate=tmp_path / "being replaced")
            assert not answers()
        finally:
            server.should_exit = True
            thread.join()


def test_a_certificate_that_is_none_and_a_key_that_others_may_read_are_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with pytest.raises(InvalidInput, match="belong together"):
        serve(Settings(_env_file=None, everreach_tls_certificate=cert))
    with pytest.raises(InvalidInput, match="are no certificate and its key"):
        serve(Settings(_env_file=None, everreach_tls_certificate=key, everreach_tls_key=key))
    with pytest.raises(InvalidInput, match="are no certificate and its key"):
        serve(Settings(_env_file=None, everreach_tls_certificate=tmp_path / "none", everreach_tls_key=key))
    key.chmod(0o644)
    with pytest.raises(Refused, match="EVERREACH_TLS_KEY: others may read"):
        serve(Settings(_env_file=None, everreach_tls_certificate=cert, everreach_tls_key=key))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
     ("10.0.0.7", False), ("example.org", False)],
)  # fmt: skip
def test_only_loopback_addresses_count_as_such(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_taken_port_and_a_foreign_address_are_said_with_the_next_step() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1 is taken .* set EVERREACH_METRICS_PORT"):
            listening("127.0.0.1", port)
    with pytest.raises(InvalidInput, match=r"EVERREACH_SERVICE_HOST=192\.0\.2\.1"):
        listening("192.0.2.1", 0)
