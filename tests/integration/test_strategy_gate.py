"""The gate end to end: what is accepted, held, tied, killed and gone back from, on real servers."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from everreach_assets.domain import backtests
from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.strategies import BUILDER_VERSION
from everreach_assets.domain.strategy_model import Verdict
from everreach_assets.drafts import DraftScorer
from everreach_assets.embedding import embed_collection
from everreach_assets.strategy_builder import Rebuild, rebuild_strategy
from resources import rebuilds, strategy_history
from resources import strategies as strategy_rows
from resources.database import Database
from resources.hnsw_index import HnswIndex
from resources.settings import Settings
from resources.vector_db import VectorDB, open_index
from resources.wording import Wording
from tests.integration.test_commands import everreach
from tests.integration.test_feedback_loop import Loop
from tests.integration.test_instrumentation import counts
from tests.killed import run_until_killed
from tests.openai_server import OpenAIServer

HISTORY = 90
"""Posts: enough that ten matured ones can be held out, and the rest be learned from."""


def views_of(post: int) -> float:
    """Threads, every third post, get four times the views of tweets; days differ by a little."""
    return (4_000 if post % 3 == 0 else 1_000) + 37 * (post % 7)


def turned(post: int) -> float:
    """The other way round."""
    return (1_000 if post % 3 == 0 else 4_000) + 37 * (post % 7)


def observe(loop: Loop, posts: range, views: Any = views_of) -> None:
    for post in posts:
        loop.observe(post, views(post))
    loop.classify()
    loop.embed()


def new_outcomes(loop: Loop) -> dict[str, int]:
    with loop.database.connection() as connection:
        return {platform: each.new_outcomes for platform, each in rebuilds.progress(connection).items()}


def counted(loop: Loop) -> dict[object, object]:
    return dict(
        loop.rows(  # type: ignore[arg-type]
            "SELECT labels ->> 'result', value FROM metric_counters"
            " WHERE metric = 'everreach_strategy_rebuilds_total' AND labels ->> 'platform' = 'x' AND value > 0"
        )
    )


@pytest.fixture(params=["pgvector", "chroma"])
def loop(request: pytest.FixtureRequest, database: Database) -> Iterator[Loop]:
    opened = Loop(database)
    if request.param == "chroma":
        host, port = request.getfixturevalue("chroma_server")
        settings = Settings(_env_file=None, chroma_host=host, chroma_port=port)
        opened.vector_db = VectorDB(database, open_index(settings, database), opened.embedder.space_of)
        for collection in (CONTENT.name, OUTCOMES.name, LESSONS.name):
            opened.vector_db.rebuild_index(collection)  # other tests' vectors are on the same server
    with closing(opened.vector_db):
        yield opened


only_pgvector = pytest.mark.parametrize("loop", ["pgvector"], indirect=True)
"""For what does not depend on the index."""


@pytest.fixture
def in_force(loop: Loop) -> Rebuild:
    """A first strategy, that stood its test."""
    observe(loop, range(HISTORY))
    rebuilt = loop.rebuild()
    assert rebuilt.is_rebuilt, rebuilt
    return rebuilt


def test_a_first_strategy_that_foresees_the_held_out_posts_is_accepted_with_its_backtest(
    loop: Loop, in_force: Rebuild
) -> None:
    stored = in_force.in_force
    assert stored is not None
    assert stored.content is not None
    backtest = stored.content.backtest
    assert backtest is not None
    assert backtest.tested_on >= 10
    assert backtest.strategy.spearman is not None
    assert backtest.strategy.spearman > 0.5
    assert {"account_mean", "tfidf_logistic"} <= backtest.baselines.keys()
    assert "in_force" not in backtest.baselines
    assert stored.content.verdict == Verdict(is_accepted=True, reason=stored.reason)
    assert any(each.trait == "type thread" and each.evidence == "rule" for each in stored.content.claims)
    inputs = stored.content.inputs
    assert (inputs.outcomes, inputs.builder_version) == (stored.outcomes, stored.builder_version)
    assert (inputs.builder_version, inputs.classifier_version) == (BUILDER_VERSION, CLASSIFIER_VERSION)
    assert (inputs.snapshot_watermark,) == loop.rows("SELECT max(seq) FROM outcome_snapshots")[0]
    assert inputs.space_id
    assert counted(loop) == {"rebuilt": 1.0}


def test_one_as_good_as_that_in_force_takes_its_place(loop: Loop, in_force: Rebuild) -> None:
    observe(loop, range(HISTORY, HISTORY + 10))
    again = loop.rebuild()
    assert again.is_rebuilt, again
    assert again.in_force is not None
    assert again.in_force.content is not None
    assert again.in_force.content.backtest is not None
    assert "in_force" in again.in_force.content.backtest.baselines
    assert [each.claim_id for each in again.lessons.learned]  # what held twice
    lessons = embed_collection(LESSONS.name, database=loop.database, embedder=loop.embedder, vector_db=loop.vector_db)
    assert lessons.vectors == len(again.lessons.learned)


@only_pgvector
def test_one_that_foresees_no_better_than_chance_is_held_and_consumes_its_outcomes(
    loop: Loop, in_force: Rebuild
) -> None:
    observe(loop, range(HISTORY, HISTORY + 30), turned)
    held = loop.rebuild()
    assert held.built is not None
    assert (held.built.status, held.is_rebuilt, held.in_force) == ("held", False, in_force.in_force)
    assert held.built.reason
    assert new_outcomes(loop) == {}
    assert counted(loop) == {"rebuilt": 1.0, "held": 1.0}
    before = loop.dump()
    assert loop.rebuild(minimum=1).built is None
    assert loop.dump() == before
    observe(loop, range(HISTORY + 30, HISTORY + 39))
    assert loop.rebuild().built is None
    observe(loop, range(HISTORY + 39, HISTORY + 40))
    assert loop.rebuild().built is not None


@only_pgvector
def test_a_platform_whose_first_strategy_is_held_has_none_in_force(loop: Loop, database_url: str) -> None:
    observe(loop, range(HISTORY), lambda post: 1_000 + 997 * ((post * 7_919) % 31))
    held = loop.rebuild()
    assert (held.in_force, held.is_rebuilt) == (None, False)
    shown = everreach(database_url, "strategy", "show", "x")
    assert shown.exit_code == 2
    assert "no strategy is in force on 'x'" in shown.output
    assert "--held" in shown.output


@only_pgvector
def test_after_a_rollback_the_next_is_compared_with_what_was_gone_back_to(loop: Loop, in_force: Rebuild) -> None:
    first = in_force.in_force
    assert first is not None
    observe(loop, range(HISTORY, HISTORY + 10))
    second = loop.rebuild().in_force
    assert second is not None
    with loop.database.transaction() as connection:
        strategy_history.roll_back(connection, "x", old=second.strategy_id, new=first.strategy_id, decided_by="ann")
        assert strategy_rows.consumed_posts(connection, first) == {f"x:p{post:03d}" for post in range(HISTORY)}
    assert loop.rebuild(minimum=1).built is None  # what the other consumed stays consumed
    observe(loop, range(HISTORY + 10, HISTORY + 20))
    third = loop.rebuild()
    assert third.is_rebuilt
    with loop.database.connection() as connection:
        assert [each.strategy_id for each in strategy_history.history(connection, "x")] == [
            first.strategy_id,
            second.strategy_id,
            first.strategy_id,
            third.in_force.strategy_id if third.in_force else 0,
        ]


@only_pgvector
def test_outcomes_are_recorded_and_labelled_while_a_strategy_is_computed(
    loop: Loop, in_force: Rebuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process's place, within its time limits: a lock that the rebuild held would end it."""
    observe(loop, range(HISTORY, HISTORY + 10))
    verdict = backtests.gate_verdict

    def slow_verdict(*arguments: Any, **named: Any) -> Verdict:
        with Database(loop.database.url, statement_seconds=2.0) as other:
            observe(Loop(other), range(HISTORY + 10, HISTORY + 13))
            with other.connection() as connection:
                waiting = connection.execute(
                    "SELECT backend_xid FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state = 'idle in transaction'"
                ).fetchall()
        assert waiting == [(None,)]  # it has written nothing yet
        return verdict(*arguments, **named)

    monkeypatch.setattr(backtests, "gate_verdict", slow_verdict)
    assert loop.rebuild().new_outcomes == 10
    assert new_outcomes(loop) == {"x": 3}


REBUILD = """
from contextlib import closing
with Database(sys.argv[1]) as database:
    print(Loop(database).rebuild())
"""
IMPORTS = "from resources.database import Database; from tests.integration.test_feedback_loop import Loop"


@pytest.mark.slow
@only_pgvector
def test_killed_between_steps_a_rebuild_has_done_nothing_and_the_next_does_all(loop: Loop, in_force: Rebuild) -> None:
    observe(loop, range(HISTORY, HISTORY + 10))
    before = loop.dump()
    for step in (
        "everreach_assets.domain.backtests.gate_verdict",
        "resources.strategies.record_rebuild",
    ):
        run_until_killed(REBUILD, loop.database.url, step=step, calls=0, imports=IMPORTS)
        assert loop.dump() == before, step
    assert loop.rebuild().is_rebuilt
    assert new_outcomes(loop) == {}


# --- with a language model ------------------------------------------------------------------------------------


@only_pgvector
def test_a_strategy_holds_the_wording_of_its_claims_and_shows_it(loop: Loop, database_url: str) -> None:
    observe(loop, range(HISTORY))
    with OpenAIServer().running() as chat:
        chat.phrase = lambda claims: {each["id"]: f"Rather {each['trait']}." for each in claims}
        rebuilt = rebuild_strategy(
            "x",
            database=loop.database,
            vector_db=loop.vector_db,
            embedder=loop.embedder,
            wording=Wording(chat.base_url, "small-model"),
        )
    assert rebuilt.in_force is not None
    assert rebuilt.in_force.content is not None
    wording = rebuilt.in_force.content.wording
    assert "Rather type thread." in wording.values()
    assert counts(loop.database, "everreach_strategy_wordings_total") == {("kept",): len(wording)}
    assert "- Rather type thread." in everreach(database_url, "strategy", "show", "x").output
    sent = chat.requests[0].inputs[1]
    assert "about bread" not in sent
    assert "x:p0" not in sent


# --- scoring --------------------------------------------------------------------------------------------------


@only_pgvector
def test_a_draft_is_scored_by_what_the_strategy_in_force_knew(loop: Loop, in_force: Rebuild, database_url: str) -> None:
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    when = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
    thread = scorer.score("Post about soup", "x", "ann", when, "thread")
    tweet = scorer.score("Post about soup", "x", "ann", when, "tweet")
    assert thread.score.expected_score > tweet.score.expected_score + 1
    assert thread.score.success_probability > tweet.score.success_probability
    assert in_force.in_force is not None
    assert thread.strategy == in_force.in_force
    assert in_force.in_force.content is not None
    claims = {each.claim_id: each for each in in_force.in_force.content.claims}
    assert "type thread" in {claims[each].trait for each in thread.score.claims}

    # Another process scores the same, also after further outcomes were labelled: they are not the strategy's.
    observe(loop, range(HISTORY, HISTORY + 9), turned)
    elsewhere = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    assert elsewhere.score("Post about soup", "x", "ann", when, "thread").score == thread.score

    at = "2026-06-01T12:00:00Z"
    typed = ("strategy", "score", "x", "Post about soup", "--account", "ann", "--type", "thread", "--when", at)
    assert json.loads(everreach(database_url, *typed, "--json").output) == thread.score.model_dump(mode="json")
    told = everreach(database_url, *typed).output
    assert "type thread" in told
    assert f"By strategy {thread.strategy.strategy_id} of x." in told


def by_subject(post: int) -> float:
    """Bread does well, soup does not."""
    return (4_000 if post % 2 else 1_000) + 37 * (post % 7)


def test_a_draft_is_told_what_is_known_of_its_topic(loop: Loop) -> None:
    observe(loop, range(HISTORY), by_subject)
    in_force = loop.rebuild().in_force
    assert in_force is not None
    assert in_force.content is not None
    topics = {each.claim_id: each for each in in_force.content.claims if each.kind == "topic"}
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)

    def told(text: str) -> tuple[set[str], str]:
        found = scorer.score(text, "x", "ann").score
        return {topics[each].direction for each in found.claims if each in topics}, found.reasons[-1]

    for_bread, why = told("Bread, and more about bread")
    assert for_bread == {"more"}
    assert re.fullmatch(r'of the topics, "bread.*" is nearest \(\d+ posts\)', why)
    for_soup, why = told("Soup, and more about soup")
    assert for_soup == {"less"}
    assert "soup" in why
    assert told("Quarterly figures")[1] == "none of the topics is near"
    assert told("") == (set(), "its topic is not known: there are no vectors to compare")


@only_pgvector
def test_a_draft_is_scored_without_its_topic_where_no_provider_has_the_space(loop: Loop, in_force: Rebuild) -> None:
    del in_force
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    known = scorer.score("Post about soup", "x", "ann").score
    assert known.reasons[-1].startswith("of the topics, ")
    elsewhere = Space("openai", "text-embedding-3-small", 1536, "1")  # and no key is set
    with closing(VectorDB(loop.database, HnswIndex(loop.database), lambda _: elsewhere)) as vector_db:
        unknown = DraftScorer(loop.database, loop.embedder, vector_db).score("Post about soup", "x", "ann").score
    assert unknown.reasons[-1] == "its topic is not known: there are no vectors to compare"
    assert unknown.expected_score == known.expected_score


@only_pgvector
def test_personal_data_of_a_draft_is_removed_before_it_is_scored(loop: Loop, in_force: Rebuild) -> None:
    del in_force
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    plain = scorer.score("Write to [EMAIL] about soup", "x", "ann")
    assert scorer.score("Write to zebediah@example.com about soup", "x", "ann").score == plain.score


@only_pgvector
def test_a_draft_may_leave_open_what_is_not_decided(loop: Loop, in_force: Rebuild) -> None:
    del in_force
    scorer = DraftScorer(loop.database, loop.embedder, loop.vector_db)
    for draft in (("", "x", "ann"), ("Soup", "x", "somebody new"), ("Soup", "x", "", None, "hologram")):
        found = scorer.score(*draft).score
        low, high = found.interval
        assert low < found.expected_multiple < high
