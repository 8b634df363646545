"""Mapping files: which column of a file is which field, and how the file is written. docs/intake.md is the reference.

What belongs here: the fields that there are, and the grammar of the files. What does not: what becomes of a row under a
mapping (`mappings.py`).
"""

import codecs
import re
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator, model_validator

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metrics import METRICS

Kind = Literal["posts", "outcomes", "prospects", "lessons"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_POST_FIELDS = (
    "platform",
    "post_id",
    "account",
    "post_type",
    "niche",
    "text",
    "url",
    "published_at",
    "observed_at",
)
FIELDS: dict[Kind, tuple[str, ...]] = {
    "posts": _POST_FIELDS,
    "outcomes": _POST_FIELDS,
    "prospects": ("prospect_id", "name", "email", "phone", "company", "job_title", "notes"),
    "lessons": ("lesson_id", "platform", "text", "learned_at"),
}
ID_FIELD: dict[Kind, str] = {
    "posts": "post_id",
    "outcomes": "post_id",
    "prospects": "prospect_id",
    "lessons": "lesson_id",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnRule(_Strict):
    """Where a field comes from: one column or several, a part of it, what is written around it, and how its time is."""

    columns: list[str]
    join: str = "\n\n"
    pattern: re.Pattern[str] | None = None
    template: str | None = None
    time_format: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"columns": [value]}
        if isinstance(value, list):
            return {"columns": value}
        if isinstance(value, dict) and "column" in value:
            if "columns" in value:
                raise ValueError("states both column and columns")
            return {("columns" if key == "column" else key): _listed(key, each) for key, each in value.items()}
        return value

    @field_validator("columns")
    @classmethod
    def _refuse_none(cls, columns: list[str]) -> list[str]:
        if not columns:
            raise ValueError("names no column")
        return columns

    @field_validator("pattern")
    @classmethod
    def _need_one_group(cls, pattern: re.Pattern[str] | None) -> re.Pattern[str] | None:
        if pattern is not None and pattern.groups != 1:
            raise ValueError(f"a pattern has exactly one (group), this one has {pattern.groups}")
        return pattern

    @field_validator("template")
    @classmethod
    def _need_one_place(cls, template: str | None) -> str | None:
        if template is not None and template.count("{}") != 1:
            raise ValueError("a template has exactly one {}, where the value goes")
        return template


def _listed(key: object, value: object) -> object:
    return [value] if key == "column" else value


class MetricRule(_Strict):
    """The column of a metric; `unless` names a column that says "true" where the count is hidden."""

    column: str
    unless: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_short_form(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value


def _as_written(value: object) -> object:
    """YAML reads dates and numbers on its own; a constant is the text that a cell would hold."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class FileMapping(_Strict):
    """A mapping file: how a file is written, and which column is which field."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    time_zone: str | None = None
    html_entities: bool = False
    replacements: dict[str, str] = {}
    constants: dict[str, Annotated[str, BeforeValidator(_as_written)]] = {}
    columns: dict[str, ColumnRule] = {}
    metrics: dict[str, MetricRule] = {}

    @field_validator("encoding")
    @classmethod
    def _know_encoding(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)  # of an empty text, Python does not even look the codec up
        except (LookupError, ValueError):
            raise ValueError(
                f"{encoding!r} is no text encoding of Python, such as utf-8, cp1252 or mac_roman"
            ) from None
        # A byte order mark is no part of the first column's name.
        return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding

    @field_validator("delimiter")
    @classmethod
    def _need_one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError("a delimiter is one character, and no quote or line end")
        return delimiter

    @field_validator("time_zone")
    @classmethod
    def _know_time_zone(cls, name: str | None) -> str | None:
        try:
            ZoneInfo(name or "UTC")
        except (LookupError, ValueError, OSError):
            raise ValueError(f"{name!r} is no IANA time zone, such as Europe/Berlin, Etc/GMT+5 or UTC") from None
        return name

    @field_validator("metrics")
    @classmethod
    def _know_metrics(cls, metrics: dict[str, MetricRule]) -> dict[str, MetricRule]:
        for name in metrics:
            if name not in METRICS:
                raise ValueError(f"{name!r} is not one of {', '.join(METRICS)}")
        return metrics

    @model_validator(mode="after")
    def _refuse_two_sources(self) -> "FileMapping":
        for field in sorted(self.columns.keys() & self.constants.keys()):
            raise ValueError(f"{field!r} is in both constants and columns")
        return self


def load_mapping(path: Path) -> FileMapping:
    """Read a mapping file.

    Raises:
        InvalidInput: it cannot be read or is no mapping; the message names the file, the key and what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"mapping {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"mapping {path}: not YAML in UTF-8 ({' '.join(str(error).split())})") from error
    try:
        return FileMapping.model_validate({} if content is None else content)
    except ValidationError as error:
        faults = "; ".join(_explain(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
        raise InvalidInput(f"mapping {path}: {faults} (docs/intake.md has the reference)") from error


def _explain(location: tuple[int | str, ...], fault: str, message: str) -> str:
    key = ".".join(str(part) for part in location) or "the file"
    if fault == "extra_forbidden":
        rules: dict[str, tuple[str, ...]] = {
            "columns": ("column", *ColumnRule.model_fields),
            "metrics": tuple(MetricRule.model_fields),
        }
        allowed = rules.get(str(location[0]), ()) if len(location) > 1 else tuple(FileMapping.model_fields)
        return f"{key}: no such key; allowed are {', '.join(allowed)}"
    return f"{key}: {message.removeprefix('Value error, ')}"
