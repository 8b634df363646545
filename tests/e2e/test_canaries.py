"""Fifty people are pushed through everything, and nothing of any of them is in anything but the tables of sources.

The sources (`SOURCES`) hold what came in, by design, and so do the archives of purges (docs/retention.md); both stay on
this machine. Whatever else there is, is a sink: it is searched in every encoding, and the search must find a harmless
word there that went the same way, so that it cannot have looked at nothing.
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import redis

from everreach_assets.domain.collections import COLLECTIONS, CONTENT, PROSPECTS
from everreach_assets.domain.wording import INSTRUCTIONS
from resources.addresses import child_environment
from resources.servers import running_servers
from tests.canaries import CONTROL, FORMATS, IDENTITIES, Search, handles, people_search
from tests.canary_files import outcome_calls, write_files, write_wrong_files
from tests.canary_stack import Stack
from tests.conftest import PostgresServer, database_named, running_chroma
from tests.dispatch_server import DispatchServer
from tests.embed_server import EmbedServer
from tests.openai_server import Answer, OpenAIServer, error
from tests.redis_server import running_redis
from tests.unit.test_alert_messages import alert, body

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SOURCES = frozenset({"actp_feedback_posts", "prospects", "lessons", "ingest_dead_letters"})
"""The tables that hold what came in; each other table is a sink."""

TRUTH_FOLDERS = ("postgres", "archives")
"""In EVERREACH_HOME: the tables' files, and what was purged, which docs/retention.md says is personal data."""

POLICY = """
content_embeddings: {by: published_at, max_age_days: 30}
outcome_embeddings: {by: published_at, max_age_days: 30}
prospect_embeddings: {by: first_seen_at, max_age_days: 90}
lesson_embeddings: {by: learned_at, max_age_days: 30}
archive_days: 30
"""

RECORD_OUTCOMES = """
import asyncio, json, logging, os, sys
from everreach_assets.feedback import FeedbackSyncEngine
from resources.database import Database

async def main():
    with Database(os.environ["URL"]) as database:
        for call in map(json.loads, sys.stdin):
            try:
                await FeedbackSyncEngine(database).record_outcome(**call)
            except Exception:
                logging.exception("refused")
asyncio.run(main())
"""

PRINTING_JOB = f"""
import dagster as dg

@dg.op(config_schema=str)
def speak(context):
    print("{CONTROL} on stdout")
    context.log.info("{CONTROL} in the event log")

@dg.job
def speaking():
    speak()

with dg.DagsterInstance.get() as instance:
    speaking.execute_in_process(instance=instance, run_config={{"ops": {{"speak": {{"config": "{CONTROL}"}}}}}})
"""

Sinks = dict[str, dict[str, bytes]]
"""By name of the sink: what is in it, by where."""

DISPATCH_SECONDS = 120

CHROMA_CLOUD = {"CLOUD_VECTOR_BACKEND": "chroma", "CLOUD_CHROMA_HOST": "127.0.0.1", "CLOUD_CHROMA_SSL": "false"}


def push(stack: Stack, files: Path) -> None:
    """Everything that the project does, with the people in it."""
    for kind, path in write_files(files):
        stack.command("ingest", kind, path)
    for kind, path in write_wrong_files(files):
        stack.command("ingest", kind, path, may_fail=True)
    with running_servers(stack.settings) as addresses:
        calls = "".join(f"{json.dumps(call)}\n" for call in outcome_calls())
        stack.python(RECORD_OUTCOMES, calls, {"URL": addresses.database_url})
    stack.provider.always = error(400, message="no", code="invalid")
    stack.run_jobs("memory_refresh_job", is_success=False)
    stack.provider.always = Answer()
    made = run_in_an_outage(stack, "--posts", files / "posts.csv")
    assert "x: strategy " in made
    stack.command("search", "\n".join(write(IDENTITIES[0]) for write in FORMATS.values()), "-n", 3)
    for collection in COLLECTIONS:  # in a post a handle is content, of a prospect it is personal
        asked = handles(IDENTITIES[0]) if collection == PROSPECTS.name else FORMATS["signature"](IDENTITIES[0])
        stack.command("search", f"{CONTROL}: {asked}", "--collection", collection, "-n", 200)
    stack.command("strategy", "show", "x")
    text = "\n".join(write(IDENTITIES[0]) for write in FORMATS.values())
    stack.command("strategy", "score", "x", text, "--account", "someone", may_fail=True)  # few posts were comparable
    stack.run_jobs("heal_embeddings_job", "cloud_sync_job", "cloud_parity_job")
    stack.command("sync", environment=CHROMA_CLOUD)
    ask_the_service(stack)  # while the people are known: a name is, as long as its prospect is (docs/architecture.md)
    stack.cached = stack.redis.contents()
    assert sum(key.startswith("everreach:embedding:v:") for key in stack.cached) > 2 * len(FORMATS)
    purge(stack)  # which empties the cache of them
    stack.run_jobs("cloud_sync_job")
    speak_the_control_word(stack)


def run_in_an_outage(stack: Stack, *arguments: object) -> str:
    """The main job, whose texts the backup embeds; only the language model answers at the provider's address. It is
    over when the job is."""
    stack.provider.rule = lambda inputs: None if inputs[0] == INSTRUCTIONS else error(503, retry_after="3600")
    made = stack.command("run", *arguments, "--query", FORMATS["signature"](IDENTITIES[1]).lower())
    assert len(set(stack.backup.inputs)) > len(FORMATS)  # scrubbed, the people are alike
    stack.provider.rule = None
    with running_servers(stack.settings) as addresses, psycopg.connect(addresses.database_url) as connection:
        connection.execute("DELETE FROM embedding_breakers")  # as if it had been over for a while
    return made


def purge(stack: Stack) -> None:
    """Let the people, the lessons and the posts expire, and purge them: once dry in Dagster, then with the archive."""
    stack.command("psql", "-c", "UPDATE prospects SET first_seen_at = now() - interval '100 days'")
    stack.run_jobs("retention_job")
    planned = stack.command("retention", "plan", "-n", 1000)
    (plan_hash,) = re.findall(r"^Plan ([0-9a-f]{64})$", planned, re.MULTILINE)
    purged = stack.command("retention", "purge", "--plan", plan_hash, "--yes")
    assert all(f"{name}: " in purged for name in ("content_embeddings", "prospect_embeddings", "lesson_embeddings"))


def ask_the_service(stack: Stack) -> None:
    """Every route, with people in whatever can be sent; then an alert of theirs, to dispatch."""
    for who in IDENTITIES[:2]:
        for given in (who.name, *who.email_spellings, *who.phone_spellings, FORMATS["signature"](who)):
            record = {"metric": "everreach_dms_sent_total", "labels": {"platform": given}, "value": 1}
            for changed in (record, record | {"metric": given}, record | {"value": given}, record | {given: given}):
                stack.http("POST", "/api/v1/metrics", json={"records": [changed]})
            stack.http("POST", "/api/v1/metrics", json={"records": [], "record_id": given + "\n"})
            stack.http("POST", "/api/v1/metrics", json={given: given})
            stack.http("POST", "/api/v1/metrics", content=given.encode())
            stack.http("GET", f"/api/v1/{quote(given, safe='')}")
            stack.http("GET", f"/api/v1/strategies/{quote(given, safe='')}")
            for draft in ({"text": given, "account": "someone"}, {"text": "", "account": given, given: given}):
                stack.http("POST", "/api/v1/strategies/x/score", json=draft)
            stack.http("GET", "/metrics", params={"name[]": given})
            stack.http("POST", "/api/v1/metrics", token=quote(given), json={})
            stack.http("POST", "/api/v1/alerts", token=stack.alert_token, json={"version": given, "alerts": [given]})
    search_and_record(stack)
    for who in IDENTITIES[::3]:  # a message a second: each tells of one person, in as many formats as fit into it
        alerts = [
            alert(
                write(who),
                annotations={"summary": write(who), "description": f"{CONTROL}.\n{write(who)}"},
                labels={"number": str(number)},
            )
            for number, write in enumerate(FORMATS.values())
        ]
        sent = body(*alerts, groupKey=f"{{}}:{who.number}")
        assert stack.http("POST", "/api/v1/alerts", token=stack.alert_token, json=sent).is_success
    stack.dispatch.wait_for(len(IDENTITIES[::3]), DISPATCH_SECONDS)


def search_and_record(stack: Stack) -> None:
    """Searches and outcomes over HTTP, right and wrong ones: each person in all formats, then one in all places."""
    for who in IDENTITIES:
        text = f"{CONTROL}\n" + "\n\n".join(write(who) for write in FORMATS.values())
        answer = stack.http("POST", "/api/v1/search", json={"collection": CONTENT.name, "text": text, "n": 3})
        assert answer.is_success
        right = {"platform": "x", "post_id": f"http-{who.number}", "metrics": {"likes": who.number}, "text": text}
        wrong = [right | {"platform": text}, right | {"metrics": {who.email: 1}}, right | {"account": who.email}]
        assert stack.http("POST", "/api/v1/outcomes", json={"outcomes": [right, *wrong]}).status_code == 207
    for given in (who.name, *who.email_spellings, *who.phone_spellings, text):
        for path, asked in (
            ("/api/v1/search", {"collection": given, "text": given}),
            ("/api/v1/search", {"collection": PROSPECTS.name, "text": given, "n": given, given: given}),
            ("/api/v1/search", {"collection": CONTENT.name, "text": CONTROL, "where": {"platform": given}}),
            ("/api/v1/search", {"collection": CONTENT.name, "text": CONTROL, "where": {given: {given: given}}}),
            ("/api/v1/outcomes", {"platform": given, "post_id": given, "metrics": {given: given}, given: given}),
            ("/api/v1/outcomes", {"outcomes": [given]}),
        ):
            stack.http("POST", path, json=asked)


def speak_the_control_word(stack: Stack) -> None:
    """Have it said where nothing of a source is ever said: in a step's output, in an error of Postgres, in a label."""
    with running_servers(stack.settings) as addresses:
        stack.python(PRINTING_JOB, "", child_environment(stack.settings, addresses))
    stack.command("psql", "-c", f"SELECT 1/0 AS {CONTROL}", may_fail=True)
    stack.command("metrics", "allow", "cloud_action", CONTROL)
    stack.command("metrics", "record", f"no_{CONTROL}", 1, may_fail=True)
    with redis.Redis.from_url(stack.redis.url) as client:
        client.set(f"said:{CONTROL}", b"")
    labels = {"service": "openai", "action": CONTROL}
    for metric in ("everreach_cloud_cost_usd_total", f"no_{CONTROL}"):
        stack.http("POST", "/api/v1/metrics", json={"records": [{"metric": metric, "labels": labels, "value": 1}]})


# --- the sinks --------------------------------------------------------------------------------------------------


def tables(url: str, *, but: Collection[str] = ()) -> dict[str, bytes]:
    """Every row of every table as JSON, by table; without the vectors, whose digits would hit by chance."""
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: "\n".join(
                text for (text,) in connection.execute(f"SELECT (to_jsonb(t) - 'embedding')::text FROM \"{name}\" AS t")
            ).encode()
            for (name,) in names
            if name not in but
        }


def requests_to(server: OpenAIServer) -> dict[str, bytes]:
    """Headers and body of every request that a provider was sent."""
    return {
        str(number): repr((sorted(each.headers.items()), json.dumps(each.body))).encode()
        for number, each in enumerate(server.requests)
    }


def run_configs(url: str) -> dict[str, bytes]:
    """What every run was told, by run. Nothing of anybody is pushed there: it is seen that none comes there."""
    with psycopg.connect(url) as connection:
        runs = connection.execute("SELECT run_id, run_body FROM runs").fetchall()
    return {run_id: json.dumps(json.loads(body)["run_config"]).encode() for run_id, body in runs}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_sinks(stack: Stack, cloud_folder: Path) -> Sinks:
    """All that is searched. A new sink is a line here, and the control word on its way there in `push`."""
    with running_servers(stack.settings) as addresses:
        database, dagster = addresses.database_url, addresses.dagster_database_url
        in_home = {name: held for name, held in files(stack.home).items() if name.split("/")[0] not in TRUTH_FOLDERS}
        return {
            "requests to the provider": requests_to(stack.provider),
            "requests to its backup": requests_to(stack.backup),
            "Redis": {f"before the purge: {key}": held for key, held in stack.cached.items()} | stack.redis.contents(),
            "calls of dispatch": {"messages": json.dumps(stack.dispatch.messages).encode()},
            "tables that are no source": tables(database, but=SOURCES),
            "Dagster's tables": tables(dagster),
            "run configs": run_configs(dagster),
            "the cloud's tables": tables(stack.cloud["CLOUD_DATABASE_URL"]),
            "the cloud's Chroma files": files(cloud_folder),
            "Chroma's files": {name: held for name, held in in_home.items() if name.startswith("chroma/")},
            "Dagster's files": {name: held for name, held in in_home.items() if name.startswith("dagster/")},
            "the servers' logs and other files": {
                name: held for name, held in in_home.items() if not name.startswith(("chroma/", "dagster/"))
            },
            "outputs of commands and services": files(stack.outputs),
            "the listing of dead letters": {"": stack.command("dead-letters", "-n", 10_000).encode()},
            "HTTP answers": {str(number): answer for number, answer in enumerate(stack.answers)},
            "/metrics": {"": stack.http("GET", "/metrics").content},
        }


SINKS = (
    "requests to the provider", "requests to its backup", "Redis", "calls of dispatch", "tables that are no source",
    "Dagster's tables", "run configs",
    "the cloud's tables", "the cloud's Chroma files", "Chroma's files", "Dagster's files",
    "the servers' logs and other files", "outputs of commands and services", "the listing of dead letters",
    "HTTP answers", "/metrics",
)  # fmt: skip


@pytest.fixture(scope="module")
def sinks(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Sinks]:
    folder = tmp_path_factory.mktemp("canaries")
    for name in ("cloud", "files"):
        (folder / name).mkdir()
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    with psycopg.connect(postgres_server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE canary_cloud")
    with (
        OpenAIServer().running() as provider,
        EmbedServer().running() as backup,
        running_redis(folder) as redis_server,
        DispatchServer().running() as dispatch,
        running_chroma(folder / "cloud") as port,
    ):
        cloud = {
            "CLOUD_VECTOR_BACKEND": "pgvector",
            "CLOUD_DATABASE_URL": database_named(postgres_server, "canary_cloud"),
            "CLOUD_CHROMA_PORT": str(port),
        }
        stack = Stack(folder, provider, backup, redis_server, dispatch, cloud, folder / "policy.yaml")
        try:
            stack.start_service()
            push(stack, folder / "files")
            yield read_sinks(stack, folder / "cloud")
        finally:
            stack.stop_service()


def test_each_sink_is_one_that_is_read(sinks: Sinks) -> None:
    assert sorted(sinks) == sorted(SINKS)


@pytest.mark.parametrize("sink", SINKS)
def test_nothing_of_anybody_is_in(sink: str, sinks: Sinks) -> None:
    search = people_search()
    found = {where: hits for where, content in sinks[sink].items() if (hits := search.hits(content))}
    assert found == {}


@pytest.mark.parametrize("sink", SINKS)
def test_the_same_search_finds_the_control_word_in(sink: str, sinks: Sinks) -> None:
    assert any(Search([CONTROL]).hits(content) for content in sinks[sink].values())
