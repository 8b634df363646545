"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work.

Each part is asked by itself and has a limit of time, so that one that hangs is named and hides no other. What does not
belong here: how a part is asked (`resources/readiness.py`).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from everreach_assets.domain.errors import EverReachError
from everreach_assets.service.models import Alive, PartState, Readiness
from everreach_assets.service.operations import Reply
from resources import readiness
from resources.settings import Settings

PART_SECONDS = 3.0
KEEP_SECONDS = 1.0
"""For so long an answer is given again: asking needs no token, and each question is a connection to a server."""

logger = logging.getLogger(__name__)

Check = Callable[[], None]
"""Returns where the part is ready, and raises an error of ours that says why not."""


def alive() -> Alive:
    """The process answers. Whether it can do its work, `/readyz` says."""
    return Alive()


def readiness_checks(settings: Settings, database_url: str, check_provider: Check) -> dict[str, Check]:
    """The parts that calls need."""
    return {
        "database": partial(readiness.database_answers, database_url),
        "index": partial(readiness.index_answers, settings, database_url),
        "provider": check_provider,
    }


class ReadinessOfParts:
    """Asks the parts, all at once.

    Args:
        checks: by the name of the part.
    """

    def __init__(self, checks: Mapping[str, Check], *, part_seconds: float = PART_SECONDS) -> None:
        self._checks = checks
        self._part_seconds = part_seconds
        # A part that hangs keeps its thread, and is not asked again until it lets go.
        self._threads = ThreadPoolExecutor(len(checks), thread_name_prefix="readiness")
        self._hanging: set[str] = set()
        self._lock = threading.Lock()
        self._last: tuple[float, Readiness] | None = None

    def answer(self) -> Readiness | Reply:
        """200 where every part is ready, else 503; both say which are."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > KEEP_SECONDS:
                found = self._asked()
                self._last = time.monotonic(), found
            found = self._last[1]
        return found if found.is_ready else Reply(503, found)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _asked(self) -> Readiness:
        deadline = time.monotonic() + self._part_seconds
        to_ask = self._checks.keys() - self._hanging
        self._hanging |= to_ask
        asked = {name: self._threads.submit(self._ask, name) for name in to_ask}
        late = PartState(is_ready=False, reason=f"it did not answer within {self._part_seconds:.0f} s")
        parts = dict.fromkeys(self._checks, late)
        for name, future in asked.items():
            with contextlib.suppress(TimeoutError):
                parts[name] = future.result(max(0.0, deadline - time.monotonic()))
        return Readiness(is_ready=all(part.is_ready for part in parts.values()), parts=parts)

    def _ask(self, name: str) -> PartState:
        try:
            self._checks[name]()
        except EverReachError as error:
            logger.warning("%s is not ready: %s", name, error)  # who asks shows no token: addresses go to the log
        except Exception:
            logger.exception("%s could not be asked", name)
        else:
            return PartState(is_ready=True)
        finally:
            self._hanging.discard(name)
        return PartState(is_ready=False, reason="it does not answer as it should: the service's log says why")
