"""A server with one method, `POST /embed`, as services around an embedding model have it.

What is supported, exactly:
- request: `{"texts": [...], "normalize": true}`, or with `inputs` as Hugging Face's text-embeddings-inference has it,
  then also `"truncate": false`;
- answer: a list with one list of numbers for each text, in their order, alone or as `{"embeddings": [...]}`, there
  with the name of the `model` where the server tells it;
- `Authorization: Bearer` where a token is set; 429 and 5xx are tried again; 400, 413 and 422 blame a text.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.spaces import Space
from resources.providers.faults import Fault, ProviderFault
from resources.providers.json_http import JsonClient
from resources.providers.protocol import Purpose, SettingNames
from resources.providers.tokens import at_most

TextsField = Literal["texts", "inputs"]


class PlainHttpProvider:
    """The embeddings of a `POST /embed` server.

    Args:
        address: of the server, without `/embed`.
        model: how the operator calls the model that the server runs; another name is another space.
        width: components of its vectors, at most 1536.
        field: under which the server takes the texts.
        max_inputs: texts of a request; 32 is text-embeddings-inference's default.
        max_input_tokens: of one text, counted in bytes, which are never fewer.
        token: None: the server wants none.
    """

    is_unit = True
    tells_queries_apart = False
    settings = SettingNames(
        "EMBEDDING_HTTP_TOKEN", "EMBEDDING_HTTP_MODEL", "EMBEDDING_HTTP_URL", "EMBEDDING_HTTP_WIDTH"
    )

    def __init__(
        self,
        *,
        address: str,
        model: str,
        width: int,
        field: TextsField = "texts",
        max_inputs: int = 32,
        max_input_tokens: int = 8_191,
        token: str | None = None,
    ) -> None:
        self.space = Space("http", model, width, "1")
        self.limits = Limits(max_inputs, max_input_tokens, max_inputs * max_input_tokens)
        self._field = field
        self._client = JsonClient(address, token)

    def count_tokens(self, text: str) -> int:
        return at_most(text)

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        body: dict[str, object] = {self._field: [each.text for each in inputs], "normalize": True}
        if self._field == "inputs":
            body["truncate"] = False  # a text that is cut off in silence has the vector of another text
        answer = self._client.post("/embed", body, timeout_seconds)
        try:
            told = answer if isinstance(answer, dict) else {"embeddings": answer}
            vectors = [np.array(row, dtype=np.float32) for row in told["embeddings"]]
            model = told.get("model")
            return Answer(range(len(vectors)), vectors, model if isinstance(model, str) and model else None)
        except (KeyError, TypeError, ValueError):
            fault = ProviderFault(Fault.NOT_THE_PROTOCOL, "its answer is not a list of vectors")
        raise fault
