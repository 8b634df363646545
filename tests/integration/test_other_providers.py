"""Voyage and `POST /embed`: the real clients against servers that speak the protocols, and refuse as they do."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from resources.embedder import EmbeddedText, Embedder, NotEmbedded
from resources.embedding_pipeline import EmbeddingPipeline
from resources.provider_requests import ProviderRequests
from resources.providers import EmbeddingProvider, PlainHttpProvider, VoyageProvider
from tests.embed_server import EmbedServer
from tests.openai_server import Answer, OpenAIServer, error, vector_of
from tests.voyage_server import VoyageServer

KEY = "pa-never-to-be-seen-0123456789"
SECRET_TEXT = "an unannounced product"


def embedder_of(provider: EmbeddingProvider, *, deadline_seconds: float = 10.0) -> Embedder:
    return Embedder(
        provider,
        pipeline=EmbeddingPipeline(concurrency=1),
        requests_of=lambda each, _: ProviderRequests(each, timeout_seconds=1.0, deadline_seconds=deadline_seconds),
    )


@pytest.fixture
def voyage() -> Iterator[VoyageServer]:
    server = VoyageServer()
    with server.running():
        yield server


def voyage_embedder(server: VoyageServer, *, deadline_seconds: float = 10.0) -> Embedder:
    provider = VoyageProvider(api_key=KEY, model="voyage-3.5", base_url=server.base_url)
    return embedder_of(provider, deadline_seconds=deadline_seconds)


def test_voyages_request_is_what_its_reference_asks_for(voyage: VoyageServer) -> None:
    (vector,) = voyage_embedder(voyage).embed_many(CONTENT.name, ["one"]).vectors
    (request,) = voyage.requests
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "voyage-3.5",
        "input": ["one"],
        "input_type": "document",
        "output_dimension": 1024,
        "truncation": False,
        "encoding_format": "base64",
    }
    assert vector is not None
    np.testing.assert_allclose(vector[:1024], vector_of("one", 1024), atol=1e-6)
    assert not vector[1024:].any()


def test_a_query_is_embedded_as_one(voyage: VoyageServer) -> None:
    found = voyage_embedder(voyage).embed_query(CONTENT.name, "one")
    assert voyage.requests[0].body["input_type"] == "query"
    np.testing.assert_allclose(found.vector[:1024], vector_of("as a query: one", 1024), atol=1e-6)
    assert str(found.space) == "voyage/voyage-3.5"


def test_voyages_limits_are_kept(voyage: VoyageServer) -> None:
    texts = [f"post {number}" for number in range(1_001)]
    results = voyage_embedder(voyage).embed_many(CONTENT.name, texts).results
    assert [len(request.inputs) for request in voyage.requests] == [1_000, 1]
    assert all(isinstance(each, EmbeddedText) for each in results)
    voyage.requests.clear()
    long = [f"{number}" + " word" * 6_000 for number in range(12)]  # 30,000 bytes each
    voyage_embedder(voyage).embed_many(CONTENT.name, long)
    assert [len(request.inputs) for request in voyage.requests] == [10, 2]


FAULTS = {
    "401": (error(401, message=KEY), Refused, "VOYAGE_API_KEY"),
    "402": (error(402, message=KEY), Refused, "quota of this key is used up .* VOYAGE_API_KEY"),
    "400": (error(400, message=SECRET_TEXT), InvalidInput, "VOYAGE_MODEL"),
    "503": (error(503, message=SECRET_TEXT), Unavailable, "deadline"),
    "hang": (Answer(drop="hang"), Unavailable, "deadline"),
    "reset": (Answer(drop="reset"), Unavailable, "deadline"),
    "a web page": (Answer(body=f"<html>{SECRET_TEXT}".encode()), InvalidInput, "VOYAGE_BASE_URL"),
    "a redirect": (Answer(307, {"Location": "http://127.0.0.1:1/"}, body={}), InvalidInput, "VOYAGE_BASE_URL"),
    "another object": (Answer(body={"embeddings": []}), InvalidInput, "VOYAGE_BASE_URL"),
}


@pytest.mark.parametrize(("answer", "kind", "advice"), FAULTS.values(), ids=FAULTS)
def test_voyages_faults_are_told_with_what_to_do_and_without_text_or_key(
    voyage: VoyageServer, answer: Answer, kind: type[Exception], advice: str
) -> None:
    voyage.always = answer
    with pytest.raises(kind, match=advice) as raised:
        voyage_embedder(voyage, deadline_seconds=1.5).embed_many(CONTENT.name, [SECRET_TEXT])
    assert SECRET_TEXT not in str(raised.getrepr(style="long"))
    assert KEY not in str(raised.getrepr(style="short"))


@pytest.mark.parametrize("field", ["texts", "inputs"])
def test_an_embed_server_is_sent_what_it_takes(field: str) -> None:
    name: Literal["texts", "inputs"] = "texts" if field == "texts" else "inputs"
    server = EmbedServer(name)
    with server.running():
        provider = PlainHttpProvider(address=server.base_url, model="e5", width=384, field=name, token="t-1")
        texts = [f"post {number}" for number in range(33)]
        vectors = embedder_of(provider).embed_many(CONTENT.name, texts).vectors
    assert [len(request.inputs) for request in server.requests] == [32, 1]
    expected = {name: ["post 32"], "normalize": True} | ({"truncate": False} if name == "inputs" else {})
    assert server.requests[1].body == expected
    assert server.requests[1].headers["authorization"] == "Bearer t-1"
    for vector, text in zip(vectors, texts, strict=True):
        assert vector is not None
        np.testing.assert_allclose(vector[:384], vector_of(text, 384), atol=1e-6)


def test_an_embed_server_without_a_token_is_sent_none() -> None:
    server = EmbedServer()
    with server.running():
        provider = PlainHttpProvider(address=server.base_url, model="e5", width=384)
        embedder_of(provider).embed_many(CONTENT.name, ["one"])
    assert "authorization" not in server.requests[0].headers


EMBED_FAULTS: dict[str, Answer] = {
    "one vector too few": Answer(change=lambda rows: rows[:-1]),
    "another width": Answer(change=lambda rows: [(number, vector[:10]) for number, vector in rows]),
    "no numbers": Answer(body={"embeddings": [["a"]]}),
    "another object": Answer(body={"data": []}),
    "another model": Answer(body={"embeddings": [vector_of("x", 384).tolist()], "model": "other"}),
}


@pytest.mark.parametrize("answer", EMBED_FAULTS.values(), ids=EMBED_FAULTS)
def test_an_embed_servers_answer_is_believed_only_if_it_is_one(answer: Answer) -> None:
    server = EmbedServer()
    with server.running():
        server.always = answer
        provider = PlainHttpProvider(address=server.base_url, model="e5", width=384)
        with pytest.raises(InvalidInput, match="EMBEDDING_HTTP"):
            embedder_of(provider).embed_many(CONTENT.name, ["one"])


def test_a_text_that_an_embed_server_cannot_tokenize_does_not_take_the_others_with_it() -> None:
    server = EmbedServer("inputs")
    with server.running():
        server.rule = lambda inputs: error(422) if "bad" in inputs else None
        provider = PlainHttpProvider(address=server.base_url, model="e5", width=384, field="inputs")
        results = embedder_of(provider).embed_many(CONTENT.name, ["one", "bad", "two"]).results
    assert results[1] == NotEmbedded("refused_by_provider")
    assert isinstance(results[0], EmbeddedText)
    assert isinstance(results[2], EmbeddedText)


def test_rate_limits_of_all_providers_are_waited_for() -> None:
    servers: list[OpenAIServer] = [VoyageServer(), EmbedServer()]
    for server in servers:
        with server.running():
            server.script.append(error(429, retry_after="0.3"))
            embedder = (
                voyage_embedder(server)
                if isinstance(server, VoyageServer)
                else embedder_of(PlainHttpProvider(address=server.base_url, model="e5", width=384))
            )
            embedder.embed_many(CONTENT.name, ["one"])
        first, second = server.requests
        assert second.at - first.at >= 0.3
