"""Which alerts a real Alertmanager keeps silent while others fire, and which it tells in one message."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.alert_cases import PROMETHEUS, alerts, all_cases
from tests.alertmanager_server import Alertmanager, running_alertmanager
from tests.dispatch_server import DispatchServer
from tests.waiting import until

WITHOUT_THE_EXPORTER = {"EverReachExporterCollectorFailing", "EverReachKeyMetricMissing", "EverReachMRRSourceLost"}
SILENCES: Mapping[str, set[str]] = {
    "EverReachCloudCostCapExceeded": {"CloudCostApproachingCap", "EverReachCloudCostProjectedOverCap"},
    "CloudCostApproachingCap": {"EverReachCloudCostProjectedOverCap"},
    "EverReachExporterDown": {"EverReachMetricStoreDown", *WITHOUT_THE_EXPORTER},
    "EverReachMetricStoreDown": WITHOUT_THE_EXPORTER,
    "DagsterDaemonHeartbeatStale": {
        "DagsterAssetStale", "DagsterQueuedRunStuck", "DagsterSensorTickStale", "EverReachRetentionStale",
        "EverReachStrategyRebuildOverdue", "EverReachSyncStale",
    },
    "EverReachStrategyRebuildFailing": {"EverReachStrategyRebuildOverdue"},
    "EverReachPurgeSpike": {"EverReachVectorIndexShrank"},
    "EverReachVectorIndexShrank": {"EverReachVectorRowsWithoutEmbedding", "EverReachVectorSelfRecallLow"},
    "EverReachLocalOnlyDataInCloud": {"EverReachSyncDrift"},
}  # fmt: skip
"""What is silent while an alert fires."""

COMMON_LABEL = {
    "EverReachStrategyRebuildFailing": "platform",
    "EverReachPurgeSpike": "collection",
    "EverReachVectorIndexShrank": "collection",
    "EverReachLocalOnlyDataInCloud": "collection",
}
"""The label in which both must be alike."""


def series(alert: str, value: str = "same", **labels: str) -> dict[str, str]:
    """An alert with the labels that its rule gives it, all of this value but for those that are named."""
    firings = (each for case in all_cases() if case.alert == alert for given in case.firing.values() for each in given)
    severity = alerts()[alert]["labels"]["severity"]
    return {"alertname": alert, "severity": severity, **dict.fromkeys(next(firings).labels, value), **labels}


@contextlib.contextmanager
def alertmanager_of(url: str, folder: Path) -> Iterator[Alertmanager]:
    """An Alertmanager on the project's configuration that tells this address."""

    def edit(loaded: Any) -> None:
        for receiver in loaded["receivers"]:
            receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]

    with running_alertmanager(folder, PROMETHEUS / "alertmanager.yml", edit) as started:
        yield started


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with (
        DispatchServer().running() as receiver,
        alertmanager_of(receiver.url, tmp_path_factory.mktemp("am")) as started,
    ):
        yield started


@contextlib.contextmanager
def firing(alertmanager: Alertmanager, *given: dict[str, str]) -> Iterator[None]:
    """These alerts fire until the block ends."""
    alertmanager.fire(*given)
    try:
        yield
    finally:
        alertmanager.resolve(*given)


def silent(alertmanager: Alertmanager) -> list[tuple[str, str]]:
    """The alerts that are held back, each with the alert that it is held back by."""
    shown = {each["fingerprint"]: each for each in alertmanager.alerts()}
    found = []
    for each in shown.values():
        by = each["status"]["inhibitedBy"]
        assert (each["status"]["state"] == "suppressed") == bool(by)
        sources = [shown[source] for source in by if source in shown]  # one that just ended may still be named
        found += [(each["labels"]["alertname"], source["labels"]["alertname"]) for source in sources]
    return sorted(found)


@contextlib.contextmanager
def held_back(alertmanager: Alertmanager, source: dict[str, str], consequence: dict[str, str]) -> Iterator[None]:
    """The consequence alone is told, then the source, and not the consequence, until the block ends: then it is again.

    Alertmanager has heard of the source when the block begins: whatever it holds back is held back from then on.
    """
    expected = [(consequence["alertname"], source["alertname"])]
    with firing(alertmanager, consequence):
        assert silent(alertmanager) == []
        with firing(alertmanager, source):
            until(lambda: silent(alertmanager) == expected, seconds=10, says=lambda: f"{silent(alertmanager)}")
            yield
        until(lambda: silent(alertmanager) == [], seconds=10, says=lambda: f"{silent(alertmanager)}")


PAIRS = [(source, each) for source in SILENCES for each in sorted(SILENCES[source])]


@pytest.mark.parametrize(("source", "consequence"), PAIRS)
def test_an_alert_silences_its_consequence_for_as_long_as_it_fires(
    source: str, consequence: str, alertmanager: Alertmanager
) -> None:
    label = COMMON_LABEL.get(source)
    common = {label: "common"} if label else {}
    with held_back(alertmanager, series(source, "one", **common), series(consequence, "another", **common)):
        if label:  # of another platform or collection it is told
            with firing(alertmanager, series(consequence, "another")):
                assert silent(alertmanager) == [(consequence, source)]


@pytest.mark.parametrize("source", SILENCES)
def test_an_alert_silences_nothing_but_its_consequences(source: str, alertmanager: Alertmanager) -> None:
    witness = min(SILENCES[source], key=lambda each: (each in SILENCES, each))
    others = sorted(alerts().keys() - SILENCES.keys() - {witness})
    with firing(alertmanager, *map(series, others)):
        assert silent(alertmanager) == []
    with held_back(alertmanager, series(source), series(witness)):
        with firing(alertmanager, *map(series, others)):
            silenced = {each for each, by in silent(alertmanager) if by == source}
            assert silenced == SILENCES[source] - SILENCES.keys() | {witness}
        for each in sorted(SILENCES.keys() - {source} - SILENCES[source]):  # one by one: they silence others, too
            with firing(alertmanager, series(each)):
                assert (each, source) not in silent(alertmanager)


@pytest.mark.slow
def test_series_of_one_alert_are_one_message_and_another_alert_another(tmp_path: Path) -> None:
    failing = [series("EverReachStrategyRebuildFailing", platform) for platform in ("linkedin", "x")]
    overdue = [series("EverReachStrategyRebuildOverdue", platform) for platform in ("linkedin", "x")]
    letters = series("EverReachSyncDeadLetters")
    with DispatchServer().running() as receiver, alertmanager_of(receiver.url, tmp_path) as alertmanager:
        alertmanager.fire(*failing, *overdue, letters)
        until(lambda: len(receiver.messages) >= 2, seconds=20)
        time.sleep(3)  # longer than a group waits, and than it is told again
        told = [[each["labels"] for each in message["alerts"]] for message in receiver.messages]
    assert sorted(told, key=len) == [[letters], failing]
