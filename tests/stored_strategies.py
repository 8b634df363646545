"""Outcomes recorded as a service records them, and every strategy that was ever stored."""

import asyncio
from collections.abc import Iterable

from everreach_assets.feedback import FeedbackSyncEngine
from resources.database import Database


def record(database: Database, platform: str, numbers: Iterable[int], views: int = 100) -> None:
    """One outcome for each number, of the post of that number."""
    engine = FeedbackSyncEngine(database)

    async def record_all() -> None:
        for number in numbers:
            metrics = {"views": views + number}
            await engine.record_outcome(f"post-{number}", platform, metrics, text=f"Post {number}")

    asyncio.run(record_all())


def stored_strategies(database: Database) -> list[tuple[str, int, bool]]:
    """Platform, new outcomes and whether it is archived, of every strategy that was ever stored, oldest first."""
    with database.connection() as connection:
        rows = connection.execute(
            "SELECT platform::text, new_outcomes, true, strategy_id FROM actp_feedback_strategy_archive"
            " UNION ALL SELECT platform::text, new_outcomes, false, strategy_id FROM actp_feedback_strategy"
            " ORDER BY strategy_id"
        )
        return [(platform, new, is_archived) for platform, new, is_archived, _ in rows]
