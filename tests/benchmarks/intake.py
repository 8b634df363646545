"""The clock around a large file: its intake against a bare COPY, and how long it takes to find that nothing is new.

Each intake runs in a process of its own, so that its peak of memory is its own.
"""

import contextlib
import csv
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import psycopg
from psycopg import sql

from everreach_assets.classification import classify_new_outcomes
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.sample import make_sample
from everreach_assets.embedding import embed_collection
from everreach_assets.memory import open_database, open_embedder, open_vector_db
from resources.database import Database
from resources.intake import IntakeReport, ingest_file
from resources.settings import Settings
from tests.benchmarks.servers import fresh_servers

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class IntakeFigures:
    """Seconds, one figure for each repetition on fresh servers, and bytes of the last.

    Attributes:
        rerun_seconds: intake of the same file again.
        memory_before_bytes: of the process with everything imported and the database open.
        memory_peak_bytes: the most that the process held during the first intake.
        quarter_memory_growth_bytes: by how much the peak rises above what there was before, with a quarter of the rows.
        pipeline_first_seconds: labels and vectors of every post, by step.
        pipeline_rerun_seconds: the same with nothing new.
    """

    rows: int
    file_bytes: int
    copy_seconds: list[float]
    ingest_seconds: list[float]
    rerun_seconds: list[float]
    memory_before_bytes: int
    memory_peak_bytes: int
    quarter_memory_growth_bytes: int
    pipeline_first_seconds: dict[str, float]
    pipeline_rerun_seconds: dict[str, float]

    @property
    def rows_per_second(self) -> float:
        return self.rows / median(self.ingest_seconds)

    @property
    def memory_growth_bytes(self) -> int:
        return self.memory_peak_bytes - self.memory_before_bytes


@dataclass(frozen=True)
class Intake:
    """One intake in a process of its own."""

    seconds: float
    report: IntakeReport
    before_bytes: int
    peak_bytes: int


def measure_intake(rows: int, *, repeats: int, on_progress: Callable[[str], None]) -> IntakeFigures:
    """Take in a file of `rows` posts `repeats` times on fresh servers; then label and embed what came in, twice."""
    copy_seconds, first, again = [], [], []
    with tempfile.TemporaryDirectory(prefix="everreach-bench-") as folder:
        path = write_posts(Path(folder) / "posts.csv", rows)
        with fresh_servers() as settings:
            on_progress(f"intake of {rows // 4:,} posts, for its memory")
            quarter = write_posts(Path(folder) / "quarter.csv", rows // 4)
            small = _ingest_in_a_process(settings.database_url(), quarter)
        for repeat in range(repeats):
            with fresh_servers() as settings:
                on_progress(f"intake of {rows:,} posts, {repeat + 1} of {repeats}")
                url = settings.database_url()
                copy_seconds.append(_bare_copy(url, path))
                first.append(_ingest_in_a_process(url, path))
                again.append(_ingest_in_a_process(url, path))
                assert first[-1].report.inserted == again[-1].report.unchanged == rows
                if repeat == repeats - 1:
                    on_progress(f"label and embed {rows:,} posts, then again with nothing new")
                    pipeline_first, pipeline_rerun = _pipeline(settings), _pipeline(settings)
        return IntakeFigures(
            rows=rows,
            file_bytes=path.stat().st_size,
            copy_seconds=copy_seconds,
            ingest_seconds=[each.seconds for each in first],
            rerun_seconds=[each.seconds for each in again],
            memory_before_bytes=first[-1].before_bytes,
            memory_peak_bytes=first[-1].peak_bytes,
            quarter_memory_growth_bytes=small.peak_bytes - small.before_bytes,
            pipeline_first_seconds=pipeline_first,
            pipeline_rerun_seconds=pipeline_rerun,
        )


def write_posts(path: Path, rows: int) -> Path:
    """Posts of the project's sample with their first metrics, seeds 0, 1, 2 and so on; no post twice."""
    posts: list[dict[str, object]] = []
    for seed in count():
        posts += [post | {"post_id": f"{seed}-{post['post_id']}"} for post in make_sample(seed).posts]
        if len(posts) >= rows:
            break
    columns = dict.fromkeys(column for post in posts for column in post)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(posts[:rows])
    return path


def _bare_copy(url: str, path: Path) -> float:
    """Seconds to bring the file as it is into a table of texts: the least that Postgres needs to read it."""
    with psycopg.connect(url, autocommit=True) as connection, path.open("rb") as file:
        columns = file.readline().decode().strip().split(",")
        types = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(each)) for each in columns)
        connection.execute(sql.SQL("CREATE TABLE bare_copy ({})").format(types))
        start = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY bare_copy FROM STDIN WITH (FORMAT csv)") as copy:
            while block := file.read(COPY_BYTES):
                copy.write(block)
        return time.perf_counter() - start


def _ingest_in_a_process(url: str, path: Path) -> Intake:
    spawn = multiprocessing.get_context("spawn")  # a forked child would begin with the memory of this process
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_ingest, url, path).result()


def _ingest(url: str, path: Path) -> Intake:
    with Database(url) as database:
        _reset_peak()
        before = _peak_bytes()
        start = time.perf_counter()
        report = ingest_file(database, "posts", path)
        seconds = time.perf_counter() - start
    return Intake(seconds, report, before, _peak_bytes())


def _reset_peak() -> None:
    """Forget what the imports took, where Linux can: the peak would hide all that is smaller."""
    clear_refs = Path("/proc/self/clear_refs")
    if clear_refs.exists():
        clear_refs.write_text("5", encoding="ascii")  # 5 sets VmHWM to what is held now (man 5 proc_pid_clear_refs)


def _peak_bytes() -> int:
    """The most memory that this process has held so far.

    Not getrusage on Linux: there a new program inherits the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _pipeline(settings: Settings) -> dict[str, float]:
    """Seconds of each step that the main job takes after the intake; all connections are new, as in a new run."""
    with open_database(settings) as database:
        embedder = open_embedder(settings, database)
        with contextlib.closing(open_vector_db(settings, database, embedder)) as vector_db:
            embed = partial(embed_collection, database=database, embedder=embedder, vector_db=vector_db)
            return {
                "embed posts": _seconds(partial(embed, CONTENT.name)),
                "label outcomes": _seconds(partial(classify_new_outcomes, database)),
                "embed outcomes": _seconds(partial(embed, OUTCOMES.name)),
            }


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
