"""Lessons that strategies taught. They stand in the table of the lessons that people write, under ids of their own.

What does not belong here: what is a lesson (`domain/lessons.py`), and taking in what people write (`intake.py`).
"""

import datetime as dt

from psycopg.types.json import Jsonb

from everreach_assets.domain.lessons import LEARNED, LessonChanges, lesson_text
from everreach_assets.domain.strategy_model import Direction
from resources.database import Connection


def in_force(connection: Connection, platform: str) -> dict[str, Direction]:
    """The direction of each lesson of the platform that nothing has superseded, by the id of its claim."""
    return dict(
        connection.execute(
            "SELECT claim_id, evidence ->> 'direction' FROM lessons"
            " WHERE platform = %s AND claim_id IS NOT NULL AND superseded_at IS NULL ORDER BY claim_id",
            (platform,),
        ).fetchall()
    )


def apply(
    connection: Connection,
    platform: str,
    changes: LessonChanges,
    *,
    before: int | None,
    after: int,
    at: dt.datetime,
) -> None:
    """Write what an accepted strategy changes. A superseded lesson stays as a row; its vector goes.

    Args:
        connection: in the transaction that puts the strategy in force.
        before, after: numbers of the strategy that was in force, and of the accepted one.
        at: when what the accepted one knows was known.
    """
    connection.execute(
        "UPDATE lessons SET superseded_at = %(at)s, superseded_by = %(after)s, updated_at = now()"
        " WHERE platform = %(platform)s AND claim_id = ANY(%(superseded)s) AND superseded_at IS NULL",
        {"platform": platform, "superseded": list(changes.superseded), "after": after, "at": at},
    )
    for claim in changes.confirmed:
        connection.execute(
            "UPDATE lessons SET evidence = %s, strategy_ids = strategy_ids || %s::bigint, updated_at = now()"
            " WHERE platform = %s AND claim_id = %s AND superseded_at IS NULL",
            (Jsonb(claim.model_dump(mode="json")), after, platform, claim.claim_id),
        )
    for claim in changes.learned:
        connection.execute(
            "INSERT INTO lessons (lesson_id, platform, text, text_sha256, learned_at, claim_id, evidence, strategy_ids)"
            " SELECT %(learned)s || nextval('learned_lesson_numbers'), %(platform)s, %(text)s,"
            " sha256(convert_to(%(text)s, 'UTF8')), %(at)s, %(claim_id)s, %(evidence)s,"
            " ARRAY[%(before)s, %(after)s]::bigint[]",
            {
                "learned": LEARNED,
                "platform": platform,
                "text": lesson_text(platform, claim),
                "at": at,
                "claim_id": claim.claim_id,
                "evidence": Jsonb(claim.model_dump(mode="json")),
                "before": before,
                "after": after,
            },
        )
