"""Which column of a file is which field: mapping files, and what becomes of one row under a mapping.

What belongs here: the grammar of mapping files (docs/intake.md is its reference) and the pure step from a row, as a
reader found it, to fields, metrics and attributes. What does not: reading files and writing tables
(`resources/intake.py`).
"""

import codecs
import html
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator, model_validator

from everreach_assets.domain.collections import check_doc_id
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.lessons import LEARNED
from everreach_assets.domain.metrics import ALIASES, METRICS, normalise_metrics
from everreach_assets.domain.posts import TAGS, check_observed, check_platform, check_post_id, tag_fault
from everreach_assets.domain.scrubbing import Scrubber

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

_UNIX_SECONDS = re.compile(r"-?[0-9]{9,11}(\.[0-9]+)?")
_ISO_START = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")  # fromisoformat alone would also read ids such as 20130103
_COLUMN_NAME = re.compile(r"[^\W\d][\w .:/()%#&-]{0,59}")
_TRUE_WORDS = frozenset({"true", "yes", "1"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnRule(_Strict):
    """Where a field comes from: one column or several, a part of it, and how its time is written."""

    columns: list[str]
    join: str = "\n\n"
    pattern: re.Pattern[str] | None = None
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


@dataclass(frozen=True)
class MappedRow:
    """A row as it will be stored. An empty text and None mean "not stated"."""

    fields: dict[str, str | datetime | None]
    metrics: dict[str, int | float]
    attributes: dict[str, object]


class RowMapper:
    """Turns the rows of one file into fields, metrics and attributes.

    Args:
        kind: what a row is.
        mapping: the mapping file's content; None when columns are named after fields and metrics.
        platform: the platform of rows that do not state one.
        now: a row that was observed later is refused; None: none is.

    Raises:
        InvalidInput: the mapping names a field that the kind lacks, or states another platform.
    """

    def __init__(
        self, kind: Kind, mapping: FileMapping | None, *, platform: str | None = None, now: datetime | None = None
    ) -> None:
        self.kind = kind
        self._now = now
        self.mapping = mapping or FileMapping()
        # What the mapping leaves out goes by name: columns after fields, metrics after metrics.
        self._goes_by_name = not self.mapping.columns
        self._columns = self.mapping.columns or {field: ColumnRule(columns=[field]) for field in FIELDS[kind]}
        self._zone = ZoneInfo(self.mapping.time_zone) if self.mapping.time_zone else None
        has_metrics = kind in {"posts", "outcomes"}
        self._metrics = self.mapping.metrics or (self._metrics_by_name() if has_metrics else {})
        for field in (*self.mapping.columns, *self.mapping.constants):
            if field not in FIELDS[kind]:
                raise InvalidInput(f"mapping: {kind} have no field {field!r}; they have {', '.join(FIELDS[kind])}")
        for field, rule in self.mapping.columns.items():
            if rule.time_format and not field.endswith("_at"):
                raise InvalidInput(f"mapping: columns.{field}.time_format: {field} is not a time")
        if self.mapping.metrics and not has_metrics:
            raise InvalidInput(f"mapping: metrics: {kind} have none")
        self._constants = {field: self._constant(field, text) for field, text in self.mapping.constants.items()}
        self._platform = self._agreed_platform(platform)
        self._used_columns = frozenset(
            [column for rule in self._columns.values() for column in rule.columns]
            + [rule.column for rule in self._metrics.values()]
        )

    def _metrics_by_name(self) -> dict[str, MetricRule]:
        """Every name of a metric, but those of columns that are something else by the mapping."""
        taken = {column for rule in self.mapping.columns.values() for column in rule.columns}
        return {name: MetricRule(column=name) for name in (*METRICS, *ALIASES) if name not in taken}

    def _constant(self, field: str, text: str) -> str | datetime:
        if not field.endswith("_at"):
            return text
        try:
            return parse_time(text, zone=self._zone)
        except InvalidInput as error:
            raise InvalidInput(f"mapping: constants.{field}: {error}") from None

    def _agreed_platform(self, argument: str | None) -> str | None:
        stated = self.mapping.constants.get("platform")
        if argument is not None and "platform" not in FIELDS[self.kind]:
            raise InvalidInput(f"platform {argument!r}: {self.kind} have no platform")
        if argument is not None and stated is not None and argument != stated:
            raise InvalidInput(f"platform {argument!r} was asked for, the mapping's constants say {stated!r}")
        platform = stated if stated is not None else argument
        return None if platform is None else check_platform(platform)

    def check_columns(self, header: Collection[str]) -> None:
        """Refuse a file whose header lacks what the mapping needs, before any row is read.

        Raises:
            InvalidInput: it names the columns that are missing and those that are there.
        """
        present = _listed_columns(header)
        wanted = {column: f"columns.{field}" for field, each in self.mapping.columns.items() for column in each.columns}
        for name, rule in self.mapping.metrics.items():
            wanted |= {column: f"metrics.{name}" for column in (rule.column, rule.unless) if column is not None}
        missing = [f"{key} names column {column!r}" for column, key in wanted.items() if column not in header]
        if missing:
            raise InvalidInput(f"mapping: {', '.join(missing)}, which the file lacks; {present}")
        for field in (ID_FIELD[self.kind], "platform"):
            if not self._can_state(field, header):
                option = " or the platform with --platform" if field == "platform" else ""
                raise InvalidInput(
                    f"nothing states {field}: name its column in a mapping file (--map FILE, or MAP=FILE to make; "
                    f"docs/intake.md){option}; {present}"
                )

    def _can_state(self, field: str, header: Collection[str]) -> bool:
        if field == "platform" and (self._platform is not None or self.kind not in {"posts", "outcomes"}):
            return True
        if field in self._constants:
            return True
        return field in header if self._goes_by_name else field in self._columns

    def map(self, row: Mapping[str, object]) -> MappedRow:
        """One row, checked.

        Raises:
            InvalidInput: the reason why this row cannot be taken; it quotes no text of the row.
        """
        fields: dict[str, str | datetime | None] = dict(self._constants)
        for field, rule in self._columns.items():
            fields[field] = self._field(field, rule, row)
        self._check_keys(fields)
        observed_at = fields.get("observed_at")
        if self._now is not None and isinstance(observed_at, datetime):
            check_observed("observed_at", observed_at, self._now)
        metrics, reason = normalise_metrics(self._stated_metrics(row))
        if reason is not None:
            raise InvalidInput(reason)
        if self.kind == "outcomes" and not metrics:
            raise InvalidInput("no metric is stated: an outcome has at least one count")
        if self.kind == "lessons" and not str(fields.get("text") or "").strip():
            raise InvalidInput("text is empty: a lesson has a text")
        attributes = {
            column: value
            for column, value in row.items()
            if column not in self._used_columns and value is not None and value != ""
        }
        return MappedRow(fields, metrics, attributes)

    def _stated_metrics(self, row: Mapping[str, object]) -> dict[str, object]:
        return {
            name: row[rule.column]
            for name, rule in self._metrics.items()
            if rule.column in row and not (rule.unless and str(row.get(rule.unless)).strip().lower() in _TRUE_WORDS)
        }

    def _field(self, field: str, rule: ColumnRule, row: Mapping[str, object]) -> str | datetime | None:
        if len(rule.columns) == 1:
            text = _text(field, row.get(rule.columns[0]))
        else:
            text = rule.join.join(filter(None, (_text(field, row.get(column)) for column in rule.columns)))
        if rule.pattern is not None:
            found = rule.pattern.search(text)
            text = (found[1] or "") if found else ""
        if field.endswith("_at"):
            if not text.strip():
                return None
            try:
                return parse_time(text, zone=self._zone, time_format=rule.time_format)
            except InvalidInput as error:
                raise InvalidInput(f"{field}: {error}") from None
        if field in {"platform", ID_FIELD[self.kind]}:
            return text.strip()
        if self.mapping.html_entities:
            text = html.unescape(text)
        for damaged, meant in self.mapping.replacements.items():
            text = text.replace(damaged, meant)
        if field in TAGS and (fault := tag_fault(text)):
            raise InvalidInput(f"{field} {fault}")
        return text

    def _check_keys(self, fields: dict[str, str | datetime | None]) -> None:
        if self.kind in {"prospects", "lessons"}:
            id_field = ID_FIELD[self.kind]
            if not fields.get(id_field):
                raise InvalidInput(f"{id_field} is empty")
            check_doc_id(str(fields[id_field]))
            if self.kind == "lessons" and str(fields[id_field]).startswith(LEARNED):
                raise InvalidInput(f"lesson_id begins with {LEARNED!r}: strategies give such ids, choose another one")
        else:
            check_post_id(fields.get("post_id"))
        if "platform" not in FIELDS[self.kind]:
            return
        stated = fields.get("platform") or None
        if stated is not None and self._platform is not None and stated != self._platform:
            raise InvalidInput(
                f"the row's platform is {check_platform(stated)!r}, the one asked for is {self._platform!r}"
            )
        fields["platform"] = stated or self._platform
        if fields["platform"] is not None or self.kind != "lessons":
            check_platform(fields["platform"] or "")


def _listed_columns(header: Collection[str]) -> str:
    """What columns the file has; nothing of them where its first line is rather a row, with somebody's data."""
    names = ", ".join(map(repr, header))
    if not all(map(_COLUMN_NAME.fullmatch, header)) or Scrubber().scrub(names).text != names:
        return "its first line does not read as the names of columns, and is not repeated here: is the header missing?"
    return f"the file has {names}"


def _text(field: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)  # ids and Unix seconds in JSON
    raise InvalidInput(f"{field}: a text is expected, the row has {type(value).__name__}")


def parse_time(text: str, *, zone: ZoneInfo | None, time_format: str | None = None) -> datetime:
    """A time in UTC, from ISO 8601, from Unix seconds, or as `time_format` (of strptime) says.

    Args:
        text: the time as it is written.
        zone: the zone of times that state none.
        time_format: how the text is written, when it is neither ISO 8601 nor Unix seconds.

    Raises:
        InvalidInput: it is no time, or it has no zone and none is given. The text is not quoted.
    """
    try:
        moment = _moment(text.strip(), time_format)
        if moment.tzinfo is None:
            if zone is None:
                raise InvalidInput("the time has no zone: set time_zone in the mapping file")
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except InvalidInput:  # which is a ValueError too
        raise
    except (ValueError, OverflowError, OSError):
        expected = f"the format {time_format!r}" if time_format else "ISO 8601 or Unix seconds"
        raise InvalidInput(f"not a time in {expected}; other formats: time_format in the mapping file") from None


def _moment(text: str, time_format: str | None) -> datetime:
    if time_format is not None:
        return datetime.strptime(text, time_format)  # noqa: DTZ007 - the caller adds the zone, or refuses
    if _UNIX_SECONDS.fullmatch(text):
        return datetime.fromtimestamp(float(text), UTC)
    if not _ISO_START.match(text):
        raise ValueError("not ISO 8601")
    return datetime.fromisoformat(text)
