"""Fresh servers for a measurement: an embedded Postgres and Chroma with nothing in them, gone afterwards.

Whatever the environment names, a benchmark never touches a database that somebody uses.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resources.servers import running_servers
from resources.settings import Settings


@contextlib.contextmanager
def fresh_servers() -> Iterator[Settings]:
    """Settings that name servers started for this block in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="everreach-bench-") as home:
        settings = Settings(
            _env_file=None,
            everreach_home=Path(home),
            everreach_database_url=None,
            everreach_dagster_database_url=None,
            vector_backend="chroma",
            chroma_host=None,
            embedding_provider="local",
        )
        with running_servers(settings) as addresses:
            yield addresses.applied_to(settings)
