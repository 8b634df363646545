"""What pyproject.toml asks for, against the lock and against what the code imports."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")

IMPORTED = r"^\s*(?:import|from) {}\b"
MAIN_PACKAGES = {
    **{name: IMPORTED.format(name) for name in ("dagster", "chromadb", "pgvector", "psycopg", "openai", "pandas")},
    "prometheus-client": IMPORTED.format("prometheus_client"),
    "dagster-postgres": r"^storage:\n  postgres:",  # in dagster.yaml: Dagster itself imports it
    "dagster-webserver": r'programs / "dagster-webserver"',
}
"""The packages that the project is built on, with the sign that the product uses each."""


def locked() -> dict[str, str]:
    """The lock's versions by name. It names no extras: their packages stand beside the others."""
    pins = re.findall(r"^([\w.-]+)==([^ ;\\]+)", LOCK, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def with_extras(asked: Requirement) -> list[Requirement]:
    """The requirement, and those that its extras add, as the installed package states them."""
    if not asked.extras:
        return [asked]
    stated = [Requirement(each) for each in requires(asked.name) or []]
    return [asked] + [
        each for each in stated for extra in asked.extras if each.marker and each.marker.evaluate({"extra": extra})
    ]


def faults(asked: str, lock: dict[str, str]) -> list[str]:
    """What the requirement asks for and the lock does not hold: no such package, another version, part of an extra."""
    return [
        f"{each}: the lock has {lock.get(canonicalize_name(each.name), 'none')}; run 'make lock'"
        for each in with_extras(Requirement(asked))
        if not each.specifier.contains(lock.get(canonicalize_name(each.name), "0"), prereleases=True)
        or canonicalize_name(each.name) not in lock
    ]


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    extras = PROJECT["optional-dependencies"]
    own = next(each for each in extras["dev"] if Requirement(each).name == PROJECT["name"])
    asked = {*PROJECT["dependencies"], *extras["dev"], *(line for e in Requirement(own).extras for line in extras[e])}
    lock = locked()
    assert len(lock) > len(asked) > 40
    assert [fault for each in sorted(asked - {own}) for fault in faults(each, lock)] == []


@pytest.mark.parametrize("asked", ["click>=99", "no-such-package", "chromadb==1.5.8", "psycopg[c]>=3.2"])
def test_a_lock_with_another_version_or_without_a_package_or_an_extra_is_a_fault(asked: str) -> None:
    assert len(faults(asked, locked())) == 1


@pytest.mark.parametrize("package", MAIN_PACKAGES)
def test_each_main_package_is_used_by_the_product_and_not_by_its_tests_alone(package: str) -> None:
    assert package in {Requirement(each).name for each in PROJECT["dependencies"]}
    product = [
        file for folder in ("everreach_assets", "resources", "sensors") for file in (ROOT / folder).rglob("*.py")
    ]
    texts = [file.read_text(encoding="utf-8") for file in (*product, ROOT / "dagster.yaml")]
    assert any(re.search(MAIN_PACKAGES[package], text, re.MULTILINE) for text in texts)
