"""With `make up` running: ten recorded outcomes of one platform give exactly one new strategy of it, nine give none.

The real webserver, daemon, code server and run workers; outcomes are recorded by another process, as a service would.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.database import Database
from resources.servers import running_servers
from tests.everreach import Everreach
from tests.stored_strategies import record, stored_strategies
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

QUIET_SECONDS = 25
"""Five intervals of the sensor, and longer than a rebuild takes from its cause to its end."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The database of an `everreach up`, for as long as the test lasts."""
    everreach = Everreach(tmp_path)
    with (
        everreach.running(),
        running_servers(everreach.settings) as addresses,
        Database(addresses.database_url) as database,
    ):
        yield database


def test_ten_outcomes_of_a_platform_give_one_strategy_and_nine_give_none(database: Database) -> None:
    record(database, "tiktok", range(9))
    record(database, "tiktok", range(9))  # the same again, and one with other metrics: still nine posts
    record(database, "tiktok", range(1), views=999)
    record(database, "x", range(9))
    time.sleep(QUIET_SECONDS)
    assert stored_strategies(database) == []

    started = time.monotonic()
    record(database, "tiktok", [9])
    until(lambda: bool(stored_strategies(database)), seconds=90)
    print(f"\nfrom the tenth outcome to the stored strategy: {time.monotonic() - started:.1f} s")
    time.sleep(QUIET_SECONDS)
    assert stored_strategies(database) == [("tiktok", 10, False)]

    record(database, "tiktok", range(10, 35))  # many at once are one reason to rebuild
    until(lambda: len(stored_strategies(database)) == 2, seconds=90)
    time.sleep(QUIET_SECONDS)
    assert stored_strategies(database) == [("tiktok", 10, True), ("tiktok", 25, False)]
