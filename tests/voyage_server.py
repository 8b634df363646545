"""A server on loopback that speaks Voyage's `POST /v1/embeddings`, and refuses what Voyage refuses.

https://docs.voyageai.com/reference/embeddings-api
"""

import base64
from typing import Any

from tests.openai_server import Answer, OpenAIServer, Rows, error, vector_of

FIELDS = {"input", "model", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format"}
MAX_INPUTS = 1_000


class VoyageServer(OpenAIServer):
    """The server. A query's vector is another than that of a document with the same text, as Voyage's are."""

    def receive(self, path: str, headers: Any, body: dict[str, Any]) -> Answer:
        answer = super().receive(path, headers, body)
        is_wrong = not body.keys() <= FIELDS or len(body["input"]) > MAX_INPUTS or "" in body["input"]
        return error(400) if is_wrong or path != "/v1/embeddings" else answer

    def payload(self, body: dict[str, Any], answer: Answer) -> object:
        prompt = {"document": "", "query": "as a query: "}[body["input_type"]]
        width = body["output_dimension"]
        rows: Rows = [(number, vector_of(prompt + text, width)) for number, text in enumerate(body["input"])]
        if answer.change:
            rows = answer.change(rows)
        return {
            "object": "list",
            "model": self.answers_as or body["model"],
            "usage": {"total_tokens": sum(len(text.split()) for text in body["input"])},
            "data": [
                {
                    "object": "embedding",
                    "index": number,
                    "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
                }
                for number, vector in rows
            ],
        }
