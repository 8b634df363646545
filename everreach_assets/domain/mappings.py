"""The pure step from a row, as a reader found it, to fields, metrics and attributes under a mapping file.

What does not belong here: the grammar of mapping files (`mapping_files.py`), reading files and writing tables
(`resources/intake.py`).
"""

import html
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from everreach_assets.domain.collections import check_doc_id
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.lessons import LEARNED
from everreach_assets.domain.mapping_files import FIELDS, ID_FIELD, ColumnRule, FileMapping, Kind, MetricRule
from everreach_assets.domain.metrics import ALIASES, METRICS, normalise_metrics
from everreach_assets.domain.posts import TAGS, check_observed, check_platform, check_post_id, tag_fault
from everreach_assets.domain.scrubbing import Scrubber

_UNIX_SECONDS = re.compile(r"-?[0-9]{9,11}(\.[0-9]+)?")
_ISO_START = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")  # fromisoformat alone would also read ids such as 20130103
_COLUMN_NAME = re.compile(r"[^\W\d][\w .:/()%#&-]{0,59}")
_TRUE_WORDS = frozenset({"true", "yes", "1"})


TextReader = Callable[[Mapping[str, object]], str]
Reader = Callable[[Mapping[str, object]], str | datetime | None]


class MappedRow(NamedTuple):
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
            if rule.template and field.endswith("_at"):
                raise InvalidInput(f"mapping: columns.{field}.template: {field} is a time, which has none")
        if self.mapping.metrics and not has_metrics:
            raise InvalidInput(f"mapping: metrics: {kind} have none")
        self._constants = {field: self._constant(field, text) for field, text in self.mapping.constants.items()}
        self._platform = self._agreed_platform(platform)
        self._readers = [(field, self._reader(field, rule)) for field, rule in self._columns.items()]
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
        for field, read in self._readers:
            fields[field] = read(row)
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
        unused = ((column, row[column]) for column in row.keys() - self._used_columns)
        return MappedRow(fields, metrics, {column: value for column, value in unused if value not in (None, "")})

    def _stated_metrics(self, row: Mapping[str, object]) -> dict[str, object]:
        return {
            name: row[rule.column]
            for name, rule in self._metrics.items()
            if rule.column in row and not (rule.unless and str(row.get(rule.unless)).strip().lower() in _TRUE_WORDS)
        }

    def _reader(self, field: str, rule: ColumnRule) -> Reader:
        """What reads a field off a row, made once for all rows of the file."""
        read = _column_reader(field, rule)
        if field.endswith("_at"):
            return self._time_reader(field, rule.time_format, read)
        is_key = field in {"platform", ID_FIELD[self.kind]}
        if not is_key and (self.mapping.html_entities or self.mapping.replacements):
            read = self._repaired(read)
        if rule.template is not None:
            read = _template_reader(read, rule.template)
        if is_key:
            return lambda row: read(row).strip()
        return _tag_reader(field, read) if field in TAGS else read

    def _time_reader(self, field: str, time_format: str | None, read: TextReader) -> Reader:
        def read_time(row: Mapping[str, object]) -> datetime | None:
            text = read(row).strip()
            if not text:
                return None
            try:
                return parse_time(text, zone=self._zone, time_format=time_format)
            except InvalidInput as error:
                raise InvalidInput(f"{field}: {error}") from None

        return read_time

    def _repaired(self, read: TextReader) -> TextReader:
        def read_repaired(row: Mapping[str, object]) -> str:
            text = html.unescape(read(row)) if self.mapping.html_entities else read(row)
            for damaged, meant in self.mapping.replacements.items():
                text = text.replace(damaged, meant)
            return text

        return read_repaired

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


def _column_reader(field: str, rule: ColumnRule) -> TextReader:
    """The text of the rule's column or columns, or the part of it that its pattern finds."""

    def read_one(row: Mapping[str, object]) -> str:
        return _text(field, row.get(rule.columns[0]))

    def read_several(row: Mapping[str, object]) -> str:
        return rule.join.join(filter(None, (_text(field, row.get(column)) for column in rule.columns)))

    read: TextReader = read_one if len(rule.columns) == 1 else read_several
    if (pattern := rule.pattern) is None:
        return read

    def read_part(row: Mapping[str, object]) -> str:
        found = pattern.search(read(row))
        return (found[1] or "") if found else ""

    return read_part


def _template_reader(read: TextReader, template: str) -> TextReader:
    def read_filled(row: Mapping[str, object]) -> str:
        text = read(row).strip()
        return template.replace("{}", text) if text else ""

    return read_filled


def _tag_reader(field: str, read: TextReader) -> TextReader:
    def read_tag(row: Mapping[str, object]) -> str:
        text = read(row)
        if fault := tag_fault(text):
            raise InvalidInput(f"{field} {fault}")
        return text

    return read_tag


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
