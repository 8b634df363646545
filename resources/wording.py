"""A language model that phrases claims, by any server with OpenAI's `POST /v1/chat/completions`; off by default.

What belongs here: one call, and what is done where it fails: nothing, a claim reads as it is without it. What does not:
what the model is told and what of its answer is taken (`domain/wording.py`).
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import openai

from everreach_assets.domain import wording as rules
from everreach_assets.domain.collections import OUTCOMES, Sink
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.strategy_model import Claim
from resources.settings import Settings

MOST_CLAIMS = 40
"""A strategy has some twenty; the rest reads as it is."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worded:
    """What came of asking.

    Attributes:
        sentences: those that were taken, by `claim_id`.
        results: how many claims were `kept`, `dropped` as not bearing their claim, or `failed` with the call.
    """

    sentences: dict[str, str] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)


class Wording:
    """Phrases claims.

    Args:
        base_url: of the server, such as http://localhost:11434/v1; None: nobody is asked, and claims read as they are.
        timeout_seconds: of the call; it is made once.
    """

    def __init__(
        self, base_url: str | None = None, model: str = "", *, api_key: str = "none", timeout_seconds: float = 30.0
    ) -> None:
        self._base_url = base_url
        self._model = model
        self._api_key = api_key
        self._timeout_seconds = timeout_seconds

    def phrase(self, claims: Sequence[Claim]) -> Worded:
        """Sentences for the claims. It does not raise: a rebuild never fails by its wording."""
        asked = [each for each in claims if each.evidence != "explore"][:MOST_CLAIMS]
        if self._base_url is None or not asked or not OUTCOMES.allows(Sink.LANGUAGE_MODEL):
            return Worded()
        try:
            given = json.loads(asyncio.run(asyncio.wait_for(self._asked(asked), self._timeout_seconds)))
            if not isinstance(given, dict):
                raise TypeError("no object")
        # The client checks nothing of a body: it can be a web page. Its messages may quote what was sent.
        except (openai.OpenAIError, TimeoutError, ValueError, TypeError, AttributeError, LookupError) as error:
            logger.warning("claims are not phrased: the language model's answer failed with %s", type(error).__name__)
            return Worded(results={"failed": len(asked)})
        sentences = {
            each.claim_id: given[each.claim_id].strip()
            for each in asked
            if rules.accepted(each, given.get(each.claim_id))
        }
        return Worded(sentences, {"kept": len(sentences), "dropped": len(asked) - len(sentences)})

    async def _asked(self, claims: Sequence[Claim]) -> str:
        """What the model answers. A coroutine, so that the limit is one of the whole call: the client's own is one of
        each wait for a byte."""
        async with openai.AsyncOpenAI(base_url=self._base_url, api_key=self._api_key, max_retries=0) as client:
            answer = await client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": rules.INSTRUCTIONS},
                    {"role": "user", "content": rules.asked(claims)},
                ],
                response_format={"type": "json_object"},
                temperature=0,
            )
        return answer.choices[0].message.content or ""


def open_wording(settings: Settings) -> Wording:
    """The language model that the settings name.

    Raises:
        InvalidInput: there is an address and no model.
    """
    if settings.strategy_wording_url is None:
        return Wording()
    if not settings.strategy_wording_model:
        raise InvalidInput("STRATEGY_WORDING_URL needs STRATEGY_WORDING_MODEL, the name of a model of that server")
    key = settings.strategy_wording_key
    return Wording(
        settings.strategy_wording_url,
        settings.strategy_wording_model,
        api_key=key.get_secret_value() if key else "none",
        timeout_seconds=settings.strategy_wording_timeout_seconds,
    )
