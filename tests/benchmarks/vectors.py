"""The vectors that are searched, the questions put to them, and which answers are exact.

What belongs here: texts and seeds, filters, brute-force neighbours. What does not: servers and clocks (`search.py`).
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.sample import make_sample
from everreach_assets.domain.vectors import WIDTH, Document, Vector
from resources.embedder import Embedder

SEED = 20260630
NEIGHBOURS = 10
TIE = 1e-6
"""Two texts may be equally near: whatever is within this of the tenth distance counts as found."""

CLUSTERS = 200
LATENT_WIDTH = 64
"""Directions in which the synthetic vectors vary: text embeddings fill far fewer than their width."""

Filter = Mapping[str, int]
FILTERS: dict[str, Filter | None] = {
    "all": None,
    "50 %": {"half": 0},
    "1 %": {"hundredth": 0},
    "0.1 %": {"thousandth": 0},
}
"""What each filter keeps. The keys are whole numbers in the metadata of every row, spread at random."""


@dataclass(frozen=True)
class VectorSet:
    """Rows to store and queries that are none of them.

    Attributes:
        origin: what the vectors are of, in words.
        vectors: shape (rows, 1536), float32.
        queries: shape (queries, 1536), float32.
        metadata: of each row.
    """

    name: str
    origin: str
    ids: list[str]
    vectors: Vector
    queries: Vector
    metadata: list[dict[str, int]]

    def documents(self) -> list[Document]:
        return [Document(*each) for each in zip(self.ids, self.vectors, self.metadata, strict=True)]


def banking77_train() -> Path:
    """The file of real questions among the shared data sets; it need not be there."""
    default = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("EVERREACH_SHARED_DATA", default)) / "retrieval_banking77" / "train.csv"


def sample_set(rows: int, queries: int) -> VectorSet:
    """Texts of the project's own sample; the queries are texts that are not stored."""
    texts: dict[str, None] = {}
    seeds = count()
    while len(texts) < rows + queries:
        texts.update(dict.fromkeys(str(post["text"]) for post in make_sample(next(seeds)).posts))
    chosen = list(texts)[: rows + queries]
    origin = f"distinct texts of the project's sample, seeds 0 to {next(seeds) - 1}; queries: held-out texts"
    return _set("sample", origin, _embed(chosen[:rows]), _embed(chosen[rows:]))


def banking77_set(rows: int, queries: int) -> VectorSet:
    """Real questions of a bank's customers; a query is the first half of one and the second half of another."""
    with banking77_train().open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    mixed = [_spliced(first, second) for first, second in pairwise(np.random.default_rng(SEED).permutation(texts))]
    origin = f"questions of banking77 (CC BY 4.0), seed {SEED}; queries: halves of two questions"
    return _set("banking77", origin, _embed(texts[:rows]), _embed(mixed[:queries]))


def clusters_set(rows: int, queries: int) -> VectorSet:
    """Synthetic clusters; the queries are further draws from them."""
    random = np.random.default_rng(SEED)
    centres = random.normal(size=(CLUSTERS, LATENT_WIDTH))
    latent = centres[random.integers(CLUSTERS, size=rows + queries)]
    latent += 0.5 * random.normal(size=latent.shape)
    vectors = (latent @ random.normal(size=(LATENT_WIDTH, WIDTH))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    origin = f"synthetic, {CLUSTERS} clusters in {LATENT_WIDTH} directions, seed {SEED}; queries: further draws"
    return _set("clusters", origin, vectors[:rows], vectors[rows:])


SETS: dict[str, Callable[[int, int], VectorSet]] = {
    "sample": sample_set,
    "banking77": banking77_set,
    "clusters": clusters_set,
}


@dataclass(frozen=True)
class Question:
    """A query with its exact answer.

    Attributes:
        distances: of every row that passes the filter, by its id.
        reach: the distance of the last exact neighbour, ties included.
        expected: rows that a right answer has: ten, or all that match where there are fewer.
    """

    query: Vector
    where: Filter | None
    distances: dict[str, float]
    reach: float
    expected: int

    def hits(self, found: Sequence[str]) -> int:
        """How many of the rows found belong to the exact answer; one that is found twice counts once."""
        near = {doc_id for doc_id in found if self.distances.get(doc_id, np.inf) <= self.reach}
        return min(len(near), self.expected)


def questions(data: VectorSet, where: Filter | None) -> list[Question]:
    """Every query under a filter, with its exact answer by brute force in double precision."""
    rows, queries = _unit(data.vectors), _unit(data.queries)
    kept = [number for number, row in enumerate(data.metadata) if (where or {}).items() <= row.items()]
    ids = [data.ids[number] for number in kept]
    expected = min(NEIGHBOURS, len(kept))
    asked = []
    for query, distances in zip(data.queries, 1.0 - queries @ rows[kept].T, strict=True):
        reach = float(np.partition(distances, expected - 1)[expected - 1]) + TIE
        asked.append(Question(query, where, dict(zip(ids, distances.tolist(), strict=True)), reach, expected))
    return asked


def _set(name: str, origin: str, vectors: Vector, queries: Vector) -> VectorSet:
    shuffled = np.random.default_rng(SEED).permutation(len(vectors)).tolist()
    metadata = [{"half": each % 2, "hundredth": each % 100, "thousandth": each % 1000} for each in shuffled]
    ids = [f"row-{number:05d}" for number in range(len(vectors))]
    return VectorSet(name, origin, ids, vectors, queries, metadata)


def _embed(texts: Sequence[str]) -> Vector:
    vectors = Embedder().embed_many(CONTENT.name, texts).vectors
    return np.stack([each for each in vectors if each is not None])


def _spliced(first: str, second: str) -> str:
    start, end = first.split(), second.split()
    return " ".join(start[: len(start) // 2] + end[len(end) // 2 :])


def _unit(vectors: Vector) -> npt.NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return unit
