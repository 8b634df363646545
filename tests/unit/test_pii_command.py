"""`everreach pii report`: counts of what would go, and none of it unless it is asked for."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from everreach_assets.cli import main

SECRET = "anna.smith@example.com"


def report(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["pii", "report", *arguments])


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    path = tmp_path / "posts.csv"
    path.write_text(f"id,body\n1,Write to {SECRET} or +1 415 555 2671\n2,It rained on 2026-11-21\n3,@anna sold it\n")
    return path


def test_posts_are_counted_by_kind_and_nothing_of_them_is_printed(posts: Path) -> None:
    shown = report(str(posts), "--text", "body")
    assert shown.exit_code == 0, shown.output
    assert "3 texts" in shown.output
    assert "altered: 1 (33.33%); refused, and never embedded: 0" in shown.output
    assert "email: 1 spans in 1 texts\nphone: 1 spans in 1 texts\n" in shown.output
    assert not any(word in shown.output for word in (SECRET, "415", "anna", "rained"))


def test_handles_are_counted_where_the_texts_are_of_prospects(posts: Path) -> None:
    assert "name: 1 spans in 1 texts" in report(str(posts), "--text", "body", "--prospects").output


def test_spans_are_printed_only_where_that_is_asked_for(posts: Path) -> None:
    shown = report(str(posts), "--text", "body", "--show-personal-data", "1").output
    assert f"email: '{SECRET}'" in shown
    assert "415" not in shown


def test_labels_are_scored(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    label = {"start": 9, "end": 9 + len(SECRET), "kind": "email"}
    rows = [
        {"text": f"Write to {SECRET}", "spans": [label]},
        {"text": "Anna came", "spans": [{"start": 0, "end": 4, "kind": "name"}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = report(str(path)).output
    assert "email against 1 labels: recall 1.000, precision 1.000, 0 partly left, 0 wrong" in shown
    assert "name against 1 labels: recall 0.000, precision 1.000" in shown


def test_a_file_of_another_shape_is_refused_in_one_line(posts: Path) -> None:
    shown = report(str(posts))
    assert shown.exit_code == 2
    assert "line 2: no text in column 'text'" in shown.output
    assert SECRET not in shown.output


def test_a_name_model_that_is_not_there_stops_the_command(posts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PII_NAME_MODEL", str(posts.parent / "nowhere"))
    shown = report(str(posts), "--text", "body")
    assert shown.exit_code == 2
    assert "PII_NAME_MODEL" in shown.output
