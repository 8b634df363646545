"""A server on loopback with `POST /embed`, as services around an embedding model have it.

With `field="inputs"` it is as Hugging Face's text-embeddings-inference is: `inputs`, and a list as the answer.
"""

from typing import Any, Literal

from tests.openai_server import Answer, OpenAIServer, Rows, error, vector_of


class EmbedServer(OpenAIServer):
    """The server."""

    def __init__(self, field: Literal["texts", "inputs"] = "texts", *, width: int = 384, max_inputs: int = 32) -> None:
        super().__init__()
        self.width = width
        self._field = field
        self._max_inputs = max_inputs
        self.base_url = self.base_url.removesuffix("/v1")

    def inputs_of(self, body: dict[str, Any]) -> list[str]:
        return list(body.get(self._field, []))

    def receive(self, path: str, headers: Any, body: dict[str, Any]) -> Answer:
        answer = super().receive(path, headers, body)
        if path != "/embed":
            return error(404)
        inputs = self.inputs_of(body)
        if not inputs or body.get("normalize") is not True:
            return error(422)
        return error(413) if len(inputs) > self._max_inputs else answer

    def payload(self, body: dict[str, Any], answer: Answer) -> object:
        rows: Rows = [(number, vector_of(text, self.width)) for number, text in enumerate(self.inputs_of(body))]
        if answer.change:
            rows = answer.change(rows)
        vectors = [vector.tolist() for _, vector in rows]
        return vectors if self._field == "inputs" else {"embeddings": vectors, "model": self.answers_as}
