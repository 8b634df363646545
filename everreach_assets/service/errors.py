"""Errors as JSON, all in one shape: {"error": what and the next step, "details": [{place, reason}], "request_id"}.

What belongs here: which error is answered with which status. What does not: what raises them. No answer repeats more
than the beginning of what was sent.
"""

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from everreach_assets.domain.errors import EverReachError, InvalidInput, NotFound, QuotaExhausted, Refused

MESSAGE_CHARACTERS = 500
"""Of a message: some quote a name that the caller gave, and that may be a megabyte long."""

FIELD_NAME = re.compile(r"\$?[a-z][a-z0-9_]{0,39}")

RETRY_AFTER_SECONDS = 5

NEXT_STEPS = {
    404: "there is no such path: /openapi.json lists those that there are",
    405: "the path does not take this method: the header Allow names those that it takes",
}
"""Of what the framework refuses by itself."""


class Fault(BaseModel):
    """One thing that is wrong in a body or an address."""

    place: str = Field(description="where, such as outcomes.3.metrics.likes")
    reason: str


class ErrorAnswer(BaseModel):
    """Every answer with a status of 400 or more."""

    error: str = Field(description="what is wrong, and the next step")
    details: list[Fault] = Field(description="each fault of a body or an address that was read and not accepted")
    request_id: str = Field(description="also in the header X-Request-ID and in the service's log")


class NotAccepted(InvalidInput):
    """A body that could be read, or an address, that is not accepted.

    Attributes:
        faults: what is wrong with it, each by its place.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = list(faults)


def not_accepted(error: ValidationError) -> NotAccepted:
    """A model's refusal as an error of ours; what was sent is not repeated."""
    found = faults(error)
    return NotAccepted("; ".join(f"{each.place}: {each.reason}" for each in found[:3]), found)


def faults(error: ValidationError, place: str = "") -> list[Fault]:
    """What a model found wrong, each by its place below `place`."""
    return [
        Fault(
            place=".".join([*([place] if place else []), *map(shown, each["loc"])]) or "body",
            reason=each["msg"].removeprefix("Value error, ")[:MESSAGE_CHARACTERS],
        )
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def shown(part: int | str) -> str:
    """A part of a place; what does not look like the name of a field may be anything, and is not repeated."""
    return str(part) if isinstance(part, int) or FIELD_NAME.fullmatch(part) else "?"


def error_answer(
    request: Request,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    details: Sequence[Fault] = (),
) -> Response:
    """The answer that says what is wrong."""
    body = ErrorAnswer(
        error=message[:MESSAGE_CHARACTERS],
        details=list(details),
        request_id=getattr(request.state, "request_id", ""),
    )
    # A message may quote a lone surrogate, which is valid in JSON as an escape and in no other way.
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def unexpected(request: Request) -> Response:
    """The answer to a fault of ours. What it is goes to the log: it may quote what was sent."""
    return error_answer(request, 500, "an error of the service itself; its log says more under this request_id")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    message = NEXT_STEPS.get(error.status_code, error.detail)
    return error_answer(request, error.status_code, message, error.headers)


def _our_error(request: Request, error: Exception) -> Response:
    details = error.faults if isinstance(error, NotAccepted) else []
    match error:
        case NotFound():
            return error_answer(request, 404, str(error))
        case InvalidInput():
            return error_answer(request, 422, str(error), details=details)
        case Refused():
            return error_answer(request, 403, str(error))
        case QuotaExhausted():
            seconds = max(1, math.ceil((error.reset_at - dt.datetime.now(dt.UTC)).total_seconds()))
            return error_answer(request, 429, str(error), {"Retry-After": str(seconds)})
        case _:
            return error_answer(request, 503, str(error), {"Retry-After": str(RETRY_AFTER_SECONDS)})


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {HTTPException: _http_error, EverReachError: _our_error}
