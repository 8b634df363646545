"""An outage from its beginning to its end, with the providers' real clients: failing over, storing, healing.

What does not belong here: models that only tests have (`test_embedding_spaces.py`), breakers by themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.vectors import WIDTH, Vector
from everreach_assets.healing import HealingReport, heal
from resources.chroma_index import ChromaIndex
from resources.vector_index import VectorIndex
from tests.embed_server import EmbedServer
from tests.embedding_operations import Operations
from tests.indexes import assert_of_own_models, emptied_index
from tests.openai_server import Answer, OpenAIServer, Rows, error, vector_of

BEFORE, NEW = 6, 5
FIRST_PAUSE_SECONDS = 30


def turned(rows: Rows) -> Rows:
    """Another model's vectors, though as wide: those of the stand-ins follow from text and width alone."""
    return [(number, np.roll(vector, 1)) for number, vector in rows]


@dataclass
class Outage:
    """OpenAI with a backup that is another model."""

    operations: Operations
    backup: OpenAIServer
    width: int
    index: VectorIndex
    settings: dict[str, object]
    answer: Answer
    texts: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        self.operations.openai.always = self.answer

    def end(self) -> None:
        self.operations.openai.always = Answer()

    def add_posts(self, posts: int) -> None:
        self.operations.add_posts(posts)
        self.texts |= {f"x:p{number:03d}": f"Text number {number}" for number in range(1, posts + 1)}

    def embed(self) -> tuple[int, int]:
        """How many posts were embedded, and how many wait to be healed."""
        report = self.operations.embed(**self.settings)
        return report.embedded, report.waiting_to_heal

    def heal(self) -> HealingReport:
        """What healing did to the posts."""
        with self.operations.memory(**self.settings) as parts:
            return next(each for each in heal(**parts) if each.collection == CONTENT.name)

    def providers(self) -> dict[str, str]:
        """Whose vector each post has. It is what that provider answered for the post's text, here and in the index."""
        rows = self.operations.run(
            "SELECT doc_id, provider, space_id, embedding FROM vector_embeddings JOIN embedding_spaces USING (space_id)"
        )
        assert {doc_id for doc_id, *_ in rows} == self.texts.keys()
        for doc_id, provider, _, embedding in rows:
            own = self._vectors(str(provider), [self.texts[str(doc_id)]])[0]
            np.testing.assert_allclose(embedding.to_numpy(), own, atol=1e-6)  # type: ignore[attr-defined]
        spaces = {str(space_id): str(provider) for _, provider, space_id, _ in rows}
        own_vectors = {each: self._vectors(provider, list(self.texts.values())) for each, provider in spaces.items()}
        assert_of_own_models(self.operations.database, self.index, own_vectors)
        with self.operations.memory(**self.settings) as parts:
            assert parts["vector_db"].check_index(CONTENT.name).is_whole
        return {str(doc_id): str(provider) for doc_id, provider, *_ in rows}

    def _vectors(self, provider: str, texts: list[str]) -> Vector:
        if provider == "openai":
            return np.array([vector_of(text) for text in texts])
        made = np.array([np.roll(vector_of(text, self.width), 1) for text in texts])
        return np.pad(made, ((0, 0), (0, WIDTH - self.width)))


OVERLOADED, DOWN = error(503, retry_after="60"), Answer(drop="reset")  # the first is given up at once
CASES = [
    pytest.param(("pgvector", "http", WIDTH, OVERLOADED), id="the same width"),
    pytest.param(("pgvector", "voyage", 1024, OVERLOADED), id="another width"),
    pytest.param(("chroma", "http", WIDTH, DOWN), id="the same width in Chroma", marks=pytest.mark.slow),
]


@pytest.fixture(params=CASES)
def outage(request: pytest.FixtureRequest, operations: Operations) -> Iterator[Outage]:
    backend, backup, width, answer = request.param
    nobody = ("127.0.0.1", 1)
    host, port = request.getfixturevalue("chroma_server") if backend == "chroma" else nobody
    embed_server = EmbedServer(width=WIDTH)
    settings: dict[str, object] = {
        "embedding_fallback_enabled": True,
        "embedding_backup_provider": backup,
        "embedding_http_url": embed_server.base_url,
        "embedding_http_width": WIDTH,
        "vector_backend": backend,
        "chroma_host": host,
        "chroma_port": port,
    }
    index = emptied_index(backend, operations.database, (host, port))
    with embed_server.running():
        server = embed_server if backup == "http" else operations.voyage
        server.always = Answer(change=turned)
        yield Outage(operations, server, width, index, settings, answer)


def test_an_outage_leaves_each_vector_in_its_models_space_and_nothing_to_heal_after_it(outage: Outage) -> None:
    openai, backup = outage.operations.openai, outage.backup
    outage.add_posts(BEFORE)
    assert outage.embed() == (BEFORE, 0)
    assert set(outage.providers().values()) == {"openai"}

    outage.begin()
    outage.add_posts(BEFORE + NEW)
    outage.operations.run(
        "UPDATE actp_feedback_posts SET text = 'Quite another', text_sha256 = sha256('Quite another')"
        " WHERE post_id = 'p001'"
    )
    outage.texts["x:p001"] = "Quite another"
    assert outage.embed() == (NEW + 1, NEW + 1)
    by_backup = {"x:p001", *(f"x:p{number:03d}" for number in range(BEFORE + 1, BEFORE + NEW + 1))}
    assert {doc_id for doc_id, provider in outage.providers().items() if provider != "openai"} == by_backup
    assert sorted(backup.inputs) == sorted(outage.texts[doc_id] for doc_id in by_backup)

    asked = len(openai.requests)
    assert (outage.heal().waiting, len(openai.requests)) == (NEW + 1, asked)  # the breaker is open: nobody is asked
    outage.operations.age_breakers(FIRST_PAUSE_SECONDS + 1)
    still_down = outage.heal()
    assert (still_down.healed, still_down.waiting, len(openai.requests)) == (0, NEW + 1, asked + 1)
    assert outage.operations.breaker()[1:] == (True, 2)  # tried once more, and left alone for twice as long

    outage.end()
    assert outage.heal().waiting == NEW + 1
    outage.operations.age_breakers(FIRST_PAUSE_SECONDS + 1)
    assert (outage.heal().waiting, len(openai.requests)) == (NEW + 1, asked + 1)
    outage.operations.age_breakers(FIRST_PAUSE_SECONDS)
    healed = outage.heal()
    assert (healed.healed, healed.waiting, healed.hindrance) == (NEW + 1, 0, "")
    assert set(outage.providers().values()) == {"openai"}
    assert outage.operations.breaker() == (0, False, 0)

    paid, by_the_backup = len(openai.requests), len(backup.requests)
    assert outage.embed() == (0, 0)
    assert outage.heal().healed == 0
    assert (len(openai.requests), len(backup.requests)) == (paid, by_the_backup)
    if isinstance(outage.index, ChromaIndex):
        held = {each.name: each.count() for each in outage.index._client.list_collections()}
        assert {name: count for name, count in held.items() if count} == {CONTENT.name: BEFORE + NEW}
