"""Whether the servers that calls need answer now: one short question to each, on a connection of its own.

What does not belong here: who asks, and for how long (`everreach_assets/service/readiness.py`).
"""

import httpx

from everreach_assets.domain.errors import Unavailable
from resources.database import read_snapshot
from resources.hosts import chroma_place
from resources.settings import Settings

SECONDS = 2.0


def database_answers(url: str) -> None:
    """Ask the database for its migrations.

    Raises:
        Unavailable: it does not answer, or is not migrated.
    """
    with read_snapshot(url) as connection:
        row = connection.execute("SELECT to_regclass('outcome_snapshots') IS NOT NULL").fetchone()
    if row != (True,):
        raise Unavailable("the database has no tables: run 'everreach migrate'")


def index_answers(settings: Settings, database_url: str) -> None:
    """Ask the server of the search index; one inside Postgres answers as the database does.

    Raises:
        Unavailable: it does not answer.
    """
    if settings.vector_backend == "pgvector":
        with read_snapshot(database_url) as connection:
            row = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone()
        if row is None:
            raise Unavailable("the database lacks pgvector: run 'everreach migrate'")
        return
    if not settings.chroma_host:
        raise Unavailable("CHROMA_HOST is not set: name a Chroma server, or set VECTOR_BACKEND=pgvector")
    place = chroma_place(settings.chroma_host, settings.chroma_port)
    try:
        httpx.get(f"http://{place}/api/v2/heartbeat", timeout=SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"Chroma at {place} does not answer ({type(error).__name__}): see that it runs") from error
