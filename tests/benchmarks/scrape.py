"""A scrape over a million rows of the ledgers: what Prometheus waits for. Run it with `make bench-scrape`.

The rows are mostly settled, as they are in a system at work: deliveries that the index has acknowledged, and snapshots
that a strategy took into account. The service is `everreach serve`, a process of its own that also watches Dagster.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psycopg

from tests.benchmarks.servers import fresh_servers
from tests.everreach import Everreach
from tests.waiting import until

AIM_MS = 50.0
DAGSTER_IS_READ = 'everreach_exporter_collector_success{collector="dagster"} 1.0'
PENDING_SHARE = 1_000
"""One row in so many is not settled."""


@dataclass(frozen=True)
class ScrapeFigures:
    """The scrapes of one run, in milliseconds, and the machine's load when they began."""

    ledger_rows: int
    scrapes: int
    p50_ms: float
    p95_ms: float
    worst_ms: float
    response_bytes: int
    load: float


LEDGERS = (
    (
        "half of the rows: deliveries to the index, and as many to the cloud",
        "INSERT INTO vector_deliveries (target, collection, doc_id, rev, acked_rev, pending_since, dead_since)"
        " SELECT target, 'content_embeddings', 'x:' || n, n, CASE WHEN n %% %(share)s <> 0 THEN n END, now(),"
        " CASE WHEN target = 'cloud' AND n %% (2 * %(share)s) = 0 THEN now() END"
        " FROM generate_series(1, %(rows)s / 4) AS n, (VALUES ('chroma'), ('cloud')) AS targets (target)",
    ),
    (
        "a cloud that was met",
        "INSERT INTO clouds (target, address_sha256, policy_sha256) VALUES ('cloud', '', '')",
    ),
    (
        "a twentieth: posts",
        "INSERT INTO actp_feedback_posts (platform, post_id, text_sha256)"
        " SELECT (ARRAY['x', 'tiktok', 'linkedin', 'youtube'])[1 + n %% 4], n::text, ''"
        " FROM generate_series(1, %(rows)s / 20) AS n",
    ),
    (
        "a quarter: snapshots",
        "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics, strategy_id)"
        " SELECT platform, post_id, now() - day * interval '1 day', jsonb_build_object('views', day),"
        " CASE WHEN (post_id::int + day) %% %(share)s <> 0 THEN 1 END"
        " FROM actp_feedback_posts, generate_series(1, 5) AS day",
    ),
    (
        "a fifth: costs of embedding, and ids of recordings",
        "INSERT INTO embedding_costs SELECT current_date - n %% 90, n::text, 'content_embeddings', 'openai',"
        " 'text-embedding-3-small', 1, 100, 1000, 0, 20000 FROM generate_series(1, %(rows)s / 10) AS n",
    ),
    (
        "",
        "INSERT INTO metric_record_ids (record_id) SELECT 'openai:' || n FROM generate_series(1, %(rows)s / 10) AS n",
    ),
    (
        "a fiftieth each: dead letters of intake and of embedding, vectors, and what the cache has",
        "INSERT INTO ingest_dead_letters (kind, file, line, reason, row, row_sha256)"
        " SELECT (ARRAY['posts', 'outcomes'])[1 + n %% 2], 'f', n, 'r', '{}', ''"
        " FROM generate_series(1, %(rows)s / 50) AS n",
    ),
    (
        "",
        "INSERT INTO embedding_dead_letters (collection, space_id, input_sha256, doc_id, provider, reason)"
        " SELECT 'content_embeddings', 'a', sha256(n::text::bytea), n::text, 'openai', 'refused_by_provider'"
        " FROM generate_series(1, %(rows)s / 50) AS n",
    ),
    ("", "INSERT INTO embedding_spaces VALUES ('a', 'openai', 'a', 1536, '1'), ('b', 'local', 'b', 1536, '1')"),
    ("", "INSERT INTO collection_spaces (collection, space_id) VALUES ('content_embeddings', 'a')"),
    (
        "",
        "INSERT INTO vector_embeddings (collection, doc_id, embedding, space_id, text_sha256)"
        " SELECT 'content_embeddings', 'x:' || n, array_fill(0.01::real, ARRAY[1536])::vector,"
        " CASE WHEN n %% %(share)s = 0 THEN 'b' ELSE 'a' END, sha256('') FROM generate_series(1, %(rows)s / 50) AS n",
    ),
    (
        "",
        "INSERT INTO embedding_cache (key, vector, tags)"
        " SELECT sha256(n::text::bytea), decode(repeat('00', 6144), 'hex'), ARRAY[sha256(n::text::bytea)]"
        " FROM generate_series(1, %(rows)s / 50) AS n",
    ),
)
"""The statements that fill the ledgers, and which share of the rows each makes."""


def fill(connection: "psycopg.Connection[tuple[object, ...]]", rows: int) -> None:
    """Fill every table that a scrape reads, mostly with what is settled."""
    for _, statement in LEDGERS:
        connection.execute(statement.encode(), {"rows": rows, "share": PENDING_SHARE})
    connection.execute("VACUUM ANALYZE")


def measure(rows: int, scrapes: int) -> ScrapeFigures:
    """Fill a database of its own and scrape a service on it again and again."""
    with fresh_servers() as settings, tempfile.TemporaryDirectory(prefix="everreach-bench-") as folder:
        with psycopg.connect(settings.database_url(), autocommit=True) as connection:
            fill(connection, rows)
        everreach = Everreach(
            Path(folder),
            everreach_database_url=settings.everreach_database_url,
            everreach_dagster_database_url=settings.everreach_dagster_database_url,
            chroma_host=settings.chroma_host,
            chroma_port=settings.chroma_port,
        )
        with everreach.serving():
            return scrape(everreach.service, rows, scrapes)


def scrape(address: str, rows: int, scrapes: int) -> ScrapeFigures:
    """The answers of the process at the address to `GET /metrics`, one after the other on one connection."""
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        until(lambda: DAGSTER_IS_READ in client.get("/metrics").text, seconds=120)
        load = os.getloadavg()[0]
        taken = []
        size = 0
        for _ in range(scrapes):
            start = time.perf_counter()
            answer = client.get("/metrics")
            taken.append((time.perf_counter() - start) * 1e3)
            size = len(answer.content)
            if "everreach_exporter_up 1.0" not in answer.text:
                raise RuntimeError("the database did not answer a scrape: the figures would say nothing")
    return ScrapeFigures(
        rows, scrapes, statistics.median(taken), statistics.quantiles(taken, n=20)[-1], max(taken), size, load
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scrape", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the ledgers (default: %(default)s)")
    parser.add_argument("--scrapes", type=int, default=100, help="scrapes (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    figures = measure(given.rows, given.scrapes)
    verdict = "met" if figures.p95_ms < AIM_MS else "MISSED"
    print(
        f"{figures.scrapes} scrapes over {figures.ledger_rows:,} ledger rows, {figures.response_bytes:,} bytes each: "
        f"p50 {figures.p50_ms:.1f} ms, p95 {figures.p95_ms:.1f} ms, worst {figures.worst_ms:.1f} ms; load "
        f"{figures.load:.2f}. Aim: under {AIM_MS:.0f} ms: {verdict} by p95"
    )
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
