"""Rebuild a platform's strategy from its labelled outcomes and a vector search over them, and let the gate judge it.

What belongs here: the order of the steps, in one transaction. What does not: what a claim is (`domain/strategies.py`),
how a strategy is tested (`domain/backtests.py`), the statements (`resources/strategies.py`), and when it is due
(`domain/rebuilds.py`).
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everreach_assets.domain import backtests, lessons
from everreach_assets.domain import strategies as rules
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.lessons import LessonChanges
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION, Label
from everreach_assets.domain.rebuilds import NEW_OUTCOMES
from everreach_assets.domain.strategy_model import Inputs, Strategy
from everreach_assets.domain.vectors import Vector
from everreach_assets.reports import strategy_summary
from resources import lessons as lesson_rows
from resources import outcomes as outcome_rows
from resources import strategies as strategy_rows
from resources.database import Connection, Database
from resources.embedder import Embedder
from resources.strategies import StoredStrategy
from resources.vector_db import VectorDB
from resources.wording import Wording

NOTHING_LEARNED = LessonChanges((), (), ())


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild did.

    Attributes:
        in_force: the strategy that is in force now, None where there is none.
        new_outcomes: distinct posts with outcomes that no strategy had consumed before.
        built: the new strategy, also where the gate held it; None where there were too few new outcomes.
        lessons: what the new strategy changed about the lessons of the platform.
    """

    in_force: StoredStrategy | None
    new_outcomes: int
    built: StoredStrategy | None = None
    lessons: LessonChanges = NOTHING_LEARNED

    @property
    def is_rebuilt(self) -> bool:
        """Whether `in_force` is a new one."""
        return self.built is not None and self.built == self.in_force


def rebuild_strategy(
    platform: str,
    *,
    database: Database,
    vector_db: VectorDB,
    embedder: Embedder,
    wording: Wording | None = None,
    minimum_new_outcomes: int = NEW_OUTCOMES,
) -> Rebuild:
    """Build the platform's strategy anew if enough new outcomes are labelled, and put it in force if the gate says so.

    The count, the new strategy, the archived one and the mark on each consumed outcome are one transaction under a
    lock of the platform: however often it is called, and by however many at once, the same outcomes give one strategy.
    A strategy that is held consumes them too: it would be held again.

    The computing, some seconds of it, is inside that transaction, between its reads and its writes: there it holds no
    row, and blocks nobody but another rebuild of the platform, which has to wait anyway. The lock ends with the
    transaction, however its process ends.

    Raises:
        Unavailable: the database or the index did not answer; nothing has changed.
    """
    with database.transaction() as connection:
        strategy_rows.lock_strategy(connection, platform)
        in_force = strategy_rows.strategy_in_force(connection, platform)
        fresh = strategy_rows.new_labelled_outcomes(connection, platform)
        new_posts = len({post_id for _, post_id in fresh})
        if new_posts < max(minimum_new_outcomes, 1):
            strategy_rows.record_rebuild(connection, platform, "unchanged")
            return Rebuild(in_force, new_posts)
        snapshots = [seq for seq, _ in fresh]
        read_at = strategy_rows.now(connection)
        strategy = _judged(connection, platform, in_force, max(snapshots), vector_db, embedder)
        if wording is not None:
            worded = wording.phrase(strategy.claims)
            strategy = strategy.model_copy(update={"wording": worded.sentences})
            strategy_rows.record_wording(connection, worded.results)
        built, learned = keep_strategy(
            connection, strategy, in_force, snapshots=snapshots, new_outcomes=new_posts, created_at=read_at
        )
    return Rebuild(in_force if built.status == "held" else built, new_posts, built, learned)


def keep_strategy(
    connection: Connection,
    strategy: Strategy,
    in_force: StoredStrategy | None,
    *,
    snapshots: Sequence[int],
    new_outcomes: int,
    created_at: dt.datetime,
) -> tuple[StoredStrategy, LessonChanges]:
    """Store a judged strategy and what follows from it: the archive, the marks, the term in force, the lessons.

    Args:
        connection: in the transaction that holds the platform's lock.
        in_force: what it replaces where it is accepted.
        snapshots: that it consumed.
        created_at: it knows what was labelled until then.
    """
    built = strategy_rows.store_strategy(
        connection,
        strategy,
        summary=strategy_summary(strategy),
        snapshots=snapshots,
        new_outcomes=new_outcomes,
        created_at=created_at,
    )
    if built.status == "held":
        strategy_rows.record_rebuild(connection, built.platform, "held")
        return built, NOTHING_LEARNED
    changes = lessons.lesson_changes(
        in_force.content if in_force else None, strategy, lesson_rows.in_force(connection, built.platform)
    )
    lesson_rows.apply(
        connection,
        built.platform,
        changes,
        before=in_force.strategy_id if in_force else None,
        after=built.strategy_id,
        at=built.created_at,
    )
    strategy_rows.record_rebuild(connection, built.platform, "rebuilt")
    return built, changes


def _judged(
    connection: Connection,
    platform: str,
    in_force: StoredStrategy | None,
    watermark: int,
    vector_db: VectorDB,
    embedder: Embedder,
) -> Strategy:
    """The strategy of all that is labelled now, with its backtest and the gate's verdict."""
    outcomes = scrubbed(rules.considered(strategy_rows.labelled_outcomes(connection, platform)), embedder)
    space_id, vectors = _vectors(vector_db, [each.doc_id for each in outcomes])

    def search(vector: Vector, n: int, labels: Sequence[Label]) -> list[tuple[str, float]]:
        where = {"platform": platform, "label": {"$in": list(labels)}}
        found = vector_db.search(OUTCOMES.name, vector, n, where, space_id=space_id)
        return [(each.doc_id, 1.0 - each.distance) for each in found]

    strategy = rules.build_strategy(
        platform,
        outcomes,
        vectors,
        search,
        inputs=Inputs(
            snapshot_watermark=watermark,
            outcomes=len(outcomes),
            matured=sum(each.is_final for each in outcomes),
            labels=outcome_rows.label_counts(connection).get(platform, {}),
            builder_version=rules.BUILDER_VERSION,
            classifier_version=CLASSIFIER_VERSION,
            space_id=space_id,
        ),
        previous=in_force.content if in_force else None,
    )
    known = strategy_rows.consumed_posts(connection, in_force) if in_force else None
    backtest = backtests.backtest(outcomes, in_force=known)
    verdict = backtests.gate_verdict(backtest, in_force=in_force.content if in_force else None)
    return strategy.model_copy(update={"backtest": backtest, "verdict": verdict})


def scrubbed(outcomes: Sequence[LabelledOutcome], embedder: Embedder) -> list[LabelledOutcome]:
    """The outcomes without personal data in their texts."""
    return [dataclasses.replace(each, text=embedder.scrub(CONTENT.name, each.text).text) for each in outcomes]


def _vectors(vector_db: VectorDB, doc_ids: Sequence[str]) -> tuple[str, Mapping[str, Vector]]:
    """The vectors of one space, and its id: that of most of the outcomes, in an outage not the one in force."""
    found = vector_db.get_many(OUTCOMES.name, doc_ids)  # a post without text has no vector
    spaces = Counter(each["space_id"] for each in found.values())
    space_id = max(spaces, key=lambda each: (spaces[each], each), default="")
    return space_id, {doc_id: each["embedding"] for doc_id, each in found.items() if each["space_id"] == space_id}
