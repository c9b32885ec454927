"""Reads a database that another program made with the libSQL wheel, without touching its files.

The wheel's pages are encrypted and not authenticated, so what is read is only as trustworthy as the disk was.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aico.errors import MissingExtra, StorageError, WrongPassphrase

ROWS_AT_ONCE = 500


class ForeignDatabase:
    """Its tables and their rows. One thread may use it."""

    def __init__(self, opened: Any) -> None:  # the wheel has no types
        self._opened = opened

    def tables(self) -> list[str]:
        """The names of its tables, without SQLite's own."""
        sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        with _ours():
            return [str(name) for (name,) in self._opened.execute(sql).fetchall()]

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with _ours():
            return int(self._opened.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0])

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """A table's rows by the names of their columns, in the order they were written."""
        with _ours():
            cursor = self._opened.execute(f"SELECT * FROM {_quoted(table)} ORDER BY rowid")
            columns = [described[0] for described in cursor.description]
        while True:
            with _ours():
                some = cursor.fetchmany(ROWS_AT_ONCE)
            if not some:
                return
            for row in some:
                yield dict(zip(columns, row, strict=True))


@contextmanager
def foreign_database(path: Path, key: bytes) -> Iterator[ForeignDatabase]:
    """Open a copy of the encrypted file, so that the original stays as it is to the byte.

    `key` is what `PRAGMA key` was given as `x"…"`. Raises WrongPassphrase, StorageError or MissingExtra.
    """
    try:
        import libsql
    except ImportError as exc:
        raise MissingExtra("the old database needs the libsql wheel", hint="pip install 'aico[libsql]'") from exc
    with tempfile.TemporaryDirectory(prefix="aico-") as folder:
        copy = Path(folder) / "copy.db"
        _copied(path, copy)
        with _ours():
            opened = libsql.connect(str(copy))
        try:
            with _ours():
                opened.execute(f"PRAGMA key = 'x\"{key.hex()}\"'")
                opened.execute("PRAGMA temp_store = MEMORY")
            _check_key(opened)
            yield ForeignDatabase(opened)
        finally:
            opened.close()


def _copied(path: Path, copy: Path) -> None:
    """The database and its log, which are encrypted both: no readable byte comes to lie anywhere."""
    try:
        with path.open("rb") as file:
            if file.read(15) == b"SQLite format 3":
                raise StorageError("the old database is not encrypted, so it is none of AICO's; nothing was imported")
        shutil.copyfile(path, copy)
        log = path.with_name(path.name + "-wal")
        if log.exists():
            shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
    except OSError as exc:
        raise StorageError(f"the old database could not be copied: {exc.strerror}; nothing was imported") from None


def _check_key(opened: Any) -> None:
    try:
        with _ours():
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except StorageError:
        raise WrongPassphrase(
            "what was given does not open the old database, or the file is damaged; nothing was imported",
            hint="give the master password of that installation, or the master key from its keyring",
        ) from None


@contextmanager
def _ours() -> Iterator[None]:
    """Around a call into the wheel: its errors are ValueErrors, and it may panic on damaged pages."""
    try:
        yield
    except ValueError as exc:  # also text that is not UTF-8
        raise StorageError(
            f"the old database cannot be read ({type(exc).__name__}); what was read before is imported",
            hint="it may be damaged: its engine cannot tell",
        ) from None
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        raise StorageError("the old database's engine gave up; what was read before is imported") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
