"""What a call may bring: a JSON body, bounded in bytes, in depth and in the time that it takes to arrive.

What does not belong here: what the body says (`models.py`).
"""

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES = 1_048_576
"""Of one request: about 10,000 records, and less than a hundredth of what would hurt the process."""

BODY_SECONDS = 10.0
"""In which the whole body has arrived: a caller who sends a byte now and then holds a place for no longer."""

BODY_DEPTH = 32
"""Of objects and lists in each other; a filter, the deepest thing that is asked for, has 8 levels of its own."""


async def body_bytes(request: Request, *, limit_bytes: int = BODY_BYTES) -> bytes:
    """The body as it came.

    Raises:
        HTTPException: 415 where it says that it is no JSON, 413 where it is longer than the limit (no more than that
            is read), 408 where it did not arrive in time.
    """
    _refuse_other_types(request)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and len(stated) < 20 and int(stated) > limit_bytes:
        raise _too_long(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise _too_long(limit_bytes)
    except TimeoutError:
        reason = f"the body did not arrive within {BODY_SECONDS:.0f} s: send it again"
        raise HTTPException(408, reason, headers={"Connection": "close"}) from None
    return bytes(body)


def _too_long(limit_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body is longer than {limit_bytes:,} bytes: send several requests")


def _refuse_other_types(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "application/json").partition(";")
    encoding = request.headers.get("content-encoding", "identity")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise HTTPException(415, "the body is JSON in UTF-8: send 'Content-Type: application/json'")
    if encoding.strip().lower() != "identity":
        raise HTTPException(415, "a compressed body is not taken: send it without Content-Encoding")


def parsed(body: bytes) -> Any:
    """What the JSON says.

    Raises:
        HTTPException: 400: it is no JSON in UTF-8, holds a number that no double holds (NaN, 1e999), a name twice in
            one object, or is nested too deep.
    """
    try:
        value = json.loads(
            body.decode(), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object
        )
        is_too_deep = _is_deeper_than(value, BODY_DEPTH)
    except RecursionError:
        is_too_deep = True
    except ValueError as error:  # no JSON, no UTF-8, a number of 5,000 digits, or a refusal of ours
        reason = str(error) if isinstance(error, _Refusal) else type(error).__name__
        raise HTTPException(400, f"the body is no JSON ({reason}): send one object in UTF-8") from None
    if is_too_deep:
        raise HTTPException(400, f"the body is no JSON that is read here: it is nested deeper than {BODY_DEPTH}")
    return value


async def json_body(request: Request, *, limit_bytes: int = BODY_BYTES) -> Any:
    """The body, parsed.

    Raises:
        HTTPException: as `body_bytes` and `parsed`.
    """
    return parsed(await body_bytes(request, limit_bytes=limit_bytes))


class _Refusal(ValueError):
    """What JSON's own grammar allows, or Python's reader does, and we do not."""


def _refuse_constant(name: str) -> None:
    raise _Refusal(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Refusal("a number is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # which of the two is meant, nobody knows
        raise _Refusal("an object has one name twice")
    return found


def _is_deeper_than(value: object, limit: int) -> bool:
    level = _containers([value])
    for _ in range(limit):
        level = _containers(child for each in level for child in (each.values() if isinstance(each, dict) else each))
    return bool(level)


def _containers(values: Iterable[object]) -> list[dict[str, Any] | list[Any]]:
    return [each for each in values if isinstance(each, dict | list)]
