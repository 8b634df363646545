"""Labels of 50,000 posts, again with one account changed, and of the shared sets. Run it with `make bench-labels`.

Seconds and memory are those of `classify_new_outcomes` on a Postgres of its own: reading snapshots, judging, writing.
Memory is the peak of this process, without the server's. Where other work shares the machine, the processor's seconds
say more.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psycopg

from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.label_report import FIXED_RULE, MULTIPLE_RULE, OURS, LabelReport, report
from everreach_assets.domain.label_rules import LabelRules
from resources import outcomes as rows
from resources.database import Database
from tests.benchmarks.servers import fresh_servers
from tests.benchmarks.strategy_sets import ingest_shared, shared_folder

MOST_SECONDS = 30.0
MOST_MEGABYTES = 1_000.0
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class LabelFigures:
    """One run; load is the machine's when it began.

    Attributes:
        first_processor_seconds: what this process used of them.
        one_changed_seconds: with one more snapshot of one account.
        unchanged_seconds: with nothing new.
        peak_megabytes: of this process, after the first labelling.
        reports: by platform, on the shared sets.
    """

    posts: int
    accounts: int
    load: float
    first_seconds: float
    first_processor_seconds: float
    one_changed_seconds: float
    judged_accounts: int
    unchanged_seconds: float
    peak_megabytes: float
    reports: dict[str, LabelReport]


def fill(connection: "psycopg.Connection[tuple[object, ...]]", posts: int, accounts: int) -> None:
    """Posts of two types and five niches, one every quarter of an hour, each seen after a day and after eight."""
    random = np.random.default_rng(20260630)
    sizes = random.lognormal(8, 1.5, accounts)
    start = 1_700_000_000
    with connection.cursor() as cursor:
        into = "COPY actp_feedback_posts (platform, post_id, account, post_type, niche, text_sha256, published_at)"
        with cursor.copy(f"{into} FROM STDIN".encode()) as copy:
            for number in range(posts):
                at = np.datetime64(start + number * 900, "s")
                kind = ("video", "image")[number % 3 % 2]
                copy.write_row(("tiktok", f"p{number}", f"a{number % accounts}", kind, f"n{number % 5}", "", f"{at}Z"))
        with cursor.copy(b"COPY outcome_snapshots (platform, post_id, observed_at, metrics) FROM STDIN") as copy:
            for number, luck in enumerate(random.lognormal(0, 1, posts)):
                views = sizes[number % accounts] * luck
                for day, share in ((1, 0.6), (8, 1.0)):
                    at = np.datetime64(start + number * 900 + day * DAY_SECONDS, "s")
                    metrics = json.dumps({"views": round(views * share), "likes": round(views * share / 20)})
                    copy.write_row(("tiktok", f"p{number}", f"{at}Z", metrics))
    connection.execute("ANALYZE")


def measure(posts: int, accounts: int, data: Path) -> LabelFigures:
    """Label them on servers of its own, then the shared sets."""
    load = os.getloadavg()[0]
    with fresh_servers() as settings, Database(settings.database_url()) as database:
        with psycopg.connect(settings.database_url(), autocommit=True) as connection:
            fill(connection, posts, accounts)
        used = time.process_time()
        first, _ = _timed(database)
        used = time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        with database.connection() as opened:
            opened.execute(
                "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
                " SELECT 'tiktok', post_id, published_at + interval '9 days', '{\"views\": 1000000}'"
                " FROM actp_feedback_posts ORDER BY published_at DESC LIMIT 1"
            )
        changed, judged = _timed(database)
        unchanged, _ = _timed(database)
        reports = dict(_shared_reports(database, data))
    return LabelFigures(posts, accounts, load, first, used, changed, judged, unchanged, peak, reports)


def _timed(database: Database) -> tuple[float, int]:
    start = time.perf_counter()
    done = classify_new_outcomes(database)
    return time.perf_counter() - start, done.judged_accounts


def _shared_reports(database: Database, data: Path) -> Iterator[tuple[str, LabelReport]]:
    for platform in ingest_shared(database, data):
        with database.connection() as connection:
            yield platform, report(rows.observed_posts(connection, platform), LabelRules().of(platform))


def print_figures(figures: LabelFigures) -> None:
    print(f"{figures.posts:,} posts of {figures.accounts:,} accounts, load when it began {figures.load:.2f}")
    print(
        f"first {figures.first_seconds:.1f} s ({figures.first_processor_seconds:.1f} s of the processor), peak "
        f"{figures.peak_megabytes:.0f} MB; one account changed {figures.one_changed_seconds:.1f} s "
        f"({figures.judged_accounts} judged); unchanged {figures.unchanged_seconds:.2f} s"
    )
    is_met = figures.first_seconds <= MOST_SECONDS and figures.peak_megabytes <= MOST_MEGABYTES
    print(f"Aim: {MOST_SECONDS:.0f} s and {MOST_MEGABYTES:,.0f} MB: {'met' if is_met else 'MISSED'}")
    for platform, each in figures.reports.items():
        shares = ", ".join(f"{label} {share.overall:.1%}" for label, share in each.shares.items())
        print(f"{platform}: {each.compared:,} of {each.posts:,} compared, {each.accounts} accounts; {shares}")
        for rule in (OURS, FIXED_RULE, MULTIPLE_RULE):
            found = each.rules[rule]
            print(
                f"    viral by {'labels' if rule == OURS else rule}: {found.overall:.1%}, over accounts {found.p5:.1%}"
                f" to {found.p95:.1%}; {each.same_viral[rule]:.1%} kept without a fifth of the snapshots"
            )
        print(f"    same label of six: {each.same_label:.1%}; borderline: {each.borderline:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.labels", description=__doc__)
    parser.add_argument("--posts", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--accounts", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=shared_folder(), help="shared data sets (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    figures = measure(given.posts, given.accounts, given.data)
    print_figures(figures)
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
