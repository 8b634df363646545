"""The clock around filling and searching, raw and ours side by side on the same servers with the same vectors.

What does not belong here: the contenders (`contenders.py`), the exact answers (`vectors.py`), judging (`report.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
import psycopg

from tests.benchmarks.contenders import Backend, Search, open_backends
from tests.benchmarks.servers import fresh_servers
from tests.benchmarks.vectors import FILTERS, SEED, Question, VectorSet, questions

WARM_UP = 20
"""Queries before the clock starts: psycopg prepares a statement after five, and pages come into memory."""

RAW, OURS, OURS_ASYNC, RAW_DEFAULTS = "raw", "ours", "ours, async", "raw, defaults"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FillFigures:
    """Seconds to fill an empty store, one figure for each repetition."""

    vectors: str
    backend: str
    rows: int
    raw_seconds: list[float]
    ours_seconds: list[float]

    @property
    def ratio(self) -> float:
        return median(self.ours_seconds) / median(self.raw_seconds)


@dataclass(frozen=True)
class QueryFigures:
    """How one contender answered all queries under one filter.

    Attributes:
        keeps: the share of rows that pass the filter; `all` without one.
        recall: mean share of the exact answer that was found.
        fewest_rows: of any answer.
        expected_rows: of every right answer.
    """

    vectors: str
    backend: str
    keeps: str
    who: str
    p50_ms: float
    p95_ms: float
    recall: float
    fewest_rows: int
    expected_rows: int


def measure_search(
    data: VectorSet, *, repeats: int, on_progress: Progress
) -> tuple[list[FillFigures], list[QueryFigures]]:
    """Fill both backends `repeats` times, each time on fresh servers, and search what was filled last."""
    fills: list[tuple[Backend, float, float]] = []
    queried: list[QueryFigures] = []
    for repeat in range(repeats):
        with fresh_servers() as settings, open_backends(settings) as backends:
            for backend in backends:
                on_progress(f"{data.name}: fill {backend.name}, {repeat + 1} of {repeats}")
                fills.append((backend, *_fill(backend, data, is_raw_first=repeat % 2 == 0)))
            if repeat == repeats - 1:
                for backend in backends:
                    on_progress(f"{data.name}: fill {backend.name} with its default parameters")
                    backend.defaults.fill(data)
                _settle(settings.database_url())
                for backend in backends:
                    on_progress(f"{data.name}: query {backend.name}")
                    for keeps, where in FILTERS.items():
                        queried += _ask(data.name, keeps, backend, questions(data, where))
    return [
        FillFigures(
            data.name,
            name,
            len(data.vectors),
            raw_seconds=[raw for backend, raw, _ in fills if backend.name == name],
            ours_seconds=[ours for backend, _, ours in fills if backend.name == name],
        )
        for name in dict.fromkeys(backend.name for backend, _, _ in fills)
    ], queried


def _fill(backend: Backend, data: VectorSet, *, is_raw_first: bool) -> tuple[float, float]:
    """Seconds of raw and of ours."""
    seconds = {}
    for store in (backend.raw, backend.ours) if is_raw_first else (backend.ours, backend.raw):
        start = time.perf_counter()
        store.fill(data)
        seconds[store] = time.perf_counter() - start
    return seconds[backend.raw], seconds[backend.ours]


def _settle(url: str) -> None:
    """Do now, and for all tables, what autovacuum would do to some of them amid the queries."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def _ask(vectors: str, keeps: str, backend: Backend, asked: Sequence[Question]) -> list[QueryFigures]:
    """Put every question to every contender in turn, so that a slower minute of the machine is shared by all."""
    contenders: Mapping[str, Search] = {
        RAW: backend.raw.search,
        OURS: backend.ours.search,
        OURS_ASYNC: backend.ours.find_similar,
        RAW_DEFAULTS: backend.defaults.search,
    }
    for question in asked[:WARM_UP]:
        for search in contenders.values():
            search(question.query, question.where)
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    answers: dict[str, list[list[str]]] = {who: [] for who in contenders}
    order = list(contenders.items())
    random = np.random.default_rng(SEED)
    for question in asked:
        random.shuffle(order)  # nobody is always first, nor always after another with the same query
        for who, search in order:
            start = time.perf_counter()
            found = search(question.query, question.where)
            seconds[who].append(time.perf_counter() - start)
            answers[who].append(found)
    return [
        QueryFigures(
            vectors=vectors,
            backend=backend.name,
            keeps=keeps,
            who=who,
            p50_ms=1000 * float(np.percentile(seconds[who], 50)),
            p95_ms=1000 * float(np.percentile(seconds[who], 95)),
            recall=mean(each.hits(found) / each.expected for each, found in zip(asked, answers[who], strict=True)),
            fewest_rows=min(map(len, answers[who])),
            expected_rows=asked[0].expected,
        )
        for who in contenders
    ]
