"""The tests of the rules, tested: each rule is broken in every way of `tests/alert_mutants.py`, and a case notices."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.alert_cases import STEP_SECONDS, Case, all_cases, by_step, document, rule_groups
from tests.alert_mutants import Mutant, files_of, judging, mutants, rules
from tests.conftest import program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SURVIVORS = {
    ("Watchdog", f"vector([1 -> ({value})]"): "that it fires is all it says; nobody reads the value"
    for value in ("0.0", "0.5", "2.0")
} | {
    (
        "backend_le:everreach_vector_query_latency_seconds_bucket:increase1h",
        "sum by (backend, le) ( [max -> sum]",
    ): "two exporters double every bucket alike, and the quantile is the same"
}
"""Mutants that no case can notice, each with the reason."""


def promtool(mutant: Mutant | None, cases: Sequence[Case]) -> "subprocess.CompletedProcess[str]":
    """promtool's verdict on the cases with the mutant among the rules."""
    with tempfile.TemporaryDirectory() as folder:
        groups = [group["name"] for file in ("recording.yml", "alerts.yml") for group in rule_groups(file)]
        for name, text in zip(("recording.yml", "alerts.yml"), files_of(mutant, cases), strict=True):
            Path(folder, name).write_text(text, encoding="utf-8")
        names = []
        for step, found in by_step(cases).items():
            names.append(f"{step}.yml")
            text = document(found, ["recording.yml", "alerts.yml"], groups)
            Path(folder, names[-1]).write_text(text, encoding="utf-8")
        return subprocess.run(
            [program("promtool"), "test", "rules", *names], cwd=folder, capture_output=True, text=True, check=False
        )


def is_noticed(mutant: Mutant, cases: Sequence[Case]) -> bool:
    """Whether a case fails, and because something else fired or the rule broke on its series."""
    verdict = promtool(mutant, cases)
    said = verdict.stdout + verdict.stderr
    assert verdict.returncode == 0 or "got:" in said or "multiple matches for labels" in said, (mutant, said)
    return verdict.returncode != 0


def test_every_mutant_of_a_rule_is_noticed() -> None:
    cases = all_cases()
    trials: list[tuple[Mutant, list[Case]]] = []
    for name in rules():
        judges = judging(name, cases)
        assert judges, f"nothing rests on {name}"
        steps = sorted({case.step for case in judges}, key=STEP_SECONDS.__getitem__)
        trials += [(mutant, judges) for mutant in mutants(name, steps)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = list(pool.map(lambda trial: is_noticed(*trial), trials))
    survivors = {(mutant.rule, mutant.change) for (mutant, _), seen in zip(trials, noticed, strict=True) if not seen}
    print(f"\n{len(trials)} mutants, {len(survivors)} survived, {len(SURVIVORS)} of them with a reason")
    for rule, change in sorted(survivors - SURVIVORS.keys()):
        print(f"  SURVIVED {rule}: {change}")
    assert len(trials) > 500
    assert survivors == SURVIVORS.keys()
