"""Dispatch, the local program that sends Telegram messages: one call for one message.

What belongs here: the call, and what its answer means. What does not: the text and the body
(`domain/alert_messages.py`), the queue (`alert_messages.py`).
"""

import contextlib
import datetime as dt
import email.utils
import json
import logging
import math
from dataclasses import dataclass
from typing import Any

import httpx

from everreach_assets.domain.alert_messages import dispatch_body

TIMEOUT_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 3600.0
PASSING = frozenset({408, 425, 429})
"""Answers below 500 after which the same call may succeed."""


@dataclass(frozen=True)
class Answer:
    """What came of a call.

    Attributes:
        result: `retried`: the same call may succeed later; `refused`: it never will.
        reason: in a few words, without the address, which may carry a token.
        pause_seconds: for how long dispatch wants to hear nothing; None where it does not say.
    """

    result: str
    reason: str = ""
    pause_seconds: float | None = None

    @property
    def is_accepted(self) -> bool:
        return self.result == "accepted"


class Dispatch:
    """The address, and a connection that is used again.

    Args:
        url: it is kept out of every message and every log.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # httpx writes each address into its log, and an address may carry a token.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        # No proxy of the environment: dispatch is a neighbour, and a proxy would read the messages.
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def send(self, text: str, message_id: int) -> Answer:
        """Hand over one message. It raises nothing: every failure is an answer."""
        try:
            response = self._client.post(self._url, json=dict(dispatch_body(text, message_id)))
        except httpx.HTTPError as error:
            return Answer("retried", f"no answer ({type(error).__name__})")
        except (httpx.InvalidURL, ValueError):
            return Answer("refused", "DISPATCH_URL is no address")
        status, said = _said(response)
        if 200 <= status < 300:
            return Answer("accepted")
        reason = f"dispatch answered {status}"
        if status >= 500 or status in PASSING:
            return Answer("retried", reason, _pause(response, said))
        return Answer("refused", reason)


def _said(response: httpx.Response) -> tuple[int, Any]:
    """The status, and the body if it is JSON; Telegram's `{"ok": false}` counts as its error though HTTP says 200."""
    said: Any = None
    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
        said = response.json()
    status = response.status_code
    if status == httpx.codes.OK and isinstance(said, dict) and said.get("ok") is False:
        code = said.get("error_code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return status, said


def _pause(response: httpx.Response, said: Any) -> float | None:
    """Seconds that the answer asks to wait: `Retry-After` (RFC 9110, 10.2.3), or Telegram's `retry_after`."""
    seconds = math.nan
    stated = response.headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        seconds = (email.utils.parsedate_to_datetime(stated) - dt.datetime.now(dt.UTC)).total_seconds()
    with contextlib.suppress(ValueError):
        seconds = float(stated)
    if isinstance(said, dict):
        parameters = said.get("parameters")
        asked = said.get("retry_after", parameters.get("retry_after") if isinstance(parameters, dict) else None)
        if isinstance(asked, int | float):
            seconds = float(asked)
    return min(seconds, LONGEST_PAUSE_SECONDS) if seconds > 0 else None
