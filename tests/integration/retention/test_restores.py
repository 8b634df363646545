"""What was purged comes back as it was, and only from an archive that is whole."""

import datetime as dt
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from everreach_assets.domain.collections import CONTENT, PROSPECTS
from everreach_assets.domain.errors import InvalidInput, Refused
from resources import archives
from resources.retention import holds, receipts
from tests.retention_store import Store


def test_what_is_restored_is_bit_for_bit_what_was_purged(expired: Store) -> None:
    unusual = {"big": 2**53 - 1, "small": 1e-300, "third": 1 / 3, "é": '\a and "quotes"', "is": True}
    expired.run("UPDATE vector_embeddings SET metadata = metadata || %s", Jsonb(unusual))
    before = expired.vectors(), expired.people()
    (last_writer,) = expired.run("SELECT max(name_written_by)::text::int8 FROM prospects")[0]
    report = expired.plan_and_purge()
    assert (expired.vectors(), expired.people()) != before
    for receipt in report.receipts:
        assert expired.restore(receipt.archive).left == 0
    assert (expired.vectors(), expired.people()) == before
    (writer,) = expired.run("SELECT max(name_written_by)::text::int8 FROM prospects")[0]
    assert int(str(writer)) > int(str(last_writer))  # so that a process that runs learns the name again
    assert expired.tombstones() == []
    revisions = expired.run(
        "SELECT min(rev) FROM vector_embeddings WHERE doc_id = 'x:p0' AND collection = %s", CONTENT.name
    )
    assert int(str(revisions[0][0])) > 28  # above the tombstone's, so that every index takes it


def test_everything_that_a_vector_or_a_person_has_is_in_the_archive(expired: Store) -> None:
    report = expired.plan_and_purge()
    (line, *_) = archives.read(expired.rules.archives / expired.archive_of(report, PROSPECTS.name))
    content = json.loads(line)

    def columns(table: str) -> set[object]:
        found = expired.run("SELECT column_name FROM information_schema.columns WHERE table_name = %s", table)
        return {name for (name,) in found}

    assert set(content["person"]) == columns("prospects")
    assert set(content["vector"]) | {"collection", "doc_id", "embedding"} == columns("vector_embeddings")


def test_one_document_can_be_restored_and_is_held_then(expired: Store) -> None:
    report = expired.plan_and_purge()
    result = expired.restore(expired.archive_of(report), ["x:p1"])
    assert (result.restored, result.left) == (["x:p1"], 0)
    assert expired.planned() == []
    with expired.database.connection() as connection:
        (hold,) = holds.in_force(connection)
    assert (hold.subject, hold.placed_by) == (f"document {CONTENT.name} x:p1", "tests")
    expired.lift(hold.hold_id)
    assert expired.planned() == ["x:p1"]


def test_restoring_again_leaves_everything_as_it_is(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    expired.restore(archive)
    before = expired.vectors()
    again = expired.restore(archive)
    assert (again.restored, again.left) == ([], 4)
    assert expired.vectors() == before


def test_a_person_who_came_again_is_not_overwritten_by_a_restore(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge(), PROSPECTS.name)
    expired.add_prospect("z0", dt.timedelta(0), notes="New words")
    assert expired.restore(archive).restored == ["z1", "z2"]
    assert expired.run("SELECT notes FROM prospects WHERE prospect_id = 'z0'") == [("New words",)]


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _leave_out_a_line(path: Path) -> None:
    """With a manifest that fits: only the database knows better."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)[1:]
    archives.write(path, [line.decode().rstrip("\n") for line in lines], {})


def _spoil_the_manifest(path: Path) -> None:
    archives.manifest_of(path).write_text("{}")


@pytest.mark.parametrize("tamper", [_flip_a_byte, _cut, _leave_out_a_line, _spoil_the_manifest])
def test_a_tampered_archive_is_refused(expired: Store, tamper: Callable[[Path], None]) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    tamper(expired.rules.archives / archive)
    before = expired.vectors()
    with pytest.raises(Refused, match="archive"):
        expired.restore(archive)
    assert expired.vectors() == before


def test_an_archive_that_the_database_does_not_know_is_refused(expired: Store) -> None:
    archive = expired.archive_of(expired.plan_and_purge())
    with pytest.raises(InvalidInput, match="no receipt"):
        expired.restore(f"other-{archive}")
    with pytest.raises(InvalidInput, match="does not hold 'x:p9'"):
        expired.restore(archive, ["x:p1", "x:p9"])
    archives.manifest_of(expired.rules.archives / archive).unlink()
    with pytest.raises(InvalidInput, match="has its manifest beside it"):
        expired.restore(archive)


def test_archives_are_removed_when_they_reach_their_age_unless_something_in_them_is_held(expired: Store) -> None:
    report = expired.plan_and_purge()
    expired.run(
        "UPDATE retention_receipts SET started_at = now() - interval '31 days', ended_at = now() - interval '31 days'"
    )
    expired.hold("account", platform="x", account="ann")
    expired.plan_and_purge()
    content, people = (expired.rules.archives / each.archive for each in report.receipts)
    assert content.exists()
    assert not people.exists()
    assert not archives.manifest_of(people).exists()
    with expired.database.connection() as connection:
        kept, removed, *_ = receipts.every(connection)
    assert kept.archive_removed_at is None
    assert removed.archive_removed_at is not None
