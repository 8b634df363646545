"""The documentation against the code: links, settings, commands, tests that are cited, Python that is shown."""

import ast
import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from everreach_assets.build import build_definitions
from everreach_assets.cli import main
from everreach_assets.domain.metric_catalogue import METRICS
from resources.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code(page: Path) -> list[str]:
    """The lines of the page's blocks of commands, which name no language, without comments; and its spans of code."""
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    lines = [line.split(" # ")[0].strip() for language, block in blocks if not language for line in block.splitlines()]
    return [*lines, *SPAN.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in HEADING.findall(prose(page))
    }


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `everreach` command that the page shows."""
    for line in code(page):
        if found := re.search(r"(?:^|[\s/])everreach ([a-z-].*)", line):
            yield shlex.split(found[1])


def fault_of(arguments: list[str]) -> str:
    """What is wrong with the arguments of `everreach`; empty if nothing is."""
    command: click.Command = main
    rest = [argument.strip("[]") for argument in arguments]
    while isinstance(command, click.Group):
        if not rest:
            return ""  # a group shows its help
        if rest[0] not in {*command.commands, "--help", "--version"}:
            return f"{rest[0]!r} is no command of {command.name}"
        if rest[0].startswith("-"):
            return ""
        command = command.commands[rest.pop(0)]
    options = {name for each in command.params if isinstance(each, click.Option) for name in each.opts} | {"--help"}
    unknown = [argument for argument in rest if argument.startswith("-") and argument not in options]
    if unknown and not command.context_settings.get("ignore_unknown_options"):  # those are another program's
        return f"{unknown[0]!r} is no option of {command.name}"
    choices = [each.type for each in command.params if isinstance(each, click.Argument)][:1]
    if rest and not rest[0].startswith("-") and choices and isinstance(choices[0], click.Choice):
        wrong = set(rest[0].split("|")) - set(choices[0].choices)
        return f"{wrong} is no choice of {command.name}" if wrong else ""
    return ""


@pages
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        assert file.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(file), link


@pages
def test_every_everreach_command_that_is_shown_exists(page: Path) -> None:
    assert [fault for arguments in commands(page) if (fault := fault_of(arguments))] == []


@pytest.mark.parametrize(
    "line", ["server", "index mend", "run --post FILE", "ingest pots FILE", "strategy lists", "search x --limit 3"]
)
def test_a_command_that_does_not_exist_is_a_fault(line: str) -> None:
    assert fault_of(line.split())


@pages
def test_every_make_target_and_variable_that_is_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.MULTILINE))
    for line in code(page):
        if found := re.match(r"make((?: [a-z-]+)+)?((?: [A-Z]+=\S+)*)$", line):
            assert set((found[1] or "").split()) <= targets, line
            assert {each.split("=")[0] for each in (found[2] or "").split()} <= variables, line
        assert not re.match(r"make [a-z-]*[^a-z-= ]", line), f"{line}: this test does not understand it"


MODULE = re.compile(r"\bpython -m ((?:tests|everreach_assets)(?:\.\w+)*)")
MODULES = sorted(
    {name for text in (MAKEFILE, *(page.read_text("utf-8") for page in PAGES)) for name in MODULE.findall(text)}
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_is_shown_can_be_imported_and_run(module: str) -> None:
    imported = importlib.import_module(module)
    if hasattr(imported, "__path__"):
        imported = importlib.import_module(f"{module}.__main__")
    assert 'if __name__ == "__main__":' in Path(str(imported.__file__)).read_text(encoding="utf-8")


def test_the_pages_show_commands_at_all() -> None:
    shown = list(itertools.chain.from_iterable(commands(page) for page in PAGES))
    assert {"ingest", "search", "index", "strategy", "migrate"} <= {arguments[0] for arguments in shown}
    assert "make run" in code(ROOT / "README.md")
    assert "tests.benchmarks" in MODULES


def test_every_command_of_everreach_is_in_the_documentation() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in main.commands:
        assert f"everreach {name}" in text or f"`make {name}`" in text, name


def test_every_setting_is_documented_once_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (\S+) \|", (ROOT / "docs" / "configuration.md").read_text("utf-8"), re.MULTILINE
    )
    defaults = {
        name.upper(): "empty" if field.default is None else f"`{field.default}`"
        for name, field in Settings.model_fields.items()
    }
    assert len(rows) == len(defaults)
    assert dict(rows) == defaults


def test_the_readme_lists_every_asset_and_no_other() -> None:
    rows = re.findall(r"^\| (`\w+/.*?) \| ", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    keys = {spec.key.to_user_string() for spec in build_definitions().resolve_all_asset_specs()}
    assert sorted(key for row in rows for key in SPAN.findall(row)) == sorted(keys)


def test_every_metric_is_documented_as_it_is_declared() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:everreach|dagster)_[a-z_]+)` \| (.*) \|$", text, re.MULTILINE)
    declared = {
        metric.name: " | ".join(
            (metric.type, ", ".join(f"`{label}`" for label in metric.labels) or "none", metric.help, metric.source)
        )
        for metric in METRICS
    }
    assert len(rows) == len(declared)
    assert dict(rows) == declared


@pages
def test_every_file_and_test_that_is_cited_exists(page: Path) -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    for span in SPAN.findall(prose(page)):
        if re.fullmatch(r"(?:everreach_assets|resources|sensors|sql|tests|docs)/[\w./-]*", span):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"test_\w+", span):
            assert f"def {span}(" in tests, span


@pages
def test_the_python_and_yaml_that_are_shown_can_be_read(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if language == "yaml":
            yaml.safe_load(block)


def test_every_page_of_the_documentation_is_listed() -> None:
    listed = {(ROOT / "docs" / link).resolve() for link in LINK.findall(prose(ROOT / "docs" / "README.md"))}
    assert {page for page in PAGES if page.parent != ROOT} - listed == {ROOT / "docs" / "README.md"}


def test_the_readme_is_short_and_its_picture_is_a_png() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert (ROOT / "docs" / "images" / "asset-graph.png").read_bytes().startswith(b"\x89PNG")
