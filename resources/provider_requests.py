"""One provider, asked with care: within its quota, again after a passing fault until a deadline, by its breaker, and
never believed unseen.

The one retry layer of all providers is here. What does not belong here: the protocols (`resources/providers/`), and
what becomes of the vectors (`resources/embedding_pipeline.py`).
"""

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import stamina

from everreach_assets.domain.embedding_answers import Untrusted, verified
from everreach_assets.domain.embedding_inputs import PROBE, EmbeddingInput
from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.domain.vectors import Vector
from resources.circuit_breakers import CircuitBreakers
from resources.embedding_quota import EmbeddingQuota
from resources.providers.faults import Fault, ProviderFault
from resources.providers.protocol import LOCAL, CallLog, EmbeddingProvider, ProviderCall, Purpose

LONGEST_WAIT_SECONDS = 30.0
EXTRA_CALLS = 64
"""That one request may cost to find the texts it fails for: eleven halvings lead to one of 2,048, so several are found.
What is left unsettled after that is asked for again by the next run."""

InputFault = Literal["bad_answer", "refused_by_provider", "unsettled"]
Vectors = Mapping[EmbeddingInput, Vector]
Verified = list[Vector | None] | Untrusted


class ProviderRequests:
    """Asks one provider.

    Args:
        timeout_seconds: of one call.
        deadline_seconds: of one request with its retries; no wait and no call goes beyond it.
        is_backed_up: whether another provider takes over: then nobody waits for an open breaker.
        on_call: is told of each attempt, before its answer is used.
        breakers: None: the provider is always asked.
        quota: None: there is none.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        timeout_seconds: float = 30.0,
        deadline_seconds: float = 120.0,
        is_backed_up: bool = False,
        on_call: CallLog | None = None,
        breakers: CircuitBreakers | None = None,
        quota: EmbeddingQuota | None = None,
    ) -> None:
        self.provider = provider
        self._timeout_seconds = timeout_seconds
        self._deadline_seconds = deadline_seconds
        self._is_backed_up = is_backed_up
        self._on_call = on_call
        # What runs in this process is there as long as the process is.
        self._breakers = None if provider.space.provider == LOCAL else breakers
        self._quota = quota
        # stamina's own log line would name every attempt of every text.
        stamina.instrumentation.set_on_retry_hooks([])

    def is_sure(self) -> bool:
        """Whether the provider answered when it was last asked."""
        return self._breakers is None or self._breakers.is_closed(self.provider.space.provider)

    def can_ask(self, purpose: Purpose = "document") -> bool:
        """Whether the provider is worth asking now: its breaker is closed, or it is time to see."""
        return self._breakers is None or self._breakers.seconds_until_due(self.provider.space.provider, purpose) == 0

    def vectors_of(
        self, inputs: Sequence[EmbeddingInput], purpose: Purpose, on_vectors: Callable[[Vectors], None]
    ) -> dict[EmbeddingInput, InputFault]:
        """Ask for the vectors of one batch.

        A text that the provider refuses, or answers falsely, does not take the others with it: the batch is halved, or
        the text asked for alone, until it is found.

        Args:
            inputs: distinct, within the limits of the provider.
            purpose: what they are embedded for.
            on_vectors: is given the vectors of each answered request at once: they are paid for.

        Returns:
            The texts that have no vector.

        Raises:
            Unavailable: 429, 5xx or silence until the deadline, or the breaker is open.
            Refused: the key is not accepted, or its quota is used up.
            InvalidInput: the server refuses every request, or answers with something that is not its vectors.
            QuotaExhausted: the day has no calls left.
        """
        faults: dict[EmbeddingInput, InputFault] = {}
        waiting = deque([list(inputs)])
        calls_left = 1 + EXTRA_CALLS
        is_sound = False  # the provider is known to answer what it should, so a fault is a text's
        while waiting:
            group = waiting.popleft()
            if calls_left == 0:
                faults.update(dict.fromkeys(group, "unsettled"))
                continue
            calls_left -= 1
            vectors, fault = self._request(group, purpose)
            if vectors:
                on_vectors(vectors)
                is_sound = True
            missing = [each for each in group if each not in vectors]
            if missing and not is_sound:
                is_sound = self._probe(purpose)
            if fault is not None and len(group) > 1:
                middle = len(group) // 2
                waiting.extendleft([group[middle:], group[:middle]])
            elif len(group) > 1:
                waiting.extend([each] for each in missing)
            else:
                faults.update(dict.fromkeys(missing, fault or "bad_answer"))
        return faults

    def _probe(self, purpose: Purpose) -> Literal[True]:
        """Raise what is the matter unless the provider embeds a harmless text."""
        vectors, fault = self._request([PROBE], purpose)
        if PROBE not in vectors:
            space, settings = self.provider.space, self.provider.settings
            if fault == "refused_by_provider":
                raise InvalidInput(f"{space}: the provider refuses every request; check {settings.model}")
            raise InvalidInput(
                f"{space}: the server answers with something that is not the vectors asked for; "
                f"check {settings.address} and {settings.model}"
            )
        return True

    def _request(
        self, inputs: Sequence[EmbeddingInput], purpose: Purpose
    ) -> tuple[Vectors, Literal["bad_answer", "refused_by_provider"] | None]:
        """The vectors of one request with its retries; and what is the matter where nothing of it can be used."""
        space = self.provider.space
        try:
            found = self._answer(inputs, purpose)
        except ProviderFault as error:
            if not error.fault.may_be_an_input:
                raise self._our_error(error) from None
            return {}, "refused_by_provider" if error.fault is Fault.BAD_REQUEST else "bad_answer"
        if isinstance(found, Untrusted):
            if found.is_about_settings:
                settings = self.provider.settings
                advice = f"set {settings.width} to the model's width" if found.is_width else f"check {settings.model}"
                raise InvalidInput(f"{space}: {found.reason}; {advice}")
            return {}, "bad_answer"
        return {each: vector for each, vector in zip(inputs, found, strict=True) if vector is not None}, None

    def _answer(self, inputs: Sequence[EmbeddingInput], purpose: Purpose) -> Verified:
        """The answer to one request, asked for again as long as its fault may pass and there is time."""
        started_at = time.monotonic()

        def seconds_left() -> float:
            return started_at + self._deadline_seconds - time.monotonic()

        def wait_seconds(error: Exception) -> bool | float:
            """How long to wait before another attempt; False where there is none."""
            if not isinstance(error, ProviderFault) or not error.fault.is_passing:
                return False
            # About as long again as it has taken so far: the waits double, whatever the calls take.
            taken = min(max(time.monotonic() - started_at, 0.5), LONGEST_WAIT_SECONDS)
            seconds = error.seconds_asked_for or taken * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
            if seconds >= seconds_left():
                self._note_failure(purpose, is_final=True)
                return False
            if error.fault is not Fault.RATE_LIMITED:  # who says "later" is there
                self._note_failure(purpose)
            return False if self._is_backed_up and not self.can_ask(purpose) else seconds

        found: Verified = []
        for attempt in stamina.retry_context(on=wait_seconds, attempts=None, timeout=None):
            self._await_breaker(purpose, seconds_left)
            with attempt:
                found = self._attempt(inputs, purpose, max(0.001, min(self._timeout_seconds, seconds_left())))
        return found

    def _await_breaker(self, purpose: Purpose, seconds_left: Callable[[], float]) -> None:
        """Return when the provider may be asked.

        Raises:
            Unavailable: not within the deadline; or not now, and there is a backup.
        """
        name = self.provider.space.provider
        while self._breakers is not None and not self._breakers.admit(name, purpose):
            seconds = max(0.05, self._breakers.seconds_until_due(name, purpose))
            if self._is_backed_up or seconds >= seconds_left():
                raise Unavailable(
                    f"{self.provider.space}: it has failed again and again, and is tried again in {seconds:.0f} s"
                )
            time.sleep(seconds)

    def _note_failure(self, purpose: Purpose, *, is_final: bool = False) -> None:
        if self._breakers is not None:
            self._breakers.note_failure(self.provider.space.provider, purpose, is_final=is_final)

    def _attempt(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Verified:
        """One call, and the report of it: what an answer cost is owed also where the answer is of no use."""
        space = self.provider.space
        reservation = self._quota.reserve(space.provider, 1) if self._quota else None
        start, tokens = time.perf_counter(), 0
        found: Verified = []
        failure: ProviderFault | None = None
        error_class: str | None = None
        try:
            answer = self.provider.ask(inputs, purpose, timeout_seconds)
            tokens = answer.tokens
            found = verified(
                answer, inputs=len(inputs), model=space.model, width=space.width, is_unit=self.provider.is_unit
            )
            if isinstance(found, Untrusted):
                error_class = "dimension" if found.is_width else "other"
        except ProviderFault as error:
            failure, error_class = error, error.fault.error_class
        # After the block: an error of the report must not carry the provider's with it.
        if self._on_call:
            seconds = time.perf_counter() - start
            self._on_call(ProviderCall(space.provider, space.model, seconds, tokens, error_class, len(inputs)))
        if self._quota and reservation:
            self._quota.settle(reservation, 1)
        if self._breakers is not None and (failure is None or not failure.fault.is_passing):
            self._breakers.note_success(space.provider)  # whatever the answer was: who refuses is there
        if failure is not None:
            raise failure
        return found

    def _our_error(self, error: ProviderFault) -> Exception:
        space, settings = self.provider.space, self.provider.settings
        match error.fault:
            case Fault.AUTH:
                return Refused(f"{space}: the provider does not accept the key ({error.what}); check {settings.key}")
            case Fault.QUOTA_USED_UP:
                return Refused(
                    f"{space}: the provider says that the quota of this key is used up ({error.what}); "
                    f"raise it with the provider, or set another {settings.key}"
                )
            case Fault.TIMEOUT | Fault.RATE_LIMITED | Fault.SERVER:
                return Unavailable(f"{space}: no answer within the deadline ({error.what}); run it again later")
        return InvalidInput(
            f"{space}: the provider refused the request ({error.what}); check {settings.model} and {settings.address}"
        )
