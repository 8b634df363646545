"""OpenAI's embeddings, by its own client, which takes a second to load: only who uses it waits for it."""

import base64
import json
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import Vector
from resources.providers.faults import Fault, ProviderFault, fault_of_status
from resources.providers.protocol import Purpose, SettingNames
from resources.providers.tokens import counter_of

if TYPE_CHECKING:
    import openai

MAX_INPUTS = 2_048
MAX_INPUT_TOKENS = 8_191
MAX_REQUEST_TOKENS = 300_000
"""https://platform.openai.com/docs/api-reference/embeddings/create says 8,192 for an input; its cookbook 8,191."""


class OpenAIProvider:
    """OpenAI's embeddings, or those of any server that speaks its protocol.

    Args:
        model: such as `text-embedding-3-small`.
        width: components of the model's vectors, at most 1536; fewer are padded with zeros.
        max_input_tokens: of one text; a smaller model takes fewer than OpenAI's.
    """

    tells_queries_apart = False
    settings = SettingNames("OPENAI_API_KEY", "EMBEDDING_MODEL", "OPENAI_BASE_URL", "EMBEDDING_WIDTH")

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None,
        model: str,
        width: int,
        max_input_tokens: int = MAX_INPUT_TOKENS,
    ) -> None:
        import openai  # noqa: PLC0415 - see above

        self.space = Space("openai", model, width, "1")
        self.limits = Limits(MAX_INPUTS, max_input_tokens, MAX_REQUEST_TOKENS)
        self._takes_dimensions = self.is_unit = model.startswith("text-embedding-3")
        self.count_tokens = counter_of(model)
        # The retries are ours alone: the client's own would multiply with them.
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url, max_retries=0)
        weakref.finalize(self, self._client.close)  # nobody closes a provider; its connections go with it

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        import openai  # noqa: PLC0415 - see above

        fault: ProviderFault
        try:
            answer = self._client.embeddings.create(
                model=self.space.model,
                input=[each.text for each in inputs],
                dimensions=self.space.width if self._takes_dimensions else openai.omit,
                encoding_format="base64",
                timeout=timeout_seconds,
            )
            return _answer(answer)
        except openai.APIStatusError as error:
            is_quota = error.code == "insufficient_quota"
            fault = fault_of_status(error.status_code, error.response.headers, is_quota_used_up=is_quota)
        except openai.APITimeoutError:
            fault = ProviderFault(Fault.TIMEOUT, f"no answer within {timeout_seconds:.3g} s")
        except openai.APIConnectionError:
            fault = ProviderFault(Fault.SERVER, "no connection")
        # The client checks nothing of a body: it can be a web page.
        except (openai.OpenAIError, json.JSONDecodeError, AttributeError, TypeError, ValueError):
            fault = ProviderFault(Fault.NOT_THE_PROTOCOL, "its answer is not one of OpenAI's protocol")
        # Outside the blocks above: their errors can hold the text that was sent, or the key.
        raise fault


def _answer(answer: "openai.types.CreateEmbeddingResponse") -> Answer:
    tokens = getattr(getattr(answer, "usage", None), "total_tokens", None)
    model = getattr(answer, "model", None)
    return Answer(
        indexes=[int(item.index) for item in answer.data],
        vectors=[_decoded(item.embedding) for item in answer.data],
        model=model if isinstance(model, str) and model else None,
        tokens=tokens if isinstance(tokens, int) and tokens > 0 else 0,
    )


def _decoded(embedding: str | list[float]) -> Vector:
    """A vector as it was sent: base64 of float32, as was asked for, or numbers, as some servers send all the same."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.array(embedding, dtype=np.float32)
