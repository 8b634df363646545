"""`make bench-embedding`: texts to stored and indexed vectors, against the bare client and against peers.

Every contender brings the same texts to a Chroma server of its own, through the same stand-in for the provider. See
docs/benchmarks.md.
"""

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import openai
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from everreach_assets.domain.collections import CONTENT
from everreach_assets.domain.embedding_inputs import normalised
from everreach_assets.embedding import embed_collection
from everreach_assets.memory import open_database, open_embedder, open_vector_db
from resources.intake import ingest_file
from resources.settings import Settings
from tests.benchmarks.embedding_server import EmbeddingServer, embedding_server
from tests.benchmarks.peers import PEERS, PYTHON, Document, Took, running_peer, stored_by_peer, wrong_and_lost
from tests.benchmarks.servers import fresh_servers
from tests.benchmarks.texts import TextSet, text_set
from tests.conftest import running_chroma

OURS, BARE = "ours", "bare client"
FIRST, NOTHING_NEW, ONE_PERCENT = "first load", "nothing new", "1 % changed"
DUPLICATES, KNOWN_TEXTS = "half are repeats", "the same texts in new posts"
PLATFORM = "x"

BringIn = Callable[[Sequence[Document]], Took]
Judge = Callable[[Sequence[Document]], tuple[int, int]]


@dataclass(frozen=True)
class Figures:
    """What one contender did in one step.

    Attributes:
        requests: to the provider; `texts` of all of them together.
        beside: seconds of loading and saving state, which `seconds` leaves out.
        wrong: vectors that are not those of their document's text.
        lost: documents without a vector.
    """

    who: str
    step: str
    documents: int
    requests: int
    texts: int
    at_once: int
    seconds: float
    beside: float
    wrong: int
    lost: int


@dataclass(frozen=True)
class Report:
    """All figures, and what they are of."""

    machine: dict[str, str]
    origin: str
    ways: dict[str, str]
    figures: list[Figures]

    def seconds(self, who: str, step: str) -> float:
        """With the loading and saving of state: what a process takes that has seen nothing of the step before."""
        return next(each.seconds + each.beside for each in self.figures if (each.who, each.step) == (who, step))

    def aims(self) -> dict[str, bool]:
        """Each aim, and whether it is met; those on peers only where they ran."""
        peers = {each.who for each in self.figures} - {OURS, BARE}
        ours = [each for each in self.figures if each.who == OURS]
        met = {
            "0 wrong vectors and 0 lost documents": not any(each.wrong or each.lost for each in ours),
            "nothing new: 0 requests": not any(each.requests for each in ours if each.step == NOTHING_NEW),
        }
        for step in (FIRST, NOTHING_NEW, ONE_PERCENT) if peers else ():
            met[f"{step}: as fast as each peer with its state"] = self.seconds(OURS, step) <= min(
                self.seconds(peer, step) for peer in peers
            )
        return met


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.embedding", description=__doc__)
    parser.add_argument("--texts", type=int, default=10_000, help="documents (default: %(default)s)")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of each request (default: %(default)s)")
    parser.add_argument("--without-peers", action="store_true", help="ours and the bare client alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    if not given.without_peers and not PYTHON.exists():
        parser.error("the peers are not installed: 'make bench-embedding' does it, or leave them out: --without-peers")
    report = run(
        text_set(given.texts),
        latency_seconds=given.latency_ms / 1000,
        peers=() if given.without_peers else tuple(PEERS),
        console=Console(width=None if sys.stdout.isatty() else 140),
    )
    if given.json:
        given.json.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")


def run(texts: TextSet, *, latency_seconds: float, peers: Sequence[str], console: Console) -> Report:
    """Measure and print everything; progress goes to the console while it runs."""
    machine = {
        "versions": ", ".join(f"{name} {version(name)}" for name in ("openai", "chromadb", "psycopg", "numpy")),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, load when it began {os.getloadavg()[0]:.2f}",
        "provider": f"stand-in on loopback, {latency_seconds * 1000:.0f} ms a request",
    }
    figures: list[Figures] = []
    ways: dict[str, str] = {OURS: "ingest_file, then embed_collection; Postgres and a Chroma server"}
    with embedding_server(latency_seconds) as server:
        server.learn([*texts.texts, *texts.changed])
        console.print("... ours", style="dim")
        figures += _ours(server, texts)
        first = figures[0]
        console.print("... the bare client", style="dim")
        ways[BARE] = f"openai.OpenAI, {_inputs(first)} texts a request, {first.at_once} at once, nothing stored"
        figures += _bare(server, texts, inputs=_inputs(first), at_once=first.at_once)
        for name in peers:
            console.print(f"... {name}", style="dim")
            ways[name], measured = _peer(name, server, texts)
            figures += measured
    report = Report(machine, texts.origin, ways, figures)
    print_report(console, report)
    return report


def _inputs(first: Figures) -> int:
    """Texts of a usual request of ours."""
    return -(-first.texts // max(first.requests, 1))


def _steps(texts: TextSet) -> list[tuple[str, list[Document]]]:
    documents = [Document(f"{number}", text) for number, text in enumerate(texts.texts)]
    changed = [dataclasses.replace(old, text=new) for old, new in zip(documents[::100], texts.changed, strict=True)]
    by_id = {each.id: each for each in changed}
    return [
        (FIRST, documents),
        (NOTHING_NEW, documents),
        (ONE_PERCENT, [by_id.get(each.id, each) for each in documents]),
    ]


def _measure(
    who: str, step: str, documents: Sequence[Document], server: EmbeddingServer, bring_in: BringIn, judge_it: Judge
) -> Figures:
    server.take_tally()
    took = bring_in(documents)
    tally = server.take_tally()
    wrong, lost = judge_it(documents)
    counted = (tally.requests, tally.texts, tally.at_once)
    return Figures(who, step, len(documents), *counted, took.seconds, took.beside, wrong, lost)


def _ours(server: EmbeddingServer, texts: TextSet) -> list[Figures]:
    half = texts.texts[: len(texts.texts) // 2]
    repeated = [Document(f"{number}", text) for number, text in enumerate([*half, *half])]
    with _our_pipeline(server) as (bring_in, judge_it):
        measured = [_measure(OURS, *step, server, bring_in, judge_it) for step in _steps(texts)]
        known = [Document(f"new-{number}", text) for number, text in enumerate(texts.texts)]
        measured.append(_measure(OURS, KNOWN_TEXTS, known, server, bring_in, judge_it))
    with _our_pipeline(server) as (bring_in, judge_it):
        measured.append(_measure(OURS, DUPLICATES, repeated, server, bring_in, judge_it))
    return measured


@contextlib.contextmanager
def _our_pipeline(server: EmbeddingServer) -> Iterator[tuple[BringIn, Judge]]:
    """The pipeline on fresh servers, from a file of posts to vectors in the index; and what is wrong in its store."""
    with fresh_servers() as embedded, tempfile.TemporaryDirectory(prefix="everreach-bench-") as folder:
        settings = embedded.model_copy(
            update={
                "embedding_provider": "openai",
                "openai_api_key": SecretStr("a-key"),
                "openai_base_url": server.base_url,
            }
        )

        def bring_in(documents: Sequence[Document]) -> Took:
            path = Path(folder) / "posts.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["platform", "post_id", "text"])
                writer.writerows([PLATFORM, each.id, each.text] for each in documents)
            start = time.perf_counter()
            with open_database(settings) as database, contextlib.closing(open_embedder(settings, database)) as embedder:
                ingest_file(database, "posts", path)
                with contextlib.closing(open_vector_db(settings, database, embedder)) as vector_db:
                    embed_collection(CONTENT.name, database=database, embedder=embedder, vector_db=vector_db)
            return Took(time.perf_counter() - start)

        yield bring_in, lambda documents: _judge_ours(settings, documents)


def _judge_ours(settings: Settings, documents: Sequence[Document]) -> tuple[int, int]:
    """As `wrong_and_lost`; a row that the index lacks, or has of another revision, counts as lost."""
    with open_database(settings) as database, contextlib.closing(open_embedder(settings, database)) as embedder:
        inputs = {f"{PLATFORM}:{each.id}": normalised(embedder.scrub(CONTENT.name, each.text)) for each in documents}
        sent = {doc_id: each.text for doc_id, each in inputs.items() if each is not None}
        with contextlib.closing(open_vector_db(settings, database, embedder)) as vector_db:
            stored = vector_db.get_many(CONTENT.name, list(sent))
            index = vector_db.check_index(CONTENT.name)
    wrong, lost = wrong_and_lost({doc_id: row["embedding"] for doc_id, row in stored.items()}, sent)
    return wrong, lost if index.is_whole else max(lost, 1)


def _bare(server: EmbeddingServer, texts: TextSet, *, inputs: int, at_once: int) -> list[Figures]:
    """The provider's client alone: as many texts a request and as many requests at once as ours, and no store."""
    vectors: dict[str, Sequence[float]] = {}

    def bring_in(documents: Sequence[Document]) -> Took:
        batches = [documents[place : place + inputs] for place in range(0, len(documents), inputs)]
        start = time.perf_counter()
        with (
            openai.OpenAI(api_key="a-key", base_url=server.base_url, max_retries=0) as client,
            ThreadPoolExecutor(at_once) as pool,
        ):

            def embed(batch: Sequence[Document]) -> list[Sequence[float]]:
                answer = client.embeddings.create(model="text-embedding-3-small", input=[each.text for each in batch])
                return [item.embedding for item in answer.data]

            for batch, embedded in zip(batches, pool.map(embed, batches), strict=True):
                vectors.update(zip((each.id for each in batch), embedded, strict=True))
        return Took(time.perf_counter() - start)

    def judge_it(documents: Sequence[Document]) -> tuple[int, int]:
        return wrong_and_lost(dict(vectors), {each.id: each.text for each in documents})

    return [_measure(BARE, FIRST, _steps(texts)[0][1], server, bring_in, judge_it)]


def _peer(name: str, server: EmbeddingServer, texts: TextSet) -> tuple[str, list[Figures]]:
    """How the peer is used, and its figures."""
    with tempfile.TemporaryDirectory(prefix="everreach-bench-") as temporary:
        folder = Path(temporary)
        with (
            running_chroma(folder) as port,
            running_peer(name, base_url=server.base_url, chroma_port=port, folder=folder) as peer,
        ):

            def judge_it(documents: Sequence[Document]) -> tuple[int, int]:
                return wrong_and_lost(stored_by_peer(port), {each.id: each.text for each in documents})

            measured = [_measure(name, *step, server, peer.bring_in, judge_it) for step in _steps(texts)]
            return f"{peer.versions}: {peer.way}", measured


def print_report(console: Console, report: Report) -> None:
    """The figures as a table, then the aims."""
    for name, value in {**report.machine, "texts": report.origin, **report.ways}.items():
        console.print(f"[bold]{name}[/]: {value}", highlight=False)
    table = Table("who", "step", title="Texts to stored, indexed vectors", title_justify="left")
    for column in (
        "documents",
        "requests",
        "texts sent",
        "at once",
        "seconds",
        "documents/s",
        "state, s",
        "wrong",
        "lost",
    ):
        table.add_column(column, justify="right")
    for each in report.figures:
        counts = (f"{number:,}" for number in (each.documents, each.requests, each.texts, each.at_once))
        speed = f"{each.documents / each.seconds:,.0f}"
        table.add_row(
            each.who,
            each.step,
            *counts,
            f"{each.seconds:.2f}",
            speed,
            f"{each.beside:.2f}",
            f"{each.wrong:,}",
            f"{each.lost:,}",
        )
    console.print(table)
    for aim, is_met in report.aims().items():
        console.print(f"{'met    ' if is_met else 'NOT MET'}  {aim}", highlight=False)


if __name__ == "__main__":
    main()
