"""Which failures of a step are tried again."""

import dagster as dg
import pytest

from everreach_assets.domain.errors import EverReachError, InvalidInput, Refused, Unavailable
from everreach_assets.retries import RETRIES, WAIT_SECONDS, retrying_when_unavailable


def test_a_server_that_did_not_answer_is_worth_another_attempt() -> None:
    with pytest.raises(dg.RetryRequested) as raised, retrying_when_unavailable():
        raise Unavailable("no answer")
    assert (raised.value.max_retries, raised.value.seconds_to_wait) == (RETRIES, WAIT_SECONDS)
    assert isinstance(raised.value.__cause__, Unavailable)


@pytest.mark.parametrize("error", [Refused, InvalidInput, EverReachError, ValueError])
def test_a_mistake_is_not_repeated(error: type[Exception]) -> None:
    with pytest.raises(error), retrying_when_unavailable():
        raise error("wrong")
