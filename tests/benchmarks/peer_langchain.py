"""LangChain's `index()` with its record manager, as its documentation has it; run by `peers.py`.

Each line on stdin is a file of documents to bring in; each line on stdout says what that took. Nothing of this project
is imported here: `.venv-peers` is another environment.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import chromadb
from langchain_chroma import Chroma
from langchain_classic.indexes import SQLRecordManager, index
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

WAY = (
    "index(cleanup='incremental', source_id_key='source'), batch_size 100, SQLRecordManager on SQLite, Chroma server; "
    "check_embedding_ctx_length=False, as for any server of OpenAI's protocol: it would send token numbers for texts"
)


def main() -> None:
    base_url, chroma_port, folder = sys.argv[1:]
    packages = ("langchain-core", "langchain-classic", "langchain-openai", "langchain-chroma")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(json.dumps({"versions": versions, "way": WAY}), flush=True)
    for line in sys.stdin:
        documents = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        loaded = [Document(page_content=each["text"], metadata={"source": each["id"]}) for each in documents]
        start = time.perf_counter()
        embeddings = OpenAIEmbeddings(
            model="text-embedding-3-small",
            base_url=base_url,
            api_key=SecretStr("a-key"),
            check_embedding_ctx_length=False,
        )
        client = chromadb.HttpClient("127.0.0.1", int(chroma_port))
        store = Chroma(collection_name="documents", embedding_function=embeddings, client=client)
        manager = SQLRecordManager("chroma/documents", db_url=f"sqlite:///{folder}/records.sqlite")
        manager.create_schema()
        index(loaded, manager, store, cleanup="incremental", source_id_key="source")
        print(json.dumps({"seconds": time.perf_counter() - start, "beside": 0.0}), flush=True)


main()
