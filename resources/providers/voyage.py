"""Voyage's embeddings, by its HTTP API.

https://docs.voyageai.com/reference/embeddings-api. Its own client (`voyageai`) adds retries, which are ours, and a
download of the tokenizer.
"""

import base64
from collections.abc import Sequence

import numpy as np

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.spaces import Space
from resources.providers.faults import Fault, ProviderFault
from resources.providers.json_http import JsonClient
from resources.providers.protocol import Purpose, SettingNames
from resources.providers.tokens import at_most

ADDRESS = "https://api.voyageai.com/v1"
WIDTH = 1_024
MAX_INPUTS = 1_000
MAX_INPUT_TOKENS = 31_900
"""The context is 32,000 tokens; the prompt that Voyage puts before a text takes a few of them."""
PROMPT_TOKENS = 16
REQUEST_TOKENS = {"voyage-3.5": 320_000, "voyage-4": 320_000, "voyage-3.5-lite": 1_000_000, "voyage-4-lite": 1_000_000}
LEAST_REQUEST_TOKENS = 120_000
"""Of every other model: the large ones, and those for code, finance and law."""


class VoyageProvider:
    """Voyage's embeddings, 1,024 components.

    Args:
        model: such as `voyage-3.5`.
        base_url: of another server with the same API, such as MongoDB's; None: Voyage's.
    """

    is_unit = True
    tells_queries_apart = True
    settings = SettingNames("VOYAGE_API_KEY", "VOYAGE_MODEL", "VOYAGE_BASE_URL", "VOYAGE_MODEL")

    def __init__(self, *, api_key: str, model: str, base_url: str | None = None) -> None:
        self.space = Space("voyage", model, WIDTH, "1")
        self.limits = Limits(MAX_INPUTS, MAX_INPUT_TOKENS, REQUEST_TOKENS.get(model, LEAST_REQUEST_TOKENS))
        self._client = JsonClient(base_url or ADDRESS, api_key)

    def count_tokens(self, text: str) -> int:
        """Its tokenizer would be a download: bytes are never fewer than tokens, and the prompt comes on top."""
        return at_most(text) + PROMPT_TOKENS

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        body = {
            "model": self.space.model,
            "input": [each.text for each in inputs],
            "input_type": purpose,
            "output_dimension": self.space.width,
            "truncation": False,  # a text that is cut off in silence has the vector of another text
            "encoding_format": "base64",
        }
        answer = self._client.post("/embeddings", body, timeout_seconds)
        try:
            return Answer(
                indexes=[int(item["index"]) for item in answer["data"]],
                vectors=[
                    np.frombuffer(base64.b64decode(item["embedding"], validate=True), "<f4") for item in answer["data"]
                ],
                model=str(answer["model"]),
                tokens=int(answer["usage"]["total_tokens"]),
            )
        except (KeyError, TypeError, ValueError):
            fault = ProviderFault(Fault.NOT_THE_PROTOCOL, "its answer is not one of Voyage's protocol")
        raise fault
