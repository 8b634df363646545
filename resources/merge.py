"""How rows are brought into the tables of posts, prospects and lessons, one row or a file of them: by the same rules.

What belongs here: the tables' shapes and the one statement that merges (sql/queries/merge_documents.sql). What does
not: reading files (`resources/intake.py`) and outcomes (`resources/posts.py`).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resources.database import SQL_FOLDER, Connection


@dataclass(frozen=True)
class DocumentTable:
    """A table of documents. `texts` are never null; `values` may be; `document` is what the hash is taken of."""

    name: str
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    values: tuple[str, ...] = ()
    document: tuple[str, ...] = ("text",)

    @property
    def fields(self) -> tuple[str, ...]:
        return self.texts + self.values


POSTS = DocumentTable(
    "actp_feedback_posts",
    keys=("platform", "post_id"),
    texts=("account", "post_type", "niche", "text", "url"),
    values=("published_at",),
)
PROSPECTS = DocumentTable(
    "prospects",
    keys=("prospect_id",),
    texts=("name", "email", "phone", "company", "job_title", "notes"),
    document=("job_title", "company", "notes"),  # as the view prospect_documents joins them
)
LESSONS = DocumentTable("lessons", keys=("lesson_id",), texts=("text",), values=("platform", "learned_at"))


@dataclass(frozen=True)
class Merged:
    """How many documents the rows spoke of, and what became of them; the rest stayed as they were."""

    documents: int
    inserted: int
    updated: int


def merge_staged(
    connection: Connection, table: DocumentTable, *, staged: str = "", values: Mapping[str, object] | None = None
) -> Merged:
    """Merge the rows of `staged` into a table.

    Args:
        connection: in a transaction.
        table: where the rows go.
        staged: a query `staged AS (...)`; empty where a temporary table of that name holds the rows.
        values: the parameters of that query.
    """
    statement = "WITH " + (f"{staged}, " if staged else "") + _merge_statement(table)
    row = connection.execute(statement.encode(), values).fetchone()
    assert row is not None  # noqa: S101 - a SELECT of counts has one row
    return Merged(*row)


@functools.cache
def _merge_statement(table: DocumentTable) -> str:
    def latest(field: str) -> str:
        if field in table.values:
            return f"(array_agg({field} ORDER BY line DESC) FILTER (WHERE {field} IS NOT NULL))[1] AS {field}"
        return f"coalesce((array_agg({field} ORDER BY line DESC) FILTER (WHERE {field} <> ''))[1], '') AS {field}"

    def merged(field: str) -> str:
        new = f"excluded.{field}" if field in table.values else f"nullif(excluded.{field}, '')"
        return f"coalesce({new}, known.{field})"

    def document(written: Callable[[str], str]) -> str:
        parts = ", ".join(f"nullif({written(field)}, '')" for field in table.document)
        return f"concat_ws('. ', {parts})"

    template = (SQL_FOLDER / "queries" / "merge_documents.sql").read_text(encoding="utf-8")
    return template.format(
        table=table.name,
        keys=", ".join(table.keys),
        fields=", ".join(table.fields),
        latest_fields=", ".join(map(latest, table.fields)),
        known_fields=", ".join(f"known.{field}" for field in table.fields),
        merged_fields=", ".join(map(merged, table.fields)),
        document=document(str),
        merged_document=document(merged),
    )
