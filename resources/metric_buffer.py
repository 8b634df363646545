"""What is counted too often to be written each time: kept in the process, written every few seconds and at the close.

For searches, which must not wait for a write, and for nothing that costs money: a process that is killed loses what it
holds here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

WRITE_AFTER_SECONDS = 10.0
MAX_ITEMS = 50_000
"""Of a process whose database does not answer; the oldest go first."""

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class MetricBuffer(Generic[Item]):
    """Gathers items and hands them to `write` together, in the background.

    Args:
        write: stores them; what it raises is logged, and the items are tried again with the next ones.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], None], *, write_after_seconds: float = WRITE_AFTER_SECONDS
    ) -> None:
        self._write = write
        self._write_after_seconds = write_after_seconds
        self._items: deque[Item] = deque(maxlen=MAX_ITEMS)
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def add(self, item: Item) -> None:
        """Take the item; never waits for a write."""
        with self._lock:
            self._items.append(item)
            if self._timer is None:
                self._timer = threading.Timer(self._write_after_seconds, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is there now. Never raises: a count is not worth a failed search."""
        with self._writing:
            with self._lock:
                items = list(self._items)
                self._items.clear()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            if not items:
                return
            try:
                self._write(items)
            except Exception as error:
                logger.warning("%d counts could not be written yet: %s", len(items), error)
                with self._lock:
                    self._items.extendleft(reversed(items))
