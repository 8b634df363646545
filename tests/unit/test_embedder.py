"""The embedder: what reaches a provider, and which provider it is."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from everreach_assets.domain.collections import COLLECTIONS, CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput
from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH
from resources.embedder import EmbeddedText, Embedder
from resources.provider_choice import open_providers
from resources.providers import LocalHashingProvider, OpenAIProvider, PlainHttpProvider, Purpose, VoyageProvider
from resources.settings import Settings

PERSONAL = "Dear Priya, write to priya.iyer@example.com or call +1 (415) 555-2671 about the demo."
TRACES = ("Priya", "priya", "iyer", "example.com", "415", "555", "2671")


class RecordingProvider(LocalHashingProvider):
    """A remote provider that notes what it was given."""

    space = Space("recording", "hashing", WIDTH, "1")

    def __init__(self) -> None:
        super().__init__()
        self.given: list[object] = []

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        self.given += inputs
        return super().ask(inputs, purpose, timeout_seconds)

    @property
    def given_texts(self) -> list[str]:
        return [each.text for each in self.given if isinstance(each, EmbeddingInput)]


@pytest.fixture
def remote() -> RecordingProvider:
    return RecordingProvider()


@pytest.mark.parametrize("collection", [CONTENT.name, OUTCOMES.name, LESSONS.name])
def test_a_provider_is_given_scrubbed_texts_only(remote: RecordingProvider, collection: str) -> None:
    result = Embedder(remote).embed_many(collection, [PERSONAL, "Salt the water."])
    assert all(type(each) is EmbeddingInput for each in remote.given)
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

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        raise Unavailable("gone: no answer")


class Backup(RecordingProvider):
    space = Space("backup", "hashing", WIDTH, "1")


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


def test_without_a_local_provider_a_local_only_collection_is_an_error_and_never_a_call(
    remote: RecordingProvider,
) -> None:
    embedder = Embedder(remote, local=None)
    with pytest.raises(InvalidInput, match="EMBEDDING_LOCAL_PROVIDER"):
        embedder.embed_many(PROSPECTS.name, ["Founder."])
    with pytest.raises(InvalidInput, match="EMBEDDING_LOCAL_PROVIDER"):
        embedder.space_of("client_data")
    assert remote.given == []
    assert embedder.embed_many(CONTENT.name, ["Salt the water."]).vectors[0] is not None


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_the_provider_is_openai_where_a_key_is_set_and_local_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_providers(settings(monkeypatch)).in_force is None
    provider = open_providers(settings(monkeypatch, OPENAI_API_KEY="sk-1")).in_force
    assert isinstance(provider, OpenAIProvider)
    assert str(provider.space) == "openai/text-embedding-3-small"
    local = settings(monkeypatch, OPENAI_API_KEY="sk-1", EMBEDDING_PROVIDER="local")
    assert open_providers(local).in_force is None


CHOICES = {
    "voyage": ({"VOYAGE_API_KEY": "pa-1"}, VoyageProvider, "voyage/voyage-3.5"),
    "http": ({"EMBEDDING_HTTP_URL": "http://127.0.0.1:1", "EMBEDDING_HTTP_MODEL": "e5"}, PlainHttpProvider, "http/e5"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_provider_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values, kind, space = CHOICES[name]
    provider = open_providers(settings(monkeypatch, EMBEDDING_PROVIDER=name, **values)).in_force
    assert isinstance(provider, kind)
    assert provider is not None
    assert str(provider.space) == space


def test_the_backup_is_there_only_where_it_is_enabled_and_has_a_space_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {"OPENAI_API_KEY": "sk-1", "VOYAGE_API_KEY": "pa-1"}
    assert open_providers(settings(monkeypatch, **keys)).backup is None
    enabled = settings(monkeypatch, EMBEDDING_FALLBACK_ENABLED="true", **keys)
    assert isinstance(open_providers(enabled).backup, VoyageProvider)
    local = settings(monkeypatch, EMBEDDING_FALLBACK_ENABLED="true", EMBEDDING_BACKUP_PROVIDER="local", **keys)
    assert isinstance(open_providers(local).backup, LocalHashingProvider)
    same = settings(monkeypatch, EMBEDDING_FALLBACK_ENABLED="true", EMBEDDING_BACKUP_PROVIDER="openai", **keys)
    with pytest.raises(InvalidInput, match="EMBEDDING_BACKUP_PROVIDER"):
        open_providers(same)


MISSING = {
    "OPENAI_API_KEY": {"EMBEDDING_PROVIDER": "openai"},
    "VOYAGE_API_KEY": {"EMBEDDING_PROVIDER": "voyage"},
    "EMBEDDING_HTTP_URL": {"EMBEDDING_PROVIDER": "http"},
    "EMBEDDING_LOCAL_MODEL": {"EMBEDDING_LOCAL_PROVIDER": "semantic"},
}


@pytest.mark.parametrize("missing", MISSING)
def test_a_provider_without_what_it_needs_says_which_setting_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    with pytest.raises(InvalidInput, match=missing):
        open_providers(settings(monkeypatch, **MISSING[missing]))
