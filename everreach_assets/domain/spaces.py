"""Embedding spaces: what made a vector. Vectors of two spaces are never compared."""

import hashlib
from dataclasses import dataclass


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
