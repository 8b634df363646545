"""Rebuild a platform's strategy from its labelled outcomes and a vector search over them.

What belongs here: the order of the steps, in one transaction. What does not: what a claim is (`domain/strategies.py`),
the statements (`resources/strategies.py`), and when it is due (`domain/rebuilds.py`).
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from everreach_assets.domain import strategies as rules
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.labelled_outcomes import LabelledOutcome
from everreach_assets.domain.outcomes import CLASSIFIER_VERSION, Label
from everreach_assets.domain.rebuilds import NEW_OUTCOMES
from everreach_assets.domain.strategy_model import Inputs, Strategy
from everreach_assets.domain.vectors import Vector
from everreach_assets.reports import strategy_summary
from resources import outcomes as outcome_rows
from resources import strategies as strategy_rows
from resources.database import Database
from resources.embedder import Embedder
from resources.strategies import StoredStrategy
from resources.vector_db import VectorDB


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild did.

    Attributes:
        in_force: the strategy that is in force now, None where there is none yet.
        new_outcomes: distinct posts with outcomes that no strategy had consumed before.
        is_rebuilt: whether `in_force` is a new one.
    """

    in_force: StoredStrategy | None
    new_outcomes: int
    is_rebuilt: bool


def rebuild_strategy(
    platform: str,
    *,
    database: Database,
    vector_db: VectorDB,
    embedder: Embedder,
    minimum_new_outcomes: int = NEW_OUTCOMES,
) -> Rebuild:
    """Replace the platform's strategy if enough new outcomes are labelled; else leave it as it is.

    The count, the new strategy, the archived one and the mark on each consumed outcome are one transaction under a
    lock: however often it is called, and by however many at once, the same outcomes give one strategy.

    Raises:
        Unavailable: the database or the index did not answer; nothing has changed.
    """
    with database.transaction() as connection:
        strategy_rows.lock_strategy(connection, platform)
        fresh = strategy_rows.new_labelled_outcomes(connection, platform)
        new_posts = len({post_id for _, post_id in fresh})
        if new_posts < max(minimum_new_outcomes, 1):
            strategy_rows.record_rebuild(connection, platform, "unchanged")
            return Rebuild(strategy_rows.strategy_in_force(connection, platform), new_posts, is_rebuilt=False)
        in_force = strategy_rows.strategy_in_force(connection, platform)
        strategy = _strategy(
            platform,
            strategy_rows.labelled_outcomes(connection, platform),
            vector_db=vector_db,
            embedder=embedder,
            snapshot_watermark=max(seq for seq, _ in fresh),
            labels=outcome_rows.label_counts(connection).get(platform, {}),
            previous=in_force.content if in_force else None,
        )
        stored = strategy_rows.replace_strategy(
            connection,
            strategy,
            summary=strategy_summary(strategy),
            snapshots=[seq for seq, _ in fresh],
            new_outcomes=new_posts,
        )
        strategy_rows.record_rebuild(connection, platform, "rebuilt")
    return Rebuild(stored, new_posts, is_rebuilt=True)


def _strategy(
    platform: str,
    labelled: Sequence[LabelledOutcome],
    *,
    vector_db: VectorDB,
    embedder: Embedder,
    snapshot_watermark: int,
    labels: dict[str, int],
    previous: Strategy | None,
) -> Strategy:
    """The strategy of the outcomes, with the vectors of the space that most of them are in."""
    outcomes = [
        dataclasses.replace(each, text=embedder.scrub(CONTENT.name, each.text).text)
        for each in rules.considered(labelled)
    ]
    found = vector_db.get_many(OUTCOMES.name, [each.doc_id for each in outcomes])  # without a text there is no vector
    spaces = Counter(each["space_id"] for each in found.values())
    space_id = max(spaces, key=lambda each: (spaces[each], each), default="")

    def search(query: Vector, n: int, wanted: Sequence[Label]) -> list[tuple[str, float]]:
        where = {"platform": platform, "label": {"$in": list(wanted)}}
        matches = vector_db.search(OUTCOMES.name, query, n, where, space_id=space_id)
        return [(match.doc_id, 1.0 - match.distance) for match in matches]

    return rules.build_strategy(
        platform,
        outcomes,
        {doc_id: each["embedding"] for doc_id, each in found.items() if each["space_id"] == space_id},
        search,
        inputs=Inputs(
            snapshot_watermark=snapshot_watermark,
            outcomes=len(outcomes),
            matured=sum(each.is_final for each in outcomes),
            labels=labels,
            builder_version=rules.BUILDER_VERSION,
            classifier_version=CLASSIFIER_VERSION,
            space_id=space_id,
        ),
        previous=previous,
    )
