"""The alert relay on a real Postgres: a notification becomes one message, whatever fails between.

Dispatch is a server on loopback that answers as a test says.
"""

import contextlib
import datetime as dt
import json
import logging
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from everreach_assets.domain.alert_messages import HEARTBEAT_LOST_AFTER
from everreach_assets.service import relay
from everreach_assets.service.app import create_app
from everreach_assets.service.bodies import BODY_BYTES
from everreach_assets.service.relay import LEASE, AlertSender, utc_now
from resources import alert_messages
from resources.alert_token import alert_token, keep_alert_token, token_file
from resources.database import Database
from resources.dispatch import Answer as DispatchAnswer
from resources.dispatch import Dispatch
from resources.settings import Settings
from tests.dispatch_server import Answer, DispatchServer
from tests.servers import reserved_port
from tests.unit.test_alert_messages import alert, body

TOKEN = {"Authorization": "Bearer relay-token"}


@pytest.fixture
def dispatch() -> Iterator[DispatchServer]:
    with DispatchServer().running() as server:
        yield server


@pytest.fixture
def settings(database_url: str, dispatch: DispatchServer, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        everreach_home=tmp_path / "home",
        everreach_database_url=SecretStr(database_url),
        everreach_alert_token=SecretStr("relay-token"),
        dispatch_url=SecretStr(dispatch.url),
    )


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[TestClient]:
    with TestClient(create_app(settings, database), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def sender(settings: Settings, database: Database) -> Iterator[AlertSender]:
    with contextlib.closing(AlertSender(settings, database)) as made:
        yield made


def post(client: TestClient, content: object, headers: dict[str, str] = TOKEN) -> Any:
    return client.post("/api/v1/alerts", content=json.dumps(content).encode(), headers=headers)


def is_queued(client: TestClient, *alerts: dict[str, Any], **changes: Any) -> bool:
    answer = post(client, body(*alerts, **changes))
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["queued"])


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.connection() as connection:
        return connection.execute(statement.encode()).fetchall()


def age(database: Database, by: dt.timedelta) -> None:
    """As if everything had happened that much earlier."""
    with database.connection() as connection:
        connection.execute(
            "UPDATE alert_messages SET received_at = received_at - %(by)s, next_attempt_at = next_attempt_at - %(by)s,"
            " ended_at = ended_at - %(by)s",
            {"by": by},
        )
        connection.execute("UPDATE metric_gauges SET value = value - %s", (by.total_seconds(),))


def sent(sender: AlertSender) -> int:
    """Hand over all that is due; answers how many."""
    count = 0
    while sender.send_next():
        count += 1
    return count


def counted(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    prefix = 'everreach_alert_dispatch_total{result="'
    return {line[len(prefix) :].split('"')[0]: float(line.split()[-1]) for line in lines if line.startswith(prefix)}


# Taking in


def test_a_notification_becomes_one_message(client: TestClient, sender: AlertSender, dispatch: DispatchServer) -> None:
    assert is_queued(client, alert(), alert("Another"))
    assert sent(sender) == 1
    (message,) = dispatch.messages
    assert message["action"] == "telegram.send"
    assert message["text"].startswith("<b>EverReach: 2 firing</b>")
    assert sent(sender) == 0
    assert counted(client) == {"accepted": 1, "refused": 0, "retried": 0, "other": 0}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic relay-token", "relay-token", "Bearer relay-token x"]
)
def test_without_the_token_nothing_is_taken_in(client: TestClient, database: Database, header: str) -> None:
    refused = post(client, body(alert()), {"Authorization": header})
    assert refused.status_code == 401
    assert "relay-token" not in refused.text
    assert rows(database, "SELECT * FROM alert_messages") == []


def test_where_no_token_was_made_no_token_passes(settings: Settings, database: Database) -> None:
    closed = settings.model_copy(update={"everreach_alert_token": None})
    with TestClient(create_app(closed, database)) as client:
        for header in ("", "Bearer ", "Bearer None"):
            assert post(client, body(alert()), {"Authorization": header}).status_code == 401


def test_a_token_is_made_once_for_its_owners_eyes_and_passes(settings: Settings, database: Database) -> None:
    own = settings.model_copy(update={"everreach_alert_token": None})
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(keep_alert_token, [own] * 16)) == {token_file(own)}
    token = alert_token(own)
    assert token
    assert len(token) > 40
    assert stat.S_IMODE(token_file(own).stat().st_mode) == 0o600
    assert keep_alert_token(own).read_text() == f"{token}\n"
    assert [path.name for path in own.home.iterdir()] == ["alert-token"]
    with TestClient(create_app(own, database)) as client:
        assert post(client, body(alert()), {"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_token_that_is_set_is_the_one_that_alertmanager_reads(settings: Settings) -> None:
    keep_alert_token(settings.model_copy(update={"everreach_alert_token": None}))
    token_file(settings).chmod(0o644)
    assert keep_alert_token(settings).read_text() == "relay-token\n"
    assert stat.S_IMODE(token_file(settings).stat().st_mode) == 0o600


def test_what_is_no_notification_is_refused(client: TestClient, database: Database) -> None:
    no_json = (b"", b"{", b"\xff")
    for content in (*no_json, b"[]", b'{"version": "3"}', json.dumps(body()).encode()):
        refused = client.post("/api/v1/alerts", content=content, headers=TOKEN)
        assert refused.status_code == (400 if content in no_json else 422), content
        assert refused.json()["error"]
    long = client.post("/api/v1/alerts", content=b" " * (BODY_BYTES + 1), headers=TOKEN)
    assert long.status_code == 413
    assert rows(database, "SELECT * FROM alert_messages") == []


def test_hostile_text_is_stored_and_sent_as_text(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer
) -> None:
    assert is_queued(client, alert("'); DROP TABLE alert_messages;--", description="\0\ud800<script>"))
    assert sent(sender) == 1
    assert "'); DROP TABLE alert_messages;--" in dispatch.texts[0]
    assert "&lt;script&gt;" in dispatch.texts[0]


def test_without_the_database_alertmanager_is_told_to_try_again(settings: Settings) -> None:
    closed = Database(f"postgresql://nobody@127.0.0.1:{reserved_port()}/none")
    closed._pool.open()
    closed._pool.timeout = 0.5
    try:
        with TestClient(create_app(settings, closed), raise_server_exceptions=False) as client:
            assert post(client, body(alert())).status_code == 503
            assert client.get("/api/v1/alerts/heartbeat").status_code == 503
    finally:
        closed.close()


def test_without_its_table_alertmanager_is_told_to_try_again(client: TestClient, database: Database) -> None:
    rows_before = rows(database, "SELECT 1")
    assert rows_before
    with database.connection() as connection:
        connection.execute("DROP TABLE alert_messages")
    assert post(client, body(alert())).status_code == 500


def test_the_same_delivery_again_is_not_a_second_message(client: TestClient, database: Database) -> None:
    assert is_queued(client, alert(), alert("Another"))
    assert not is_queued(client, alert("Another"), alert())
    assert rows(database, "SELECT count(*) FROM alert_messages") == [(1,)]


def test_the_same_delivery_at_the_same_time_is_one_message(client: TestClient, database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: is_queued(client, alert()), range(16)))
    assert sum(answers) == 1
    assert rows(database, "SELECT count(*) FROM alert_messages") == [(1,)]


def test_a_reminder_hours_later_is_a_message(client: TestClient, database: Database) -> None:
    assert is_queued(client, alert())
    age(database, alert_messages.SAME_DELIVERY + dt.timedelta(seconds=1))
    assert is_queued(client, alert())


def test_each_change_of_a_group_is_a_message(client: TestClient, sender: AlertSender, dispatch: DispatchServer) -> None:
    assert is_queued(client, alert())
    assert is_queued(client, alert(), alert("Another"))
    assert is_queued(client, alert(), alert("Another", status="resolved"))
    assert is_queued(client, alert())
    assert is_queued(client, alert(status="resolved"))
    assert is_queued(client, alert(startsAt="2026-11-21T13:00:00Z"))
    assert sent(sender) == 6
    heads = [text.split("\n")[0] for text in dispatch.texts]
    assert heads == [
        f"<b>EverReach: {each}</b>"
        for each in ("1 firing", "2 firing", "1 firing, 1 resolved", "1 firing", "1 resolved", "1 firing")
    ]


def test_a_start_that_comes_after_its_end_is_not_told(client: TestClient) -> None:
    assert is_queued(client, alert(status="resolved"))
    assert not is_queued(client, alert())
    assert is_queued(client, alert(), alert("Another"))


def test_old_messages_that_were_sent_are_forgotten(client: TestClient, sender: AlertSender, database: Database) -> None:
    assert is_queued(client, alert())
    assert sent(sender) == 1
    age(database, alert_messages.KEPT_FOR + dt.timedelta(days=1))
    assert is_queued(client, alert("Another"))
    assert rows(database, "SELECT count(*) FROM alert_messages") == [(1,)]


# Handing over


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500), Answer(503), Answer(408), Answer(425), Answer(429), Answer(200, body={"ok": False}),
        Answer(200, body={"ok": False, "error_code": 429}),
    ],
)  # fmt: skip
def test_a_failure_that_may_pass_is_tried_again_and_told_once(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database, answer: Answer
) -> None:
    assert is_queued(client, alert())
    dispatch.script.append(answer)
    assert sent(sender) == 1
    assert sent(sender) == 0  # it waits
    age(database, dt.timedelta(seconds=2))
    assert sent(sender) == 1
    assert [message["id"] for message in dispatch.messages] == [dispatch.messages[0]["id"]] * 2
    assert counted(client) == {"accepted": 1, "refused": 0, "retried": 1, "other": 0}
    assert sent(sender) == 0


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_final_and_counted(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database, status: int
) -> None:
    assert is_queued(client, alert())
    dispatch.script.append(Answer(status))
    assert sent(sender) == 1
    age(database, dt.timedelta(hours=1))
    assert sent(sender) == 0
    assert counted(client)["refused"] == 1
    assert rows(database, "SELECT result FROM alert_messages") == [("refused",)]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, headers={"Retry-After": "40"}), Answer(429, body={"ok": False, "parameters": {"retry_after": 40}}),
        Answer(429, body={"retry_after": 40}), Answer(503, headers={"Retry-After": "40"}),
    ],
)  # fmt: skip
def test_a_pause_that_dispatch_asks_for_holds_for_every_message(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database, answer: Answer
) -> None:
    assert is_queued(client, alert())
    assert is_queued(client, alert("Another"), groupKey='{}:{alertname="B"}')
    dispatch.script.append(answer)
    assert sent(sender) == 1
    age(database, dt.timedelta(seconds=38))
    assert sent(sender) == 0
    age(database, dt.timedelta(seconds=3))
    assert sent(sender) == 2
    assert len(dispatch.messages) == 3


def test_waits_grow_up_to_five_minutes() -> None:
    waits = [relay._wait_seconds(attempt) for attempt in (1, 2, 5, 50)]
    assert 1 <= waits[0] <= 2 <= waits[1] <= 4
    assert 16 <= waits[2] <= 32
    assert 150 <= waits[3] <= 300


def test_a_message_that_waits_does_not_hold_back_other_groups_but_its_own(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database
) -> None:
    assert is_queued(client, alert())
    assert is_queued(client, alert(status="resolved"))
    assert is_queued(client, alert("Another"), groupKey='{}:{alertname="B"}')
    dispatch.script.append(Answer(500))
    assert sent(sender) == 2
    assert [text.split("\n")[0] for text in dispatch.texts] == ["<b>EverReach: 1 firing</b>"] * 2
    age(database, dt.timedelta(seconds=2))
    assert sent(sender) == 2
    assert "RESOLVED" in dispatch.texts[-1]


def test_a_message_is_given_up_after_a_day(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database
) -> None:
    dispatch.always = Answer(500)
    assert is_queued(client, alert())
    assert sent(sender) == 1
    age(database, relay.GIVE_UP_AFTER)
    assert sent(sender) == 1
    assert rows(database, "SELECT result FROM alert_messages") == [("refused",)]


def test_nothing_that_listens_is_a_failure_that_may_pass() -> None:
    with contextlib.closing(Dispatch(f"http://127.0.0.1:{reserved_port()}/dispatch")) as nobody:
        assert nobody.send("text", 1) == DispatchAnswer("retried", "no answer (ConnectError)")
    with contextlib.closing(Dispatch("no address")) as wrong:
        assert wrong.send("text", 1).result == "retried"


def test_a_sender_that_dies_with_a_message_leaves_it_to_the_next(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database
) -> None:
    assert is_queued(client, alert())
    with database.connection() as connection:
        assert alert_messages.claim(connection, utc_now(), LEASE)
    assert sent(sender) == 0
    age(database, LEASE)
    assert sent(sender) == 1
    assert len(dispatch.messages) == 1


def test_two_senders_tell_each_message_once(client: TestClient, settings: Settings, database: Database) -> None:
    for number in range(30):
        assert is_queued(client, alert(str(number)), groupKey=f"group {number % 7}")
    with DispatchServer().running() as server:
        both = settings.model_copy(update={"dispatch_url": SecretStr(server.url)})
        with (
            contextlib.closing(AlertSender(both, database)) as first,
            contextlib.closing(AlertSender(both, database)) as second,
        ):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(sent, [first, second]))
            sent(first)
        assert sorted(message["id"] for message in server.messages) == sorted(
            f"everreach-alert-{each}" for (each,) in rows(database, "SELECT message_id FROM alert_messages")
        )


def test_the_thread_sends_what_comes_and_ends_with_its_block(
    client: TestClient, settings: Settings, database: Database, dispatch: DispatchServer
) -> None:
    with AlertSender(settings, database, pace_seconds=0.05):
        assert is_queued(client, alert())
        assert dispatch.wait_for(1, 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "alert-sender"]


def test_the_thread_outlives_a_failure_of_the_database(
    client: TestClient,
    settings: Settings,
    database: Database,
    dispatch: DispatchServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with database.connection() as connection:
        connection.execute("ALTER TABLE alert_messages RENAME TO away")
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.05)
    with AlertSender(settings, database, pace_seconds=0.05):
        time.sleep(0.5)
        with database.connection() as connection:
            connection.execute("ALTER TABLE away RENAME TO alert_messages")
        assert is_queued(client, alert())
        assert dispatch.wait_for(1, 10)


def test_no_log_holds_the_address_or_the_token(
    client: TestClient,
    sender: AlertSender,
    dispatch: DispatchServer,
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    dispatch.script.extend([Answer(500), Answer(404)])
    post(client, body(alert()), {"Authorization": "Bearer wrong-token"})
    assert is_queued(client, alert())
    assert sent(sender) == 1
    age(database, dt.timedelta(seconds=2))
    assert sent(sender) == 1
    assert "will not be sent: dispatch answered 404" in caplog.text
    for secret in ("hunter2", "relay-token", "wrong-token"):
        assert secret not in caplog.text


# Heartbeat


def test_the_watchdog_is_one_message_a_day_and_a_gauge(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database
) -> None:
    assert is_queued(client, alert("Watchdog", severity="none"))
    for _ in range(3):
        assert not is_queued(client, alert("Watchdog", severity="none"))
    assert sent(sender) == 1
    assert dispatch.texts[0].startswith("<b>EverReach: alerting works</b>")
    age(database, dt.timedelta(minutes=10))
    with database.connection() as connection:
        last = alert_messages.last_heartbeat_at(connection)
    assert last is not None
    assert abs(utc_now() - dt.timedelta(minutes=10) - last) < dt.timedelta(seconds=20)
    with database.transaction() as connection:
        assert alert_messages.take_in_heartbeat(connection, utc_now() + dt.timedelta(days=1))
        assert not alert_messages.take_in_heartbeat(connection, utc_now() + dt.timedelta(days=1))


def test_the_heartbeat_can_be_watched_from_outside(client: TestClient, database: Database) -> None:
    assert client.get("/api/v1/alerts/heartbeat").status_code == 503
    assert is_queued(client, alert("Watchdog"))
    alive = client.get("/api/v1/alerts/heartbeat")
    assert (alive.status_code, alive.json()["is_alive"]) == (200, True)
    age(database, HEARTBEAT_LOST_AFTER)
    dead = client.get("/api/v1/alerts/heartbeat")
    assert (dead.status_code, dead.json()["is_alive"]) == (503, False)


def test_a_silence_is_told_once_and_its_end_too(
    client: TestClient, sender: AlertSender, dispatch: DispatchServer, database: Database
) -> None:
    assert is_queued(client, alert("Watchdog"))
    assert sent(sender) == 1
    age(database, HEARTBEAT_LOST_AFTER - dt.timedelta(seconds=30))
    assert sent(sender) == 0
    age(database, dt.timedelta(seconds=30))
    assert sent(sender) == 1
    assert "ALERTING IS DEAD" in dispatch.texts[-1]
    assert not sender.send_next(lambda: utc_now() + dt.timedelta(hours=1))
    assert is_queued(client, alert("Watchdog"))
    assert sent(sender) == 1
    assert "alerting works" in dispatch.texts[-1]


def test_without_a_first_heartbeat_nothing_is_missed(sender: AlertSender, dispatch: DispatchServer) -> None:
    assert sent(sender) == 0
    assert dispatch.messages == []


def test_a_watchdog_that_ended_is_told(client: TestClient, sender: AlertSender, dispatch: DispatchServer) -> None:
    assert is_queued(client, alert("Watchdog", severity="none", status="resolved"))
    assert sent(sender) == 1
    assert "RESOLVED none: <b>Watchdog</b>" in dispatch.texts[0]
