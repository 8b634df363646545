"""The schema: up to the newest migration of sql/migrations, or back.

What belongs here: running them, one process at a time. What does not: what they say.
"""

import psycopg
from yoyo import get_backend, read_migrations

from resources.database import SQL_FOLDER
from resources.metric_records import publish_catalogue

MIGRATION_LOCK = 0x65766572  # "ever": one migration at a time, whoever starts it


def migrate(url: str) -> list[str]:
    """Bring the schema to the newest version; answers the names of the migrations applied."""
    return _run_migrations(url, down=0)


def roll_back(url: str, *, steps: int) -> list[str]:
    """Undo the newest `steps` migrations, newest first; answers their names."""
    return _run_migrations(url, down=steps)


def _run_migrations(url: str, *, down: int) -> list[str]:
    migrations = read_migrations(str(SQL_FOLDER / "migrations"))
    with psycopg.connect(url, autocommit=True) as guard:
        # An advisory lock dies with its session; yoyo's own lock is a row that a killed process leaves behind.
        guard.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        backend = get_backend(url.replace("postgresql://", "postgresql+psycopg://", 1))
        try:
            if down:
                chosen = backend.to_rollback(migrations)[:down]
                backend.rollback_migrations(chosen)
            else:
                chosen = backend.to_apply(migrations)
                backend.apply_migrations(chosen)
                publish_catalogue(guard)
        finally:
            backend.connection.close()
    return [migration.id for migration in chosen]
