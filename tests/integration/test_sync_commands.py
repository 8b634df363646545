"""`everreach sync`, on a real Postgres with a second one for its cloud: what a person types, and what comes out."""

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

from everreach_assets.cli import main
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.sync import MAX_ATTEMPTS
from everreach_assets.domain.vectors import WIDTH, Document
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.vector_db import VectorDB
from tests.clouds import empty_cloud

CONTENT = "content_embeddings"
SPACE = Space("local", "test", WIDTH, "1")


@pytest.fixture(autouse=True)
def vector_db(database: Database, cloud_url: str, monkeypatch: pytest.MonkeyPatch) -> VectorDB:
    """Three posts, an empty cloud, and the environment of the commands."""
    empty_cloud("pgvector", cloud_url, ("", 0))
    monkeypatch.setenv("EVERREACH_DATABASE_URL", database.url)
    monkeypatch.setenv("VECTOR_BACKEND", "pgvector")
    monkeypatch.setenv("CLOUD_VECTOR_BACKEND", "pgvector")
    monkeypatch.setenv("CLOUD_DATABASE_URL", cloud_url)
    made = VectorDB(database, HnswIndex(database), lambda _: SPACE)
    made.upsert_many(CONTENT, [Document(f"x:{name}", np.ones(WIDTH, dtype=np.float32), {}) for name in "abc"])
    return made


def everreach(*arguments: str) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(main, ["sync", *arguments])
    return result.exit_code, result.output


def on_the_cloud(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_plan_says_what_a_sync_would_send_and_sends_nothing() -> None:
    planned = everreach(CONTENT, "--plan")
    assert planned[0] == 0
    assert planned[1].startswith(f"{CONTENT}: send 3 (")
    assert everreach(CONTENT, "--plan") == planned
    code, sent = everreach(CONTENT)
    assert (code, sent.partition(";")[0]) == (0, f"{CONTENT}: 3 pushed")
    assert everreach(CONTENT, "--plan") == (0, f"{CONTENT}: nothing to send\n")


def test_without_a_collection_all_that_may_leave_are_synced() -> None:
    code, sent = everreach()
    assert code == 0
    assert [line.partition(":")[0] for line in sent.splitlines()] == [
        CONTENT, "outcome_embeddings", "lesson_embeddings"
    ]  # fmt: skip


def test_a_check_exits_with_1_where_the_cloud_differs_and_a_mend_brings_it_back(cloud_url: str) -> None:
    everreach(CONTENT)
    equal = f"{CONTENT}: 3 rows in the cloud, as confirmed, 0 pending\n"
    assert everreach(CONTENT, "--check") == (0, equal)
    on_the_cloud(cloud_url, "DELETE FROM everreach_vectors WHERE doc_id = 'x:a'")
    differs = f"{CONTENT}: 2 rows in the cloud, 1 missing, 0 stale, 0 extra, 0 pending\n"
    assert everreach(CONTENT, "--check") == (1, differs)
    code, mended = everreach(CONTENT, "--mend")
    assert (code, mended.partition(";")[0]) == (0, f"{differs}{CONTENT}: 1 pushed")
    assert everreach(CONTENT, "--check") == (0, equal)


def test_rows_that_are_most_of_the_cloud_and_unknown_are_removed_only_on_demand(cloud_url: str) -> None:
    everreach(CONTENT)
    on_the_cloud(
        cloud_url,
        "INSERT INTO everreach_vectors SELECT (jsonb_populate_record(held, jsonb_build_object('doc_id', 'y:' || n))).*"
        " FROM everreach_vectors AS held, generate_series(1, 9) AS n WHERE doc_id = 'x:a'",
    )
    code, refused = everreach(CONTENT, "--mend")
    assert code == 1
    assert "9 of the 12 rows in the cloud" in refused
    assert "add --even-most" in refused
    code, mended = everreach(CONTENT, "--mend", "--even-most")
    assert (code, mended.splitlines()[1].partition(";")[0]) == (0, f"{CONTENT}: 9 deleted")
    assert everreach(CONTENT, "--check")[0] == 0


def test_a_row_that_the_cloud_refuses_exits_with_1_and_waits_until_it_is_retried(
    vector_db: VectorDB, cloud_url: str
) -> None:
    everreach(CONTENT)
    on_the_cloud(cloud_url, "ALTER TABLE everreach_vectors ADD CONSTRAINT never CHECK (doc_id <> 'x:d')")
    vector_db.upsert_many(CONTENT, [Document("x:d", np.ones(WIDTH, dtype=np.float32), {})])
    for _ in range(MAX_ATTEMPTS):
        code, sent = everreach(CONTENT)
        assert (code, sent.partition(";")[0]) == (1, f"{CONTENT}: 1 failed")
    assert everreach(CONTENT, "--plan") == (0, f"{CONTENT}: dead letters: 1 CheckViolation\n")
    assert everreach(CONTENT)[1] == f"{CONTENT}: nothing to send\n"
    on_the_cloud(cloud_url, "ALTER TABLE everreach_vectors DROP CONSTRAINT never")
    code, sent = everreach(CONTENT, "--retry")
    assert (code, sent.partition(";")[0]) == (0, f"{CONTENT}: 1 pushed")


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--plan", "--check"], 2, "--plan, --check and --mend exclude each other"),
        (["--mend", "--plan"], 2, "--plan, --check and --mend exclude each other"),
        (["--even-most"], 2, "--even-most belongs to --mend"),
        (["--check", "--even-most"], 2, "--even-most belongs to --mend"),
        (["prospect_embeddings"], 1, "must stay on this machine"),
        (["no_such_collection"], 1, "must stay on this machine"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(arguments: list[str], code: int, reason: str) -> None:
    found, said = everreach(*arguments)
    assert (found, "Error: " in said, reason in said) == (code, True, True), said


@pytest.mark.parametrize("option", ["--plan", "--check", "--mend"])
def test_without_a_cloud_it_says_so(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_VECTOR_BACKEND", "none")
    code, said = everreach(CONTENT, option)
    assert (code, said.partition(":")[2].partition("(")[0]) == (
        2, " no cloud is configured: set CLOUD_VECTOR_BACKEND and its address "
    )  # fmt: skip
