"""How much of the service one kind of call may take: its threads, who waits for them, and for how long.

Each kind has a lane of its own, and `/metrics` has none of them: searches that wait for a provider stop neither the
intake of outcomes nor a scrape. What does not belong here: what the calls do.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.exceptions import HTTPException

from everreach_assets.domain.errors import Unavailable

CALL_SECONDS = 20.0
"""From when the body is there to the answer. Every part of a call has a shorter limit of its own; this one is for what
waits behind others."""

Answer = TypeVar("Answer")


class Lane:
    """Worker threads for one kind of call. Used from the event loop only.

    Args:
        name: of the lane, for its threads and messages.
        workers: calls at work at a time.
        places: calls at work, waiting, or still sending their body, at a time; the next one is turned away at once.
        call_seconds: see `CALL_SECONDS`.
    """

    def __init__(self, name: str, *, workers: int, places: int, call_seconds: float = CALL_SECONDS) -> None:
        self._name = name
        self._free_places = places
        self._call_seconds = call_seconds
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place for one call.

        Raises:
            HTTPException: 503: there is none.
        """
        if self._free_places == 0:
            raise HTTPException(
                503, f"too many calls of {self._name} at a time: send it again", headers={"Retry-After": "1"}
            )
        self._free_places -= 1
        try:
            yield
        finally:
            self._free_places += 1

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What the work answers; it runs in one of the lane's threads.

        Raises:
            Unavailable: it did not end in time. Work that has begun goes on and holds its thread: so no number of slow
                calls makes more threads than the lane has.
        """
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            return await asyncio.wait_for(future, self._call_seconds)
        except TimeoutError:
            raise Unavailable(
                f"the call was not done within {self._call_seconds:.0f} s: send it again, nothing is done twice"
            ) from None

    def close(self) -> None:
        """Begin no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
