"""The wording of claims by a language model, with the real client against a server that speaks its protocol."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from everreach_assets.domain.errors import InvalidInput
from resources.settings import Settings
from resources.wording import Worded, Wording, open_wording
from tests.claims import claim
from tests.openai_server import Answer, OpenAIServer, error

CLAIMS = [claim("a"), claim("b", trait="#launch"), claim("c", evidence="explore")]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    def phrase(claims: list[dict[str, Any]]) -> object:
        return {
            each["id"]: f"Posts with '{each['trait']}' get {each['times_the_others']} times more." for each in claims
        }

    with OpenAIServer().running() as running:
        running.phrase = phrase
        yield running


def wording(server: OpenAIServer, seconds: float = 5) -> Wording:
    return Wording(server.base_url, "small-model", api_key="key-of-the-test", timeout_seconds=seconds)


def test_claims_are_phrased_by_one_call_that_holds_nothing_else(server: OpenAIServer) -> None:
    worded = wording(server).phrase(CLAIMS)
    assert worded.sentences["a"] == "Posts with 'opens with a number' get 1.83 times more."
    assert worded.results == {"kept": 2, "dropped": 0}
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer key-of-the-test"
    assert request.body["model"] == "small-model"
    assert "x:1" not in str(request.body)  # the posts that a claim cites are not told
    assert "explore" not in request.inputs[1]


def test_a_sentence_with_a_number_of_its_own_is_dropped_and_the_others_stay(server: OpenAIServer) -> None:
    server.phrase = lambda _: {"a": "They get 3 times more.", "b": "They do better.", "z": "No such claim."}
    worded = wording(server).phrase(CLAIMS)
    assert worded == Worded({"b": "They do better."}, {"kept": 1, "dropped": 1})


@pytest.mark.parametrize(
    "answer",
    [
        error(500),
        error(429, retry_after="60"),
        error(401),
        Answer(body=b"<html>no JSON</html>"),
        Answer(body={"choices": []}),
        Answer(body={"choices": [{"message": {"content": None}}]}),
        Answer(body=[1]),
        Answer(drop="reset"),
    ],
)
def test_a_server_that_fails_costs_one_call_and_nothing_else(server: OpenAIServer, answer: Answer) -> None:
    server.always = answer
    assert wording(server).phrase(CLAIMS) == Worded(results={"failed": 2})
    assert len(server.requests) == 1


@pytest.mark.parametrize("said", ["no JSON", '["a list"]', "null", '{"a": {"deeper": 1}}', "NaN"])
def test_an_answer_that_is_no_object_of_sentences_phrases_nothing(server: OpenAIServer, said: str) -> None:
    server.phrase = lambda _: said
    assert wording(server).phrase(CLAIMS).sentences == {}


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_server_that_does_not_come_to_an_end_is_left_in_time(server: OpenAIServer, how: str) -> None:
    server.always = Answer(drop=how)
    start = time.monotonic()
    assert wording(server, 0.5).phrase(CLAIMS).results == {"failed": 2}
    assert time.monotonic() - start < 3


def test_the_log_names_the_failure_and_nothing_that_was_sent(
    server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.always = error(400, message="your prompt 'opens with a number' and key-of-the-test")
    with caplog.at_level(logging.WARNING):
        wording(server).phrase(CLAIMS)
    assert "BadRequestError" in caplog.text
    assert "opens with" not in caplog.text
    assert "key-of" not in caplog.text


def test_nobody_is_asked_unless_a_server_is_named() -> None:
    assert open_wording(Settings(_env_file=None)).phrase(CLAIMS) == Worded()


def test_a_server_without_a_model_is_refused() -> None:
    settings = Settings(
        _env_file=None, strategy_wording_url="http://127.0.0.1:9/v1", strategy_wording_key=SecretStr("key")
    )
    with pytest.raises(InvalidInput, match="STRATEGY_WORDING_MODEL"):
        open_wording(settings)
