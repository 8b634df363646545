"""What was purged is not embedded again by accident."""

import datetime as dt
import threading

import dagster as dg
import pytest

from everreach_assets import checks
from everreach_assets.domain.collections import CONTENT, OUTCOMES, PROSPECTS
from everreach_assets.domain.errors import Refused
from everreach_assets.domain.vectors import Document
from tests.retention_store import DAY, Store


def is_clean(store: Store) -> bool:
    result = checks.every_purged_document_is_gone(database=store.database)
    assert isinstance(result, dg.AssetCheckResult)
    return result.passed


def test_a_purged_document_is_not_embedded_again_and_is_after_a_restore(on_either: Store) -> None:
    on_either.add_post("old", 400 * DAY, label="hit")
    on_either.add_post("new", DAY, label="hit")
    on_either.embed()
    report = on_either.plan_and_purge()
    for _ in range(2):
        on_either.embed()
        assert on_either.stored() == ["x:new"]
        assert on_either.stored(OUTCOMES.name) == ["x:new", "x:old"]
    assert is_clean(on_either)
    query = on_either.embedder.embed_many(CONTENT.name, ["Words about old"]).vectors[0]
    assert query is not None
    assert [match.doc_id for match in on_either.vector_db.search(CONTENT.name, query)] == ["x:new"]

    assert on_either.restore(on_either.archive_of(report)).restored == ["x:old"]
    before = on_either.vectors()
    on_either.embed()
    assert on_either.vectors() == before
    assert on_either.vector_db.search(CONTENT.name, query)[0].doc_id == "x:old"
    assert on_either.vector_db.check_index(CONTENT.name).is_whole


def test_a_new_text_of_a_purged_post_does_not_bring_it_back(expired: Store) -> None:
    expired.plan_and_purge()
    expired.run("UPDATE actp_feedback_posts SET text = 'Other', text_sha256 = sha256('Other'), updated_at = now()")
    expired.embed()
    assert expired.stored() == [f"x:p{number}" for number in range(4, 10)]


def test_a_person_who_is_entered_again_is_a_new_document(expired: Store) -> None:
    expired.plan_and_purge()
    expired.add_prospect("z0", dt.timedelta(0))
    expired.embed(PROSPECTS.name)
    assert expired.stored(PROSPECTS.name) == ["z0", "z3"]
    assert "z0" not in expired.tombstones()
    assert expired.planned() == []


def test_a_new_outcome_of_a_purged_one_is_searchable_though_the_vector_of_its_post_is_gone(store: Store) -> None:
    store.add_post("old", 2_000 * DAY, label="hit")
    store.embed()
    assert store.plan_and_purge().purged == {CONTENT.name: 1, OUTCOMES.name: 1}
    store.embed()
    assert store.stored(OUTCOMES.name) == []
    store.run("UPDATE outcome_snapshots SET recorded_at = now()")
    store.embed()
    assert store.stored(OUTCOMES.name) == ["x:old"]
    assert store.stored(CONTENT.name) == []


def test_an_embedding_run_that_read_the_text_before_the_purge_writes_nothing_after_it(expired: Store) -> None:
    read = expired.vector_db.get_many(CONTENT.name, ["x:p0", "x:p9"])
    late = [Document(doc_id, each["embedding"], {"late": True}, b"hash", "1") for doc_id, each in read.items()]
    expired.plan_and_purge()
    assert expired.vector_db.upsert_stream(CONTENT.name, [late], new=0) == 1
    assert "x:p0" not in expired.stored()


def test_who_stores_a_purged_document_is_told(expired: Store) -> None:
    vector = expired.vector_db.get_many(CONTENT.name, ["x:p0"])["x:p0"]["embedding"]
    expired.plan_and_purge()
    with pytest.raises(Refused, match=r"'x:p0' of content_embeddings was purged"):
        expired.vector_db.upsert_many(CONTENT.name, [Document("x:p0", vector, {})])


def test_the_check_finds_a_purged_document_that_is_stored(expired: Store) -> None:
    expired.plan_and_purge()
    assert is_clean(expired)
    expired.run("UPDATE vector_embeddings SET doc_id = 'x:p0' WHERE doc_id = 'x:p9' AND collection = %s", CONTENT.name)
    assert not is_clean(expired)


def test_vectors_that_are_written_during_a_purge_are_all_there_and_the_purged_are_not(store: Store) -> None:
    for number in range(20):
        store.add_post(f"old{number:02}", 400 * DAY)
        store.add_post(f"new{number:02}", DAY)
    store.embed(CONTENT.name)
    store.plan()
    start, stop = threading.Barrier(3), threading.Event()
    given = store.vector_db.get_many(CONTENT.name, store.stored())
    errors: list[BaseException] = []

    def write() -> None:
        start.wait()
        number = 0
        while not stop.is_set():
            number += 1
            batch = [
                Document(doc_id, each["embedding"], {"n": number}, b"text", "1")
                for doc_id, each in given.items()
                if doc_id.startswith("x:new") or number % 2
            ]
            try:
                store.vector_db.upsert_stream(CONTENT.name, [batch], new=0)
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=write) for _ in range(2)]
    for each in threads:
        each.start()
    start.wait()
    try:
        for _ in range(5):
            store.plan_and_purge()
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert not errors
    store.run("UPDATE vector_embeddings SET updated_at = now()")
    store.plan_and_purge()
    assert store.stored() == [f"x:new{number:02}" for number in range(20)]
    assert is_clean(store)
