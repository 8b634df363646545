"""Peers on the same work: each runs in an environment of its own, and what it stored is judged here.

What belongs here: talking to `peer_*.py`, and reading their store. What does not: ours (`embedding.py`).
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import chromadb
import numpy as np

from resources.settings import PROJECT_FOLDER
from tests.openai_server import vector_of

PEERS = {"LangChain index()": "peer_langchain.py", "LlamaIndex IngestionPipeline": "peer_llamaindex.py"}
PYTHON = PROJECT_FOLDER / ".venv-peers" / "bin" / "python"
PEER_LOG = "peer.log"  # beside that of its Chroma server
READ_ROWS = 500
COSINE_TOLERANCE = 1e-5
"""Stores keep float32, and Chroma changes the last bits; another text's vector is off by about 1."""


@dataclass(frozen=True)
class Document:
    """What is brought in."""

    id: str
    text: str


@dataclass(frozen=True)
class Took:
    """Seconds of one run.

    Attributes:
        beside: seconds of loading and saving its own state, where its documentation tells that apart.
    """

    seconds: float
    beside: float = 0.0


@dataclass(frozen=True)
class Peer:
    """A running peer.

    Attributes:
        versions: of its packages.
        way: how it is used.
    """

    versions: str
    way: str
    _process: "subprocess.Popen[str]"
    _folder: Path

    def bring_in(self, documents: Sequence[Document]) -> Took:
        """Have it bring its store up to the documents, with new objects, as a later process would.

        Raises:
            RuntimeError: it ended.
        """
        path = self._folder / "documents.json"
        path.write_text(json.dumps([{"id": each.id, "text": each.text} for each in documents]), encoding="utf-8")
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"{path}\n")
        stdin.flush()
        return Took(**_answer(self._process.stdout, self._folder))


@contextlib.contextmanager
def running_peer(name: str, *, base_url: str, chroma_port: int, folder: Path) -> Iterator[Peer]:
    """The peer, imported and waiting, for as long as the block lasts."""
    script = Path(__file__).with_name(PEERS[name])
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENAI_"))}
    with (folder / PEER_LOG).open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, script, base_url, str(chroma_port), str(folder)],
            env=environment | {"NO_PROXY": "*", "ANONYMIZED_TELEMETRY": "False"},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            hello = _answer(process.stdout, folder)
            yield Peer(hello["versions"], hello["way"], process, folder)
        finally:
            process.communicate(timeout=60)


def _answer(lines: "IO[str] | None", folder: Path) -> dict[str, Any]:
    assert lines is not None
    for line in lines:
        with contextlib.suppress(ValueError):  # libraries print, too
            answer: dict[str, Any] = json.loads(line)
            return answer
    log = (folder / PEER_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    raise RuntimeError(f"the peer ended: {log[-1] if log else 'it said nothing'}")


def wrong_and_lost(stored: Mapping[str, "np.typing.ArrayLike"], wanted: Mapping[str, str]) -> tuple[int, int]:
    """How many vectors are not those of their text, and how many documents have none.

    Args:
        stored: vectors by document id.
        wanted: the texts that should have been embedded, by document id.
    """
    wrong = sum(not _is_of(vector, wanted[doc_id]) for doc_id, vector in stored.items() if doc_id in wanted)
    return wrong + len(stored.keys() - wanted.keys()), len(wanted.keys() - stored.keys())


def _is_of(vector: "np.typing.ArrayLike", text: str) -> bool:
    given = np.asarray(vector, dtype=np.float64)
    # Whoever splits texts drops the blanks at their ends; LlamaIndex's client for OpenAI sends blanks for line breaks.
    texts = (text, text.strip(), text.strip().replace("\n", " "))
    return any(given @ vector_of(each) / np.linalg.norm(given) > 1 - COSINE_TOLERANCE for each in texts)


def stored_by_peer(chroma_port: int) -> dict[str, "np.typing.ArrayLike"]:
    """The vectors in a peer's store, by document id; a document that has two has its second under a name of its own."""
    collection = chromadb.HttpClient("127.0.0.1", chroma_port).get_collection("documents", embedding_function=None)
    found: dict[str, np.typing.ArrayLike] = {}
    for place in range(0, collection.count(), READ_ROWS):
        page = collection.get(limit=READ_ROWS, offset=place, include=["embeddings", "metadatas"])
        assert page["embeddings"] is not None
        assert page["metadatas"] is not None
        for number, metadata in enumerate(page["metadatas"]):
            doc_id = str(metadata.get("source") or metadata["ref_doc_id"])
            found[doc_id if doc_id not in found else f"{doc_id} again"] = page["embeddings"][number]
    return found
