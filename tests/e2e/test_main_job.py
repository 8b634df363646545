"""`everreach run` as a person runs it, on the sample and on files of their own, and the commands that come after it."""

import itertools
import json
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from everreach_assets.build import build_definitions
from everreach_assets.domain.sample import ACCOUNTS, PROSPECT_IDS, make_sample
from resources.addresses import child_environment, prepare_dagster_home
from resources.database import Database
from resources.servers import embedded_processes, running_servers
from resources.settings import Settings
from resources.space_documents import SHARDS
from tests.everreach import EVERREACH, Everreach

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PLATFORMS = ("instagram", "linkedin", "tiktok", "x", "youtube")
PARTITIONS = {"feedback/strategies": len(PLATFORMS), "feedback/weekly_changes": 1, "spaces/migration_shards": SHARDS}
STEPS = (
    "start servers",
    "read the files",
    "load Dagster",
    "label and embed",
    "build strategies",
    "search",
    "cloud, retention, spaces, week",
)
MAPPINGS = Path(__file__).parents[2] / "docs" / "mappings"
SHARED_POSTS = {
    "facebook": "facebook_pages_2016/dev_7pages.csv",
    "reddit": "reddit_top_2013/dev_6subs.csv",
    "x": "twitter_538_2017/BarackObama.csv",
    "youtube": "youtube_trending_20181101/dev_US_18.01.11_videos.csv",
}


def interrupted(everreach: Everreach, number: signal.Signals, *, after: str) -> str:
    """What `run` printed that got the signal after it had printed a line with those words."""
    with subprocess.Popen(
        [EVERREACH, "run"],
        env=everreach.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed = "".join(itertools.takewhile(lambda line: after not in line, process.stdout))
        time.sleep(1)
        process.send_signal(number)
        printed += process.stdout.read()
    assert process.returncode != 0
    return printed


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Everreach, str]:
    """Postgres alone, after the main job on the sample, and what that printed."""
    commands = Everreach(tmp_path_factory.mktemp("pgvector"), vector_backend="pgvector")
    return commands, commands("run")


@pytest.fixture(scope="module")
def everreach(first_run: tuple[Everreach, str]) -> Everreach:
    return first_run[0]


def below(title: str, printed: str) -> list[str]:
    """The lines after the one that begins with the title, up to the next empty one or step."""
    rest = itertools.dropwhile(lambda line: not line.startswith(title), printed.splitlines())
    return list(itertools.takewhile(lambda line: line.strip() and not line.startswith("..."), list(rest)[1:]))


def test_the_first_run_prints_all_that_came_out_and_what_to_do_next(first_run: tuple[Everreach, str]) -> None:
    commands, printed = first_run
    counts = [" ".join(line.split()) for line in below("In the database", printed)]
    sample = make_sample()
    posts, prospects, lessons = (len(each) for each in (sample.posts, sample.prospects, sample.lessons))
    observed = posts + len(sample.outcomes)  # each post comes with a first observation
    for noun, rows in (("posts", posts), ("outcomes", observed), ("prospects", prospects), ("lessons", lessons)):
        assert f"{noun} {rows:,}" in counts
    for name, rows in (("content", posts), ("outcome", posts), ("prospect", prospects), ("lesson", lessons)):
        assert any(line.startswith(f"vectors in {name}_embeddings {rows:,} ") for line in counts), name
    _, *labels = (line.split() for line in below("Labels by platform", printed))
    assert {platform: sum(map(int, counts)) for platform, *counts in labels} == Counter(
        str(each["platform"]) for each in sample.posts
    )
    strategies = below("Strategies", printed)
    for platform in PLATFORMS:
        (first,) = [n for n, line in enumerate(strategies) if line.startswith(f"{platform}: strategy ")]
        claim, examples = strategies[first + 1 : first + 3]
        assert re.search(r"  do (more|less): .* times the others \([\d.]+ to [\d.]+\), n = \d+, effective ", claim)
        assert re.search(rf"  best: {platform}:\S+.*; worst: {platform}:\S+", examples)
    assert any("opens with a question" in line for line in strategies)
    similar = [float(line.split()[0]) for line in below('Most similar to "how to get more people', printed)]
    assert len(similar) == 5
    assert similar == sorted(similar, reverse=True)
    times = [line.rsplit(maxsplit=1) for line in below("Time", printed)]
    assert [name for name, _ in times] == ["step", *STEPS, "all"]
    assert abs(sum(float(seconds) for _, seconds in times[1:-1]) - float(times[-1][1])) < 0.1 * len(STEPS)
    assert float(times[-1][1]) > 0
    make_up, search, make_run, data = below("Next", printed)
    assert re.search(rf"  make up .* http://localhost:{commands.settings.everreach_webserver_port}$", make_up)
    assert search.startswith("  .venv/bin/everreach search ")
    assert make_run.startswith("  make run POSTS=")
    assert data == f"The data is in {commands.settings.home}."
    assert "Searches are answered by pgvector" in printed


def test_the_first_run_holds_the_sample(everreach: Everreach) -> None:
    assert len(everreach("retention", "hold", "list").splitlines()) == len(ACCOUNTS) + len(PROSPECT_IDS)


def test_the_first_run_leaves_no_process(everreach: Everreach) -> None:
    assert everreach.processes() == []


def test_the_first_run_materialised_the_whole_graph_and_says_how_many_rows_each_asset_has(
    everreach: Everreach, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_servers(everreach.settings) as addresses:
        for name, value in child_environment(everreach.settings, addresses).items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(prepare_dagster_home(everreach.settings))) as instance:
            for spec in build_definitions().resolve_all_asset_specs():
                made = instance.fetch_materializations(spec.key, limit=100).records
                seen = instance.fetch_observations(spec.key, limit=100).records  # sources are observed, not made
                assert bool(seen) == (spec.group_name == "sources"), spec.key
                for event in [each.asset_materialization or each.asset_observation for each in (*made, *seen)]:
                    assert event is not None
                    rows = event.metadata.keys() & {"dagster/row_count", "dagster/partition_row_count"}
                    assert len(rows) == 1, spec.key
                partitions = {each.partition_key for each in made} - {None}
                assert len(partitions) == PARTITIONS.get(spec.key.to_user_string(), 0), spec.key
                assert made or seen, spec.key


def test_a_second_run_changes_nothing(everreach: Everreach) -> None:
    before = _dump(everreach.settings)
    printed = everreach("run")
    assert "1,200 as before; 0 new observations" in printed
    after = _dump(everreach.settings)
    assert {table: rows for table, rows in after.items() if rows != before[table]} == {}
    assert before["vector_embeddings"]


def test_search_finds_posts_and_obeys_the_filter(everreach: Everreach) -> None:
    lines = everreach("search", "a question for you", "-n", "3", "--where", '{"platform": "tiktok"}').splitlines()
    assert len(lines) == 6  # each with the beginning of its text below
    assert all("tiktok:" in line for line in lines[::2])


def test_a_strategy_is_shown_with_the_posts_that_it_rests_on(everreach: Everreach) -> None:
    assert "tiktok:" in everreach("strategy", "show", "tiktok")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("search", "words", "--where", "{"), "--where is no JSON"),
        (("search", "words", "--where", '{"a": {"$near": 1}}'), "unknown operator"),
        (("search", "  "), "the text is empty"),
        (("strategy", "show", "myspace"), "platforms with posts: instagram"),
        (("run", "--platform", "facebook"), "add --posts FILE"),
        (("ingest", "posts", "no-such-file.csv"), "does not exist"),
    ],
)
def test_wrong_input_is_told_what_to_do(everreach: Everreach, arguments: tuple[str, ...], says: str) -> None:
    assert says in everreach(*arguments, expect=2)


def test_own_posts_are_not_mixed_with_the_sample_unnoticed(everreach: Everreach, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("post_id,text,account,published_at,views\n1,My own post,me,2026-01-01T00:00:00Z,10\n")
    assert "Among your posts are the 1,200 synthetic ones" in everreach("run", "--posts", own, "--platform", "facebook")


def test_a_run_that_is_interrupted_ends_in_a_word_and_one_that_is_killed_holds_up_none(tmp_path: Path) -> None:
    commands = Everreach(tmp_path, vector_backend="pgvector")
    printed = interrupted(commands, signal.SIGHUP, after="build strategies")
    assert "Traceback" not in printed
    assert printed.rstrip().endswith("Aborted!")
    assert embedded_processes(commands.settings) == {}
    interrupted(commands, signal.SIGKILL, after="build strategies")
    assert "opens with a question" in commands("run")
    with running_servers(commands.settings) as addresses, psycopg.connect(addresses.dagster_database_url) as connection:
        statuses = {status for (status,) in connection.execute("SELECT status FROM runs")}
    assert statuses <= {"SUCCESS", "FAILURE", "CANCELED"}


def test_an_index_that_lost_rows_is_found_out_and_made_whole(tmp_path: Path) -> None:
    commands = Everreach(tmp_path)
    assert "Searches are answered by chroma" in commands("run")
    assert "1,200 vectors, all in chroma" in commands("index", "check")
    _lose_rows(commands.settings)
    assert "100 missing" in commands("index", "check", expect=1)
    assert "1,200 vectors, all in chroma" in commands("index", "rebuild", "content_embeddings")
    commands("index", "check")


PLATFORM_ADDRESSES = {
    "facebook": re.compile(r"https://www\.facebook\.com/[0-9]+_[0-9]+  "),
    "reddit": re.compile(r"https?://www\.reddit\.com/r/\w+/comments/"),
    "x": re.compile(r"https://twitter\.com/\w+/status/[0-9]+  "),
    "youtube": re.compile(r"https://www\.youtube\.com/watch\?v=[\w-]{11}  "),
}
"""Where each post can be opened."""


@pytest.mark.shared_data
@pytest.mark.parametrize("platform", SHARED_POSTS)
def test_the_main_job_takes_a_persons_own_file(platform: str, shared_data: Path, tmp_path: Path) -> None:
    commands = Everreach(tmp_path)
    printed = commands(
        "run",
        "--posts",
        shared_data / SHARED_POSTS[platform],
        "--platform",
        platform,
        "--map",
        MAPPINGS / f"{platform}.yaml",
    )
    assert f"{platform}: strategy 1, from" in printed
    assert "synthetic" not in printed
    claims = json.loads(commands("strategy", "show", platform, "--json"))["claims"]
    cited = {doc_id for each in claims for doc_id in (*each["exemplars"], *each["counter_exemplars"])}
    assert cited
    listed = dict(re.findall(r"^- (\S+)  (.+)$", commands("strategy", "show", platform), re.MULTILINE))
    address = PLATFORM_ADDRESSES[platform]
    assert {doc_id: listed.get(doc_id) for doc_id in cited if not address.match(listed.get(doc_id, ""))} == {}


@pytest.mark.shared_data
def test_a_file_without_rows_is_no_failure(everreach: Everreach, shared_data: Path) -> None:
    empty = shared_data / "facebook_pages_2016" / "empty_page_oreo.csv"
    assert "0 rows read" in everreach("ingest", "posts", empty, "--map", MAPPINGS / "facebook.yaml")


COUNTS_OF_WORK = ("metric_", "embedding_call_days", "embedding_costs", "retention_clock", "retention_plans")
"""Tables, by the beginning of their names, in which every run leaves what it did, also where it changed nothing."""


def _dump(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of ours, without the vectors' components and without what runs count."""
    with (
        running_servers(settings) as addresses,
        Database(addresses.database_url) as database,
        database.connection() as connection,
    ):
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'yoyo' ORDER BY 1"
        ).fetchall()
        rows = "SELECT (to_jsonb(t) - 'embedding')::text FROM {} AS t ORDER BY 1"
        return {
            table: connection.execute(rows.format(table).encode()).fetchall()
            for (table,) in tables
            if not table.startswith(COUNTS_OF_WORK)
        }


def _lose_rows(settings: Settings) -> None:
    import chromadb

    with running_servers(settings) as addresses:
        client = chromadb.HttpClient(host=addresses.chroma_host or "", port=addresses.chroma_port)
        collection = client.get_collection("content_embeddings", embedding_function=None)
        collection.delete(ids=collection.get(limit=100)["ids"])
