"""Search, outcomes, tokens and readiness of the service, under the real server on real servers."""

import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.vectors import WIDTH, Document
from everreach_assets.memory import open_embedder, open_vector_db
from everreach_assets.service.request_log import JsonLines
from resources.database import Database
from resources.posts import texts
from resources.settings import Settings
from tests.api_server import TOKEN, Api, served
from tests.openai_server import OpenAIServer
from tests.servers import reserved_port

POSTS = {
    "linkedin:1": ("How we halved the churn of our customers", "linkedin"),
    "linkedin:2": ("Seven lessons from a year of remote work", "linkedin"),
    "x:3": ("Churn is a symptom, onboarding is the disease", "x"),
}


@pytest.fixture(params=["chroma", "pgvector"])
def settings(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Settings:
    host, port = request.getfixturevalue("chroma_server") if request.param == "chroma" else (None, reserved_port())
    return Settings(
        _env_file=None,
        everreach_home=tmp_path / "home",
        everreach_database_url=SecretStr(database_url),
        everreach_api_tokens=SecretStr(TOKEN),
        vector_backend=request.param,
        chroma_host=host,
        chroma_port=port,
    )


only_pgvector = pytest.mark.parametrize("settings", ["pgvector"], indirect=True)
"""For what does not depend on the index."""


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with served(settings) as opened:
        yield opened


@pytest.fixture
def stored(settings: Settings) -> None:
    """Three posts and a prospect, as vectors of the local provider."""
    with (
        Database(settings.database_url()) as database,
        closing(open_embedder(settings, database)) as embedder,
        closing(open_vector_db(settings, database, embedder)) as vector_db,
    ):
        for collection, rows in (
            ("content_embeddings", POSTS),
            ("prospect_embeddings", {"p1": ("Head of growth, worried about churn", "linkedin")}),
            ("lesson_embeddings", {}),
        ):
            vectors = embedder.embed_many(collection, [text for text, _ in rows.values()]).vectors
            documents = [
                Document(doc_id, vector, {"platform": platform, "likes": 3})
                for (doc_id, (_, platform)), vector in zip(rows.items(), vectors, strict=True)
                if vector is not None
            ]
            vector_db.delete_many(collection, list(rows))
            vector_db.upsert_many(collection, documents)


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["doc_id"] for each in answer.json()["results"]]


# --- search ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stored")
def test_a_text_finds_what_is_near_and_no_text_is_answered(api: Api) -> None:
    answer = api.search(collection="content_embeddings", text="customer churn halved", n=2)
    assert ids(answer)[0] == "linkedin:1"
    body = answer.json()
    assert len(body["results"]) == 2
    assert (body["collection"], body["space"]) == ("content_embeddings", "local/hashing-char-3-5")
    first = body["results"][0]
    assert first.keys() == {"doc_id", "distance", "similarity", "metadata", "space", "matched_by"}
    assert first["similarity"] == pytest.approx(1 - first["distance"])
    assert first["metadata"] == {"platform": "linkedin", "likes": 3}
    assert (first["space"], first["matched_by"], body["is_degraded"]) == (body["space"], "vector", False)
    for text, _ in POSTS.values():
        assert text not in answer.text


@pytest.mark.usefixtures("stored")
def test_a_search_stays_in_its_collection_and_filter(api: Api) -> None:
    assert set(ids(api.search(collection="content_embeddings", text="churn"))) == set(POSTS)
    assert ids(api.search(collection="content_embeddings", text="churn", where={"platform": "x"})) == ["x:3"]
    assert ids(api.search(collection="content_embeddings", text="churn", where={"likes": {"$gt": 3}})) == []
    assert ids(api.search(collection="prospect_embeddings", text="churn")) == ["p1"]
    assert ids(api.search(collection="lesson_embeddings", text="churn")) == []


@only_pgvector
@pytest.mark.usefixtures("stored")
def test_an_embedding_of_the_space_in_force_searches_and_one_of_another_is_refused(
    api: Api, settings: Settings
) -> None:
    with Database(settings.database_url()) as database, closing(open_embedder(settings, database)) as embedder:
        (vector,) = embedder.embed_many("content_embeddings", [POSTS["x:3"][0]]).vectors
        space_id = embedder.space_of("content_embeddings").space_id
    assert vector is not None
    query = {"collection": "content_embeddings", "embedding": vector.tolist(), "n": 1}
    assert ids(api.search(**query)) == ids(api.search(**query, space_id=space_id)) == ["x:3"]
    refused = api.search(**query, space_id="0123456789ab")
    assert (refused.status_code, refused.json()["details"][0]["place"]) == (422, "space_id")
    assert space_id in refused.json()["error"]


@only_pgvector
def test_without_a_token_nothing_is_searched_or_recorded(api: Api) -> None:
    for path in ("/api/v1/search", "/api/v1/outcomes", "/api/v1/metrics"):
        refused = api.client.post(path, json={}, headers={"Authorization": "Bearer wrong"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def unit() -> list[object]:
    return [1.0, *[0.0] * (WIDTH - 1)]


@only_pgvector
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"collection": "content"}, "collection"),
        ({"collection": None}, "collection"),
        ({"n": 0}, "n"),
        ({"n": 1_001}, "n"),
        ({"n": "3"}, "n"),
        ({"n": True}, "n"),
        ({"n": 2.5}, "n"),
        ({"text": ""}, "text"),
        ({"text": "x" * 8_193}, "text"),
        ({"text": 7}, "text"),
        ({"text": None}, "body"),
        ({"text": " \n "}, "text"),
        ({"embedding": unit()}, "body"),
        ({"text": None, "embedding": [1.0]}, "embedding"),
        ({"text": None, "embedding": [0.0] * WIDTH}, "body"),
        ({"text": None, "embedding": [*unit()[1:], "1"]}, "embedding.1535"),
        ({"text": None, "embedding": [*unit()[1:], True]}, "embedding.1535"),
        ({"where": []}, "where"),
        ({"where": {"$where": "1"}}, "body"),
        ({"where": {"likes": {"$gt": "3"}}}, "body"),
        ({"space_id": "none"}, "space_id"),
        ({"limit": 5}, "limit"),
        ({"Ann Lee": 5}, "?"),
    ],
)
def test_a_search_that_is_none_is_refused_and_its_place_named(api: Api, change: dict[str, Any], place: str) -> None:
    refused = api.search(**({"collection": "content_embeddings", "text": "churn"} | change))
    assert refused.status_code == 422, refused.text
    body = refused.json()
    assert body.keys() == {"error", "details", "request_id"}
    assert [each["place"] for each in body["details"]][:1] in ([place], [])
    assert body["error"]


@only_pgvector
def test_every_collection_can_be_searched(api: Api) -> None:
    for collection in COLLECTIONS:
        assert ids(api.search(collection=collection, text="churn")) == []


@only_pgvector
def test_a_query_is_scrubbed_of_people_who_were_not_known_when_the_service_started(settings: Settings) -> None:
    def add(connection: psycopg.Connection[Any], prospect_id: str, name: str) -> None:
        connection.execute(
            "INSERT INTO prospects (prospect_id, name, text_sha256) VALUES (%s, %s, '')", (prospect_id, name)
        )

    with OpenAIServer().running() as provider:
        remote = settings.model_copy(
            update={
                "embedding_provider": "openai",
                "openai_api_key": SecretStr("sk-none"),
                "openai_base_url": provider.base_url,
            }
        )
        with (
            served(remote) as api,
            psycopg.connect(settings.database_url()) as early,
            psycopg.connect(settings.database_url(), autocommit=True) as late,
        ):
            query = {
                "collection": "content_embeddings",
                "text": "what Zebulon Quackenbush and Ottoline Vandersnoot say, ask ann@example.org",
            }
            ids(api.search(**query))
            add(early, "p1", "Zebulon Quackenbush")  # begins before the next one and ends after it
            add(late, "p2", "Ottoline Vandersnoot")
            ids(api.search(**query))
            early.commit()
            ids(api.search(**query))
            late.execute("UPDATE prospects SET name = 'Halved Churn' WHERE prospect_id = 'p2'")
            ids(api.search(collection="content_embeddings", text="how Halved Churn works"))
        sent = provider.inputs
    assert ["Quackenbush" in each for each in sent] == [True, True, False, False]
    assert ["Vandersnoot" in each for each in sent] == [True, False, False, False]
    assert not any("@example" in each or "Halved" in each for each in sent)


@only_pgvector
def test_while_a_provider_does_not_answer_words_decide_and_the_answer_says_so(settings: Settings) -> None:
    with OpenAIServer().running() as provider:
        remote = settings.model_copy(
            update={
                "embedding_provider": "openai",
                "openai_api_key": SecretStr("sk-none"),
                "openai_base_url": f"http://127.0.0.1:{reserved_port()}/v1",
                "embedding_deadline_seconds": 1.0,
            }
        )
        with served(remote) as api:
            by_words = api.search(collection="content_embeddings", text="churn")
            assert (by_words.status_code, by_words.json()["is_degraded"]) == (200, True)
            assert ids(api.search(collection="prospect_embeddings", text="churn")) == []  # by the local provider
        with psycopg.connect(settings.database_url()) as connection:  # the breaker's pause is over
            connection.execute("UPDATE embedding_breakers SET opened_at = opened_at - interval '1 hour'")
        with served(remote.model_copy(update={"openai_base_url": provider.base_url})) as api:
            assert not api.search(collection="content_embeddings", text="churn").json()["is_degraded"]


@only_pgvector
def test_settings_that_lack_a_key_are_no_fault_of_the_caller(settings: Settings) -> None:
    with served(settings.model_copy(update={"embedding_provider": "openai"})) as api:
        failed = api.search(collection="content_embeddings", text="churn")
        assert failed.status_code == 503
        assert "OPENAI_API_KEY" in failed.json()["error"]
        assert "OPENAI_API_KEY" in api.client.get("/api/v1/embedding/config").json()["error"]
        ready = api.client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["provider"]["is_ready"]) == (503, False)


# --- outcomes -------------------------------------------------------------------------------------------------------


def outcome(post_id: str = "p1", likes: object = 3, **more: object) -> dict[str, object]:
    given = {"platform": "x", "post_id": post_id, "metrics": {"likes": likes}, "observed_at": "2026-03-01T12:00:00Z"}
    return given | more


def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url()) as connection:
        return connection.execute(statement.encode()).fetchall()


@only_pgvector
def test_an_outcome_is_committed_when_it_is_answered_and_the_same_again_changes_nothing(
    api: Api, settings: Settings
) -> None:
    first = api.record(outcome(text="Ask me about churn", account="ann"))
    assert first.status_code == 200
    assert first.json() == {
        "recorded": 1, "unchanged": 0, "refused": 0,
        "results": [{"index": 0, "platform": "x", "post_id": "p1", "status": "recorded", "seq": 1, "error": None}],
    }  # fmt: skip
    assert rows(settings, "SELECT post_id, metrics FROM outcome_snapshots") == [("p1", {"likes": 3})]
    again = api.record(outcome(observed_at="2026-03-01T13:00:00+01:00"))
    assert (again.json()["unchanged"], again.json()["results"][0]["seq"]) == (1, 1)
    with Database(settings.database_url()) as database, database.connection() as connection:
        assert texts(connection, ["x:p1"]) == {"x:p1": "Ask me about churn"}


@only_pgvector
def test_of_a_batch_the_bad_ones_name_themselves_and_the_others_land(api: Api, settings: Settings) -> None:
    batch = [
        outcome("p1"),
        outcome("p2", likes=-7),
        {"platform": "X Corp", "post_id": "p3", "metrics": {"likes": 1}},
        outcome("p4", metrics={"lykes": 1}),
        outcome("p1"),
        "p5",
        outcome("p6", observed_at="2026-03-01T12:00:00"),
        outcome("p7", published_at="0001-01-01T00:00:00+14:00"),
        outcome("p8", text="a\0b"),
        outcome("\ud800"),
        outcome("p9", metrics={"likes": 2, "favorites": 2}),
        outcome("p10"),
    ]
    content = json.dumps({"outcomes": batch})  # httpx would refuse the lone surrogate before we can
    answer = api.client.post("/api/v1/outcomes", content=content)
    body = answer.json()
    assert (answer.status_code, body["recorded"], body["unchanged"], body["refused"]) == (207, 2, 1, 9)
    assert [each["index"] for each in body["results"]] == list(range(12))
    assert [each["status"][0] for each in body["results"]] == list("rrrrurrrrrrr")
    errors = {each["index"]: each["error"] for each in body["results"] if each["status"] == "refused"}
    parts = {
        1: "'likes' is negative", 2: "platform", 3: "'lykes'", 5: "valid dictionary", 6: "observed_at: a time with",
        7: "published_at: the year 1 ", 8: "text holds a NUL", 9: "post_id", 10: "'likes' a second time",
    }  # fmt: skip
    assert errors.keys() == parts.keys()
    for index, part in parts.items():
        assert part in errors[index]
    assert body["results"][0]["seq"] == body["results"][4]["seq"]
    assert rows(settings, "SELECT post_id FROM outcome_snapshots ORDER BY seq") == [("p1",), ("p10",)]


@only_pgvector
def test_a_batch_of_which_nothing_can_be_recorded_is_an_error(api: Api, settings: Settings) -> None:
    refused = api.record({"outcomes": [outcome(likes="3"), outcome("p2", likes=True)]})
    assert refused.status_code == 422
    assert [each["place"] for each in refused.json()["details"]] == ["outcomes.0", "outcomes.1"]
    many = [outcome()] * 1_001
    wrong: list[object] = [{"outcomes": []}, {"outcomes": {}}, {"outcomes": many}, {"outcomes": many[:1], "more": 1}]
    for body in wrong:
        refused = api.record(body)
        assert (refused.status_code, refused.json()["details"][0]["place"]) == (422, "outcomes")
    assert rows(settings, "SELECT 1 FROM actp_feedback_posts") == []


@only_pgvector
def test_a_batch_records_as_one_by_one(api: Api, settings: Settings) -> None:
    """The same outcomes, in a batch and by single calls, leave the same rows."""
    given = [
        outcome(f"p{number % 7}", likes=number % 3, account=f"a{number}" if number % 2 else None, observed_at=at)
        for number in range(40)
        for at in ("2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z")
    ]
    kept = "SELECT platform, post_id, observed_at, metrics FROM outcome_snapshots ORDER BY 2, 3, 4"
    posts = "SELECT platform, post_id, account, text_sha256 FROM actp_feedback_posts ORDER BY 2"
    singles = [api.record(each).json()["results"][0]["status"] for each in given]
    after_singles = rows(settings, kept), rows(settings, posts)
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("TRUNCATE outcome_snapshots, actp_feedback_posts CASCADE")
    batch = [each["status"] for each in api.record({"outcomes": given}).json()["results"]]
    assert batch == singles
    assert (rows(settings, kept), rows(settings, posts)) == after_singles


# --- the embedding API ----------------------------------------------------------------------------------------------


def with_openai(settings: Settings, base_url: str, **more: object) -> Settings:
    given = {"embedding_provider": "openai", "openai_api_key": SecretStr("sk-none"), "openai_base_url": base_url}
    return settings.model_copy(update=given | more)


def embedding(api: Api, path: str) -> Any:
    answer = api.client.get(f"/api/v1/embedding/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@only_pgvector
def test_all_but_health_need_a_token(api: Api) -> None:
    base, nobody = "/api/v1/embedding", {"Authorization": ""}
    assert api.client.get(f"{base}/health", headers=nobody).json() == {"status": "ok"}
    for path in ("quota", "config", "cache/stats"):
        assert api.client.get(f"{base}/{path}", headers=nobody).status_code == 401
    assert api.client.delete(f"{base}/cache", headers=nobody).status_code == 401


@only_pgvector
def test_the_local_provider_has_no_quota_and_no_backup(api: Api) -> None:
    quota = embedding(api, "quota")
    reset_at = dt.datetime.fromisoformat(quota.pop("reset_at"))
    assert quota == {
        "daily_quota": None, "current_count": 0, "remaining": None, "exceeded": False, "vector_search_enabled": True,
        "fallback_enabled": False,
    }  # fmt: skip
    assert dt.timedelta(0) < reset_at - dt.datetime.now(dt.UTC) <= dt.timedelta(days=1)
    assert embedding(api, "config") == {
        "provider": "local", "model": "hashing-char-3-5", "backup_provider": None, "backup_model": None,
        "provider_fallback_enabled": False,
    }  # fmt: skip


@only_pgvector
def test_quota_and_cache_say_what_searches_have_cost(settings: Settings) -> None:
    with OpenAIServer().running() as provider:
        with served(with_openai(settings, provider.base_url, embedding_daily_quota=2)) as api:
            for text in ("churn", "churn", "onboarding"):
                assert ids(api.search(collection="content_embeddings", text=text)) == []
            assert len(provider.inputs) == 2
            used = embedding(api, "quota")
            assert (used["daily_quota"], used["current_count"], used["remaining"]) == (2, 2, 0)
            assert (used["exceeded"], used["vector_search_enabled"], used["fallback_enabled"]) == (True, False, False)
            assert api.search(collection="content_embeddings", text="pricing").json()["is_degraded"]  # by words alone
            assert not api.search(collection="content_embeddings", text="churn").json()["is_degraded"]  # from the cache
            assert ids(api.search(collection="prospect_embeddings", text="pricing")) == []  # by the local provider
            before = embedding(api, "cache/stats")
            assert (before["backend"], before["entries"], before["ttl_seconds"]) == ("postgres", 2, 604_800)
            assert api.client.delete("/api/v1/embedding/cache").json() == {"removed": 2}
            assert embedding(api, "cache/stats")["entries"] == 0
            assert api.search(collection="content_embeddings", text="churn").json()["is_degraded"]
        after = embedding_stats(settings)
    assert (after["hits"], after["misses"] > 0) == (2, True)


def embedding_stats(settings: Settings) -> Any:
    """What a service that starts later says of the cache: its counts are rows."""
    with served(settings) as api:
        return embedding(api, "cache/stats")


@only_pgvector
def test_a_backup_is_shown_and_a_provider_that_is_away_is_not_ready(settings: Settings) -> None:
    away = with_openai(settings, f"http://127.0.0.1:{reserved_port()}/v1", embedding_deadline_seconds=1.0)
    with served(away) as api:
        assert api.client.get("/readyz").status_code == 200  # nobody has asked it yet
        assert api.search(collection="content_embeddings", text="churn").json()["is_degraded"]
        time.sleep(1.1)  # an answer of /readyz is kept for a second
        ready = api.client.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["provider"]["is_ready"]) == (503, False)
        assert ready.json()["parts"]["database"]["is_ready"]
    backed_up = away.model_copy(update={"embedding_fallback_enabled": True, "embedding_backup_provider": "local"})
    with served(backed_up) as api:
        assert embedding(api, "config") == {
            "provider": "openai", "model": "text-embedding-3-small", "backup_provider": "local",
            "backup_model": "hashing-char-3-5", "provider_fallback_enabled": True,
        }  # fmt: skip
        assert embedding(api, "quota")["fallback_enabled"]
        assert api.client.get("/readyz").status_code == 200


# --- tokens ---------------------------------------------------------------------------------------------------------


@only_pgvector
def test_tokens_are_rotated_in_their_file_without_a_restart(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"

    def write(content: str, mode: int = 0o600) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(content)
        fresh.chmod(mode)
        fresh.replace(file)

    write("# of the crew\nold-token-of-the-file\n")
    with served(settings.model_copy(update={"everreach_api_tokens_file": file})) as api:

        def passes(token: str) -> bool:
            header = {"Authorization": f"Bearer {token}"}
            status = api.client.post("/api/v1/outcomes", json=outcome(), headers=header).status_code
            assert status in (200, 401)
            return status == 200

        assert passes("old-token-of-the-file")
        assert not passes("# of the crew")
        write("old-token-of-the-file\nnew-token-of-the-file\n")
        assert passes("old-token-of-the-file")
        assert passes("new-token-of-the-file")
        write("new-token-of-the-file\n")
        assert not passes("old-token-of-the-file")
        assert passes("new-token-of-the-file")
        faults: list[Callable[[], None]] = [
            lambda: file.chmod(0o604), lambda: file.chmod(0o620), lambda: write("two words\n"), file.unlink,
        ]  # fmt: skip
        for fault in faults:
            write("new-token-of-the-file\n")
            assert passes("new-token-of-the-file")
            fault()
            assert not passes("new-token-of-the-file")
            assert passes(TOKEN)  # of EVERREACH_API_TOKENS
        write("new-token-of-the-file\n", mode=0o640)
        assert passes("new-token-of-the-file")
    assert "chmod 600" in caplog.text
    assert "-of-the-file" not in caplog.text
    assert "two words" not in caplog.text


# --- readiness ------------------------------------------------------------------------------------------------------


def test_a_whole_service_is_ready(api: Api) -> None:
    assert api.client.get("/healthz").json() == {"status": "ok"}
    ready = api.client.get("/readyz", headers={"Authorization": ""})
    assert (ready.status_code, ready.json()["is_ready"]) == (200, True)
    assert {name: part["is_ready"] for name, part in ready.json()["parts"].items()} == {
        "database": True, "index": True, "provider": True,
    }  # fmt: skip


@pytest.mark.parametrize("settings", ["chroma"], indirect=True)
def test_an_index_that_is_away_is_named_and_no_address_is_shown(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.model_copy(update={"chroma_port": reserved_port()})
    with served(away) as api:
        answer = api.client.get("/readyz")
        assert api.client.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert {name: part["is_ready"] for name, part in answer.json()["parts"].items()} == {
        "database": True, "index": False, "provider": True,
    }  # fmt: skip
    assert str(away.chroma_port) not in answer.text
    assert f"Chroma at 127.0.0.1:{away.chroma_port} does not answer" in caplog.text


@only_pgvector
def test_a_database_without_tables_is_not_ready_and_one_that_is_away_neither(
    settings: Settings, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute("ALTER TABLE outcome_snapshots RENAME TO away")
        answer = api.client.get("/readyz")
        connection.execute("ALTER TABLE away RENAME TO outcome_snapshots")
    assert (answer.status_code, answer.json()["parts"]["database"]["is_ready"]) == (503, False)
    assert "everreach migrate" in caplog.text


# --- the log --------------------------------------------------------------------------------------------------------


@only_pgvector
def test_a_request_is_one_line_with_its_route_and_none_of_its_words(
    api: Api, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    canary = "canary-4711"
    api.client.post(
        "/api/v1/search",
        json={"collection": "content_embeddings", "text": f"ask {canary}", "where": {"account": canary}},
        headers={"X-Request-ID": "mine-7", "X-Other": canary},
    )
    api.record(outcome(canary, text=canary))
    api.record(outcome(canary, metrics={canary: 1}))
    api.client.get(f"/{canary}")
    refused = {"Authorization": f"Bearer {canary}"}
    api.client.post(f"/api/v1/search?q={canary}", content=f'{{"{canary}"', headers=refused)
    api.client.request(canary.upper(), "/api/v1/search")
    api.client.get("/metrics")
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute("ALTER TABLE outcome_snapshots ADD CHECK (metrics <> '{\"likes\": 4711}')")
        failed = api.record(outcome(canary, likes=4711))
        assert failed.status_code == 500
        assert canary not in failed.text
    ends_at = time.monotonic() + 10  # a request's line follows its answer
    while sum(record.getMessage() == "request" for record in caplog.records) < 7 and time.monotonic() < ends_at:
        time.sleep(0.01)
    # the caller is in this process, and its client logs what it calls
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name != "httpx"]
    requests = [line for line in lines if line["message"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/api/v1/search", 200),
        ("POST", "/api/v1/outcomes", 200),
        ("POST", "/api/v1/outcomes", 422),
        ("GET", "none", 404),
        ("POST", "/api/v1/search", 401),
        ("other", "/api/v1/search", 405),
        ("POST", "/api/v1/outcomes", 500),
    ]
    assert requests[0]["request_id"] == "mine-7"
    assert all(line["bytes_out"] > 0 and line["ms"] >= 0 and line["request_id"] for line in requests)
    (fault,) = [line for line in lines if "errors" in line]
    assert fault["request_id"] == requests[-1]["request_id"]
    assert "psycopg.errors.CheckViolation" in [each["type"] for each in fault["errors"]]
    assert canary not in json.dumps(lines).lower()
    assert TOKEN not in json.dumps(lines)
