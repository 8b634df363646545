"""Files of posts, outcomes, prospects and lessons into their tables: streamed, set-based, all or nothing.

What belongs here: the way of a row from the reader through one COPY into a staging table, and what is then done with
all of them. What does not: the files' syntax (`resources/row_files.py`), the meaning of a row (`domain/mappings.py`),
the rules of merging (`resources/merge.py`).
"""

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mapping_files import FIELDS, KINDS, FileMapping, Kind
from everreach_assets.domain.mappings import RowMapper
from resources.database import Connection, Database
from resources.intake_metrics import record_intake
from resources.merge import LESSONS, POSTS, PROSPECTS, DocumentTable, merge_staged
from resources.posts import append_snapshots
from resources.row_files import Record, RowFile

TABLES: dict[Kind, DocumentTable] = {"posts": POSTS, "outcomes": POSTS, "prospects": PROSPECTS, "lessons": LESSONS}
ROWS_PER_PROGRESS = 1_000
REASONS_REPORTED = 5
DEAD_LETTER_CHARS = 1_000_000
"""Of one field: jsonb refuses more than 256 MB, and a person reads less."""

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the file's bytes."""


@dataclass(frozen=True)
class Rejection:
    """A row that was not taken. The row itself is in `ingest_dead_letters`."""

    line: int
    reason: str


@dataclass(frozen=True)
class DeadLetter:
    """A row that was not taken, as it is kept, but for the row itself."""

    kind: Kind
    file: str
    line: int
    reason: str
    rejected_at: dt.datetime


@dataclass(frozen=True)
class IntakeReport:
    """What became of a file. `inserted`, `updated` and `unchanged` count documents, of which a file may repeat some."""

    kind: Kind
    file: str
    rows: int
    rejected: int
    inserted: int
    updated: int
    unchanged: int
    snapshots_inserted: int
    first_rejections: tuple[Rejection, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.file}: {self.rows:,} rows read; {self._documents}: {self.inserted:,} new, "
            f"{self.updated:,} changed, {self.unchanged:,} as before"
        ]
        if self.kind in ("posts", "outcomes"):
            lines[0] += f"; {self.snapshots_inserted:,} new observations of metrics"
        if self.rejected:
            rows = "1 row" if self.rejected == 1 else f"{self.rejected:,} rows"
            lines.append(f"{rows} could not be taken, and went to the dead letters:")
            lines += [f"  line {each.line}: {each.reason}" for each in self.first_rejections]
            if further := self.rejected - len(self.first_rejections):
                lines.append(f"  and {further:,} more: 'everreach dead-letters' lists them")
        return "\n".join(lines)

    @property
    def _documents(self) -> str:
        """What is counted: the rows of a file of outcomes tell of posts."""
        return "posts" if self.kind == "outcomes" else self.kind

    @property
    def is_unreadable(self) -> bool:
        """There were rows, and none could be taken. A file without rows is a success."""
        return self.rows > 0 and self.rejected == self.rows


def ingest_file(
    database: Database,
    kind: Kind,
    path: Path,
    mapping: FileMapping | None = None,
    *,
    platform: str | None = None,
    on_progress: Progress | None = None,
) -> IntakeReport:
    """Bring a file into the database in one transaction. The same file again changes nothing.

    A row that cannot be taken goes to `ingest_dead_letters` with its line and the reason; the others land.

    Args:
        database: where the rows go.
        kind: what a row of the file is.
        path: .csv, .tsv, .jsonl or .ndjson; never held in memory as a whole.
        mapping: which column is which field; None when the columns are named after the fields.
        platform: the platform of rows that do not state one.
        on_progress: called about every thousand rows, and at the end.

    Raises:
        InvalidInput: the file or the mapping cannot be used at all; nothing was written.
        Unavailable: the database did not answer; nothing was written.
    """
    if kind not in KINDS:
        raise InvalidInput(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    start = time.monotonic()
    mapper = RowMapper(kind, mapping, platform=platform, now=dt.datetime.now(dt.UTC))
    encoding, delimiter = mapper.mapping.encoding, mapper.mapping.delimiter
    with RowFile(path, encoding=encoding, delimiter=delimiter) as file, database.transaction() as connection:
        rows = _stage(connection, file, mapper, on_progress)
        merged = merge_staged(connection, TABLES[kind])
        snapshots = append_snapshots(connection) if kind in {"posts", "outcomes"} else []
        rejected, first_rejections = _keep_dead_letters(connection, kind, path.name)
        record_intake(connection, kind, rows, rejected=rejected, seconds=time.monotonic() - start)
    return IntakeReport(
        kind=kind,
        file=path.name,
        rows=rows,
        rejected=rejected,
        inserted=merged.inserted,
        updated=merged.updated,
        unchanged=merged.documents - merged.inserted - merged.updated,
        snapshots_inserted=len(snapshots),
        first_rejections=first_rejections,
    )


def _stage(connection: Connection, file: RowFile, mapper: RowMapper, on_progress: Progress | None) -> int:
    """Copy every record into the temporary table `staged`; answers how many there were."""
    fields = FIELDS[mapper.kind]
    columns = {"line": "int8", "reason": "text", "refused": "jsonb", "attributes": "jsonb", "metrics": "jsonb"}
    columns |= {field: "timestamptz" if field.endswith("_at") else "text" for field in fields}
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE staged ({}) ON COMMIT DROP").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.Identifier(type_)) for name, type_ in columns.items()
            )
        )
    )
    copy_into = sql.SQL("COPY staged ({}) FROM STDIN").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
    rows = 0
    with connection.cursor() as cursor, cursor.copy(copy_into) as copy:
        for record in file.records():
            if rows == 0 and file.header is not None:
                mapper.check_columns(file.header)
            copy.write_row(_staged_row(record, mapper, fields))
            rows += 1
            if on_progress and rows % ROWS_PER_PROGRESS == 0:
                on_progress(file.bytes_read, file.total_bytes)
    if on_progress:
        on_progress(file.total_bytes, file.total_bytes)
    planned_by = sql.SQL(", ").join(map(sql.Identifier, ("reason", *TABLES[mapper.kind].keys)))
    connection.execute(sql.SQL("ANALYZE staged ({})").format(planned_by))  # of all columns it takes five times as long
    return rows


def _staged_row(record: Record, mapper: RowMapper, fields: tuple[str, ...]) -> list[object]:
    try:
        if record.fault is not None:
            raise InvalidInput(record.fault)
        row = mapper.map(record.row)
        attributes = _json(row.attributes)
    except InvalidInput as error:
        refused = {_visible(name): _visible(value) for name, value in record.row.items()}
        return [record.line, str(error), json.dumps(refused), "{}", "{}", *(None for _ in fields)]
    return [record.line, None, None, attributes, _ENCODER.encode(row.metrics), *map(row.fields.get, fields)]


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _json(attributes: dict[str, object]) -> str:
    try:
        return _ENCODER.encode(attributes)
    except ValueError:
        raise InvalidInput("a column holds a number that is too large for JSON, such as 1e999") from None


def _visible(value: object) -> str:
    """The text with what Postgres cannot hold made visible: NUL as its symbol, undecodable bytes as escapes."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:DEAD_LETTER_CHARS].replace("\0", "\u2400").encode("utf-8", "backslashreplace").decode()


def dead_letters(connection: Connection, kind: Kind | None, limit: int) -> list[DeadLetter]:
    """The newest rows that could not be taken."""
    rows = connection.execute(
        "SELECT kind, file, line, reason, rejected_at FROM ingest_dead_letters"
        " WHERE kind = coalesce(%s, kind) ORDER BY id DESC LIMIT %s",
        (kind, limit),
    )
    return [DeadLetter(*row) for row in rows]


def _keep_dead_letters(connection: Connection, kind: Kind, file: str) -> tuple[int, tuple[Rejection, ...]]:
    connection.execute(
        "INSERT INTO ingest_dead_letters (kind, file, line, reason, row, row_sha256)"
        " SELECT %s, %s, line, reason, refused, sha256(convert_to(refused::text, 'UTF8')) FROM staged"
        " WHERE reason IS NOT NULL ORDER BY line ON CONFLICT DO NOTHING",
        (kind, file),
    )
    rejected = connection.execute("SELECT count(*) FROM staged WHERE reason IS NOT NULL").fetchone()
    first = connection.execute(
        "SELECT line, reason FROM staged WHERE reason IS NOT NULL ORDER BY line LIMIT %s", (REASONS_REPORTED,)
    )
    assert rejected is not None  # noqa: S101 - a count has one row
    return rejected[0], tuple(Rejection(line, reason) for line, reason in first)
