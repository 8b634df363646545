"""The entry of the feedback loop: other services record outcomes here.

What belongs here: the async calls that callers import. What does not: statements (`resources/posts.py`), the check of
an outcome (`domain/posts.py`), and what follows from it, which assets and a sensor do later from the stored row.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from everreach_assets.domain.posts import RecordedOutcome, checked_outcome
from resources import posts
from resources.database import Database


class FeedbackSyncEngine:
    """Records outcomes durably. One engine may serve many concurrent calls; the database's pool bounds them.

    Args:
        database: opened by the caller, and closed by the caller.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_outcome(
        self,
        post_id: str,
        platform: str,
        metrics: Mapping[str, object],
        *,
        observed_at: datetime | None = None,
        text: str | None = None,
        account: str | None = None,
        post_type: str | None = None,
        published_at: datetime | None = None,
    ) -> RecordedOutcome:
        """Append what was observed about a post; the post is registered where it is unknown.

        When this returns, the outcome is committed. Labels and strategies follow from it in Dagster, not in this call.
        The same outcome twice is one row; where `observed_at` is not given, it is now, and metrics that are on record
        for the post already are no news.

        Args:
            post_id: the platform's id of the post, at most 95 bytes.
            platform: such as "facebook" or "x".
            metrics: names of `domain.metrics.METRICS` (or aliases) to counts; None and -1 mean "unknown".
            observed_at: when the counts were true, with a time zone.
            text: the post's text; like the fields below, what is empty or None never erases what is known.
            account: who published the post.
            post_type: such as "video" or "carousel".
            published_at: when the post was published, with a time zone.

        Raises:
            InvalidInput: a part is wrong; it is named, and nothing is written.
            Unavailable: the database did not answer; call again, an outcome cannot be doubled.
        """
        outcome = checked_outcome(
            platform,
            post_id,
            metrics,
            now=datetime.now(UTC),
            observed_at=observed_at,
            text=text,
            account=account,
            post_type=post_type,
            published_at=published_at,
        )
        return await asyncio.to_thread(posts.record_outcome, self._database, outcome)
