"""alertmanager-telegram.yml on a real Alertmanager, against a server that speaks Telegram's protocol."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.alert_cases import PROMETHEUS
from tests.alertmanager_server import Alertmanager, running_alertmanager
from tests.telegram_server import MAX_CHARACTERS, TelegramServer, shown
from tests.waiting import until

pytestmark = pytest.mark.slow  # groups wait

CONFIGURATION = PROMETHEUS / "alertmanager-telegram.yml"
DESCRIPTION = "Tom & <b>Jerry</b> </pre> <script>alert('1 < 2')</script>"
QUIET_SECONDS = 3
"""Longer than a group waits, and than it is told again."""


@pytest.fixture(scope="module")
def telegram() -> Iterator[TelegramServer]:
    (receiver,) = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["receivers"]
    (bot,) = receiver["telegram_configs"]
    with TelegramServer(bot["bot_token"], bot["chat_id"]).running() as server:
        yield server


@pytest.fixture(scope="module")
def alertmanager(telegram: TelegramServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    def edit(loaded: Any) -> None:
        loaded["receivers"][0]["telegram_configs"][0]["api_url"] = telegram.api_url

    with running_alertmanager(tmp_path_factory.mktemp("telegram"), CONFIGURATION, edit) as started:
        yield started


def told(telegram: TelegramServer, count: int) -> list[str]:
    """The texts that were sent, once there are so many, and no further one came."""
    until(lambda: len(telegram.sent) >= count or bool(telegram.refused), seconds=20)
    time.sleep(QUIET_SECONDS)
    assert telegram.refused == []
    assert len(telegram.sent) == count
    return [each["text"] for each in telegram.sent]


def test_an_alert_is_one_message_with_its_text_escaped_and_its_end_another(
    alertmanager: Alertmanager, telegram: TelegramServer
) -> None:
    labels = {"alertname": "MRRDropAlert", "severity": "critical"}
    telegram.sent.clear()
    alertmanager.fire(labels, annotations={"description": DESCRIPTION})
    (text,) = told(telegram, 1)
    assert DESCRIPTION in shown(text)
    assert "Tom &amp; &lt;b&gt;Jerry" in text
    assert "<" not in text
    assert "Alerts Firing" in text
    assert "MRRDropAlert" in text

    alertmanager.resolve(labels)
    _, end = told(telegram, 2)
    assert "Alerts Resolved" in end
    assert "Alerts Firing" not in end
    assert "MRRDropAlert" in end


def test_more_alerts_than_a_message_holds_are_one_that_telegram_takes(
    alertmanager: Alertmanager, telegram: TelegramServer
) -> None:
    telegram.sent.clear()
    stale = [{"alertname": "DagsterAssetStale", "severity": "warning", "asset_key": f"a/{n}"} for n in range(60)]
    alertmanager.fire(*stale, annotations={"description": DESCRIPTION})
    (text,) = told(telegram, 1)
    assert len(text) <= MAX_CHARACTERS
    assert text.count("DagsterAssetStale") > 5
