"""The OpenAI provider: the real client against a server that speaks the protocol, in good days and in bad ones."""

import datetime as dt
import email.utils
import logging
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.vectors import WIDTH, Vector
from resources.embedder import EmbeddedText, Embedder, NotEmbedded
from resources.embedding_pipeline import EmbeddingPipeline
from resources.provider_requests import EXTRA_CALLS, ProviderRequests
from resources.providers import EmbeddingProvider, OpenAIProvider
from resources.providers.openai_compatible import MAX_INPUT_TOKENS, MAX_INPUTS, MAX_REQUEST_TOKENS
from resources.providers.tokens import cl100k_tokens
from tests.openai_server import Answer, OpenAIServer, Rows, error, vector_of

KEY = "sk-never-to-be-seen-0123456789"
SECRET_TEXT = "an unannounced product"


@pytest.fixture(scope="module", autouse=True)
def _client_is_loaded() -> None:
    """The first call of a process takes a second or more; the tests time later ones."""
    with OpenAIServer().running() as running:
        embed(provider_of(running), "one")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer().running() as running:
        yield running


def provider_of(
    server: OpenAIServer,
    *,
    model: str = "text-embedding-3-small",
    width: int = WIDTH,
    timeout_seconds: float = 5.0,
    deadline_seconds: float = 10.0,
    pipeline: EmbeddingPipeline | None = None,
) -> Embedder:
    """An embedder with that provider, without cache, quota and breaker."""
    provider = OpenAIProvider(api_key=KEY, base_url=server.base_url, model=model, width=width)

    def requests_of(each: EmbeddingProvider, _: bool) -> ProviderRequests:
        return ProviderRequests(each, timeout_seconds=timeout_seconds, deadline_seconds=deadline_seconds)

    return Embedder(provider, pipeline=pipeline or EmbeddingPipeline(concurrency=1), requests_of=requests_of)


def embed(embedder: Embedder, *texts: str) -> list[Vector | None]:
    return embedder.embed_many(CONTENT.name, texts).vectors


# --- the good day -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignores_base64", [False, True], ids=["base64", "floats"])
def test_vectors_come_back_in_the_order_of_their_texts(server: OpenAIServer, ignores_base64: bool) -> None:
    server.ignores_base64 = ignores_base64
    vectors = embed(provider_of(server), "one", "two", "three")
    for vector, text in zip(vectors, ("one", "two", "three"), strict=True):
        assert vector is not None
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, vector_of(text), atol=1e-6)


def test_the_request_is_what_the_protocol_asks_for(server: OpenAIServer) -> None:
    embed(provider_of(server), "one", "two")
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "text-embedding-3-small",
        "input": ["one", "two"],
        "dimensions": 1536,
        "encoding_format": "base64",
    }


def test_a_model_of_another_family_is_not_asked_for_dimensions(server: OpenAIServer) -> None:
    server.width = 384
    embed(provider_of(server, model="all-minilm", width=384), "one")
    assert "dimensions" not in server.requests[0].body


def test_a_narrow_vector_is_padded_with_zeros_and_keeps_its_angles(server: OpenAIServer) -> None:
    server.width = 384
    one, two = embed(provider_of(server, model="all-minilm", width=384), "one", "two")
    assert one is not None
    assert two is not None
    assert one.shape == (WIDTH,)
    assert not one[384:].any()
    assert float(one @ two) == pytest.approx(float(vector_of("one", 384) @ vector_of("two", 384)), abs=1e-6)


def test_an_answer_in_another_order_is_put_right(server: OpenAIServer) -> None:
    server.script.append(Answer(change=lambda rows: rows[::-1]))
    vectors = embed(provider_of(server), "one", "two", "three")
    for vector, text in zip(vectors, ("one", "two", "three"), strict=True):
        np.testing.assert_allclose(np.asarray(vector), vector_of(text), atol=1e-6)


def test_a_text_that_says_nothing_has_no_vector_and_is_not_sent(server: OpenAIServer) -> None:
    empty, one, blank = embed(provider_of(server), "", "one", " \n\t ")
    assert empty is None
    assert blank is None
    assert one is not None
    assert server.inputs == ["one"]


def test_no_text_is_no_request(server: OpenAIServer) -> None:
    assert embed(provider_of(server)) == []
    assert embed(provider_of(server), "", "  ") == [None, None]
    assert server.requests == []


# --- sizes ------------------------------------------------------------------------------------------------------


def test_a_batch_has_at_most_2048_inputs(server: OpenAIServer) -> None:
    provider = provider_of(server, model="narrow", width=8)
    server.width = 8
    texts = [f"post {number}" for number in range(MAX_INPUTS + 1)]
    vectors = embed(provider, *texts)
    assert [len(request.inputs) for request in server.requests] == [MAX_INPUTS, 1]
    assert server.inputs == texts
    np.testing.assert_allclose(np.asarray(vectors[-1])[:8], vector_of(texts[-1], 8), atol=1e-6)


def test_a_request_has_at_most_300_000_tokens(server: OpenAIServer) -> None:
    long = " word" * 7_990
    texts = [f"{number}{long}" for number in range(40)]
    embed(provider_of(server), *texts)
    sizes = [sum(cl100k_tokens(text) for text in request.inputs) for request in server.requests]
    assert len(sizes) == 2
    assert 250_000 < max(sizes) <= MAX_REQUEST_TOKENS
    assert server.inputs == texts


def test_a_long_text_is_the_mean_of_its_parts_weighted_by_their_tokens(server: OpenAIServer) -> None:
    long = " ".join(f"word{number}" for number in range(9_000)) + " é€😀 end"
    (vector,) = embed(provider_of(server), long)
    parts = server.inputs
    assert " ".join(parts) == long
    assert len(parts) >= 3
    assert all(0 < cl100k_tokens(part) <= MAX_INPUT_TOKENS for part in parts)
    mean = sum(cl100k_tokens(part) * vector_of(part) for part in parts)
    np.testing.assert_allclose(np.asarray(vector), mean / np.linalg.norm(mean), atol=1e-6)


def test_a_long_text_whose_parts_fall_into_two_requests_is_still_one_vector(server: OpenAIServer) -> None:
    filler = [f"{number}" + " word" * 7_990 for number in range(36)]
    long = " ".join(f"word{number}" for number in range(5_200))
    vectors = embed(provider_of(server), *filler, long, "last")
    first, second = server.requests
    assert f"{first.inputs[-1]} {second.inputs[0]}" == long
    assert len(second.inputs) == 2
    mean = sum(cl100k_tokens(part) * vector_of(part) for part in (first.inputs[-1], second.inputs[0]))
    np.testing.assert_allclose(np.asarray(vectors[36]), mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(np.asarray(vectors[37]), vector_of("last"), atol=1e-6)


def test_a_long_text_is_refused_where_the_operator_says_so_and_the_others_land(server: OpenAIServer) -> None:
    embedder = provider_of(server, pipeline=EmbeddingPipeline(refuses_long_texts=True))
    one, long = embedder.embed_many(CONTENT.name, ["one", "word " * 9_000]).results
    assert isinstance(one, EmbeddedText)
    assert long == NotEmbedded("too_long")
    assert server.inputs == ["one"]


def test_no_character_is_cut_in_two(server: OpenAIServer) -> None:
    text = "".join(f"{number}😀" for number in range(4_000))  # without a blank to cut at
    embed(provider_of(server), text)
    assert "".join(server.inputs) == text


# --- the bad day ------------------------------------------------------------------------------------------------

TRANSIENT = {
    "429": error(429, code="rate_limit_exceeded"),
    "429 with seconds": error(429, retry_after="0.2"),
    "500": error(500),
    "503": error(503),
    "reset": Answer(drop="reset"),
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT)
def test_a_passing_fault_is_tried_again(server: OpenAIServer, answer: Answer) -> None:
    server.script += [answer, answer]
    (vector,) = embed(provider_of(server), "one")
    np.testing.assert_allclose(np.asarray(vector), vector_of("one"), atol=1e-6)
    assert len(server.requests) == 3


def test_a_call_that_hangs_is_given_up_and_tried_again(server: OpenAIServer) -> None:
    server.script.append(Answer(drop="hang"))
    (vector,) = embed(provider_of(server, timeout_seconds=0.3), "one")
    assert vector is not None
    assert len(server.requests) == 2


def test_retry_after_in_seconds_is_waited_for(server: OpenAIServer) -> None:
    server.script.append(error(429, retry_after="1.5"))
    embed(provider_of(server), "one")
    first, second = (request.at for request in server.requests)
    assert 1.5 <= second - first < 2.5


def test_retry_after_as_a_date_is_waited_for(server: OpenAIServer) -> None:
    until = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=4)  # HTTP dates have whole seconds
    server.script.append(error(503, retry_after=email.utils.format_datetime(until, usegmt=True)))
    embed(provider_of(server), "one")
    assert len(server.requests) == 2
    late = (dt.datetime.now(dt.UTC) - until).total_seconds()
    assert -0.1 < late < 3


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "Thu, 99 Foo 2026", "1" * 400])
def test_a_retry_after_that_makes_no_sense_does_no_harm(server: OpenAIServer, value: str) -> None:
    server.script.append(error(429, retry_after=value))
    start = time.monotonic()
    try:
        embed(provider_of(server, deadline_seconds=4.0), "one")
    except Unavailable:
        assert len(server.requests) == 1
    assert time.monotonic() - start < 4.0


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(server: OpenAIServer) -> None:
    server.always = error(429, retry_after="3600")
    start = time.monotonic()
    with pytest.raises(Unavailable):
        embed(provider_of(server, deadline_seconds=5.0), "one")
    assert time.monotonic() - start < 1.0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "deadline_seconds"),
    [
        (error(503), 2.0),
        (error(429, retry_after="0.9"), 1.5),
        (Answer(drop="hang"), 2.6),
        (Answer(drop="reset"), 1.5),
    ],
    ids=["503", "429 with seconds", "hang", "reset"],
)
def test_retries_end_with_the_deadline(server: OpenAIServer, answer: Answer, deadline_seconds: float) -> None:
    server.always = answer
    start = time.monotonic()
    with pytest.raises(Unavailable, match="deadline"):
        embed(provider_of(server, timeout_seconds=1.0, deadline_seconds=deadline_seconds), "one")
    assert time.monotonic() - start <= deadline_seconds + 0.5
    assert len(server.requests) >= 2


def test_the_client_adds_no_retries_of_its_own(server: OpenAIServer) -> None:
    server.script += [error(500), error(500), error(500)]
    embed(provider_of(server, deadline_seconds=30.0), "one")
    gaps = np.diff([request.at for request in server.requests])
    assert len(server.requests) == 4
    assert all(request.headers.get("x-stainless-retry-count") == "0" for request in server.requests)
    assert min(gaps) > 0.1  # ours wait; a second layer would come at once in between


def test_a_server_that_is_not_there_is_unavailable(server: OpenAIServer) -> None:
    gone = OpenAIServer()
    gone._server.server_close()
    with pytest.raises(Unavailable):
        embed(provider_of(gone, deadline_seconds=1.0), "one")


PERMANENT = {
    "401": (error(401, code="invalid_api_key", message=f"Incorrect API key: {KEY}"), Refused, "OPENAI_API_KEY"),
    "403": (error(403), Refused, "OPENAI_API_KEY"),
    "402": (error(402), Refused, "quota of this key is used up .* OPENAI_API_KEY"),
    "quota": (
        error(429, code="insufficient_quota", retry_after="1"),
        Refused,
        "quota of this key is used up .* OPENAI_API_KEY",
    ),
    "400": (error(400, message=f"cannot embed '{SECRET_TEXT}'"), InvalidInput, "EMBEDDING_MODEL"),
    "404": (error(404, code="model_not_found"), InvalidInput, "EMBEDDING_MODEL"),
}


@pytest.mark.parametrize(("answer", "kind", "advice"), PERMANENT.values(), ids=PERMANENT)
def test_a_refusal_is_told_at_once_with_what_to_do(
    server: OpenAIServer, answer: Answer, kind: type[Exception], advice: str
) -> None:
    server.always = answer
    with pytest.raises(kind, match=advice):
        embed(provider_of(server), "one")
    assert len(server.requests) == (2 if answer.status == 400 else 1)  # 400: is it the text? a harmless one tells


def without_last(rows: Rows) -> Rows:
    return rows[:-1]


def twice_the_first(rows: Rows) -> Rows:
    return [rows[0], rows[0], *rows[2:]]


def one_too_many(rows: Rows) -> Rows:
    return [*rows, (len(rows), rows[0][1])]


def narrower(rows: Rows) -> Rows:
    return [(number, vector[:100]) for number, vector in rows]


def second_narrower(rows: Rows) -> Rows:
    return [(number, vector[:100] if number == 1 else vector) for number, vector in rows]


def with_nan(rows: Rows) -> Rows:
    return [(number, np.where(np.arange(len(vector)) == 3, np.float32("nan"), vector)) for number, vector in rows]


def with_infinity(rows: Rows) -> Rows:
    return [(number, np.where(np.arange(len(vector)) == 3, np.float32("inf"), vector)) for number, vector in rows]


def second_zero(rows: Rows) -> Rows:
    return [(number, np.zeros_like(vector) if number == 1 else vector) for number, vector in rows]


def second_not_unit(rows: Rows) -> Rows:
    return [(number, vector * 1.5 if number == 1 else vector) for number, vector in rows]


def second_nan(rows: Rows) -> Rows:
    return [(number, vector * np.float32("nan") if number == 1 else vector) for number, vector in rows]


def nothing(rows: Rows) -> Rows:
    return []


FALSE_VECTORS = (
    without_last,
    twice_the_first,
    one_too_many,
    narrower,
    with_nan,
    with_infinity,
    nothing,
)


@pytest.mark.parametrize("ignores_base64", [False, True], ids=["base64", "floats"])
@pytest.mark.parametrize("change", FALSE_VECTORS, ids=lambda change: change.__name__)
def test_vectors_that_are_not_what_was_asked_for_are_refused(
    server: OpenAIServer, change: Callable[[Rows], Rows], ignores_base64: bool
) -> None:
    server.ignores_base64 = ignores_base64
    server.always = Answer(change=change)
    with pytest.raises(InvalidInput, match="openai/text-embedding-3-small"):
        embed(provider_of(server), "one", "two")
    assert len(server.requests) <= 2  # a harmless text tells that it is not these two


BAD_ITEMS = (second_narrower, second_zero, second_not_unit, second_nan)


@pytest.mark.parametrize("change", BAD_ITEMS, ids=lambda change: change.__name__)
def test_a_bad_item_is_asked_for_alone_and_the_others_land(
    server: OpenAIServer, change: Callable[[Rows], Rows]
) -> None:
    server.script.append(Answer(change=change))
    vectors = embed(provider_of(server), "one", "two", "three")
    assert [request.inputs for request in server.requests] == [["one", "two", "three"], ["two"]]
    for vector, text in zip(vectors, ("one", "two", "three"), strict=True):
        np.testing.assert_allclose(np.asarray(vector), vector_of(text), atol=1e-6)


def test_an_answer_of_another_model_is_refused_and_a_version_of_the_same_is_not(server: OpenAIServer) -> None:
    server.answers_as = "text-embedding-3-large"
    with pytest.raises(InvalidInput, match="another model"):
        embed(provider_of(server), "one")
    server.answers_as = "openai/text-embedding-3-small"
    assert embed(provider_of(server), "one")[0] is not None


def refuses(*banned: str) -> Callable[[list[str]], Answer | None]:
    """A content filter: a request with such a text in it is refused whole."""
    return lambda inputs: error(400, code="content_filter") if set(banned) & set(inputs) else None


def test_a_text_that_the_provider_refuses_does_not_take_the_others_with_it(server: OpenAIServer) -> None:
    texts = [f"post {number}" for number in range(2_048)]
    banned = {texts[0], texts[700], texts[2_047]}
    server.rule = refuses(*banned)
    results = provider_of(server).embed_many(CONTENT.name, texts).results
    refused = {
        text for text, result in zip(texts, results, strict=True) if result == NotEmbedded("refused_by_provider")
    }
    assert refused == banned
    assert sum(isinstance(result, EmbeddedText) for result in results) == len(texts) - 3
    assert len(server.requests) <= 1 + 1 + 3 * 2 * 11


def test_the_search_for_refused_texts_is_bounded(server: OpenAIServer) -> None:
    texts = [f"post {number}" for number in range(1_000)]
    server.rule = refuses(*texts[::2])
    results = provider_of(server).embed_many(CONTENT.name, texts).results
    assert len(server.requests) <= 1 + 1 + EXTRA_CALLS
    assert all(isinstance(result, NotEmbedded) for result in results[::2])


FALSE_BODIES = {
    "a web page": Answer(headers={"Content-Type": "text/html"}, body=b"<html>It works!</html>"),
    "no json": Answer(body=b"{"),
    "another object": Answer(body={"hello": "world"}),
    "no base64": Answer(body={"data": [{"index": 0, "embedding": "?"}], "model": "m", "object": "list"}),
    "a list": Answer(body=[1, 2, 3]),
}


@pytest.mark.parametrize("answer", FALSE_BODIES.values(), ids=FALSE_BODIES)
def test_an_answer_that_is_not_the_protocol_says_where_to_look(server: OpenAIServer, answer: Answer) -> None:
    server.always = answer
    with pytest.raises(InvalidInput, match="OPENAI_BASE_URL"):
        embed(provider_of(server), "one")


LEAKS = {
    "401": error(401, message=f"Incorrect API key provided: {KEY}"),
    "400": error(400, message=f"{SECRET_TEXT} is too long"),
    "500": error(500, message=f"crashed on {SECRET_TEXT}"),
    "quota": error(429, code="insufficient_quota", message=f"{KEY}: {SECRET_TEXT}"),
    "a web page": Answer(headers={"Content-Type": "text/html"}, body=f"<html>{SECRET_TEXT} {KEY}".encode()),
    "false vectors": Answer(change=with_nan),
}


@pytest.mark.parametrize("answer", LEAKS.values(), ids=LEAKS)
def test_neither_text_nor_key_is_in_what_is_raised_or_logged(
    server: OpenAIServer, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback too: Dagster stores and shows it with every error that led to it."""
    server.always = answer
    caplog.set_level(logging.INFO)
    with pytest.raises((Refused, InvalidInput, Unavailable)) as raised:
        embed(provider_of(server, deadline_seconds=1.0), SECRET_TEXT)
    told = "".join(traceback.format_exception(raised.value)) + caplog.text
    assert SECRET_TEXT not in told
    assert KEY not in told
