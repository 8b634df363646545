"""Which failures of a step are worth another attempt: a server that did not answer, and nothing else.

A retry policy on the asset would repeat mistakes too: one project saw a permanent refusal tried 5,363 times.
"""

import contextlib
from collections.abc import Iterator

import dagster as dg

from everreach_assets.domain.errors import Unavailable

RETRIES = 2
WAIT_SECONDS = 5


@contextlib.contextmanager
def retrying_when_unavailable() -> Iterator[None]:
    """Ask Dagster for another attempt of the step where a server or provider did not answer."""
    try:
        yield
    except Unavailable as error:
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=WAIT_SECONDS) from error
