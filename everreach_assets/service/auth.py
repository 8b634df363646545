"""Who may call: bearer tokens.

What does not belong here: where tokens come from (`resources/api_tokens.py`), and what the calls do.
"""

import hashlib
import hmac
import logging
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request

from everreach_assets.domain.errors import EverReachError
from resources.api_tokens import tokens_in_file
from resources.settings import Settings

logger = logging.getLogger(__name__)


class Tokens:
    """The tokens that callers may present: several, so that a new one can be in use before the old one is withdrawn.

    EVERREACH_API_TOKENS_FILE is read for every call: what it says is in force at once, without a restart, and no change
    can be missed. One that cannot be read, or that others may read, opens no door.
    """

    def __init__(self, settings: Settings) -> None:
        self._of_settings = settings.api_tokens
        self._file = settings.api_tokens_file
        self._last_fault = ""

    def check(self, request: Request) -> None:
        """Let the request pass if it carries one of them as `Authorization: Bearer TOKEN`.

        Raises:
            HTTPException: 401.
        """
        tokens = self.in_force()
        if not carries_one_of(request, tokens):
            reason = (
                "the token is missing or none of EVERREACH_API_TOKENS or EVERREACH_API_TOKENS_FILE: send "
                "'Authorization: Bearer TOKEN'"
                if tokens
                else "no token is set: put one into EVERREACH_API_TOKENS_FILE, or into EVERREACH_API_TOKENS and start "
                "the service again"
            )
            raise HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})

    def in_force(self) -> list[str]:
        """The tokens that pass now; a fault of the file is logged once."""
        try:
            of_file = tokens_in_file(self._file) if self._file else []
            self._last_fault = ""
        except EverReachError as error:
            of_file = []
            if str(error) != self._last_fault:
                logger.error("%s; none of its tokens passes", error)
            self._last_fault = str(error)
        return [*self._of_settings, *of_file]


def carries_one_of(request: Request, tokens: Sequence[str]) -> bool:
    """Whether the request has the header `Authorization: Bearer TOKEN` with one of the tokens.

    Every token is compared, each in constant time, by hashes of one length: how long it takes says nothing about any of
    them, not even its length.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    matches = [hmac.compare_digest(_hash(given.strip()), _hash(token)) for token in tokens]
    return scheme.lower() == "bearer" and any(matches)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
