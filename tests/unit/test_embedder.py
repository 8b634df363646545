"""The embedder: what reaches a provider, and which provider it is."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from everreach_assets.domain.collections import COLLECTIONS, CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.scrubbing import ScrubbedText
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Vector
from resources.embedder import EmbeddedText, Embedder, open_provider
from resources.providers import LocalHashingProvider, OpenAIProvider
from resources.settings import Settings

PERSONAL = "Dear Priya, write to priya.iyer@example.com or call +1 (415) 555-2671 about the demo."
TRACES = ("Priya", "priya", "iyer", "example.com", "415", "555", "2671")


class RecordingProvider:
    """A remote provider that notes what it was given."""

    space = Space("recording", "first-letters", WIDTH, "1")

    def __init__(self) -> None:
        self.given: list[object] = []

    def embed(self, texts: Sequence[ScrubbedText]) -> list[Vector | None]:
        self.given += texts
        return [np.full(WIDTH, len(each.text), np.float32) if each.text.strip() else None for each in texts]

    @property
    def given_texts(self) -> list[str]:
        return [each.text for each in self.given if isinstance(each, ScrubbedText)]


@pytest.fixture
def remote() -> RecordingProvider:
    return RecordingProvider()


@pytest.mark.parametrize("collection", [CONTENT.name, OUTCOMES.name, LESSONS.name])
def test_a_provider_is_given_scrubbed_texts_only(remote: RecordingProvider, collection: str) -> None:
    result = Embedder(remote).embed_many(collection, [PERSONAL, "Salt the water."])
    assert all(type(each) is ScrubbedText for each in remote.given)
    assert not any(trace in text for text in remote.given_texts for trace in TRACES)
    assert remote.given_texts[1] == "Salt the water."
    assert dict(result.redactions) == {"email": 1, "phone": 1, "name": 1}


def test_known_names_are_taken_out_wherever_they_stand(remote: RecordingProvider) -> None:
    Embedder(remote, ["Dmitri Jankowski"]).embed_many(CONTENT.name, ["As dmitri jankowski said: sleep more."])
    assert remote.given_texts == ["As [NAME] said: sleep more."]


@pytest.mark.parametrize("collection", [PROSPECTS.name, "client_data"])
def test_a_local_only_collection_never_reaches_a_remote_provider(remote: RecordingProvider, collection: str) -> None:
    embedder = Embedder(remote)
    result = embedder.embed_many(collection, ["Founder. Wants a demo."])
    assert remote.given == []
    assert embedder.space_of(collection) == LocalHashingProvider.space
    assert result.vectors[0] is not None


def test_prospects_are_embedded_as_without_any_remote_provider(remote: RecordingProvider) -> None:
    text = "Founder. Wants a demo of the guide."
    by_remote = asyncio.run(Embedder(remote).embed_prospect(text))
    np.testing.assert_array_equal(by_remote, asyncio.run(Embedder().embed_prospect(text)))
    assert remote.given == []


def test_a_handle_is_personal_in_a_prospect_and_content_in_a_post() -> None:
    embedder = Embedder()
    assert embedder.scrub(PROSPECTS.name, "Ask @priya_iyer").text == "Ask [NAME]"
    assert embedder.scrub(CONTENT.name, "Ask @priya_iyer").text == "Ask @priya_iyer"


def test_the_spaces_of_local_only_and_other_collections_differ(remote: RecordingProvider) -> None:
    spaces = {name: Embedder(remote).space_of(name).space_id for name in COLLECTIONS}
    assert spaces[PROSPECTS.name] == LocalHashingProvider.space.space_id
    assert {spaces[each.name] for each in (CONTENT, OUTCOMES, LESSONS)} == {remote.space.space_id}
    assert remote.space.space_id != LocalHashingProvider.space.space_id


def test_without_a_provider_every_collection_is_local() -> None:
    assert {Embedder().space_of(name) for name in COLLECTIONS} == {LocalHashingProvider.space}


@pytest.mark.parametrize(
    ("change", "value"), [("provider", "voyage"), ("model", "another"), ("width", 512), ("version", "2")]
)
def test_a_space_is_another_when_anything_of_it_is(change: str, value: str | int) -> None:
    parts: dict[str, object] = {"provider": "openai", "model": "text-embedding-3-small", "width": 1536, "version": "1"}
    assert Space(**parts).space_id != Space(**(parts | {change: value})).space_id  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["embed_content", "embed_prospect", "embed_outcome", "embed_lesson"])
def test_an_empty_text_is_refused_with_its_collection(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name.removeprefix('embed_')}_embeddings: the text is empty"):
        asyncio.run(getattr(Embedder(), name)("  \n"))


def test_empty_texts_of_a_batch_have_no_vector_and_keep_their_places() -> None:
    vectors = Embedder().embed_many(CONTENT.name, ["", "one", " "]).vectors
    assert [vector is None for vector in vectors] == [True, False, True]


def test_embedding_one_gives_the_vector_of_the_batch(remote: RecordingProvider) -> None:
    embedder = Embedder()
    (of_batch,) = embedder.embed_many(CONTENT.name, [PERSONAL]).vectors
    for embed in (embedder.embed_content, embedder.embed_outcome, embedder.embed_lesson, embedder.embed_prospect):
        np.testing.assert_array_equal(asyncio.run(embed(PERSONAL)), np.asarray(of_batch))


def test_an_unknown_name_of_a_collection_is_refused() -> None:
    with pytest.raises(InvalidInput, match="collection"):
        Embedder().embed_many("Robert'); DROP TABLE", ["one"])


class Gone(RecordingProvider):
    """A remote provider that does not answer."""

    def embed(self, texts: Sequence[ScrubbedText]) -> list[Vector | None]:
        raise Unavailable("gone: no answer")


class Backup(RecordingProvider):
    space = Space("backup", "first-letters", WIDTH, "1")


def test_what_the_provider_cannot_embed_the_backup_does_in_its_own_space() -> None:
    backup = Backup()
    (result,) = Embedder(Gone(), backup=backup).embed_many(CONTENT.name, ["Salt the water."]).results
    assert isinstance(result, EmbeddedText)
    assert result.space == backup.space


def test_the_space_in_force_comes_before_the_backups_and_a_local_only_collection_has_one() -> None:
    embedder = Embedder(RecordingProvider(), backup=Backup())
    assert embedder.spaces_of(CONTENT.name) == [RecordingProvider.space, Backup.space]
    assert embedder.spaces_of(PROSPECTS.name) == [LocalHashingProvider.space]


def test_embedding_in_a_space_never_moves_to_another() -> None:
    embedder = Embedder(Gone(), backup=Backup())
    with pytest.raises(Unavailable):
        embedder.embed_in(CONTENT.name, ["Salt the water."], Gone.space)
    (result,) = embedder.embed_in(CONTENT.name, ["Salt the water."], Backup.space).results
    assert isinstance(result, EmbeddedText)
    with pytest.raises(InvalidInput, match="space"):
        embedder.embed_in(PROSPECTS.name, ["Founder."], Backup.space)


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name in ("EMBEDDING_PROVIDER", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_the_provider_is_openai_where_a_key_is_set_and_local_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_provider(settings(monkeypatch)), LocalHashingProvider)
    provider = open_provider(settings(monkeypatch, OPENAI_API_KEY="sk-1"))
    assert isinstance(provider, OpenAIProvider)
    assert str(provider.space) == "openai/text-embedding-3-small"
    local = settings(monkeypatch, OPENAI_API_KEY="sk-1", EMBEDDING_PROVIDER="local")
    assert isinstance(open_provider(local), LocalHashingProvider)


def test_openai_without_a_key_says_which_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="OPENAI_API_KEY"):
        open_provider(settings(monkeypatch, EMBEDDING_PROVIDER="openai"))
