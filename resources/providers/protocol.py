"""What every embedding provider is to the rest of the program.

A provider is a thin client of one protocol: it sends what it is given, once, and hands back what came, unread. What
does not belong here: retries, limits of calls, verification (`resources/provider_requests.py`), and which collection
may use which provider (`resources/embedder.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.spaces import Space

LOCAL = "local"
"""The provider that runs in this process: it costs nothing and has no quota."""

Purpose = Literal["document", "query"]
"""What a text is embedded for: to be found, or to find."""


@dataclass(frozen=True)
class ProviderCall:
    """One attempt to have texts embedded, whatever came of it.

    Attributes:
        seconds: from the request to its answer.
        tokens: that the provider charges for.
        error: the class of the error, None where there was none.
        texts: that were sent.
    """

    provider: str
    model: str
    seconds: float
    tokens: int = 0
    error: str | None = None
    texts: int = 0


CallLog = Callable[[ProviderCall], None]


@dataclass(frozen=True)
class SettingNames:
    """The settings that a person looks at when this provider refuses."""

    key: str
    model: str
    address: str
    width: str


class EmbeddingProvider(Protocol):
    """Asks for vectors of one space.

    Attributes:
        space: that its vectors are of.
        limits: of one request.
        is_unit: whether it promises vectors of unit length.
        tells_queries_apart: whether the same text has another vector as a query than as a document.
        settings: for messages.
    """

    space: Space
    limits: Limits
    is_unit: bool
    tells_queries_apart: bool
    settings: SettingNames

    def count_tokens(self, text: str) -> int:
        """Tokens of the text, or more: never fewer than the provider counts."""

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        """One request for at least one input, within the limits.

        Raises:
            ProviderFault: it gave no vectors.
        """
