"""`everreach embedding`, its jobs and schedules: the commands with the real client on a server of OpenAI's protocol."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from everreach_assets import migration, schedules
from everreach_assets.assets.spaces import heal_embeddings, migration_shards
from everreach_assets.cli import main
from everreach_assets.embedding import embed_collection
from everreach_assets.memory import open_memory
from everreach_assets.partitions import shards
from resources import spaces
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.settings import Settings
from tests.openai_server import OpenAIServer
from tests.space_memory import NEXT, PRIMARY, SpaceMemory

LESSONS = 15
LOCAL, REMOTE = "local/hashing-char-3-5", "openai/text-embedding-3-small"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer().running() as running:
        yield running


@pytest.fixture
def lessons(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen lessons, embedded by the local provider, and the environment of the commands."""
    monkeypatch.setenv("EVERREACH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERREACH_DATABASE_URL", database_url)
    monkeypatch.setenv("VECTOR_BACKEND", "pgvector")
    file = tmp_path / "lessons.jsonl"
    rows = [{"lesson_id": str(number), "text": f"Lesson {number} of bread"} for number in range(LESSONS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert everreach("ingest", "lessons", str(file)).exit_code == 0
    settings = Settings(_env_file=None, everreach_database_url=SecretStr(database_url), vector_backend="pgvector")
    with open_memory(settings) as memory:
        embed_collection(
            "lesson_embeddings", database=memory.database, embedder=memory.embedder, vector_db=memory.vector_db
        )


def everreach(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=answer)


def test_from_one_model_to_another_and_back(
    lessons: None, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    before = everreach("embedding", "spaces").output
    assert f"lesson_embeddings: in force {LOCAL}; the settings name {REMOTE}\n         15 vectors of {LOCAL}" in before
    assert server.requests == []

    declined = everreach("embedding", "migrate", "lesson_embeddings", "--to", REMOTE, answer="n\n")
    assert declined.exit_code == 1
    assert f"lesson_embeddings: 15 filled into {REMOTE}, 0 remain" in declined.output
    assert "lesson_embeddings: overlap@10 0." in declined.output
    paid = len(server.inputs)
    assert paid == LESSONS
    assert f"  {REMOTE} is being filled, 0 documents remain" in everreach("embedding", "spaces").output

    switched = everreach("embedding", "switch", "--all", "--yes")
    assert switched.exit_code == 0, switched.output
    assert f"lesson_embeddings: 15 documents are in {REMOTE}; the space before is kept for 14 days" in switched.output
    assert len(server.inputs) == paid
    found = everreach("search", "bread", "--collection", "lesson_embeddings", "-n", "3")
    assert len(found.output.splitlines()) == 6
    assert "ranked by their words" not in found.output
    assert everreach("embedding", "migrate", "lesson_embeddings", "--to", REMOTE).exit_code == 2

    back = everreach("embedding", "switch-back", "--all")
    assert back.output == f"lesson_embeddings: 15 documents are in {LOCAL} again\n"
    assert f"  {REMOTE} is kept until" in everreach("embedding", "spaces").output


def test_a_migration_that_was_abandoned_is_filled_again_from_the_cache(
    lessons: None, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    migrate = ("embedding", "migrate", "lesson_embeddings", "--to", REMOTE)
    assert f"lesson_embeddings: 15 filled into {REMOTE}, 0 remain" in everreach(*migrate, answer="n\n").output
    requests = len(server.requests)
    assert sorted(server.inputs) == sorted(f"Lesson {number} of bread" for number in range(LESSONS))
    assert everreach("embedding", "abandon", "lesson_embeddings", "--yes").exit_code == 0
    assert f"{REMOTE} is being filled" not in everreach("embedding", "spaces").output

    again = everreach(*migrate, "--yes")
    assert f"lesson_embeddings: 15 filled into {REMOTE}, 0 remain" in again.output
    assert f"15 documents are in {REMOTE}" in again.output
    assert len(server.requests) == requests


def test_a_search_with_the_provider_down_says_that_words_decided(
    lessons: None, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    assert everreach("embedding", "migrate", "lesson_embeddings", "--to", REMOTE, "--yes").exit_code == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    found = everreach("search", "lesson 7", "--collection", "lesson_embeddings", "-n", "2").output.splitlines()
    assert found[0].startswith("words  7  ")
    assert found[-1] == f"{REMOTE} cannot be asked now: its documents are ranked by their words."


def test_every_command_of_the_page_runs_as_written(
    lessons: None, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    page = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text()
    commands = re.findall(r"^everreach (embedding .+)$", page, re.MULTILINE)
    assert len(commands) >= 7
    said = {}
    for command in commands:
        result = everreach(*command.split(), answer="y\n")
        assert result.exit_code == 0, (command, result.output)
        said[command] = result.output
    assert f"15 documents are in {REMOTE}" in said["embedding switch --all --yes"]
    assert len(server.inputs) == LESSONS  # switched back and forth again, the kept vectors are not paid for twice


def test_what_a_command_cannot_do_it_says(lessons: None) -> None:
    assert (
        "there is no provider for 'openai/x'" in everreach("embedding", "migrate", "--all", "--to", "openai/x").output
    )
    assert "name a collection, or --all" in everreach("embedding", "switch").output
    assert "no migration is under way" in everreach("embedding", "switch", "lesson_embeddings").output
    assert "no space is kept" in everreach("embedding", "switch-back", "lesson_embeddings").output
    assert everreach("embedding", "abandon", "--all").output == "No migration is under way.\n"
    assert everreach("embedding", "heal").exit_code == 0


# --- jobs and schedules -----------------------------------------------------------------------------------------


@pytest.fixture
def memory(database: Database) -> SpaceMemory:
    made = SpaceMemory(database, HnswIndex(database))
    for number in range(40):
        made.write(f"p{number:03d}", f"words of part {number}")
    return made


def resources(memory: SpaceMemory) -> dict[str, object]:
    return {"database": memory.database, "embedder": memory.embedder, "vector_db": memory.vector_db}


def test_the_healing_runs_where_something_waits_and_brings_it_back(memory: SpaceMemory) -> None:
    assert isinstance(due_to_heal(memory), dg.SkipReason)
    memory.primary.is_up = False
    memory.embed()
    assert isinstance(due_to_heal(memory), dg.RunRequest)
    assert healed(memory) == (0, 80)
    memory.primary.is_up = True
    assert healed(memory) == (80, 0)
    assert isinstance(due_to_heal(memory), dg.SkipReason)


def due_to_heal(memory: SpaceMemory) -> object:
    """What the schedule asks for."""
    with dg.build_schedule_context() as context:
        return schedules.heal_embeddings_schedule(context, database=memory.database)


def healed(memory: SpaceMemory) -> tuple[object, object]:
    """How many vectors a run healed, and how many wait on."""
    said = said_of_healing(memory)
    return said["dagster/row_count"], said["waiting"]


def said_of_healing(memory: SpaceMemory) -> Mapping[str, object]:
    result = dg.materialize([heal_embeddings], resources=resources(memory))
    (made,) = result.asset_materializations_for_node("spaces__heal_embeddings")
    return {name: value.value for name, value in made.metadata.items()}


def test_a_space_that_was_kept_long_enough_asks_for_the_run_that_removes_it(memory: SpaceMemory) -> None:
    memory.embed()
    memory.begin()
    memory.switch()
    assert isinstance(due_to_heal(memory), dg.SkipReason)
    assert said_of_healing(memory)["removed_of_kept_spaces"] == 0
    assert memory.run("SELECT count(*) FROM vectors_aside") == [(80,)]
    memory.run("UPDATE collection_spaces SET kept_until = kept_until - interval '15 days'")  # they are kept for 14
    assert isinstance(due_to_heal(memory), dg.RunRequest)
    assert said_of_healing(memory)["removed_of_kept_spaces"] == 80
    assert memory.run("SELECT count(*) FROM vectors_aside") == [(0,)]
    assert set(memory.space_of().values()) == {NEXT}
    assert isinstance(due_to_heal(memory), dg.SkipReason)


def test_a_migration_is_filled_by_its_shards_in_the_background(memory: SpaceMemory) -> None:
    def due() -> object:
        with dg.build_schedule_context() as context:
            return schedules.embedding_migration_schedule(context, database=memory.database, embedder=memory.embedder)

    memory.embed()
    assert isinstance(due(), dg.SkipReason)
    memory.begin()
    requests = due()
    assert isinstance(requests, list)
    assert [each.partition_key for each in requests] == shards.get_partition_keys()
    assert len(requests) == 16
    first_four = {"dagster/asset_partition_range_start": "00", "dagster/asset_partition_range_end": "03"}
    made = dg.materialize([migration_shards], resources=resources(memory), tags=first_four)
    materialised = made.asset_materializations_for_node("spaces__migration_shards")
    assert sorted(str(each.partition) for each in materialised) == ["00", "01", "02", "03"]
    with memory.database.connection() as connection:
        names = spaces.migrating(connection)
    left = sum(migration.remaining(name, database=memory.database, embedder=memory.embedder) for name in names)
    assert 0 < left == materialised[0].metadata["remaining"].value
    for each in (*requests[4:], requests[0]):  # the first again: outcomes are copied from posts of every shard
        result = dg.materialize([migration_shards], resources=resources(memory), partition_key=each.partition_key)
        assert result.success
    assert isinstance(due(), dg.SkipReason)
    assert len(memory.models[NEXT].texts) == 40
    assert set(memory.space_of().values()) == {PRIMARY}
