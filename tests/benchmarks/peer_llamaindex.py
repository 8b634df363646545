"""LlamaIndex's `IngestionPipeline` with docstore and cache, as its documentation has it; run by `peers.py`.

Each line on stdin is a file of documents to bring in; each line on stdout says what that took. Nothing of this project
is imported here: `.venv-peers` is another environment.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import chromadb
from llama_index.core import Document
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.vector_stores.chroma import ChromaVectorStore

WAY = (
    "IngestionPipeline.run with SimpleDocumentStore (upserts) and IngestionCache, SentenceSplitter, "
    "embed_batch_size 100, Chroma server, 4,000 documents a run; "
    "load() before and persist() after each run are told apart"
)

DOCUMENTS_OF_A_RUN = 4_000
"""ChromaVectorStore sends all that a run made in one request, and the server takes no more than 5,461 rows or 40 MB."""


def main() -> None:
    base_url, chroma_port, folder = sys.argv[1:]
    packages = ("llama-index-core", "llama-index-embeddings-openai", "llama-index-vector-stores-chroma")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(json.dumps({"versions": versions, "way": WAY}), flush=True)
    storage = Path(folder) / "pipeline"
    for line in sys.stdin:
        documents = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        loaded = [Document(doc_id=each["id"], text=each["text"]) for each in documents]
        start = time.perf_counter()
        collection = chromadb.HttpClient("127.0.0.1", int(chroma_port)).get_or_create_collection("documents")
        pipeline = IngestionPipeline(
            transformations=[
                SentenceSplitter(),
                OpenAIEmbedding(model="text-embedding-3-small", api_base=base_url, api_key="a-key"),
            ],
            vector_store=ChromaVectorStore(chroma_collection=collection),
            docstore=SimpleDocumentStore(),
            cache=IngestionCache(),
        )
        beside_start = time.perf_counter()
        if storage.exists():
            pipeline.load(str(storage))
        ready = time.perf_counter()
        for place in range(0, len(loaded), DOCUMENTS_OF_A_RUN):
            pipeline.run(documents=loaded[place : place + DOCUMENTS_OF_A_RUN])
        done = time.perf_counter()
        pipeline.persist(str(storage))
        beside = ready - beside_start + time.perf_counter() - done
        print(json.dumps({"seconds": done - ready + beside_start - start, "beside": beside}), flush=True)


main()
