"""Reading texts with labelled spans of personal data, and plain posts, from files of several shapes.

What belongs here: the shapes. What does not: what is counted (`domain/pii_scores.py`). No error repeats any text.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.pii_scores import KINDS, LabelledText
from everreach_assets.domain.scrubbing import Removal
from resources.row_files import DELIMITERS, JSON_SUFFIXES, RowFile

Shape = Literal["spans", "presidio", "conll", "posts"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

KIND_OF_LABEL = {
    **{kind: kind for kind in KINDS},
    "email_address": "email",
    "phone_number": "phone",
    "person": "name",
    "per": "name",
}
"""Labels of other people's sets, in lower case. Spans of any other label are not ours to take out."""


def read_labelled(
    path: Path, shape: Shape | None = None, *, text_column: str = "text", encoding: str = "utf-8-sig"
) -> Iterator[LabelledText]:
    """The texts of the file, one after another.

    Args:
        path: the file.
        shape: `spans` (JSONL of `text` and `spans`, each with `start`, `end`, `kind`), `presidio` (a JSON list as
            presidio-research writes it), `conll` (a token and its BIO tag in a line, an empty line between texts) or
            `posts` (CSV or JSONL, without labels). By default what the suffix says.
        text_column: of posts.
        encoding: a Python codec.

    Raises:
        InvalidInput: the file is not of the shape; the message names the line, and no text.
    """
    readers: Mapping[Shape, Callable[[], Iterator[LabelledText]]] = {
        "spans": lambda: _spans(path, encoding),
        "presidio": lambda: _presidio(path, encoding),
        "conll": lambda: _conll(path, encoding),
        "posts": lambda: _posts(path, text_column, encoding),
    }
    return readers[shape or _shape_of(path)]()


def _shape_of(path: Path) -> Shape:
    suffix = path.suffix.lower()
    if suffix in DELIMITERS:
        return "posts"
    if suffix in JSON_SUFFIXES:
        with RowFile(path) as file:
            first = next(file.records(), None)
            return "spans" if first is not None and "spans" in first.row else "posts"
    return "presidio" if suffix == ".json" else "conll"


def _spans(path: Path, encoding: str) -> Iterator[LabelledText]:
    with RowFile(path, encoding=encoding) as file:
        for record in file.records():
            if record.fault:
                raise InvalidInput(f"{path}, line {record.line}: {record.fault}")
            keys = ("start", "end", "kind")
            yield _labelled(f"{path}, line {record.line}", record.row.get("text"), record.row.get("spans"), keys)


def _presidio(path: Path, encoding: str) -> Iterator[LabelledText]:
    try:
        rows = json.loads(_content(path, encoding))
    except ValueError as error:
        raise InvalidInput(f"{path}: it is not JSON ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f"{path}: a list of objects with full_text and spans is expected")
    keys = ("start_position", "end_position", "entity_type")
    for number, row in enumerate(rows, start=1):
        yield _labelled(f"{path}, entry {number}", row.get("full_text"), row.get("spans"), keys)


def _labelled(where: str, text: object, spans: object, keys: tuple[str, str, str]) -> LabelledText:
    if not isinstance(text, str) or not isinstance(spans, list):
        raise InvalidInput(f"{where}: a text and a list of spans are expected")
    labels = []
    for span in spans:
        start, end, label = (span.get(key) for key in keys) if isinstance(span, dict) else (None, None, None)
        if not (type(start) is int and type(end) is int and isinstance(label, str) and 0 <= start < end <= len(text)):
            raise InvalidInput(f"{where}: every span has {', '.join(keys)}, and lies inside the text")
        if kind := KIND_OF_LABEL.get(label.lower()):
            labels.append(Removal(start, end, kind))
    return LabelledText(text, tuple(sorted(labels)))


def _conll(path: Path, encoding: str) -> Iterator[LabelledText]:
    """Texts are their tokens with a blank between: the sets do not say what stood there. None follows `@` and `#`."""
    tokens: list[tuple[str, str]] = []
    for number, line in enumerate(_content(path, encoding).split("\n"), start=1):
        token, tab, tag = line.rstrip("\r").rpartition("\t")
        if tab:
            tokens.append((token, tag))
        elif line.strip():
            raise InvalidInput(f"{path}, line {number}: a token, a tab and its tag are expected")
        elif tokens:
            yield _joined(tokens)
            tokens = []
    if tokens:
        yield _joined(tokens)


def _joined(tokens: list[tuple[str, str]]) -> LabelledText:
    parts: list[str] = []
    labels: list[Removal] = []
    place = 0
    for token, tag in tokens:
        if parts and parts[-1] not in {"@", "#"}:  # tokenizers cut these off their words
            parts.append(" ")
            place += 1
        position, _, label = tag.partition("-")
        kind = KIND_OF_LABEL.get(label.lower())
        gap = place - labels[-1].end if kind and labels and labels[-1].kind == kind else 2
        if gap == 0 or (gap == 1 and position == "I" and token[:1] not in {"@", "#"}):
            labels[-1] = labels[-1]._replace(end=place + len(token))
        elif kind and token:
            labels.append(Removal(place, place + len(token), kind))
        parts.append(token)
        place += len(token)
    return LabelledText("".join(parts), tuple(labels))


def _posts(path: Path, text_column: str, encoding: str) -> Iterator[LabelledText]:
    with RowFile(path, encoding=encoding) as file:
        for record in file.records():
            text = record.row.get(text_column)
            if record.fault or not isinstance(text, str):
                if record.fault is None:
                    raise InvalidInput(
                        f"{path}, line {record.line}: no text in column {text_column!r}; name it by --text"
                    )
                raise InvalidInput(f"{path}, line {record.line}: {record.fault}")
            if text.strip():
                yield LabelledText(text, None)


def _content(path: Path, encoding: str) -> str:
    try:
        return path.read_bytes().decode(encoding)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    except (UnicodeError, LookupError):
        raise InvalidInput(f"{path}: it is not in encoding {encoding!r}; name its own by --encoding") from None
