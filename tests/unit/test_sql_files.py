"""The SQL files: every migration can be undone, and no file is left that nothing uses."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
MIGRATIONS = sorted(path for path in (SQL / "migrations").glob("*.sql") if not path.name.endswith(".rollback.sql"))
OTHERS = sorted(path for path in SQL.rglob("*.sql") if path.parent != SQL / "migrations")


def created(statements: str) -> set[tuple[str, str]]:
    pattern = (
        r"CREATE (?:OR REPLACE )?(TABLE|VIEW|DOMAIN|SEQUENCE|FUNCTION|TYPE|MATERIALIZED VIEW) (?:IF NOT EXISTS )?(\w+)"
    )
    return set(re.findall(pattern, statements))


def dropped(statements: str) -> set[tuple[str, str]]:
    return set(
        re.findall(
            r"DROP (TABLE|VIEW|DOMAIN|SEQUENCE|FUNCTION|TYPE|MATERIALIZED VIEW) (?:IF EXISTS )?(\w+)", statements
        )
    )


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_has_a_rollback_that_drops_what_it_creates(migration: Path) -> None:
    rollback = migration.with_suffix(".rollback.sql")
    assert rollback.exists()
    made = created(migration.read_text(encoding="utf-8"))
    undone = dropped(rollback.read_text(encoding="utf-8"))
    assert made == undone


def test_migrations_are_numbered_without_gaps_and_each_depends_on_an_earlier_one() -> None:
    stems = [path.stem for path in MIGRATIONS]
    assert [int(stem[:4]) for stem in stems] == list(range(1, len(stems) + 1))
    for path in MIGRATIONS[1:]:
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        assert first_line.startswith("-- depends: "), f"{path.name} does not say what it depends on"
        for name in first_line.removeprefix("-- depends: ").split():
            assert name in stems
            assert name < path.stem


def test_no_rollback_stands_alone() -> None:
    rollbacks = {path.name.removesuffix(".rollback.sql") for path in (SQL / "migrations").glob("*.rollback.sql")}
    assert rollbacks == {path.stem for path in MIGRATIONS}


def test_every_other_sql_file_is_named_in_the_code() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("everreach_assets", "resources", "sensors")
        for path in (ROOT / folder).rglob("*.py")
    )
    unused = [path.name for path in OTHERS if f'"{path.name}"' not in code]
    assert not unused, f"nothing reads {unused}"
