"""One person's whole memory as JSON Lines: documented in docs/export-format.md, read back by `aico import`.

    {"aico_export": 1, "user": "mia", "naming_key": "…"}
    {"kind": "user", "id": "…", "name": "mia", …}
    {"kind": "conversation", "id": "…", "name": "c1", …}
    …
    {"kind": "end", "records": 1234}

The same memory always gives the same bytes: rows in the order they came, keys in the order of the table, no time of
export.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from aico.data.libsql import LibSQLConnection
from aico.errors import InvalidInput, storage_error
from aico.portability.records import KINDS, Table
from aico.security.keys import NaturalKey

VERSION = 1
PROGRESS_EVERY = 1000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: records by kind, and bytes."""

    records: Counter[str]
    size_bytes: int


def export_jsonl(
    connection: LibSQLConnection,
    user_id: bytes,
    file: BinaryIO,
    *,
    naming_key: NaturalKey,
    on_progress: Callable[[int], object] | None = None,
) -> ExportReport:
    """Write everything of one user as it is at this moment; others may go on writing meanwhile.

    The naming key goes with it: under it a message with a `source_id` keeps its id in the next vault, and what was
    forgotten stays forgotten there. `on_progress` gets the number of records written.
    """
    tables = [Table(kind, connection) for kind in KINDS]
    written, size_bytes = Counter[str](), 0
    with connection.snapshot() as rows:
        [user] = rows("SELECT name FROM users WHERE id = ?", (user_id,))
        header = {"aico_export": VERSION, "user": user["name"], "naming_key": naming_key.reveal().hex()}
        size_bytes += _write(file, header)
        for table in tables:
            for row in rows(table.select, (user_id,)):
                size_bytes += _write(file, table.record(row))
                written[table.kind.name] += 1
                if on_progress is not None and written.total() % PROGRESS_EVERY == 0:
                    on_progress(written.total())
    size_bytes += _write(file, {"kind": "end", "records": written.total()})
    return ExportReport(written, size_bytes)


def _write(file: BinaryIO, record: dict[str, object]) -> int:
    return file.write(msgspec.json.encode(record) + b"\n")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner may read and that has its name once it is whole; none is ever overwritten.

    It grows beside its place as `NAME.part`, is synced, and takes its name by a rename over an empty file of our own:
    a hard link would do the same but not on a USB stick. Raises InvalidInput if the name is taken.
    """
    part = path.with_name(f"{path.name}.part")
    if path.exists() or path.is_symlink():
        raise _taken(path)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InvalidInput(
            f"{part} is there: an export that did not end, or one that is being written; nothing was written",
            hint="delete it if no export runs: it is readable by whoever gets it",
        ) from None
    except OSError as exc:
        raise storage_error(exc, path, "nothing was written") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        part.rename(path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as exc:
        raise storage_error(exc, path, "no export was written; the vault is as it was") from exc
    finally:
        part.unlink(missing_ok=True)


def _taken(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} exists; an export never overwrites, nothing was written", hint="name a new file")
