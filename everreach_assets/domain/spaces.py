"""Embedding spaces: what made a vector. Vectors of two spaces are never compared."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.collections import CONTENT, OUTCOMES


@dataclass(frozen=True)
class Space:
    """A provider's model and everything about it that changes its vectors.

    Attributes:
        provider: who computes the vectors, such as `openai` or `local`.
        model: the provider's name of the model.
        width: components that the model gives; fewer than 1536 are padded with zeros, which leaves cosine as it was.
        version: of the preprocessing around the model; the scrubber is not part of it.
    """

    provider: str
    model: str
    width: int
    version: str

    @property
    def space_id(self) -> str:
        """Twelve hexadecimal digits that name the space in every row and index."""
        identity = "|".join((self.provider, self.model, str(self.width), self.version))
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

    def beside(self, other: "Space") -> str:
        """The name, told apart from that of another space of the same model."""
        details = f" ({self.width} components, version {self.version})" if str(self) == str(other) else ""
        return f"{self}{details}"


def leading(collection: str) -> str:
    """The collection whose space this one shares: outcomes that of the posts, whose vectors they copy."""
    return CONTENT.name if collection == OUTCOMES.name else collection


def sharing(collection: str) -> tuple[str, ...]:
    """The collections that are in the space of this one, and change it together with it; the leading one first."""
    leader = leading(collection)
    return (leader, OUTCOMES.name) if leader == CONTENT.name else (leader,)


def neighbours(vectors: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """The `k` nearest others of each row by cosine, nearest first: shape (rows, k).

    Args:
        vectors: shape (rows, components), more rows than `k`; no row is zero.
        k: how many.
    """
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)  # a vector is not its own neighbour
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def overlap(first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> float:
    """The share of neighbours that two spaces have in common (overlap@k), 0 to 1.

    Args:
        first: of each row its k neighbours in one space, shape (rows, k).
        second: of the same rows in the other space, shape (rows, k).
    """
    shared = [len(set(one) & set(other)) for one, other in zip(first.tolist(), second.tolist(), strict=True)]
    return sum(shared) / first.size
