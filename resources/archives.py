"""Archives of what was purged: gzip'ed JSON lines with a manifest beside them, written before anything is deleted.

What belongs here: writing them so that a crash leaves a whole file or none, and reading them so that a changed byte is
seen. What does not: what a line says (`retention.py`).
"""

import base64
import binascii
import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from everreach_assets.domain.errors import InvalidInput, Refused

PARTIAL = ".partial"
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A verified archive.

    Attributes:
        sha256: of the file.
        doc_ids: of its lines, in their order.
    """

    path: Path
    sha256: str
    doc_ids: list[str]


def manifest_of(path: Path) -> Path:
    """Where the manifest of an archive is."""
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".manifest.json")


def write(path: Path, lines: Iterable[str], description: Mapping[str, object]) -> Archive:
    """Write the lines and a manifest, for this user's eyes only, and read them again.

    Each file is written under another name, flushed to the disk and renamed: under its own name it is whole.

    Args:
        path: ends in `.jsonl.gz`; what is there is replaced.
        lines: JSON objects with a `doc_id`.
        description: what the manifest says beside counts and sum.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    rows = 0
    # No name and no time in the header: the same lines are the same bytes.
    with _private_file(partial) as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        for line in lines:
            packed.write(line.encode() + b"\n")
            rows += 1
    manifest = {**description, "format": 1, "rows": rows, "bytes": partial.stat().st_size, "sha256": _sha256(partial)}
    unnamed = manifest_of(path).with_name(manifest_of(path).name + PARTIAL)
    with _private_file(unnamed) as file:
        file.write(json.dumps(manifest, indent=2).encode() + b"\n")
    partial.replace(path)
    unnamed.replace(manifest_of(path))
    _flush_folder(path.parent)
    return verify(path)


def verify(path: Path, sha256: str | None = None) -> Archive:
    """Read the archive to its end and compare it with its manifest, and with the sum that the database has of it.

    Raises:
        InvalidInput: there is no such archive, or no manifest beside it.
        Refused: it is not what was written.
    """
    try:
        manifest = json.loads(manifest_of(path).read_bytes())
        found, size = _sha256(path), path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"archive {path}: {error.strerror}; an archive has its manifest beside it") from error
    except ValueError:
        raise Refused(f"archive {path.name}: its manifest is no JSON; take the file from a backup") from None
    if not isinstance(manifest, dict) or found != manifest.get("sha256") or (sha256 is not None and found != sha256):
        raise Refused(f"archive {path.name} is not what was written (its SHA-256 is {found}); take it from a backup")
    doc_ids = [str(json.loads(line)["doc_id"]) for line in read(path)]
    if (len(doc_ids), size) != (manifest.get("rows"), manifest.get("bytes")):
        raise Refused(f"archive {path.name} holds {len(doc_ids):,} rows, its manifest says {manifest.get('rows')}")
    return Archive(path, found, doc_ids)


def read(path: Path) -> Iterator[str]:
    """The lines of an archive, each with a vector that is whole or none.

    Raises:
        Refused: it cannot be unpacked, or a line is no such thing.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                embedding(line)
                yield line.rstrip("\n")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise Refused(f"archive {path.name} cannot be read to its end ({type(error).__name__})") from error


def embedding(line: str) -> bytes | None:
    """The vector of a line in Postgres's binary form; None where the document had none.

    Raises:
        ValueError: the line holds none that is whole.
    """
    text = json.loads(line)["embedding"]
    if text is None:
        return None
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
    if len(packed) < 4 or len(packed) != 4 + 4 * int.from_bytes(packed[:2], "big"):
        raise ValueError("a vector that is cut off")
    return packed


def remove(path: Path) -> None:
    """Remove an archive and its manifest, those that are there."""
    for each in (path, manifest_of(path)):
        each.unlink(missing_ok=True)


def remove_partial(folder: Path) -> int:
    """Remove what a killed writer left half-written; answers how many files. One purge at a time may call it."""
    left = list(folder.glob(f"*{PARTIAL}"))
    for each in left:
        each.unlink(missing_ok=True)
    return len(left)


@contextlib.contextmanager
def _private_file(path: Path) -> Iterator[IO[bytes]]:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
