"""One outcome at a time, through the async interface, into a real database."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.domain.posts import RecordedOutcome
from everreach_assets.feedback import FeedbackSyncEngine
from resources.database import Database
from resources.intake import ingest_file

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rows(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute(statement.encode()).fetchall()


def test_an_outcome_of_an_unknown_post_registers_it(database: Database) -> None:
    engine = FeedbackSyncEngine(database)
    recorded = asyncio.run(
        engine.record_outcome(
            "p1", "x", {"favorites": 3, "views": None}, observed_at=MOMENT, text="Hi", account="ann", post_type="tweet"
        )
    )
    assert recorded == RecordedOutcome(seq=1, is_new=True)
    assert rows(database, "SELECT platform, post_id, account, post_type, text FROM actp_feedback_posts") == [
        ("x", "p1", "ann", "tweet", "Hi")
    ]
    assert rows(database, "SELECT seq, observed_at, metrics FROM outcome_snapshots") == [(1, MOMENT, {"likes": 3})]


def test_the_same_outcome_again_is_no_news_and_answers_the_first_row(database: Database) -> None:
    engine = FeedbackSyncEngine(database)

    async def record() -> list[RecordedOutcome]:
        stated = [await engine.record_outcome("p1", "x", {"likes": 3}, observed_at=MOMENT) for _ in range(2)]
        unstated = [await engine.record_outcome("p1", "x", {"likes": likes}) for likes in (3, 4, 4)]
        return stated + unstated

    first, again, known, new, new_again = asyncio.run(record())
    assert first.is_new
    assert again == known == RecordedOutcome(first.seq, is_new=False)
    assert new.is_new
    assert new_again == RecordedOutcome(new.seq, is_new=False)
    assert len(rows(database, "SELECT 1 FROM outcome_snapshots")) == 2


def test_what_is_not_given_erases_nothing(database: Database) -> None:
    engine = FeedbackSyncEngine(database)
    asyncio.run(engine.record_outcome("p1", "x", {"likes": 3}, text="Hi", account="ann", published_at=MOMENT))
    before = rows(database, "SELECT * FROM actp_feedback_posts")
    asyncio.run(engine.record_outcome("p1", "x", {"likes": 4}, text="", account=None))
    assert rows(database, "SELECT * FROM actp_feedback_posts") == before


def test_twenty_callers_of_one_outcome_make_one_row(database: Database) -> None:
    engine = FeedbackSyncEngine(database)

    async def record_all() -> list[RecordedOutcome]:
        return await asyncio.gather(*(engine.record_outcome("p1", "x", {"likes": 3}) for _ in range(20)))

    recorded = asyncio.run(record_all())
    assert sum(each.is_new for each in recorded) == 1
    assert len({each.seq for each in recorded}) == 1
    assert len(rows(database, "SELECT 1 FROM outcome_snapshots")) == 1


def test_an_outcome_that_a_file_brought_is_known(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("platform,post_id,observed_at,likes\nx,p1,2026-03-01T12:00:00Z,3\n")
    ingest_file(database, "outcomes", path)
    recorded = asyncio.run(FeedbackSyncEngine(database).record_outcome("p1", "x", {"likes": 3.0}, observed_at=MOMENT))
    assert not recorded.is_new


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"platform": "Face Book"}, "platform is no such name"),
        ({"platform": "x" * 33}, "platform"),
        ({"post_id": ""}, "post_id is empty"),
        ({"post_id": "a" * 96}, "96 bytes, the limit is 95"),
        ({"post_id": "a\x00"}, "control"),
        ({"metrics": {}}, "x:p1: no metric is stated"),
        ({"metrics": {"likes": -1}}, "x:p1: no metric is stated"),
        ({"metrics": {"likes": -2}}, "x:p1: metric 'likes' is negative"),
        ({"metrics": {"likes": float("nan")}}, "metric 'likes' is not finite"),
        ({"metrics": {"lykes": 2}}, "metric 'lykes' is not one of"),
        ({"metrics": [3]}, "metrics is a mapping"),
        ({"observed_at": datetime(2999, 1, 1, tzinfo=UTC)}, "observed_at: it is in the future"),
        ({"observed_at": datetime(2026, 3, 1)}, "observed_at: a datetime with a time zone"),  # noqa: DTZ001 - the fault
        ({"published_at": "2026-03-01"}, "published_at: a datetime with a time zone"),
        ({"text": "a\x00b"}, "text holds a NUL"),
        ({"account": "\ud800"}, "account holds a lone surrogate"),
        ({"post_type": 3}, "post_type: a text is expected, not int"),
    ],
)
def test_a_wrong_part_is_named_and_nothing_is_written(database: Database, change: dict[str, object], part: str) -> None:
    call = {"post_id": "p1", "platform": "x", "metrics": {"likes": 1}} | change
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(FeedbackSyncEngine(database).record_outcome(**call))  # type: ignore[arg-type]
    assert part in str(caught.value)
    assert rows(database, "SELECT 1 FROM actp_feedback_posts") == []


def test_a_database_that_went_away_is_unavailable_and_a_later_call_succeeds(database: Database) -> None:
    engine = FeedbackSyncEngine(database)
    asyncio.run(engine.record_outcome("p1", "x", {"likes": 3}))
    database.close()
    with pytest.raises(Unavailable):
        asyncio.run(engine.record_outcome("p1", "x", {"likes": 4}))
    with Database(database.url) as again:
        assert asyncio.run(FeedbackSyncEngine(again).record_outcome("p1", "x", {"likes": 4})).is_new
