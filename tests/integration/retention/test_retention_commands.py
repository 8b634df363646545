"""`everreach retention`, on a real Postgres: what a person types, and what comes out."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from everreach_assets.cli import main
from resources.database import Database
from resources.hnsw_index import HnswIndex
from tests.retention_store import DAY, Store


@pytest.fixture
def store(database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two posts and a person that have expired, and the environment of the commands."""
    monkeypatch.setenv("EVERREACH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERREACH_DATABASE_URL", database_url)
    monkeypatch.setenv("VECTOR_BACKEND", "pgvector")
    made = Store(database, HnswIndex(database), tmp_path / "home" / "archives")
    made.add_post("a", 400 * DAY)
    made.add_post("b", 500 * DAY)
    made.add_post("new", DAY)
    made.add_prospect("z", 91 * DAY)
    made.embed()
    return made


def everreach(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, ["retention", *arguments], input=answer)


def test_from_a_plan_to_a_purge_and_back(store: Store) -> None:
    planned = everreach("plan")
    assert planned.exit_code == 0, planned.output
    assert "| content_embeddings | 3 | 2 | 0 | 0 | 0 | 1 | 0 | 0 |" in planned.output
    assert "| content_embeddings | x:b | 365 days by published_at |" in planned.output
    found = re.search(r"^Plan ([0-9a-f]{64})$", planned.output, re.MULTILINE)
    assert found

    assert everreach("hold", "add", "document", "x:a", "--reason", "dispute").output == "Hold 1 is in force.\n"
    assert "document x:a  since " in everreach("hold", "list").output

    refused = everreach("purge", "--plan", found[1], answer="n\n")
    assert "2 documents would be purged, 1 of the plan kept." in refused.output
    assert (refused.exit_code, store.tombstones()) == (1, [])
    purged = everreach("purge", "--plan", found[1], "--yes")
    assert "2 documents purged, 1 of the plan kept." in purged.output
    assert store.tombstones() == ["x:b", "z"]

    late = everreach("hold", "add", "document", "x:b", "--reason", "dispute", "--collection", "content_embeddings")
    assert "x:b was purged before" in late.output
    (archive,) = (store.rules.archives).glob("*-content_embeddings.jsonl.gz")
    restored = everreach("restore", str(archive), "--id", "x:b")
    assert restored.output == "content_embeddings: 1 restored and held, 0 left as they are.\n"
    assert store.stored() == ["x:a", "x:b", "x:new"]
    assert everreach("hold", "lift", "1", "2", "3").output == "3 of 3 lifted.\n"
    assert everreach("hold", "list").output == "Nothing is held.\n"
    assert everreach("hold", "lift", "3").exit_code == 2


def test_without_a_hash_it_makes_a_plan_and_asks(store: Store) -> None:
    done = everreach("purge", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "3 documents purged, 0 of the plan kept." in done.output
    assert store.stored() == ["x:new"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["hold", "add", "everything", "x:1", "--reason", "r"],
        ["hold", "add", "collection", "content", "--reason", "r"],
        ["hold", "add", "account", "x", "--reason", "r"],
        ["hold", "add", "document", "--reason", "r"],
        ["hold", "add", "platform", "x", "--reason", " "],
        ["hold", "add", "platform", "x", "--collection", "content_embeddings", "--reason", "r"],
        ["purge", "--plan", "0" * 64, "--yes"],
    ],
)
def test_a_command_that_names_too_little_or_too_much_is_refused(store: Store, arguments: list[str]) -> None:
    refused = everreach(*arguments)
    assert refused.exit_code == 2, refused.output
    assert refused.output.startswith("Error: ")
    assert everreach("hold", "list").output == "Nothing is held.\n"


def test_a_wrong_policy_stops_the_command_and_names_the_key(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("content_embeddings: {by: published_at, max_age_days: 0}\n", encoding="utf-8")
    monkeypatch.setenv("RETENTION_POLICY_FILE", str(file))
    refused = everreach("plan")
    assert refused.exit_code == 2
    assert "content_embeddings.max_age_days" in refused.output
    monkeypatch.setenv("RETENTION_POLICY_FILE", str(tmp_path / "none.yaml"))
    assert "No such file" in everreach("purge").output


def test_the_kill_switch_stops_a_purge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERREACH_DESTRUCTIVE", "0")
    refused = everreach("purge", "--yes")
    assert (refused.exit_code, store.tombstones()) == (1, [])
    assert "EVERREACH_DESTRUCTIVE" in refused.output
