"""What a kind of call may take of the service: places, threads, time."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from starlette.exceptions import HTTPException

from everreach_assets.domain.errors import InvalidInput, Unavailable
from everreach_assets.service.lanes import Lane
from everreach_assets.service.readiness import ReadinessOfParts


def test_the_next_call_is_turned_away_where_every_place_is_taken() -> None:
    lane = Lane("tests", workers=1, places=2)
    with lane.place():
        with lane.place():
            with pytest.raises(HTTPException) as refused, lane.place():
                pass
            assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})
        with lane.place():
            pass
    lane.close()


def test_a_place_is_free_again_after_an_error() -> None:
    lane = Lane("tests", workers=1, places=1)
    for _ in range(3):
        with pytest.raises(InvalidInput), lane.place():
            raise InvalidInput("wrong")
    lane.close()


def test_slow_work_ends_in_an_answer_and_makes_no_more_threads_than_the_lane_has() -> None:
    lane, release, begun = Lane("slow-tests", workers=2, places=9, call_seconds=0.2), threading.Event(), []

    def work() -> None:
        begun.append(1)
        release.wait(10)

    async def call_all() -> list[object]:
        return await asyncio.gather(*(lane.run(work) for _ in range(6)), return_exceptions=True)

    found = asyncio.run(call_all())
    assert [type(each) for each in found] == [Unavailable] * 6
    assert len([each for each in threading.enumerate() if each.name.startswith("slow-tests")]) == 2
    release.set()
    lane.close()
    time.sleep(0.1)
    assert len(begun) == 2  # nobody waits for the others any longer: they never begin


def states(parts: ReadinessOfParts) -> dict[str, bool]:
    answer = parts._asked()
    return {name: part.is_ready for name, part in answer.parts.items()}


def test_a_part_that_hangs_is_named_hides_no_other_and_is_asked_again_when_it_lets_go() -> None:
    release, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        release.wait(10)

    def fail() -> None:
        raise Unavailable("postgresql://secret-host does not answer")

    def break_down() -> None:
        raise RuntimeError("secret-host")

    checks: dict[str, Callable[[], None]] = {
        "fine": lambda: None, "hanging": hang, "failing": fail, "broken": break_down,
    }  # fmt: skip
    parts = ReadinessOfParts(checks, part_seconds=1)
    expected = {"fine": True, "hanging": False, "failing": False, "broken": False}
    start = time.monotonic()
    assert [states(parts) for _ in range(3)] == [expected] * 3
    assert time.monotonic() - start < 5
    assert len(asked) == 1
    assert "secret" not in parts._asked().model_dump_json()
    release.set()
    time.sleep(0.2)
    assert states(parts) == expected | {"hanging": True}
    parts.close()
