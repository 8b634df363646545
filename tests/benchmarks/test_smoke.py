"""The benchmark runs, at a size at which it says nothing about speed: so that it still does when somebody needs it."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import claims, embedding, labels, rebuild_latency, scrubbing, strategies, strategy_sets, switch
from tests.benchmarks.__main__ import run
from tests.benchmarks.peers import wrong_and_lost
from tests.benchmarks.scrape import measure
from tests.benchmarks.search import OURS, OURS_ASYNC, RAW, RAW_DEFAULTS
from tests.benchmarks.sync import CLOUDS
from tests.benchmarks.texts import text_set
from tests.benchmarks.vectors import FILTERS
from tests.labelled_sample import PLANTED
from tests.openai_server import vector_of


@pytest.mark.slow
def test_the_benchmark_prints_every_figure_and_finds_every_neighbour() -> None:
    printed = StringIO()

    report = run(["sample"], rows=200, queries=25, posts=500, repeats=1, console=Console(file=printed, width=200))

    asked = {(each.backend, each.keeps, each.who) for each in report.queries}
    assert asked == {
        (backend, keeps, who)
        for backend in ("chroma", "pgvector")
        for keeps in FILTERS
        for who in (RAW, OURS, OURS_ASYNC, RAW_DEFAULTS)
    }
    assert {each.expected_rows for each in report.queries if each.keeps == "1 %"} == {2}
    assert all(each.recall == 1.0 for each in report.queries if each.who in {OURS, OURS_ASYNC})
    assert all(each.fewest_rows == each.expected_rows for each in report.queries if each.who in {OURS, OURS_ASYNC})
    assert all(figure > 0 for each in report.fills for figure in (*each.raw_seconds, *each.ours_seconds))
    assert report.intake.memory_peak_bytes >= report.intake.memory_before_bytes > 0
    assert report.intake.quarter_memory_growth_bytes >= 0
    assert all(title in printed.getvalue() for title in ("Fill", "Queries", "Intake of 500 posts", "Aims"))
    assert [(each.cloud, each.step, each.rows) for each in report.syncs] == [
        (cloud, step, rows)
        for cloud in CLOUDS
        for step, rows in (
            ("raw upsert", 200),
            ("first sync", 200),
            ("no change", 0),
            ("1 % other vectors", 2),
            ("1 % other metadata", 2),
        )
    ]
    assert {each.requests for each in report.syncs if each.step == "no change"} == {0}
    assert json.loads(report.as_json())["intake"]["rows"] == 500


@pytest.mark.slow
def test_the_benchmark_of_a_scrape_prints_figures_of_whole_answers() -> None:
    figures = measure(rows=2_000, scrapes=3)
    assert figures.response_bytes > 10_000
    assert 0 < figures.p50_ms <= figures.worst_ms


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_benchmark_of_the_scrubber_prints_counts_of_every_set_and_no_text(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = scrubbing.run(shared_data, part="held out", hostile_bytes=1_000)
    scrubbing.print_figures(figures)
    printed = capsys.readouterr().out
    assert all(f"{each.name}: {each.outcome.texts:,} texts" in printed for each in figures.sets)
    assert {kind for each in figures.sets for kind in each.outcome.scores} == {"email", "phone", "name"}
    assert all(each.outcome.texts > 2 and each.texts_per_second > 0 for each in figures.sets)
    assert len(figures.hostile_seconds) == len(scrubbing.HOSTILE)
    assert "@" not in printed.split("Aims")[0]
    recalls = (
        r"NOT MET phone recall 0\.9\d+, at least 0\.97\n +met     phone recall without .* no cue 0\.9\d+, at least"
    )
    assert re.search(recalls, printed)


@pytest.mark.slow
def test_the_benchmark_of_embedding_sends_what_is_new_and_judges_what_is_stored() -> None:
    printed = StringIO()

    report = embedding.run(text_set(200), latency_seconds=0.0, peers=(), console=Console(file=printed, width=200))

    steps = (embedding.FIRST, embedding.NOTHING_NEW, embedding.ONE_PERCENT, embedding.KNOWN_TEXTS, embedding.DUPLICATES)
    ours = {each.step: each for each in report.figures if each.who == embedding.OURS}
    assert tuple(ours) == steps
    assert [ours[step].texts for step in steps[:3]] == [200, 0, 2]
    assert ours[embedding.NOTHING_NEW].requests == 0
    (bare,) = (each for each in report.figures if each.who == embedding.BARE)
    assert bare.texts == 200
    assert {(each.wrong, each.lost) for each in report.figures} == {(0, 0)}
    assert all(report.aims().values())
    assert embedding.KNOWN_TEXTS in printed.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["chroma", "pgvector"])
def test_the_benchmark_of_a_switch_times_each_step(backend: str) -> None:
    seconds = switch.run(50, backend)
    assert list(seconds) == ["first load", "fill", "switch", "switch back"]
    assert all(each > 0 for each in seconds.values())


def test_the_benchmark_of_embedding_sees_wrong_and_lost_vectors() -> None:
    wanted = {"1": "one", "2": "two", "3": "three"}
    right = {"1": vector_of("one"), "2": vector_of("two") * 2}
    assert wrong_and_lost(right, wanted) == (0, 1)
    assert wrong_and_lost(right | {"3": vector_of("two")}, wanted) == (1, 0)
    assert wrong_and_lost(right | {"3": vector_of("three"), "4": vector_of("four")}, wanted) == (1, 0)


@pytest.mark.slow
def test_the_benchmark_of_labels_judges_the_one_account_that_changed(tmp_path: Path) -> None:
    figures = labels.measure(posts=400, accounts=4, data=tmp_path)
    assert (figures.judged_accounts, figures.reports) == (1, {})
    assert figures.first_seconds > 0
    assert figures.peak_megabytes > 0


@pytest.mark.slow
def test_the_benchmark_of_strategies_reads_what_the_product_labelled(tmp_path: Path) -> None:
    sets = strategy_sets.outcome_sets(tmp_path)
    assert set(sets) == {f"sample {platform}" for platform in PLANTED}
    assert any(each.confidence < 1 for each in sets["sample x"])
    figures = strategies.measure("sample x", sets["sample x"], shuffles=1)
    assert figures is not None
    assert len(figures.references) == 3
    assert figures.backtest.strategy.spearman is not None
    assert figures.passed <= figures.shuffles == 1


@pytest.mark.slow
def test_the_benchmark_of_claims_counts_each_platform_of_each_sample() -> None:
    figures = claims.measure(seeds=2, shuffles=1)
    assert figures.found.total() >= 9
    assert (figures.noisy.total(), figures.seconds > 0) == (0, True)


@pytest.mark.slow
def test_the_benchmark_of_rebuilds_tells_where_the_time_went(tmp_path: Path) -> None:
    figures = rebuild_latency.measure(2, tmp_path)
    assert [each.platform for each in figures.rounds] == sorted({each.platform for each in figures.rounds})
    for each in figures.rounds:
        assert {"sensor", "queue, process, imports", "feedback__strategies"} <= each.parts.keys()
        assert sum(each.parts.values()) == pytest.approx(each.total, abs=1.0)
