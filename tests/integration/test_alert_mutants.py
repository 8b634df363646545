"""The tests of the rules, tested: each rule is broken in every way of `tests/alert_mutants.py`, and a case notices."""

import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.alert_cases import STEP_SECONDS, Case, all_cases, by_step, document, rule_groups
from tests.alert_mutants import Mutant, files_of, judging, mutants, rules
from tests.conftest import program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BATCH = 25
NOTICED = ("got:", "multiple matches for labels", "many-to-many matching not allowed", "the same labelset")
"""What promtool says where another alert than the expected fired, and where a rule cannot be evaluated."""

BUCKETS = "backend_le:everreach_vector_query_latency_seconds_bucket:increase1h"
SURVIVORS = {
    **{
        ("Watchdog", f"vector([1 -> ({value})]"): "that it fires is all it says; nobody reads the value"
        for value in ("0.0", "0.5", "2.0")
    },
    **{
        (alert, "[max_over_time -> avg_over_time]"): "of what is never below 0, the mean is 0 where the greatest is"
        for alert in ("AlertmanagerBadConfig", "PrometheusBadConfig", "PrometheusWithoutAlertmanager")
    },
    **{
        ("EverReachKeyMetricMissing", f"{metric}) and on () count([last_over_time -> {other}_over_time]"): "series are "
        "counted, whatever their values"
        for metric in ("ch_flop_rate", "al_only_docs")
        for other in ("avg", "max", "min")
    },
    ("EverReachVectorRowsWithoutEmbedding", "ch_vector_index_size:max or 0 [* -> /]"): "0 / n is 0, too; where n is 0, "
    "the share is no number in either case",
    (BUCKETS, "by (backend, collection, le) ([increase -> rate]"): "the quantile of rates is that of counts",
    (BUCKETS, "sum by (backend, le) ( [max -> sum]"): "two exporters double every bucket alike, and the quantile is "
    "the same",
}
"""Mutants that no case can notice, each with the reason."""


def promtool(cases: Sequence[Case], *mutants: Mutant | None) -> list[str]:
    """What promtool says of the cases with each of the mutants among the rules; nothing where they pass.

    One process judges them all, for promtool starts no faster than it judges a few cases.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = (_written(Path(folder), number, mutant, cases) for number, mutant in enumerate(mutants))
        names = list(itertools.chain.from_iterable(written))
        command = [program("promtool"), "test", "rules", *names]
        finished = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    verdicts = [verdict.partition("\n") for verdict in finished.stdout.split("Unit Testing:  ")[1:]]
    assert [name for name, _, _ in verdicts] == names, finished.stdout
    failures = [""] * len(mutants)
    for name, _, said in verdicts:
        failures[int(name.partition("/")[0])] += "" if said.strip() == "SUCCESS" else said
    assert any(failures) == bool(finished.returncode), finished.stdout
    return failures


def _written(folder: Path, number: int, mutant: Mutant | None, cases: Sequence[Case]) -> Iterator[str]:
    """The files of promtool in a folder of their own, beside the rules that they are for."""
    (folder / str(number)).mkdir()
    groups = [group["name"] for file in ("recording.yml", "alerts.yml") for group in rule_groups(file)]
    for name, text in zip(("recording.yml", "alerts.yml"), files_of(mutant, cases), strict=True):
        (folder / str(number) / name).write_text(text, encoding="utf-8")
    for step, found in by_step(cases).items():
        text = document(found, ["recording.yml", "alerts.yml"], groups)
        (folder / str(number) / f"{step}.yml").write_text(text, encoding="utf-8")
        yield f"{number}/{step}.yml"


def survivors_of(batch: Sequence[Mutant], cases: Sequence[Case]) -> list[Mutant]:
    """The mutants with which no case fails; one that fails does so because something else fired, or the rule broke."""
    verdicts = promtool(cases, *batch)
    for mutant, said in zip(batch, verdicts, strict=True):
        assert not said or any(each in said for each in NOTICED), (mutant, said)
    return [mutant for mutant, said in zip(batch, verdicts, strict=True) if not said]


def test_every_mutant_of_a_rule_is_noticed() -> None:
    cases = all_cases()
    trials: list[tuple[list[Mutant], list[Case]]] = []
    for name in rules():
        judges = judging(name, cases)
        assert judges, f"nothing rests on {name}"
        steps = sorted({case.step for case in judges}, key=STEP_SECONDS.__getitem__)
        broken = list(mutants(name, steps))
        trials += [(broken[start : start + BATCH], judges) for start in range(0, len(broken), BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = itertools.chain.from_iterable(pool.map(lambda trial: survivors_of(*trial), trials))
        survivors = {(mutant.rule, mutant.change) for mutant in found}
    count = sum(len(batch) for batch, _ in trials)
    print(f"\n{count} mutants, {len(survivors)} survived, {len(SURVIVORS)} of them with a reason")
    for rule, change in sorted(survivors - SURVIVORS.keys()):
        print(f"  SURVIVED {rule}: {change}")
    assert count > 800
    assert survivors == SURVIVORS.keys()
