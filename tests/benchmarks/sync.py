"""Copying to a cloud: first sync, a sync without a change and one of 1 %, beside the raw upsert of the same rows.

What belongs here: the clouds on servers of their own and the clock. What does not: which vectors, and printing
(`report.py`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import chromadb
import numpy as np
import psycopg
from chromadb.config import Settings as ChromaSettings
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from everreach_assets.cloud_sync import SyncReport, sync_collection
from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.sync import BATCH_ROWS
from everreach_assets.domain.vectors import Document
from resources.chroma_index import HNSW, close_client
from resources.cloud_store import Cloud, open_cloud
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.providers import LocalHashingProvider
from resources.settings import Settings
from resources.vector_db import VectorDB
from tests.benchmarks.servers import fresh_servers
from tests.benchmarks.vectors import clusters_set

RAW_TABLE = "CREATE TABLE raw (doc_id text PRIMARY KEY, embedding vector(1536), metadata jsonb)"  # as bare as it can be
CLOUDS = ("chroma", "pgvector")
RAW_UPSERT = "raw upsert"


@dataclass(frozen=True)
class SyncFigures:
    """One step to one cloud.

    Attributes:
        rows: sent in this step.
        requests: of the client to the cloud: requests of HTTP, statements of SQL.
        payload_bytes: vectors in four bytes a component, the rest as JSON.
    """

    cloud: str
    step: str
    rows: int
    requests: int
    payload_bytes: int
    seconds: float


def measure_sync(rows: int, *, on_progress: Callable[[str], None] = lambda step: None) -> list[SyncFigures]:
    """Every step to both clouds; the local side is Postgres, whose index costs the sync nothing."""
    data = clusters_set(rows, 1)
    few = max(rows // 100, 1)
    stored = [Document(each.doc_id, each.embedding, {"platform": "x"}) for each in data.documents()]
    changed = [Document(each.doc_id, -each.embedding, {"platform": "x"}) for each in stored[:few]]
    labelled = [Document(each.doc_id, each.embedding, {"platform": "reddit"}) for each in stored[few : 2 * few]]
    figures: list[SyncFigures] = []
    with fresh_servers() as settings, Database(settings.database_url()) as database:
        vector_db = VectorDB(database, HnswIndex(database), lambda _: LocalHashingProvider.space)
        for name in CLOUDS:
            with _cloud(settings, name) as (cloud, raw):
                on_progress(f"sync: {rows:,} rows to {name}, raw")
                start = time.perf_counter()
                requests = raw(stored)
                seconds = time.perf_counter() - start
                payload = sum(each.embedding.nbytes for each in stored)
                figures.append(SyncFigures(name, RAW_UPSERT, rows, requests, payload, seconds))
                vector_db.upsert_many(CONTENT.name, stored)  # back to what it was before the other cloud
                on_progress(f"sync: {rows:,} rows to {name}")
                for step, documents in (
                    ("first sync", []),
                    ("no change", []),
                    ("1 % other vectors", changed),
                    ("1 % other metadata", labelled),
                ):
                    if documents:
                        vector_db.upsert_many(CONTENT.name, documents)
                    start = time.perf_counter()
                    report = sync_collection(CONTENT.name, database=database, cloud=cloud)
                    figures.append(_figures(name, step, report, time.perf_counter() - start))
    return figures


def _figures(cloud: str, step: str, report: SyncReport, seconds: float) -> SyncFigures:
    return SyncFigures(cloud, step, sum(report.results.values()), report.requests, report.sent_bytes, seconds)


@contextlib.contextmanager
def _cloud(settings: Settings, name: str) -> Iterator[tuple[Cloud, Callable[[list[Document]], int]]]:
    """The cloud, and the raw upsert of documents to the same server in batches as large; it answers its requests."""
    parts = urlsplit(settings.database_url())
    url = urlunsplit(parts._replace(path=f"/cloud_{name}"))
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE cloud_{name}".encode())
    given = {
        "cloud_vector_backend": name,
        "cloud_chroma_host": settings.chroma_host,
        "cloud_chroma_port": settings.chroma_port,
        "cloud_chroma_ssl": False,
        "cloud_database_url": url,
    }
    with contextlib.closing(open_cloud(Settings(_env_file=None, **given))) as cloud:  # type: ignore[arg-type]
        yield (
            cloud,
            (lambda rows: _raw_chroma(settings, rows)) if name == "chroma" else (lambda rows: _raw_postgres(url, rows)),
        )


def _raw_chroma(settings: Settings, documents: list[Document]) -> int:
    client = chromadb.HttpClient(
        settings.chroma_host or "", settings.chroma_port, settings=ChromaSettings(anonymized_telemetry=False)
    )
    try:
        collection = client.create_collection("raw", configuration={"hnsw": HNSW}, embedding_function=None)  # type: ignore[arg-type]
        batches = _batches(documents)
        for batch in batches:
            collection.upsert(
                ids=[each.doc_id for each in batch],
                embeddings=np.stack([each.embedding for each in batch]),
                metadatas=[dict(each.metadata) for each in batch],
            )
        return len(batches) + 1
    finally:
        close_client(client)


def _raw_postgres(url: str, documents: list[Document]) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(RAW_TABLE)
        register_vector(connection)
        batches = _batches(documents)
        for batch in batches:
            connection.execute(
                "INSERT INTO raw SELECT * FROM unnest(%b::text[], %b::vector[], %b::jsonb[]) ON CONFLICT (doc_id)"
                " DO UPDATE SET embedding = excluded.embedding, metadata = excluded.metadata",
                (
                    [each.doc_id for each in batch],
                    [each.embedding for each in batch],
                    [Jsonb(dict(each.metadata)) for each in batch],
                ),
            )
        return len(batches)


def _batches(documents: list[Document]) -> list[list[Document]]:
    return [documents[start : start + BATCH_ROWS] for start in range(0, len(documents), BATCH_ROWS)]
