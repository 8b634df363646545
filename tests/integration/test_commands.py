"""Commands as a person types them, on a real database."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from everreach_assets.cli import main
from everreach_assets.embedding import embed_collection
from everreach_assets.memory import open_memory
from resources.settings import Settings


def everreach(database_url: str, *arguments: str, typed: str | None = None) -> Result:
    environment = {"EVERREACH_DATABASE_URL": database_url, "VECTOR_BACKEND": "pgvector"}
    return CliRunner().invoke(main, arguments, env=environment, input=typed)


@pytest.fixture
def bad_rows(tmp_path: Path) -> Path:
    file = tmp_path / "outcomes.jsonl"
    good = {"platform": "x", "post_id": "1", "likes": 3}
    rows = [good, *({"platform": "x", "post_id": str(number), "likes": "many"} for number in range(7))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_refused_rows_are_counted_and_listed(database_url: str, bad_rows: Path) -> None:
    assert "There are none." in everreach(database_url, "dead-letters").output
    taken = everreach(database_url, "ingest", "outcomes", str(bad_rows))
    assert taken.exit_code == 0
    assert "7 rows could not be taken" in taken.output
    assert "and 2 more: 'everreach dead-letters' lists them" in taken.output
    listed = everreach(database_url, "dead-letters", "--kind", "outcomes", "-n", "3").output.splitlines()
    assert [line.split("  ")[1:3] for line in listed] == [["outcomes", f"outcomes.jsonl:{line}"] for line in (8, 7, 6)]
    assert "There are none." in everreach(database_url, "dead-letters", "--kind", "posts").output


def test_ingest_ends_with_1_only_where_there_were_rows_and_none_could_be_taken(
    database_url: str, bad_rows: Path, tmp_path: Path
) -> None:
    none_good, empty = tmp_path / "none_good.jsonl", tmp_path / "empty.jsonl"
    none_good.write_text("".join(bad_rows.read_text().splitlines(keepends=True)[1:]))
    empty.touch()
    refused = everreach(database_url, "ingest", "outcomes", str(none_good))
    assert (refused.exit_code, "7 rows could not be taken" in refused.output) == (1, True)
    assert everreach(database_url, "ingest", "outcomes", str(bad_rows)).exit_code == 0
    assert everreach(database_url, "ingest", "outcomes", str(empty)).exit_code == 0


def test_psql_opens_the_database_and_takes_its_own_options(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answered = everreach(database_url, "psql", "-At", "-c", "SELECT count(*) + 41 FROM lessons WHERE false")
    assert answered.exit_code == 0
    assert capfd.readouterr().out == "41\n"
    assert everreach(database_url, "psql", "-c", "SELECT nothing").exit_code == 1


def test_search_shows_the_beginning_of_a_text_without_personal_data(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "lessons.jsonl"
    file.write_text(json.dumps({"lesson_id": "1", "text": "Questions bring answers,\nsays mary.lamb@example.com."}))
    assert everreach(database_url, "ingest", "lessons", str(file)).exit_code == 0
    settings = Settings(_env_file=None, everreach_database_url=SecretStr(database_url), vector_backend="pgvector")
    with open_memory(settings) as memory:
        embed_collection(
            "lesson_embeddings", database=memory.database, embedder=memory.embedder, vector_db=memory.vector_db
        )
    found = everreach(database_url, "search", "questions", "--collection", "lesson_embeddings").output
    assert found.splitlines()[1].strip() == "Questions bring answers, says [EMAIL]."
