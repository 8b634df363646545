"""The contract of `VectorDB`: one body, run on a real Chroma server and on a real Postgres.

What only one of the two can get wrong (a lagging Chroma, a broken HNSW graph) is in
`tests/integration/test_vector_index.py`.
"""

import asyncio
import contextlib
import json
import operator
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import chromadb
import numpy as np
import psycopg
import pytest
from chromadb.api import ClientAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from everreach_assets.domain.errors import InvalidInput, InvalidVector
from everreach_assets.domain.filters import parse_filter
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH, Document, Metadata, MetadataValue, Vector
from resources.chroma_index import ChromaIndex, close_client
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.vector_db import MAX_RESULTS, VectorDB
from tests.conftest import PostgresServer, database_named

pytestmark = pytest.mark.prd202

COLLECTION = "content_embeddings"
BACKENDS = ("chroma", "pgvector")
FIRST_SPACE = Space("local", "first", WIDTH, "1")
SECOND_SPACE = Space("local", "second", WIDTH, "1")

OpenVectorDB = Callable[..., VectorDB]


@pytest.fixture(scope="module")
def module_database(postgres_server: PostgresServer, migrated_template: str) -> Iterator[Database]:
    """One database for all tests of the module: making one for each would take longer than the tests."""
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE vector_contract TEMPLATE {migrated_template}")
        with Database(database_named(postgres_server, "vector_contract")) as opened:
            yield opened
        connection.execute("DROP DATABASE vector_contract WITH (FORCE)")


@pytest.fixture(scope="module")
def chroma(chroma_server: tuple[str, int]) -> Iterator[ClientAPI]:
    """The Chroma server itself, to look at what it holds."""
    client = chromadb.HttpClient(*chroma_server)
    yield client
    close_client(client)


@pytest.fixture
def database(module_database: Database) -> Database:
    """The database, empty."""
    with module_database.connection() as connection:
        connection.execute("TRUNCATE vector_embeddings, vector_deliveries, vectors_aside, collection_spaces")
        for (name,) in connection.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'hnsw%'").fetchall():
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    return module_database


@pytest.fixture
def open_vector_db(database: Database, chroma: ClientAPI, chroma_server: tuple[str, int]) -> Iterator[OpenVectorDB]:
    """Opens the vector database of a backend, as a process of its own would."""
    for each in chroma.list_collections():
        chroma.delete_collection(each.name)
    with contextlib.ExitStack() as stack:

        def opened(backend: str, space: Space = FIRST_SPACE) -> VectorDB:
            index = ChromaIndex(database, *chroma_server) if backend == "chroma" else HnswIndex(database)
            return stack.enter_context(contextlib.closing(VectorDB(database, index, lambda _: space)))

        yield opened


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def vector_db(backend: str, open_vector_db: OpenVectorDB) -> VectorDB:
    return open_vector_db(backend)


def vectors(rows: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH), dtype=np.float32)


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [each["doc_id"] for each in found]


def find(vector_db: VectorDB, query: Vector, n: int = 10, where: dict[str, object] | None = None) -> list[str]:
    return ids(asyncio.run(vector_db.find_similar(COLLECTION, query, n, where)))


# One document


def test_an_upserted_document_is_found_and_read_back_to_the_bit(vector_db: VectorDB) -> None:
    given_vectors = vectors(3)
    given_vectors[0, :2] = np.float32(1e-38), np.float32(-0.0)
    metadata: Metadata = {
        "platform": "x",
        "views": 2**53,
        "rate": 0.1,
        "is_ad": False,
        "note": "naïve 😀 'quoted' \\ $.a",
    }

    async def scenario() -> None:
        assert await vector_db.upsert(COLLECTION, "x:1", given_vectors[0], metadata) == "x:1"
        assert await vector_db.upsert(COLLECTION, "x:2", given_vectors[1].tolist()) == "x:2"

        stored = await vector_db.get(COLLECTION, "x:1")
        assert stored is not None
        assert stored["embedding"].dtype == np.float32
        assert stored["embedding"].tobytes() == given_vectors[0].tobytes()
        assert json.dumps(stored["metadata"], sort_keys=True) == json.dumps(metadata, sort_keys=True)

        nearest, other = await vector_db.find_similar(COLLECTION, given_vectors[0])
        assert (nearest["doc_id"], other["doc_id"]) == ("x:1", "x:2")
        assert nearest["metadata"] == metadata
        assert other["metadata"] == {}
        assert nearest["distance"] == pytest.approx(0.0, abs=1e-6)
        assert 0.0 <= nearest["distance"] <= 2.0
        assert other["similarity"] == pytest.approx(1.0 - other["distance"])

    asyncio.run(scenario())


def test_distances_are_cosine_distances(vector_db: VectorDB) -> None:
    made = vectors(5)
    vector_db.upsert_many(COLLECTION, [Document(f"d{i}", 7 * row, {}) for i, row in enumerate(made)])
    query = vectors(1, seed=1)[0]
    cosine = 1 - made @ query / (np.linalg.norm(made, axis=1) * np.linalg.norm(query))
    for match in vector_db.search(COLLECTION, query):
        assert match.distance == pytest.approx(cosine[int(match.doc_id[1:])], abs=1e-5)


def test_an_upsert_replaces_the_vector_and_all_metadata(vector_db: VectorDB) -> None:
    old, new = vectors(2)
    vector_db.upsert_many(COLLECTION, [Document("a", old, {"kept": 1, "gone": "old"}), Document("b", old, {"gone": 1})])
    vector_db.upsert_many(COLLECTION, [Document("a", new, {"kept": 2})])
    vector_db.upsert_many(COLLECTION, [Document("b", new, {})])

    assert vector_db.get_many(COLLECTION, ["a"])["a"]["metadata"] == {"kept": 2}
    assert vector_db.get_many(COLLECTION, ["b"])["b"]["metadata"] == {}
    assert find(vector_db, new, where={"gone": "old"}) == []
    assert find(vector_db, new, where={"gone": 1}) == []
    assert find(vector_db, new, where={"kept": 2}) == ["a"]
    assert [match.distance for match in vector_db.search(COLLECTION, new)] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert vector_db.check_index(COLLECTION).is_whole


def test_a_key_removed_from_a_document_is_removed_from_the_index_too(vector_db: VectorDB, chroma: ClientAPI) -> None:
    vector = vectors(1)[0]
    vector_db.upsert_many(COLLECTION, [Document("a", vector, {"kept": 1, "gone": "old"})])
    vector_db.upsert_many(COLLECTION, [Document("a", vector, {"kept": 1})])
    space_id = vector_db.space_id(COLLECTION)
    index = vector_db._index  # the search itself answers small filters from Postgres
    assert index.nearest(COLLECTION, space_id, vector, 10, parse_filter({"gone": {"$ne": "old"}}))
    assert not index.nearest(COLLECTION, space_id, vector, 10, parse_filter({"gone": "old"}))
    if vector_db.backend == "chroma":
        held = chroma.get_collection(COLLECTION, embedding_function=None).get()
        assert held["metadatas"]
        assert set(held["metadatas"][0]) == {"kept", "_rev"}
        assert held["documents"]
        assert not any(held["documents"])


def test_an_unchanged_upsert_makes_no_new_revision(vector_db: VectorDB, database: Database) -> None:
    def revisions() -> list[tuple[Any, ...]]:
        with database.connection() as connection:
            return connection.execute("SELECT doc_id, rev, updated_at FROM vector_embeddings ORDER BY 1").fetchall()

    documents = [Document(f"d{i}", row, {"i": i}, b"hash", "1") for i, row in enumerate(vectors(3))]
    assert vector_db.upsert_many(COLLECTION, documents) == 3
    before = revisions()
    assert vector_db.upsert_many(COLLECTION, documents) == 0
    assert revisions() == before
    changed = [*documents[:2], Document("d2", documents[2].embedding, {"i": 2.5}, b"hash", "1")]
    assert vector_db.upsert_many(COLLECTION, changed) == 1
    assert revisions()[:2] == before[:2]
    assert revisions()[2][1] > before[2][1]


def test_a_collection_of_any_valid_name_works_and_is_apart_from_the_others(vector_db: VectorDB) -> None:
    vector = vectors(1)[0]
    vector_db.upsert_many("a_new_collection", [Document("a", vector, {})])
    vector_db.upsert_many("z" * 40, [Document("b", vector, {})])
    assert [match.doc_id for match in vector_db.search("a_new_collection", vector)] == ["a"]
    assert [match.doc_id for match in vector_db.search("z" * 40, vector)] == ["b"]
    assert find(vector_db, vector) == []
    assert (vector_db.count("a_new_collection"), vector_db.count(COLLECTION)) == (1, 0)


# Deletion


def test_a_deleted_document_is_gone_and_comes_back_when_it_is_upserted_again(vector_db: VectorDB) -> None:
    vector = vectors(1)[0]

    async def scenario() -> None:
        await vector_db.upsert(COLLECTION, "a", vector)
        assert await vector_db.delete(COLLECTION, "a") is True
        assert await vector_db.delete(COLLECTION, "a") is False
        assert await vector_db.get(COLLECTION, "a") is None
        assert await vector_db.find_similar(COLLECTION, vector) == []
        await vector_db.upsert(COLLECTION, "a", vector)
        assert ids(await vector_db.find_similar(COLLECTION, vector)) == ["a"]

    asyncio.run(scenario())
    assert vector_db.check_index(COLLECTION).is_whole


def test_deletion_by_filter_takes_what_matches_and_nothing_else(vector_db: VectorDB) -> None:
    labels = ["flop", "hit", "flop", None]
    documents = [
        Document(f"d{i}", row, {} if label is None else {"label": label})
        for i, (row, label) in enumerate(zip(vectors(4), labels, strict=True))
    ]
    vector_db.upsert_many(COLLECTION, documents)
    vector_db.upsert_many("lesson_embeddings", documents)
    assert vector_db.delete_where(COLLECTION, {"label": "flop"}) == 2
    assert vector_db.delete_where(COLLECTION, {"label": "flop"}) == 0
    assert sorted(find(vector_db, documents[0].embedding)) == ["d1", "d3"]
    assert vector_db.count("lesson_embeddings") == 4
    assert vector_db.check_index(COLLECTION).is_whole


def test_a_deletion_without_a_filter_is_refused(vector_db: VectorDB) -> None:
    vector = vectors(1)[0]
    vector_db.upsert_many(COLLECTION, [Document("a", vector, {})])
    nothings: list[Any] = [{}, "", [], 0, None]
    for nothing in nothings:
        with pytest.raises(InvalidInput):
            vector_db.delete_where(COLLECTION, nothing)
    assert vector_db.count(COLLECTION) == 1


@pytest.mark.slow
def test_deletion_by_filter_has_no_limit_of_rows(vector_db: VectorDB) -> None:
    rows = 20_000
    made = vectors(rows)
    vector_db.upsert_many(COLLECTION, [Document(f"d{i}", row, {"keep": i < 5}) for i, row in enumerate(made)])
    assert vector_db.delete_where(COLLECTION, {"keep": False}) == rows - 5
    assert sorted(find(vector_db, made[0], n=100)) == [f"d{i}" for i in range(5)]
    assert vector_db.check_index(COLLECTION).is_whole


def test_a_search_after_another_process_deleted_answers_what_is_left(
    backend: str, open_vector_db: OpenVectorDB
) -> None:
    made = vectors(20)
    ours, theirs = open_vector_db(backend), open_vector_db(backend)
    ours.upsert_many(COLLECTION, [Document(f"d{i}", row, {"i": i}) for i, row in enumerate(made)])
    assert len(find(ours, made[0], n=20)) == 20
    assert theirs.delete_many(COLLECTION, ["d0", "d1"]) == 2
    theirs.rebuild_index(COLLECTION)
    assert set(find(ours, made[0], n=20)) == {f"d{i}" for i in range(2, 20)}
    ours.upsert_many(COLLECTION, [Document("d0", made[0], {})])
    assert find(theirs, made[0], n=1) == ["d0"]


# Filters

VALUES: list[MetadataValue] = [0, 1, 2, -1, 0.0, 1.0, 2.5, 0.1, "1", "a", "A", "", "ä", True, False, 2**53]
KEYS = ("k", "a.b", "k-2")


def same_type(left: object, right: object) -> bool:
    def kind(value: object) -> type:
        return float if type(value) is int else type(value)

    return kind(left) is kind(right)


def evaluate(where: dict[str, Any], metadata: dict[str, MetadataValue]) -> bool:
    """What a filter means, said in plain Python and written without a look at either backend."""
    ranges = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}

    def equals(key: str, value: object) -> bool:
        return key in metadata and same_type(metadata[key], value) and metadata[key] == value

    def compare(key: str, name: str, value: Any) -> bool:
        match name:
            case "$eq" | "$ne":
                return equals(key, value) == (name == "$eq")
            case "$in" | "$nin":
                return any(equals(key, each) for each in value) == (name == "$in")
            case _:
                return key in metadata and same_type(metadata[key], value) and bool(ranges[name](metadata[key], value))

    def holds(key: str, value: Any) -> bool:
        if key in ("$and", "$or"):
            return (all if key == "$and" else any)(evaluate(each, metadata) for each in value)
        if isinstance(value, dict):
            return all(compare(key, name, each) for name, each in value.items())
        return equals(key, value)

    return all(holds(key, value) for key, value in where.items())


numbers = st.sampled_from([each for each in VALUES if type(each) in (int, float)]) | st.integers(-3, 3)
texts = st.sampled_from([each for each in VALUES if isinstance(each, str)])
any_value = st.sampled_from(VALUES) | numbers
lists_of_one_type = (
    st.lists(numbers, min_size=1, max_size=3)
    | st.lists(texts, min_size=1, max_size=3)
    | st.lists(st.booleans(), min_size=1, max_size=2)
)
comparisons = st.fixed_dictionaries(
    {},
    optional={
        "$eq": any_value,
        "$ne": any_value,
        "$gt": numbers,
        "$gte": numbers,
        "$lt": numbers,
        "$lte": numbers,
        "$in": lists_of_one_type,
        "$nin": lists_of_one_type,
    },
).filter(bool)
leaves = st.dictionaries(st.sampled_from(KEYS), any_value | comparisons, min_size=1, max_size=2)
filters = st.recursive(
    leaves,
    lambda inner: st.dictionaries(
        st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2
    ),
    max_leaves=5,
)
metadata_sets = st.lists(st.dictionaries(st.sampled_from(KEYS), any_value, max_size=3), min_size=1, max_size=8)

_names = count()


@pytest.fixture
def both(open_vector_db: OpenVectorDB) -> list[VectorDB]:
    return [open_vector_db(each) for each in BACKENDS]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(rows=metadata_sets, wheres=st.lists(filters, min_size=5, max_size=20))
def test_a_filter_means_the_same_in_both_indexes_in_the_search_and_in_plain_python(
    both: list[VectorDB], rows: list[dict[str, MetadataValue]], wheres: list[dict[str, Any]]
) -> None:
    collection = f"filters_{next(_names)}"
    made = vectors(len(rows))
    documents = [Document(f"d{i}", made[i], metadata) for i, metadata in enumerate(rows)]
    for vector_db in both:
        vector_db.upsert_many(collection, documents)
    for where in wheres:
        expected = {document.doc_id for document in documents if evaluate(where, dict(document.metadata))}
        for vector_db in both:
            searched = {match.doc_id for match in vector_db.search(collection, made[0], 100, where)}
            assert searched == expected, (vector_db.backend, where)
            # The search answers a filter that leaves few rows from Postgres; the index itself must agree.
            indexed = vector_db._index.nearest(
                collection, vector_db.space_id(collection), made[0], 100, parse_filter(where)
            )
            assert {match.doc_id for match in indexed} == expected, (vector_db.backend, where)
    matching = sum(evaluate(wheres[0], dict(document.metadata)) for document in documents)
    assert both[0].delete_where(collection, wheres[0]) == matching


# How many rows


def clusters(rows: int, centres: int = 40) -> Vector:
    """Vectors in clusters, as texts are: without them every neighbour is as far as the next."""
    random = np.random.default_rng(3)
    middle = random.normal(size=(centres, WIDTH))
    made = middle[random.integers(0, centres, rows)] + 0.6 * random.normal(size=(rows, WIDTH))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def test_recall_against_an_exact_search_is_at_least_095_with_and_without_a_filter(vector_db: VectorDB) -> None:
    made = clusters(2_000)
    vector_db.upsert_many(COLLECTION, [Document(f"d{i}", row, {"half": i % 2}) for i, row in enumerate(made)])
    filtered = np.arange(0, 2_000, 2)
    # Beyond 1,000 matches the index itself answers a filter.
    vector_db.upsert_many(COLLECTION, [Document("d1", made[1], {"half": 0})])
    filtered = np.append(filtered, 1)
    hits = hits_filtered = 0
    for query in clusters(2_060)[2_000:2_060:3]:
        exact = np.argsort(-(made @ query))[:10]
        hits += len({f"d{i}" for i in exact} & set(find(vector_db, query)))
        exact = filtered[np.argsort(-(made[filtered] @ query))[:10]]
        hits_filtered += len({f"d{i}" for i in exact} & set(find(vector_db, query, where={"half": 0})))
    assert hits >= 0.95 * 200
    assert hits_filtered >= 0.95 * 200


def test_small_collections_beside_a_large_one_answer_n_rows(vector_db: VectorDB) -> None:
    sizes = {COLLECTION: 1_940, "prospect_embeddings": 20, "outcome_embeddings": 20, "lesson_embeddings": 20}
    made = vectors(2_000)
    start = 0
    for collection, rows in sizes.items():
        vector_db.upsert_many(collection, [Document(f"d{i}", made[i], {}) for i in range(start, start + rows)])
        start += rows
    for collection in sizes:
        for query in (made[0], made[1_999], vectors(1)[0]):
            assert len(vector_db.search(collection, query, 10)) == 10
    assert len(vector_db.search("lesson_embeddings", made[0], 100)) == 20


def test_a_filter_that_leaves_fewer_than_n_gives_all_of_them(vector_db: VectorDB) -> None:
    made = clusters(1_500)
    farthest = np.argsort(made @ made[0])[:3]
    documents = [Document(f"d{i}", row, {"is_rare": i in farthest, "i": i}) for i, row in enumerate(made)]
    vector_db.upsert_many(COLLECTION, documents)
    assert sorted(find(vector_db, made[0], where={"is_rare": True})) == sorted(f"d{i}" for i in farthest)
    assert find(vector_db, made[0], where={"i": -1}) == []
    assert len(find(vector_db, made[0], n=1_400, where={"is_rare": False})) == 1_400
    assert len(find(vector_db, made[0], n=1_500, where={"is_rare": False})) == 1_497
    assert len(find(vector_db, made[0], n=MAX_RESULTS)) == 1_500


# Refusals

GOOD = vectors(1, seed=9)[0]


def with_component(value: object) -> list[object]:
    return [value, *GOOD[1:].tolist()]


BAD_VECTORS: dict[str, object] = {
    "narrow": GOOD[:-1],
    "wide": np.append(GOOD, np.float32(1)),
    "empty": [],
    "a matrix": GOOD.reshape(1, -1),
    "ragged": [[1.0], *GOOD[1:].tolist()],
    "NaN": with_component(float("nan")),
    "infinite": with_component(float("-inf")),
    "beyond float32": with_component(1e39),
    "beyond a double": with_component(10**400),
    "None": with_component(None),
    "text": with_component("1.0"),
    "complex": with_component(1j),
    "truth values": [True] * WIDTH,
    "zero": np.zeros(WIDTH),
    "zero in float32": np.full(WIDTH, 1e-60),
    "so short that its square vanishes": GOOD * np.float32(1e-30),
    "so long that its square overflows": GOOD * np.float32(1e30),
}
BAD_IDS: dict[str, object] = {
    "empty": "",
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800",
    "newline": "a\nb",
    "long": "x" * 129,
    "long in bytes": "ä" * 65,
    "a number": 7,
    "None": None,
    "a list": ["a"],
}
BAD_METADATA: dict[str, object] = {
    "nested dict": {"k": {"a": 1}},
    "list": {"k": [1]},
    "None": {"k": None},
    "NaN": {"k": float("nan")},
    "infinite": {"k": float("inf")},
    "2**60": {"k": 2**60},
    "-2**60": {"k": -(2**60)},
    "1e20": {"k": 1e20},
    "numpy integer": {"k": np.int64(1)},
    "bytes": {"k": b"a"},
    "NUL": {"k": "a\x00"},
    "lone surrogate": {"k": "\udfff"},
    "long text": {"k": "x" * 9_000},
    "reserved key": {"_rev": 1},
    "reserved key of Chroma": {"chroma:document": "a"},
    "operator as key": {"$and": 1},
    "empty key": {"": 1},
    "key of another type": {1: 1},
    "too many keys": {f"k{i}": i for i in range(33)},
    "no dict": "text",
    "pairs": [("k", 1)],
}
BAD_FILTERS: dict[str, object] = {
    "no dict": "k = 1",
    "empty text": "",
    "unknown operator": {"k": {"$regex": "a"}},
    "unknown group": {"$not": [{"k": 1}]},
    "empty group": {"$and": []},
    "group of a dict": {"$or": {"k": 1}},
    "empty member": {"$or": [{}]},
    "empty comparison": {"k": {}},
    "empty $in": {"k": {"$in": []}},
    "$in of a text": {"k": {"$in": "abc"}},
    "$in of bytes": {"k": {"$in": b"abc"}},
    "mixed $in": {"k": {"$in": [1, "1"]}},
    "truth value among numbers": {"k": {"$nin": [1, True]}},
    "range of a text": {"k": {"$gt": "a"}},
    "range of a truth value": {"k": {"$lt": True}},
    "NaN": {"k": float("nan")},
    "2**60": {"k": {"$gt": 2**60}},
    "None": {"k": None},
    "list": {"k": [1, 2]},
    "NUL": {"k": "\x00"},
    "lone surrogate": {"k": {"$in": ["\ud800"]}},
    "reserved key": {"_rev": 1},
    "injected key": {"k') OR 1=1 --": 1},
    "too many": {"$or": [{"k": i} for i in range(65)]},
}


def rows_written(database: Database) -> int:
    with database.connection() as connection:
        row = connection.execute("SELECT count(*) FROM vector_embeddings").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("fault", BAD_VECTORS)
def test_a_bad_vector_is_refused_and_its_batch_writes_nothing(
    vector_db: VectorDB, database: Database, fault: str
) -> None:
    bad: Any = BAD_VECTORS[fault]
    with pytest.raises(InvalidVector, match="'bad'"):
        vector_db.upsert_many(COLLECTION, [Document("good", GOOD, {}), Document("bad", bad, {})])
    with pytest.raises(InvalidVector, match="'bad'"):
        asyncio.run(vector_db.upsert(COLLECTION, "bad", bad))
    with pytest.raises(InvalidVector, match="query"):
        asyncio.run(vector_db.find_similar(COLLECTION, bad))
    assert rows_written(database) == 0


@pytest.mark.parametrize("fault", BAD_IDS)
def test_a_bad_id_is_refused_and_its_batch_writes_nothing(vector_db: VectorDB, database: Database, fault: str) -> None:
    bad: Any = BAD_IDS[fault]
    with pytest.raises(InvalidInput):
        vector_db.upsert_many(COLLECTION, [Document("good", GOOD, {}), Document(bad, GOOD, {})])
    with pytest.raises(InvalidInput):
        asyncio.run(vector_db.get(COLLECTION, bad))
    with pytest.raises(InvalidInput):
        asyncio.run(vector_db.delete(COLLECTION, bad))
    assert rows_written(database) == 0


@pytest.mark.parametrize("fault", BAD_METADATA)
def test_bad_metadata_is_refused_and_its_batch_writes_nothing(
    vector_db: VectorDB, database: Database, fault: str
) -> None:
    bad: Any = BAD_METADATA[fault]
    with pytest.raises(InvalidInput, match="'bad'"):
        vector_db.upsert_many(COLLECTION, [Document("good", GOOD, {}), Document("bad", GOOD, bad)])
    with pytest.raises(InvalidInput, match="'bad'"):
        asyncio.run(vector_db.upsert(COLLECTION, "bad", GOOD, bad))
    assert rows_written(database) == 0


@pytest.mark.parametrize("fault", BAD_FILTERS)
def test_a_bad_filter_is_refused_before_anything_is_deleted(vector_db: VectorDB, fault: str) -> None:
    bad: Any = BAD_FILTERS[fault]
    vector_db.upsert_many(COLLECTION, [Document("a", GOOD, {"k": 1})])
    with pytest.raises(InvalidInput):
        asyncio.run(vector_db.find_similar(COLLECTION, GOOD, where=bad))
    with pytest.raises(InvalidInput):
        vector_db.delete_where(COLLECTION, bad)
    assert vector_db.count(COLLECTION) == 1


def test_an_id_twice_in_a_batch_is_refused_and_named(vector_db: VectorDB, database: Database) -> None:
    with pytest.raises(InvalidInput, match="'twice'"):
        vector_db.upsert_many(COLLECTION, [Document(each, GOOD, {}) for each in ("once", "twice", "twice")])
    assert rows_written(database) == 0


@pytest.mark.parametrize("n", [0, -1, True, 1.0, "1", None, MAX_RESULTS + 1, 2**70])
def test_a_bad_number_of_results_is_refused(vector_db: VectorDB, n: Any) -> None:
    with pytest.raises(InvalidInput, match="n:"):
        asyncio.run(vector_db.find_similar(COLLECTION, GOOD, n=n))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 41,
        "Content_embeddings",
        "content_embeddings ",
        "content_embeddings\n",
        "cöntent",
        "a.b",
        "a/b",
        "../../etc",
        "x'; DROP TABLE vector_embeddings; --",
        'x" OR 1=1',
        "%s%s%s",
        "1abc",
        None,
        7,
    ],
)
def test_a_collection_name_outside_the_grammar_is_refused_by_every_call(
    vector_db: VectorDB, database: Database, name: Any
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: vector_db.upsert_many(name, [Document("a", GOOD, {})]),
        lambda: asyncio.run(vector_db.upsert(name, "a", GOOD)),
        lambda: asyncio.run(vector_db.find_similar(name, GOOD)),
        lambda: vector_db.get_many(name, ["a"]),
        lambda: vector_db.delete_many(name, ["a"]),
        lambda: vector_db.delete_where(name, {"k": 1}),
        lambda: vector_db.count(name),
        lambda: vector_db.check_index(name),
        lambda: vector_db.rebuild_index(name),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="collection"):
            call()
    assert rows_written(database) == 0


def test_values_that_look_like_sql_are_only_values(vector_db: VectorDB) -> None:
    text = "'; DROP TABLE vector_embeddings; -- %s %(x)s {} $.k ? (@ > 1)"
    vector_db.upsert_many(COLLECTION, [Document(text, GOOD, {"k": text}), Document("other", GOOD, {"k": "other"})])
    assert find(vector_db, GOOD, where={"k": text}) == [text]
    assert find(vector_db, GOOD, where={"k": {"$in": [text, "x"]}}) == [text]
    assert vector_db.delete_where(COLLECTION, {"k": text}) == 1
    assert find(vector_db, GOOD) == ["other"]


# Spaces


def test_a_search_never_sees_the_vectors_of_another_space(
    backend: str, open_vector_db: OpenVectorDB, chroma: ClientAPI
) -> None:
    made = vectors(6)
    first = open_vector_db(backend, FIRST_SPACE)
    first.upsert_many(COLLECTION, [Document(f"d{i}", made[i], {"i": i}) for i in range(4)])
    second = open_vector_db(backend, SECOND_SPACE)
    assert find(second, made[0]) == []
    assert find(second, made[0], where={"i": {"$gte": 0}}) == []
    assert second.count(COLLECTION) == 0

    second.upsert_many(COLLECTION, [Document("d0", made[4], {"i": 0}), Document("new", made[5], {})])
    assert sorted(find(second, made[0])) == ["d0", "new"]
    assert second.check_index(COLLECTION).is_whole
    if backend == "chroma":
        names = {each.name: (each.metadata or {})["space_id"] for each in chroma.list_collections()}
        assert names == {
            COLLECTION: SECOND_SPACE.space_id,
            f"{COLLECTION}.{FIRST_SPACE.space_id}": FIRST_SPACE.space_id,
        }

    first_again = open_vector_db(backend, FIRST_SPACE)
    assert sorted(find(first_again, made[0])) == ["d1", "d2", "d3"]
    assert first_again.mend_index(COLLECTION) == 0  # d0 left the first space's index when it came into the second's
    assert first_again.check_index(COLLECTION).is_whole


def test_a_document_deleted_in_one_space_is_gone_from_all(backend: str, open_vector_db: OpenVectorDB) -> None:
    made = vectors(2)
    first = open_vector_db(backend, FIRST_SPACE)
    first.upsert_many(COLLECTION, [Document("a", made[0], {}), Document("b", made[1], {})])
    second = open_vector_db(backend, SECOND_SPACE)
    second.upsert_many(COLLECTION, [Document("a", made[0], {})])
    second.delete_many(COLLECTION, ["a", "b"])
    first_again = open_vector_db(backend, FIRST_SPACE)
    assert find(first_again, made[0]) == []
    assert first_again.check_index(COLLECTION).is_whole
