"""Reading CSV and JSONL files as rows with their line numbers, as a stream, whatever is wrong in them.

What belongs here: lines, quoting, decoding, and the faults that make a row unreadable. What does not: what a row means
(`domain/mappings.py`) and where it goes (`resources/intake.py`).
"""

import csv
import io
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.posts import text_fault

MAX_LINE_CHARS = 10_000_000
"""Of a line, and of a field over several lines: a file without line ends, or an open quote, must not fill memory."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_SUFFIXES = {".jsonl", ".ndjson"}


class Record(NamedTuple):
    """One record of a file: the line where it starts, and either its row or the fault that makes it unreadable."""

    line: int
    row: dict[str, object]
    fault: str | None = None


class RowFile:
    """A CSV or JSONL file, read once from its beginning.

    Args:
        path: the suffix tells the format: .csv, .tsv, .jsonl or .ndjson.
        encoding: a Python codec. Bytes that are none of its characters make their row unreadable, not the file.
        delimiter: of CSV files; by default the suffix's.

    Raises:
        InvalidInput: another suffix, or the file cannot be opened.
    """

    def __init__(self, path: Path, *, encoding: str = "utf-8-sig", delimiter: str | None = None) -> None:
        self.path = path
        self.header: list[str] | None = None
        self._is_json = path.suffix.lower() in JSON_SUFFIXES
        self._encoding = encoding
        self._delimiter = delimiter or DELIMITERS.get(path.suffix.lower())
        if not self._is_json and path.suffix.lower() not in DELIMITERS:
            raise InvalidInput(f"{path}: files end in .csv, .tsv, .jsonl or .ndjson; this one ends in {path.suffix!r}")
        try:
            self._bytes = path.open("rb")
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from error
        self.total_bytes = path.stat().st_size

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    @property
    def bytes_read(self) -> int:
        return self._bytes.tell()

    def records(self) -> Iterator[Record]:
        """The records in their order; empty lines are none. `header` is set before the first one of a CSV file.

        Raises:
            InvalidInput: the file is not in the encoding at all, or its header cannot be used.
        """
        start = self._bytes.read(65536)
        self._bytes.seek(0)
        line_end = "\r" if b"\r" in start and b"\n" not in start else "\n"
        # newline="\n" leaves a lone CR inside a quoted field alone, so that line numbers are those of an editor.
        text = io.TextIOWrapper(self._bytes, encoding=self._encoding, errors="surrogateescape", newline=line_end)
        try:
            with text:
                lines = _Lines(text, line_end)
                yield from self._json_records(lines) if self._is_json else self._csv_records(lines)
        except UnicodeError as error:
            raise InvalidInput(f"{self.path}: it is not in encoding {self._encoding!r} ({error})") from error

    def _csv_records(self, lines: "_Lines") -> Iterator[Record]:
        csv.field_size_limit(MAX_LINE_CHARS)
        reader = csv.reader(lines, delimiter=self._delimiter or ",", strict=True)
        while True:
            lines.begin_record()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # An open quote swallows what follows: only the line where it opened is refused, the rest is read again.
                lines.take_back_all_but_first()
                if self.header is None:
                    raise InvalidInput(f"{self.path}: the header is not CSV ({error})") from error
                yield Record(lines.record_line, {"line": lines.record_text}, f"not CSV: {error}")
                continue
            if not fields:
                continue
            fault = self._fault(lines)
            if self.header is None:
                self.header = self._checked_header(fields, fault)
            elif fault is None and len(fields) != len(self.header):
                fault = f"{len(fields)} fields, the header has {len(self.header)}"
                yield Record(lines.record_line, {"fields": fields}, fault)
            else:
                yield Record(lines.record_line, dict(zip(self.header, fields, strict=False)), fault)

    def _checked_header(self, fields: list[str], fault: str | None) -> list[str]:
        if fault is not None:
            raise InvalidInput(f"{self.path}: the header {fault}")
        header = [name.strip() or f"column_{number}" for number, name in enumerate(fields, start=1)]
        for place, name in enumerate(header):
            if name in header[:place]:  # by number: where there is no header, this is a row with somebody's data
                raise InvalidInput(
                    f"{self.path}: columns {header.index(name) + 1} and {place + 1} have one name; rename one of them"
                )
        return header

    def _json_records(self, lines: "_Lines") -> Iterator[Record]:
        while True:
            lines.begin_record()
            line = next(lines, None)
            if line is None:
                return
            if not line.strip():
                continue
            fault = self._fault(lines)
            row: object = None
            if fault is None:
                try:
                    row = json.loads(line, parse_constant=_refuse_constant)
                    fault = next(filter(None, map(text_fault, _texts(row))), None) if "\\u" in line else None
                except (ValueError, RecursionError) as error:
                    fault = f"not JSON: {error}"
            if fault is None and isinstance(row, dict):
                yield Record(lines.record_line, row)
            else:
                yield Record(lines.record_line, {"line": line}, fault or "not a JSON object")

    def _fault(self, lines: "_Lines") -> str | None:
        """What is wrong with the characters of the record."""
        if lines.has_overlong:
            return f"has a line of more than {MAX_LINE_CHARS:,} characters"
        fault = text_fault(lines.record_text)
        if fault is None or "surrogate" not in fault:
            return fault
        encoding = self._encoding.removesuffix("-sig")
        return f"holds bytes that are not {encoding}: set encoding in the mapping file (docs/intake.md)"


class _Lines(Iterator[str]):
    """Physical lines, bounded in length, of which the ones of the current record can be given back."""

    def __init__(self, text: io.TextIOWrapper, line_end: str) -> None:
        self._text = text
        self._line_end = line_end
        self._given_back: deque[str] = deque()
        self._record: list[str] = []
        self.record_line = 1

    def begin_record(self) -> None:
        self.record_line += len(self._record)
        self._record = []

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else self._read()
        if not line:
            raise StopIteration
        self._record.append(line)
        return line

    def _read(self) -> str:
        line = rest = self._text.readline(MAX_LINE_CHARS + 1)
        while len(rest) > MAX_LINE_CHARS and not rest.endswith(self._line_end):
            rest = self._text.readline(MAX_LINE_CHARS + 1)
        return line

    def take_back_all_but_first(self) -> None:
        self._given_back.extendleft(reversed(self._record[1:]))
        del self._record[1:]

    @property
    def record_text(self) -> str:
        return "".join(self._record)

    @property
    def has_overlong(self) -> bool:
        return any(len(line) > MAX_LINE_CHARS for line in self._record)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
