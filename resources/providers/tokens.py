"""How many tokens a text has: exactly where the provider's encoding is known, else never too few."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bpe_openai


@functools.cache
def _encoding() -> "bpe_openai.Encoding":
    import bpe_openai  # noqa: PLC0415 - half a second, which only who counts OpenAI's tokens waits for

    return bpe_openai.get_encoding("cl100k_base")  # its 1.6 MB come with the package: nothing is downloaded


def cl100k_tokens(text: str) -> int:
    """Tokens of OpenAI's embedding models, in time linear in the text. Markers such as <|endoftext|> are plain text."""
    return len(_encoding().encode_ordinary(text))


def at_most(text: str) -> int:
    """A token of any encoding that works on bytes is at least one byte."""
    return len(text.encode())


def counter_of(model: str) -> Callable[[str], int]:
    """The counter for a model of an OpenAI-compatible server."""
    return cl100k_tokens if model.startswith("text-embedding-") else at_most
