"""`POST /api/v1/outcomes`: outcomes from other services, one or a batch.

What belongs here: taking each by itself, and saying what became of it. What does not: what an outcome must be
(`domain/posts.py`) and how it is stored (`resources/posts.py`).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.posts import Outcome, RecordedOutcome, check_platform, check_post_id, checked_outcome
from everreach_assets.service.errors import MESSAGE_CHARACTERS, Fault, NotAccepted, faults
from everreach_assets.service.models import OUTCOMES_OF_A_BATCH, OutcomeBody, OutcomeResult, OutcomesAnswer
from everreach_assets.service.operations import Reply
from resources import posts
from resources.database import Database

Given = list[Any]
"""What stands where an outcome is expected, not checked yet."""


def given_outcomes(body: object) -> Given:
    """The outcomes of a body: it is one, or {"outcomes": [...]}.

    Raises:
        NotAccepted: it is neither, or there are too many.
    """
    if not isinstance(body, dict) or "outcomes" not in body:
        return [body]
    outcomes = body["outcomes"]
    if len(body) > 1 or not isinstance(outcomes, list) or not 1 <= len(outcomes) <= OUTCOMES_OF_A_BATCH:
        reason = f'a batch is {{"outcomes": [...]}} with 1 to {OUTCOMES_OF_A_BATCH:,} of them, and nothing beside them'
        raise NotAccepted(reason, [Fault(place="outcomes", reason=reason)])
    return outcomes


def record(database: Database, given: Given) -> OutcomesAnswer | Reply:
    """Record what can be recorded; answers what became of each, when it is committed: 207 where some were refused.

    Raises:
        NotAccepted: none can be recorded.
        Unavailable: the database did not answer; none was recorded, or all were: send the same again.
    """
    outcomes: dict[int, Outcome] = {}
    refused: dict[int, str] = {}
    for index, each in enumerate(given):
        try:
            outcomes[index] = _checked(each)
        except InvalidInput as error:
            refused[index] = str(error)[:MESSAGE_CHARACTERS]
    if not outcomes:
        place = "outcomes.{}" if len(given) > 1 else "body"
        found = [Fault(place=place.format(index), reason=reason) for index, reason in refused.items()]
        raise NotAccepted(f"no outcome could be recorded; {found[0].place}: {found[0].reason}", found)
    recorded = dict(zip(outcomes, posts.record_outcomes(database, list(outcomes.values())), strict=True))
    results = [_result(index, each, recorded.get(index), refused.get(index)) for index, each in enumerate(given)]
    statuses = [each.status for each in results]
    answer = OutcomesAnswer(
        recorded=statuses.count("recorded"),
        unchanged=statuses.count("unchanged"),
        refused=statuses.count("refused"),
        results=results,
    )
    return Reply(207, answer) if refused else answer


def _checked(given: object) -> Outcome:
    try:
        body = OutcomeBody.model_validate(given)
    except ValidationError as error:
        found = faults(error)
        raise InvalidInput("; ".join(f"{each.place}: {each.reason}" for each in found[:3])) from None
    return checked_outcome(**dict(body), now=datetime.now(UTC))


def _result(index: int, given: object, recorded: RecordedOutcome | None, refusal: str | None) -> OutcomeResult:
    return OutcomeResult(
        index=index,
        platform=_named(given, "platform", check_platform),
        post_id=_named(given, "post_id", check_post_id),
        status="refused" if recorded is None else "recorded" if recorded.is_new else "unchanged",
        seq=recorded.seq if recorded else None,
        error=refusal,
    )


def _named(given: object, field: str, check: Callable[[object], str]) -> str | None:
    """What the caller calls it; nothing where that is no such name, and so may be anything."""
    try:
        return check(given.get(field)) if isinstance(given, dict) else None
    except InvalidInput:
        return None
