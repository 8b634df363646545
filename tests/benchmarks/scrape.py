"""A scrape over a million rows of the ledgers: what Prometheus waits for. Run it with `make bench-scrape`.

The rows are mostly settled, as they are in a system at work: deliveries that the index has acknowledged, and snapshots
that a strategy took into account.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from starlette.testclient import TestClient

from everreach_assets.service.app import create_app
from resources.database import Database
from resources.settings import Settings
from tests.benchmarks.servers import fresh_servers

AIM_MS = 50.0
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


def fill(connection: "psycopg.Connection[tuple[object, ...]]", rows: int) -> None:
    """Half the rows in the ledger of deliveries, half in that of outcomes."""
    half = rows // 2
    connection.execute(
        "INSERT INTO vector_deliveries (target, collection, doc_id, rev, acked_rev)"
        " SELECT 'chroma', 'content_embeddings', 'x:' || n, n, CASE WHEN n %% %(share)s <> 0 THEN n END"
        " FROM generate_series(1, %(half)s) AS n",
        {"half": half, "share": PENDING_SHARE},
    )
    connection.execute(
        "INSERT INTO actp_feedback_posts (platform, post_id, text_sha256)"
        " SELECT (ARRAY['x', 'tiktok', 'linkedin', 'youtube'])[1 + n %% 4], n::text, ''"
        " FROM generate_series(1, %s) AS n",
        (half // 5,),
    )
    connection.execute(
        "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics, strategy_id)"
        " SELECT platform, post_id, now() - day * interval '1 day', jsonb_build_object('views', day),"
        " CASE WHEN (post_id::int + day) %% %s <> 0 THEN 1 END"
        " FROM actp_feedback_posts, generate_series(1, 5) AS day",
        (PENDING_SHARE,),
    )
    connection.execute("VACUUM ANALYZE")


def measure(rows: int, scrapes: int) -> ScrapeFigures:
    """Fill a database of its own and scrape it again and again."""
    with fresh_servers() as settings:
        with psycopg.connect(settings.database_url(), autocommit=True) as connection:
            fill(connection, rows)
        return scrape(settings, rows, scrapes)


def scrape(settings: Settings, rows: int, scrapes: int) -> ScrapeFigures:
    """The application's answers to `GET /metrics`, without the network."""
    with Database(settings.database_url()) as database, TestClient(create_app(settings, database)) as client:
        client.get("/metrics")
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
    verdict = "met" if figures.p50_ms < AIM_MS else "MISSED"
    print(
        f"{figures.scrapes} scrapes over {figures.ledger_rows:,} ledger rows, {figures.response_bytes:,} bytes each: "
        f"p50 {figures.p50_ms:.1f} ms, p95 {figures.p95_ms:.1f} ms, worst {figures.worst_ms:.1f} ms; load "
        f"{figures.load:.2f}. Aim: under {AIM_MS:.0f} ms: {verdict} by the median"
    )
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
