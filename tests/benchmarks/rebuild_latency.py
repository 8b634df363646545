"""From the record of the tenth outcome to the stored strategy, with `everreach up` as it is. Run it with
`make bench-rebuild`.

A data folder of its own, the sample, default settings but for the ports. A round records ten outcomes of one platform,
the next platform in the next round, at a moment that is drawn: the sensor ticks every five seconds.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from rich.console import Console
from rich.table import Table

from everreach_assets.feedback import FeedbackSyncEngine
from resources.addresses import child_environment, dagster_home
from resources.database import Database
from resources.servers import running_servers
from tests.everreach import Everreach
from tests.waiting import until

AIM_SECONDS = 20.0
ROUND_SECONDS = 180.0
TICK_SECONDS = 5.0
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Round:
    """One rebuild, in seconds.

    Attributes:
        total: from the tenth outcome's commit to the strategy, as another connection sees it.
        parts: what that time went to, in order.
    """

    platform: str
    total: float
    parts: dict[str, float]


@dataclass(frozen=True)
class LatencyFigures:
    """The rounds of one run, and the machine's load when they began."""

    rounds: list[Round]
    load: float

    @property
    def p95(self) -> float:
        return statistics.quantiles([each.total for each in self.rounds], n=20, method="inclusive")[-1]


def measure(rounds: int, folder: Path) -> LatencyFigures:
    """Start `up` in the folder with the sample, and rebuild so many times."""
    everreach = Everreach(folder)
    everreach("run")
    draw = random.Random(7)  # noqa: S311 - moments, not secrets
    with (
        everreach.running(),
        running_servers(everreach.settings) as addresses,
        patch.dict(os.environ, child_environment(everreach.settings, addresses)),  # Dagster's configuration reads it
        Database(addresses.database_url) as database,
        dg.DagsterInstance.from_config(str(dagster_home(everreach.settings))) as instance,
    ):
        with database.connection() as connection:
            platforms = [name for (name,) in connection.execute("SELECT platform::text FROM actp_feedback_strategy")]
        load, measured = os.getloadavg()[0], []
        for number in range(rounds):
            time.sleep(draw.uniform(0, TICK_SECONDS))
            measured.append(one_round(database, instance, platforms[number % len(platforms)], number))
    return LatencyFigures(measured, load)


def one_round(database: Database, instance: dg.DagsterInstance, platform: str, number: int) -> Round:
    """Record ten outcomes, wait for the strategy, then for the end of its run."""
    before = strategy_of(database, platform)
    asyncio.run(record_ten(database, platform, number))
    recorded_at, started = time.time(), time.monotonic()
    until(lambda: strategy_of(database, platform) != before, seconds=ROUND_SECONDS)
    total = time.monotonic() - started

    def run() -> dg.RunRecord:
        (record,) = instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": platform}), limit=1)
        return record

    until(lambda: run().dagster_run.status in ENDED, seconds=ROUND_SECONDS)
    record = run()
    began_at = record.start_time or recorded_at
    parts = {
        "sensor": record.create_timestamp.timestamp() - recorded_at,
        "queue, process, imports": began_at - record.create_timestamp.timestamp(),
    }
    at = began_at
    for step in sorted(instance.get_run_step_stats(record.dagster_run.run_id), key=lambda step: step.start_time or 0):
        if step.end_time is not None and step.start_time is not None and at < recorded_at + total:
            parts[step.step_key] = min(step.end_time, recorded_at + total) - at
            at = step.end_time
    return Round(platform, total, parts)


async def record_ten(database: Database, platform: str, number: int) -> None:
    """One more of each count of ten posts: a lower one would be taken for a fault, and the post not be labelled."""
    with database.connection() as connection:
        latest = connection.execute(
            "SELECT post_id, metrics FROM (SELECT DISTINCT ON (post_id) post_id, metrics FROM outcome_snapshots"
            " WHERE platform = %s ORDER BY post_id, observed_at DESC, seq DESC) AS latest"
            " ORDER BY md5(post_id || %s) LIMIT 10",
            (platform, str(number)),
        ).fetchall()
    engine = FeedbackSyncEngine(database)
    for post, metrics in latest:
        await engine.record_outcome(post, platform, {name: count + 1 for name, count in metrics.items()})


def strategy_of(database: Database, platform: str) -> int | None:
    """The last strategy that was built for the platform, held ones too."""
    with database.connection() as connection:
        row = connection.execute(
            "SELECT max(strategy_id) FROM (SELECT platform, strategy_id FROM actp_feedback_strategy"
            " UNION ALL SELECT platform, strategy_id FROM actp_feedback_strategy_archive) AS built WHERE platform = %s",
            (platform,),
        ).fetchone()
    return row[0] if row else None


def show(figures: LatencyFigures, console: Console) -> None:
    """The totals, and what they consist of."""
    totals = [each.total for each in figures.rounds]
    parts = defaultdict(list)
    for each in figures.rounds:
        for name, seconds in each.parts.items():
            parts[name].append(seconds)
    table = Table("part", "median s", "worst s", title="From the tenth outcome to the stored strategy")
    for name, taken in parts.items():
        table.add_row(name, f"{statistics.median(taken):.1f}", f"{max(taken):.1f}")
    console.print(table)
    verdict = "met" if figures.p95 <= AIM_SECONDS else "MISSED"
    console.print(
        f"{len(totals)} rebuilds: median {statistics.median(totals):.1f} s, p95 {figures.p95:.1f} s, worst "
        f"{max(totals):.1f} s; load {figures.load:.2f}. Aim: p95 within {AIM_SECONDS:.0f} s: {verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rebuild_latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="rebuilds, at least two (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error("a percentile takes two rounds at least")
    with tempfile.TemporaryDirectory(prefix="everreach-rebuild-") as folder:
        figures = measure(given.rounds, Path(folder))
    show(figures, Console())
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
