"""Whether an answer of a provider is what was asked for: count, order, model, width, finite, length.

What does not belong here: asking again (`resources/provider_requests.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.vectors import WIDTH, Vector

UNIT_TOLERANCE = 0.01
"""Of the length of a vector that a provider promises to be of unit length."""


@dataclass(frozen=True)
class Answer:
    """What a provider answered, before anything of it is believed.

    Attributes:
        indexes: for each item, the number of the input that it is of.
        vectors: for each item, its components.
        model: that the provider says it used; None where it does not say.
        tokens: that it charges for; 0 where it does not say.
    """

    indexes: Sequence[int]
    vectors: Sequence[npt.NDArray[np.float32]]
    model: str | None = None
    tokens: int = 0


@dataclass(frozen=True)
class Untrusted:
    """Nothing of the answer can be used: it is not known which vector is of which text, or of which model.

    Attributes:
        reason: what a person is told.
        is_about_settings: whether the same will come back whatever is asked.
        is_width: whether all vectors have one width, which is another than was asked for.
    """

    reason: str
    is_about_settings: bool = False
    is_width: bool = False


def verified(answer: Answer, *, inputs: int, model: str, width: int, is_unit: bool) -> list[Vector | None] | Untrusted:
    """For each input its vector: unit length, padded to 1536 components; None where its vector is of no use.

    Args:
        answer: as it came.
        inputs: how many texts were sent.
        model: that was asked for.
        width: components that were asked for.
        is_unit: whether the provider promises vectors of unit length.
    """
    if answer.model is not None and not is_model(answer.model, model):
        return Untrusted("the server answered with another model than was asked for", is_about_settings=True)
    if sorted(answer.indexes) != list(range(inputs)) or len(answer.vectors) != inputs:
        return Untrusted(f"{inputs} inputs were sent and {len(answer.vectors)} vectors with other numbers came back")
    widths = {vector.shape for vector in answer.vectors}
    if len(widths) == 1 and widths != {(width,)}:
        return Untrusted(
            f"vectors of shape {widths.pop()} came back, {width} components were expected",
            is_about_settings=True,
            is_width=True,
        )
    found: list[Vector | None] = [None] * inputs
    for index, vector in zip(answer.indexes, answer.vectors, strict=True):
        found[index] = _unit(vector, width, is_unit)
    return found


def is_model(answered: str, asked: str) -> bool:
    """Whether the model that answered is the one asked for.

    Servers add a version (`text-embedding-ada-002-v2`) or a provider (`openai/text-embedding-3-small`) to its name.
    """
    answered, asked = (name.strip().lower().rsplit("/", 1)[-1] for name in (answered, asked))
    return answered == asked or answered.startswith((f"{asked}-v", f"{asked}:", f"{asked}@"))


def _unit(vector: npt.NDArray[Any], width: int, is_unit: bool) -> Vector | None:
    if vector.shape != (width,):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or length == 0 or (is_unit and abs(length - 1) > UNIT_TOLERANCE):
        return None
    padded: Vector = np.zeros(WIDTH, dtype=np.float32)
    padded[:width] = vector / length
    return padded
