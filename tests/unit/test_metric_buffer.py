"""Counts that wait in the process for their turn."""

import threading
import time
from collections.abc import Sequence

import pytest

from everreach_assets.domain.errors import Unavailable
from resources import metric_buffer
from resources.metric_buffer import MetricBuffer


class Store:
    """What was written, and whether it can be."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.is_down = False
        self.has_written = threading.Event()

    def __call__(self, items: Sequence[int]) -> None:
        if self.is_down:
            raise Unavailable("no answer")
        self.written += items
        self.has_written.set()


def test_items_are_written_together_after_a_while() -> None:
    store = Store()
    buffer = MetricBuffer(store, write_after_seconds=1)
    for number in range(5):
        buffer.add(number)
    assert store.written == []
    assert store.has_written.wait(10)
    assert store.written == [0, 1, 2, 3, 4]


def test_what_could_not_be_written_is_written_with_the_next() -> None:
    store = Store()
    buffer = MetricBuffer(store, write_after_seconds=3600)
    buffer.add(1)
    buffer.add(2)
    store.is_down = True
    buffer.flush()
    buffer.add(3)
    store.is_down = False
    buffer.flush()
    buffer.flush()
    assert store.written == [1, 2, 3]


def test_a_database_that_never_answers_costs_a_bounded_number_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_buffer, "MAX_ITEMS", 10)
    store = Store()
    buffer = MetricBuffer(store, write_after_seconds=3600)
    store.is_down = True
    for number in range(25):
        buffer.add(number)
        buffer.flush()
    store.is_down = False
    buffer.flush()
    assert store.written == list(range(15, 25))


def test_adding_does_not_wait_for_a_write_under_way() -> None:
    may_end = threading.Event()
    written: list[int] = []

    def slow(items: Sequence[int]) -> None:
        may_end.wait(30)
        written.extend(items)

    buffer = MetricBuffer(slow, write_after_seconds=0.01)
    buffer.add(1)
    time.sleep(0.1)
    start = time.monotonic()
    buffer.add(2)
    assert time.monotonic() - start < 5
    may_end.set()
    buffer.flush()
    assert sorted(written) == [1, 2]
