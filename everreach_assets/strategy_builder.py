"""Rebuild a platform's strategy from its labelled outcomes and a vector search over them.

What belongs here: the order of the steps, in one transaction. What does not: what a claim is (`domain/strategies.py`),
the statements (`resources/strategies.py`), and when it is due (`domain/rebuilds.py`).
"""

import dataclasses
from dataclasses import dataclass

from everreach_assets.domain import strategies as rules
from everreach_assets.domain.collections import CONTENT, OUTCOMES
from everreach_assets.domain.rebuilds import NEW_OUTCOMES
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
        outcomes = [
            dataclasses.replace(each, text=embedder.scrub(CONTENT.name, each.text).text)
            for each in strategy_rows.labelled_outcomes(connection, platform)
        ]
        strategy = rules.build_strategy(
            platform,
            outcomes,
            {seed.doc_id: _neighbours(seed.doc_id, platform, vector_db) for seed in rules.seeds(outcomes)},
            outcome_rows.label_counts(connection).get(platform, {}),
        )
        stored = strategy_rows.replace_strategy(
            connection,
            strategy,
            snapshots=[seq for seq, _ in fresh],
            new_outcomes=new_posts,
            builder_version=rules.BUILDER_VERSION,
        )
        strategy_rows.record_rebuild(connection, platform, "rebuilt")
    return Rebuild(stored, new_posts, is_rebuilt=True)


def _neighbours(doc_id: str, platform: str, vector_db: VectorDB) -> list[str]:
    """The outcomes of the platform most similar to this one, nearest first, itself left out."""
    found = vector_db.get_many(OUTCOMES.name, [doc_id])
    if doc_id not in found:  # a post without text has no vector
        return []
    matches = vector_db.search(
        OUTCOMES.name,
        found[doc_id]["embedding"],
        rules.NEIGHBOURS + 1,
        where={"platform": platform},
        space_id=found[doc_id]["space_id"],  # during an outage it may be another one than that in force
    )
    return [match.doc_id for match in matches if match.doc_id != doc_id][: rules.NEIGHBOURS]
