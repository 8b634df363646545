"""`/api/v1/strategies/{platform}`, under the real server on a real Postgres."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from everreach_assets.drafts import DraftScorer
from everreach_assets.service.request_log import JsonLines
from tests.api_server import Api, served, settings_of
from tests.claims import claim, store
from tests.integration.test_feedback_loop import Loop
from tests.integration.test_strategy_gate import HISTORY, observe

DRAFT = {"text": "Post about soup", "account": "ann", "post_type": "thread", "published_at": "2026-06-01T12:00:00Z"}


@pytest.fixture
def loop(database: Any) -> Loop:
    return Loop(database)


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with served(settings_of(database_url)) as opened:
        yield opened


def score(api: Api, platform: str = "x", **changed: Any) -> Any:
    return api.client.post(f"/api/v1/strategies/{platform}/score", json=DRAFT | changed)


def test_the_strategy_in_force_and_a_drafts_score_are_answered(
    api: Api, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    observe(loop, range(HISTORY))
    in_force = loop.rebuild().in_force
    assert in_force is not None
    assert in_force.content is not None
    shown = api.client.get("/api/v1/strategies/x").json()
    assert (shown["strategy_id"], shown["strategy"]) == (
        in_force.strategy_id,
        in_force.content.model_dump(mode="json"),
    )

    with caplog.at_level(logging.INFO):
        answer = score(api)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found.pop("strategy_id") == in_force.strategy_id
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    expected = scorer.score(
        "Post about soup", "x", "ann", in_force.created_at.replace(2026, 6, 1, 12, 0, 0, 0), "thread"
    )
    assert found == expected.score.model_dump(mode="json")
    logged = "\n".join(JsonLines().format(record) for record in caplog.records)
    assert '"route": "/api/v1/strategies/{platform}/score"' in logged
    assert "soup" not in logged
    assert score(api, published_at=None, post_type="").status_code == 200


def test_a_platform_without_a_strategy_is_not_found(api: Api) -> None:
    for answer in (api.client.get("/api/v1/strategies/tiktok"), score(api, "tiktok")):
        assert answer.status_code == 404
        assert "no strategy is in force on 'tiktok'" in answer.json()["error"]


def test_a_draft_that_is_none_is_refused_by_its_place(api: Api) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"text": None}, "text"),
        ({"text": "x" * 20_001}, "text"),
        ({"account": 7}, "account"),
        ({"account": "a" * 201}, "account"),
        ({"published_at": "2026-06-01"}, "published_at"),
        ({"published_at": "2026-06-01T12:00:00"}, "published_at"),
        ({"niche": "cooking"}, "niche"),
    ]
    for changed, place in wrong:
        answer = score(api, **changed)
        assert answer.status_code == 422
        assert [each["place"] for each in answer.json()["details"]] == [place]


def test_an_account_that_is_an_address_is_refused_and_not_repeated(api: Api, loop: Loop) -> None:
    store(loop.database, claim())
    answer = score(api, account="zebediah@example.com")
    assert answer.status_code == 422
    assert "zebediah" not in answer.text


def test_what_is_no_platform_is_refused_and_not_repeated(api: Api) -> None:
    for platform in ("X", "a b", "x;drop", "%00", "x" * 40, "é"):
        for answer in (api.client.get(f"/api/v1/strategies/{platform}"), score(api, platform)):
            assert answer.status_code == 422
            assert answer.json()["details"][0]["place"] == "platform"
            assert len(platform) < 3 or platform not in answer.text


def test_without_a_token_nothing_is_answered(api: Api) -> None:
    headers = {"Authorization": "Bearer wrong"}
    assert api.client.get("/api/v1/strategies/x", headers=headers).status_code == 401
    answer = api.client.post("/api/v1/strategies/x/score", content=json.dumps(DRAFT), headers=headers)
    assert answer.status_code == 401
