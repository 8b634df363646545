"""Files into a real database: what lands, what is refused, and that the same file twice changes nothing."""

import csv
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mapping_files import FileMapping
from everreach_assets.domain.sample import make_sample, write_sample
from resources.database import Database
from resources.intake import IntakeReport, Rejection, ingest_file

TABLES = ("actp_feedback_posts", "outcome_snapshots", "prospects", "lessons", "ingest_dead_letters")
WriteCsv = Callable[..., Path]


def query(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.connection() as connection:
        return connection.execute(statement.encode()).fetchall()


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that intake writes, with its times of change."""
    return {table: query(database, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


@pytest.fixture
def write_csv(tmp_path: Path) -> WriteCsv:
    def write(*rows: Sequence[object], name: str = "posts.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows(rows)
        return path

    return write


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def counts(report: IntakeReport) -> tuple[int, int, int, int, int, int]:
    return (
        report.rows, report.rejected, report.inserted, report.updated, report.unchanged, report.snapshots_inserted
    )  # fmt: skip


def test_posts_land_with_outcomes_and_attributes(database: Database, write_csv: WriteCsv) -> None:
    path = write_csv(
        ["platform", "post_id", "text", "published_at", "observed_at", "views", "likes", "campaign"],
        ["x", "1", "Hello", "2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z", "10", "-1", "spring"],
        ["x", "2", "", "", "", "", "", ""],
    )
    report = ingest_file(database, "posts", path)
    assert counts(report) == (2, 0, 2, 0, 0, 1)
    assert not report.is_unreadable
    assert query(database, "SELECT post_id, text, published_at, attributes FROM actp_feedback_posts ORDER BY 1") == [
        ("1", "Hello", datetime(2026, 1, 1, 10, tzinfo=UTC), {"campaign": "spring"}),
        ("2", "", None, {}),
    ]
    assert query(database, "SELECT post_id, observed_at, metrics FROM outcome_snapshots") == [
        ("1", datetime(2026, 1, 2, 10, tzinfo=UTC), {"views": 10})
    ]


def test_the_sample_twice_changes_nothing(database: Database, tmp_path: Path) -> None:
    sample, paths = make_sample(), write_sample(tmp_path)
    for kind, path in paths.items():
        report = ingest_file(database, kind, path)
        assert (report.rows, report.rejected) == (len(getattr(sample, kind)), 0)
    before = contents(database)
    assert len(before["outcome_snapshots"]) == len(sample.posts) + len(sample.outcomes)
    for kind, path in paths.items():
        report = ingest_file(database, kind, path)
        assert (report.inserted, report.updated, report.snapshots_inserted) == (0, 0, 0)
        assert report.unchanged > 0
    assert contents(database) == before


def test_a_bad_file_twice_changes_nothing_though_no_time_is_stated(database: Database, write_csv: WriteCsv) -> None:
    path = write_csv(
        ["platform", "post_id", "text", "views"],
        ["x", "1", "a", 5], ["x", "1", "", 7], ["x", "2", "b", "many"], ["x", "", "c", 1],
    )  # fmt: skip
    first = ingest_file(database, "posts", path)
    assert counts(first) == (4, 2, 1, 0, 0, 2)
    before = contents(database)
    assert counts(ingest_file(database, "posts", path)) == (4, 2, 0, 0, 1, 0)
    assert contents(database) == before


def test_of_repeats_the_last_wins_and_empty_never_erases(database: Database, write_csv: WriteCsv) -> None:
    header = ["platform", "post_id", "account", "text", "url", "mood", "place"]
    ingest_file(database, "posts", write_csv(header, ["x", "1", "ann", "old", "u1", "calm", "home"]))
    path = write_csv(header, ["x", "1", "", "first", "", "", "out"], ["x", "1", "", "last", "", "glad", ""])
    assert counts(ingest_file(database, "posts", path)) == (2, 0, 0, 1, 0, 0)
    assert query(database, "SELECT account, text, url, attributes FROM actp_feedback_posts") == [
        ("ann", "last", "u1", {"mood": "glad", "place": "out"})
    ]
    ingest_file(database, "posts", write_csv(header, ["x", "1", "bea", "", "", "", ""]))
    assert query(
        database,
        "SELECT account, text, text_sha256 = sha256(convert_to(text, 'UTF8')), updated_at > first_seen_at"
        " FROM actp_feedback_posts",
    ) == [("bea", "last", True, True)]


def test_the_same_counts_at_another_time_are_another_snapshot(database: Database, write_csv: WriteCsv) -> None:
    header = ["platform", "post_id", "observed_at", "views"]
    rows = [
        ["x", "1", "2026-01-01T00:00Z", 5],
        ["x", "1", "2026-01-02T00:00Z", 5],
        ["x", "1", "2026-01-02T02:00+02:00", 5],
    ]
    assert ingest_file(database, "outcomes", write_csv(header, *rows)).snapshots_inserted == 2
    assert ingest_file(database, "outcomes", write_csv(header, *reversed(rows))).snapshots_inserted == 0


def test_outcomes_register_the_posts_they_speak_of(database: Database, tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "outcomes.jsonl",
        {"platform": "x", "post_id": 7, "likes": 3, "observed_at": 1767225600},
        {"platform": "x", "post_id": "8"},
    )
    report = ingest_file(database, "outcomes", path)
    assert counts(report) == (2, 1, 1, 0, 0, 1)
    assert report.first_rejections == (Rejection(2, "no metric is stated: an outcome has at least one count"),)
    assert query(database, "SELECT platform, post_id, text FROM actp_feedback_posts") == [("x", "7", "")]
    assert query(database, "SELECT observed_at FROM outcome_snapshots") == [(datetime(2026, 1, 1, tzinfo=UTC),)]


def test_json_values_stay_what_they_are(database: Database, tmp_path: Path) -> None:
    row = {
        "platform": "x",
        "post_id": "1",
        "tags": ["a", {"b": 1.5}],
        "is_ad": False,
        "none": None,
        "grin": "\U0001f600",
    }
    ingest_file(database, "posts", write_jsonl(tmp_path / "posts.jsonl", row))
    assert query(database, "SELECT attributes FROM actp_feedback_posts") == [
        ({"tags": ["a", {"b": 1.5}], "is_ad": False, "grin": "\U0001f600"},)
    ]


def test_bad_rows_go_to_the_dead_letters_with_file_line_and_reason(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(
        b"platform,post_id,text,views\n"
        b"x,1,good,1\n"
        b"x,2,caf\xe9,1\n"
        b"x,3,nul\x00,1\n"
        b"x,4,too,many,1\n"
        b"x,5\n"
        b"Face Book,6,a,1\n"
        b"x," + b"7" * 96 + b",a,1\n"
        b"x,8,a,-5\n"
        b'x,9,"open,1\n'
        b"x,10,good,1\n"
    )
    report = ingest_file(database, "posts", path)
    assert (report.rows, report.rejected, report.inserted) == (10, 8, 2)
    assert len(report.first_rejections) == 5
    letters = query(database, "SELECT kind, file, line, reason, row FROM ingest_dead_letters ORDER BY line")
    assert {(kind, file) for kind, file, *_ in letters} == {("posts", "bad.csv")}
    expected = ["not utf-8: set encoding", "NUL", "5 fields, the header has 4", "2 fields", "platform is no such name",
                "96 bytes", "metric 'views' is negative", "not CSV"]  # fmt: skip
    assert [line for _, _, line, _, _ in letters] == list(range(3, 11))
    for (*_, reason, _row), part in zip(letters, expected, strict=True):
        assert part in str(reason)
    assert letters[0][4] == {"platform": "x", "post_id": "2", "text": "caf\\udce9", "views": "1"}
    assert letters[1][4] == {"platform": "x", "post_id": "3", "text": "nul\u2400", "views": "1"}
    assert letters[2][4] == {"fields": '["x", "4", "too", "many", "1"]'}


def test_a_number_beyond_json_is_refused_and_the_rest_lands(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"platform": "x", "post_id": "1", "a": 1e999}\n{"platform": "x", "post_id": "2"}\n')
    report = ingest_file(database, "posts", path)
    assert (report.rejected, report.inserted) == (1, 1)
    assert "too large for JSON" in report.first_rejections[0].reason


def test_only_a_file_of_which_nothing_can_be_read_is_unreadable(database: Database, write_csv: WriteCsv) -> None:
    header = ["platform", "post_id", "likes"]
    assert ingest_file(database, "posts", write_csv(header, ["x", "1", "a"])).is_unreadable
    assert not ingest_file(database, "posts", write_csv(header, ["x", "1", "a"], ["x", "1", "1"])).is_unreadable


@pytest.mark.parametrize("kind", ["posts", "outcomes", "prospects", "lessons"])
def test_a_file_without_rows_is_a_success_with_zeros(database: Database, tmp_path: Path, kind: str) -> None:
    for name, content in (("a.csv", ""), ("b.csv", "anything,else\n"), ("c.jsonl", "")):
        path = tmp_path / name
        path.write_text(content)
        report = ingest_file(database, kind, path)  # type: ignore[arg-type]
        assert counts(report) == (0, 0, 0, 0, 0, 0)
        assert not report.is_unreadable


def test_what_cannot_be_used_at_all_is_refused_and_nothing_is_written(database: Database, write_csv: WriteCsv) -> None:
    path = write_csv(["id", "text"], ["1", "a"])
    mapping = FileMapping.model_validate({"constants": {"platform": "x"}, "columns": {"post_id": "id", "text": "body"}})
    with pytest.raises(InvalidInput, match=r"columns\.text names column 'body'"):
        ingest_file(database, "posts", path, mapping)
    with pytest.raises(InvalidInput, match="nothing states post_id"):
        ingest_file(database, "posts", path, platform="x")
    with pytest.raises(InvalidInput, match="kind 'people' is not one of"):
        ingest_file(database, "people", path)  # type: ignore[arg-type]
    assert not any(contents(database).values())
    assert ingest_file(database, "posts", write_csv(["platform", "post_id"], ["x", "1"])).inserted == 1


def test_an_encoding_and_a_delimiter_can_be_named(database: Database, write_csv: WriteCsv) -> None:
    path = write_csv(["post_id;text"], ["1;caf\u00e9"], encoding="cp1252")
    mapping = FileMapping.model_validate(
        {"encoding": "cp1252", "delimiter": ";", "columns": {"post_id": "post_id", "text": "text"}}
    )
    assert ingest_file(database, "posts", path, mapping, platform="x").rejected == 0
    assert query(database, "SELECT text FROM actp_feedback_posts") == [("caf\u00e9",)]


def test_a_text_of_15000_characters_lands_whole(database: Database, write_csv: WriteCsv) -> None:
    text = "Zeile \u00fc\n" * 1875
    ingest_file(database, "posts", write_csv(["platform", "post_id", "text"], ["x", "1", text]))
    assert query(database, "SELECT text FROM actp_feedback_posts") == [(text,)]


def test_hashes_are_of_the_text_that_the_views_show(database: Database, write_csv: WriteCsv) -> None:
    header = ["prospect_id", "name", "company", "job_title", "notes"]
    ingest_file(
        database, "prospects", write_csv(header, ["1", "Ann", "Acme", "", "likes tea"], ["2", "Bo", "", "", ""])
    )
    ingest_file(database, "prospects", write_csv(header, ["1", "", "", "Lead", ""]))
    ingest_file(database, "lessons", write_csv(["lesson_id", "text"], ["1", "Wait for ten."]))
    for view, texts in (("prospect_documents", ["Lead. Acme. likes tea"]), ("lesson_documents", ["Wait for ten."])):
        rows = query(database, f"SELECT text, text_sha256 = sha256(convert_to(text, 'UTF8')) FROM {view}")
        assert rows == [(text, True) for text in texts]


def test_progress_ends_at_the_size_of_the_file(database: Database, write_csv: WriteCsv) -> None:
    path = write_csv(["platform", "post_id"], *(["x", number] for number in range(2500)))
    calls: list[tuple[int, int]] = []
    ingest_file(database, "posts", path, on_progress=lambda read, total: calls.append((read, total)))
    assert len(calls) == 3
    assert calls == sorted(calls)
    assert calls[-1] == (path.stat().st_size, path.stat().st_size)
