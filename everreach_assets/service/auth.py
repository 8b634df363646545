"""Who may call, and what a call may bring: bearer tokens, bounded JSON bodies, errors as JSON.

What does not belong here: what the calls do.
"""

import hmac
import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from everreach_assets.domain.errors import EverReachError, InvalidInput, Refused, Unavailable
from resources.settings import Settings

BODY_BYTES = 1_048_576
"""Of one request: about 10,000 records, and less than a hundredth of what would hurt the process."""


class Tokens:
    """The tokens that callers may present; several, so that a new one can be in use before the old one is withdrawn."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = [token.encode() for token in settings.api_tokens]

    def check(self, request: Request) -> None:
        """Let the request pass if it carries one of them as `Authorization: Bearer TOKEN`.

        Raises:
            HTTPException: 401.
        """
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Every token is compared, each in constant time: how long it takes says nothing about any of them.
        matches = [hmac.compare_digest(given.strip().encode(), token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            reason = (
                "the token is missing or not one of EVERREACH_API_TOKENS: send 'Authorization: Bearer TOKEN'"
                if self._tokens
                else "no token is set: put one into EVERREACH_API_TOKENS and start the service again"
            )
            raise HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


async def json_body(request: Request, *, limit_bytes: int = BODY_BYTES) -> Any:
    """The body, parsed.

    Raises:
        HTTPException: 413 where it is longer than the limit; no more than that is read.
        InvalidInput: it is no JSON.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise HTTPException(413, f"the body is longer than {limit_bytes:,} bytes: send several requests")
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, or a number of 5,000 digits
        raise InvalidInput(f"the body is no JSON ({type(error).__name__}): send one object in UTF-8") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    return _error(error.status_code, error.detail, error.headers)


def _our_error(_: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InvalidInput) else 403 if isinstance(error, Refused) else 503
    return _error(status, str(error), {"Retry-After": "5"} if isinstance(error, Unavailable) else None)


def _unexpected(_: Request, __: Exception) -> Response:
    """The error itself goes to the log: it may quote what was sent."""
    return _error(500, "an error of the service itself; its log says more")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=headers)


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {
    HTTPException: _http_error,
    EverReachError: _our_error,
    Exception: _unexpected,
}
