"""`make bench`: search, fill, intake and sync against the raw clients, on servers of its own.

See docs/benchmarks.md.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import chromadb
import numpy as np
import psycopg
from rich.console import Console

from tests.benchmarks.intake import measure_intake
from tests.benchmarks.report import Report, print_report
from tests.benchmarks.search import FillFigures, QueryFigures, measure_search
from tests.benchmarks.servers import fresh_servers
from tests.benchmarks.sync import measure_sync
from tests.benchmarks.vectors import SETS, banking77_train

TABLE_WIDTH = 120
"""Where the output goes to a file: a table row takes one line."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    parser.add_argument("--rows", type=int, default=10_000, help="vectors to store (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=200, help="queries of each filter (default: %(default)s)")
    parser.add_argument("--posts", type=int, default=45_000, help="rows of the file (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="fills and intakes (default: %(default)s)")
    parser.add_argument(
        "--vectors", nargs="+", choices=SETS, help="sets of vectors (default: banking77 where it is, else sample)"
    )
    given = parser.parse_args()
    names = given.vectors or ["banking77" if banking77_train().is_file() else "sample"]
    report = run(
        names,
        rows=given.rows,
        queries=given.queries,
        posts=given.posts,
        repeats=given.repeats,
        console=Console(width=None if sys.stdout.isatty() else TABLE_WIDTH),
    )
    if given.json:
        given.json.write_text(report.as_json(), encoding="utf-8")


def run(names: list[str], *, rows: int, queries: int, posts: int, repeats: int, console: Console) -> Report:
    """Measure and print everything; progress goes to the console while it runs."""
    start = time.monotonic()

    def on_progress(step: str) -> None:
        console.print(f"{time.monotonic() - start:4.0f} s  {step}", style="dim", highlight=False)

    machine = _machine()
    origins: dict[str, str] = {}
    fills: list[FillFigures] = []
    asked: list[QueryFigures] = []
    for name in names:
        data = SETS[name](rows, queries)
        origins[name] = f"{rows:,} x {data.vectors.shape[1]}, {data.origin}"
        filled, answered = measure_search(data, repeats=repeats, on_progress=on_progress)
        fills += filled
        asked += answered
    intake = measure_intake(posts, repeats=repeats, on_progress=on_progress)
    syncs = measure_sync(rows, on_progress=on_progress)
    on_progress("done")
    report = Report(machine, origins, fills, asked, intake, syncs)
    print_report(console, report)
    return report


def _machine() -> dict[str, str]:
    with fresh_servers() as settings, psycopg.connect(settings.database_url()) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
    postgres, pgvector = row or ("", "")
    return {
        "versions": f"Python {platform.python_version()}, chromadb {chromadb.__version__}, PostgreSQL {postgres}, "
        f"pgvector {pgvector}, psycopg {psycopg.__version__}, numpy {np.__version__}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load when it began": f"{os.getloadavg()[0]:.2f}",
    }


if __name__ == "__main__":
    main()
