"""Durable metrics: totals that agree from any process, never go back, and cannot be made to grow new series."""

import re
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.retention import load_policy, make_plan
from resources.database import Connection, Database
from resources.metric_records import Record, publish_catalogue, record, replace_gauges

DMS = "everreach_dms_sent_total"
DISPATCH = "everreach_dispatch_duration_seconds"
COST = "everreach_cloud_cost_usd_total"


def counter(connection: Connection, metric: str, **labels: str) -> float:
    row = connection.execute(
        "SELECT sum(value) FROM metric_counters WHERE metric = %s AND labels @> %s::jsonb",
        (metric, psycopg.types.json.Jsonb(labels)),
    ).fetchone()
    return float(row[0]) if row and row[0] is not None else -1.0


def rows(connection: Connection, statement: str) -> list[Any]:
    return connection.execute(statement.encode()).fetchall()


def test_counters_add_up_and_start_at_zero(database: Database) -> None:
    with database.connection() as connection:
        assert counter(connection, DMS, platform="x") == 0
        assert record(connection, [Record(DMS, 2, {"platform": "x"}), Record(DMS, 3, {"platform": "x"})])
        assert record(connection, [Record(DMS, 1, {"platform": "linkedin"})])
        assert (counter(connection, DMS, platform="x"), counter(connection, DMS)) == (5, 6)


def test_the_statement_of_the_documentation_records(database: Database) -> None:
    page = Path(__file__).parents[2] / "docs" / "monitoring.md"
    (statement,) = re.findall(r"^```sql\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with database.connection() as connection:
        assert rows(connection, statement) == [(True,)]
        assert rows(connection, "SELECT labels, value FROM metric_gauges WHERE metric = 'everreach_aag_active'") == [
            ({}, 4.0)
        ]


def test_the_same_record_id_adds_nothing(database: Database) -> None:
    with database.connection() as connection:
        assert record(connection, [Record(DMS, 2, {"platform": "x"})], record_id="request-1")
        assert not record(connection, [Record(DMS, 2, {"platform": "x"})], record_id="request-1")
        assert counter(connection, DMS, platform="x") == 2


def test_a_record_id_is_known_for_thirty_days(database: Database) -> None:
    with database.connection() as connection:
        for day in (29, 31):
            record(connection, [Record(DMS, 1, {"platform": "x"})], record_id=f"of-day-{day}")
            connection.execute(
                "UPDATE metric_record_ids SET recorded_at = now() - %s * interval '1 day' WHERE record_id = %s",
                (day, f"of-day-{day}"),
            )
        make_plan(load_policy(None), database=database)  # the first step of the daily job
        assert not record(connection, [Record(DMS, 1, {"platform": "x"})], record_id="of-day-29")
        assert record(connection, [Record(DMS, 1, {"platform": "x"})], record_id="of-day-31")
        assert counter(connection, DMS, platform="x") == 3


@pytest.mark.slow
def test_a_value_outside_its_closed_set_is_counted_as_other(database: Database) -> None:
    hostile = [Record(DMS, 1, {"platform": f"platform-{number}'); DROP TABLE x;--"}) for number in range(100_000)]
    with database.connection() as connection:
        before = rows(connection, "SELECT count(*) FROM metric_counters")
        record(connection, hostile)
        assert rows(connection, "SELECT count(*) FROM metric_counters") == before
        assert counter(connection, DMS, platform="other") == 100_000


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Record("everreach_no_such_total"), "everreach_no_such_total: there is no such metric"),
        (Record(DMS, -1, {"platform": "x"}), "a counter never goes down, got -1"),
        (Record(DMS, 1), "lacks the label platform"),
        (Record(DMS, 1, {"platform": "x", "post_id": "7"}), "has no label post_id"),
        (Record(DMS, 1e16, {"platform": "x"}), "beyond 1e15"),
        (Record(DISPATCH, [1.0, 1e300], {"service": "crm", "action": "dm.send", "env": "staging"}), "beyond 1e15"),
        (Record("everreach_mrr_usd", 10, {"source": "total"}), "would double every sum"),
        (Record(DMS, float("nan"), {"platform": "x"}), "metrics: "),
        (Record(DMS, float("inf"), {"platform": "x"}), "metrics: "),
    ],
)
def test_what_cannot_be_counted_is_named_and_nothing_of_the_batch_is_recorded(
    database: Database, given: Record, reason: str
) -> None:
    with database.connection() as connection:
        with pytest.raises(InvalidInput, match=reason):
            record(connection, [Record(DMS, 1, {"platform": "x"}), given], record_id="one")
        assert counter(connection, DMS) == 0
        assert record(connection, [Record(DMS, 1, {"platform": "x"})], record_id="one")


def test_a_gauge_holds_the_last_value_and_may_replace_all_its_series(database: Database) -> None:
    with database.connection() as connection:
        record(connection, [Record("everreach_mrr_usd", 900, {"source": "stripe"})])
        record(connection, [Record("everreach_mrr_usd", 800, {"source": "stripe"})])
        record(connection, [Record("everreach_mrr_usd", 50, {"source": "paypal"})])
        held = "SELECT labels ->> 'source', value FROM metric_gauges ORDER BY 1"
        assert rows(connection, held) == [("paypal", 50.0), ("stripe", 800.0)]
        replace_gauges(connection, "everreach_mrr_usd", [Record("everreach_mrr_usd", 1, {"source": "paddle"})])
        assert rows(connection, held) == [("paddle", 1.0)]


def test_a_histogram_counts_each_observation_in_the_bucket_of_its_upper_bound(database: Database) -> None:
    labels = {"service": "crm", "action": "dm.send", "env": "production"}
    with database.connection() as connection:
        record(connection, [Record(DISPATCH, [0.1, 0.11, 45.0, 1000.0], labels), Record(DISPATCH, 0.05, labels)])
        record(connection, [Record(DISPATCH, 0.2, labels)])
        ((counts, total),) = rows(connection, "SELECT counts, sum FROM metric_histograms")
    assert [int(each) for each in counts] == [2, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert total == pytest.approx(1045.46)


def test_cost_is_kept_by_month_too(database: Database) -> None:
    with database.connection() as connection:
        for amount in (0.1, 0.2):
            record(connection, [Record(COST, amount, {"service": "openai", "action": "embed"})])
        ((month_first_day, service, usd),) = rows(
            connection, "SELECT extract(day FROM month), service, usd FROM cloud_cost_months"
        )
    assert (int(month_first_day), service, float(usd)) == (1, "openai", 0.3)


def test_work_that_is_rolled_back_counts_nothing(database: Database) -> None:
    with database.transaction() as connection:
        record(connection, [Record(DMS, 2, {"platform": "x"})])
        raise psycopg.Rollback
    with database.connection() as connection:
        assert counter(connection, DMS) == 0


def test_writers_at_once_lose_nothing_and_do_not_deadlock(database: Database) -> None:
    platforms = ["x", "linkedin", "tiktok", "youtube"]

    def write(order: int) -> None:
        for number in range(50):
            names = platforms if order % 2 else platforms[::-1]
            with database.connection() as connection:
                for _ in range(2):  # each is sent twice
                    record(
                        connection,
                        [Record(DMS, 1, {"platform": name}) for name in names],
                        record_id=f"writer-{order}-{number}",
                    )

    writers = [threading.Thread(target=write, args=(order,)) for order in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with database.connection() as connection:
        assert [counter(connection, DMS, platform=name) for name in platforms] == [300] * 4


def test_publishing_the_catalogue_again_keeps_totals_and_what_an_operator_allowed(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO metric_label_values VALUES ('platform', 'snapchat')")
        record(connection, [Record(DMS, 7, {"platform": "snapchat"})])
        publish_catalogue(connection)
        record(connection, [Record(DMS, 1, {"platform": "snapchat"})])
        assert counter(connection, DMS, platform="snapchat") == 8
