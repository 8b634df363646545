"""Documents that were synced to a cloud, then purged, restored or held: the cloud follows, by either kind of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from everreach_assets.cloud_parity import compare
from everreach_assets.cloud_sync import SYNCED, SyncReport, sync_collection
from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from resources.cloud_store import Cloud, CloudStore
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.retention import receipts
from tests.clouds import cloud_store, differences, empty_cloud
from tests.retention_store import DAY, Store

OLD = [f"x:old{number}" for number in range(4)]
YOUNG = ["x:young0", "x:young1"]


@pytest.fixture(params=["chroma", "pgvector"])
def cloud(request: pytest.FixtureRequest, cloud_url: str, chroma_server: tuple[str, int]) -> Iterator[CloudStore]:
    empty_cloud(request.param, cloud_url, chroma_server)
    with contextlib.closing(cloud_store(request.param, cloud_url, chroma_server)) as opened:
        yield opened


@pytest.fixture
def memory(database: Database, tmp_path: Path) -> Store:
    """Four old posts with their outcomes and two young ones, and an old person, all embedded."""
    memory = Store(database, HnswIndex(database), tmp_path / "archives")
    for doc_id in (*OLD, *YOUNG):
        _, _, name = doc_id.partition(":")
        memory.add_post(name, (800 if doc_id in OLD else 4) * DAY, label="average")
    memory.add_prospect("zoe", 800 * DAY)
    memory.embed()
    return memory


def sync(memory: Store, cloud: CloudStore) -> dict[str, SyncReport]:
    """Sync every collection that may leave, and see that the cloud holds just what the machine does."""
    reports = {name: sync_collection(name, database=memory.database, cloud=Cloud(cloud)) for name in SYNCED}
    for name in SYNCED:
        assert differences(memory.database, cloud, name) == []
        assert compare(name, database=memory.database, cloud=Cloud(cloud)).is_equal
    assert PROSPECTS.name not in cloud.holdings()
    return reports


def listed(cloud: CloudStore, collection: str = CONTENT.name) -> dict[str, int]:
    """What the cloud holds of the collection: revisions by id."""
    return {doc_id: held.rev for doc_id, held in cloud.listing(collection)}


def results(reports: dict[str, SyncReport]) -> dict[str, dict[str, int]]:
    return {name: dict(report.results) for name, report in reports.items() if report.results}


def test_what_is_purged_leaves_the_cloud_and_what_is_restored_comes_back(memory: Store, cloud: CloudStore) -> None:
    first = sync(memory, cloud)
    assert results(first) == {CONTENT.name: {"pushed": 6}, OUTCOMES.name: {"pushed": 6}}
    before = memory.vectors()

    report = memory.plan_and_purge()
    assert report.purged == {CONTENT.name: 4, OUTCOMES.name: 4, PROSPECTS.name: 1}
    with memory.database.connection() as connection:
        written = receipts.of_plan(connection, report.plan.plan_id)
    assert [(each.collection, each.planned, each.archived, each.purged) for each in written] == [
        (CONTENT.name, 4, 4, 4),
        (PROSPECTS.name, 1, 1, 1),
        (OUTCOMES.name, 4, 4, 4),
    ]
    assert all(each.ended_at and each.archive_sha256 for each in written)
    assert set(listed(cloud)) == {*OLD, *YOUNG}  # not yet told

    second = sync(memory, cloud)
    assert results(second) == {CONTENT.name: {"deleted": 4}, OUTCOMES.name: {"deleted": 4}}
    for name in (CONTENT.name, OUTCOMES.name):
        assert sorted(listed(cloud, name)) == YOUNG
    assert results(sync(memory, cloud)) == {}

    for each in written:
        assert sorted(memory.restore(each.archive).restored) == (["zoe"] if each.collection == PROSPECTS.name else OLD)
    assert memory.vectors() == before
    third = sync(memory, cloud)
    assert results(third) == {CONTENT.name: {"pushed": 4}, OUTCOMES.name: {"pushed": 4}}
    for name in (CONTENT.name, OUTCOMES.name):
        assert sorted(listed(cloud, name)) == sorted([*OLD, *YOUNG])


def test_a_hold_between_plan_and_purge_keeps_the_row_here_and_in_the_cloud(memory: Store, cloud: CloudStore) -> None:
    sync(memory, cloud)
    revision = listed(cloud)["x:old2"]
    memory.plan()
    memory.hold("document", doc_id="x:old2")
    assert memory.purge().purged == {CONTENT.name: 3, OUTCOMES.name: 3, PROSPECTS.name: 1}
    assert results(sync(memory, cloud)) == {CONTENT.name: {"deleted": 3}, OUTCOMES.name: {"deleted": 3}}
    assert sorted(listed(cloud)) == memory.stored() == ["x:old2", *YOUNG]
    assert listed(cloud)["x:old2"] == revision  # it was not even sent again
    assert "x:old2" in listed(cloud, OUTCOMES.name)


def test_a_document_that_is_purged_before_it_was_ever_synced_never_leaves(memory: Store, cloud: CloudStore) -> None:
    memory.plan_and_purge()
    sync(memory, cloud)
    assert sorted(listed(cloud)) == YOUNG
