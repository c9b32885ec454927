"""Making and opening one SQLite file, in the clear or sealed, under the settings that our promises rest on."""

import secrets
from pathlib import Path
from typing import TypeVar

import apsw

from aico.data.libsql.sealed.page_cipher import TRAILER_BYTES
from aico.data.libsql.sealed.page_file import PAGE_SIZE
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.files import place_new_file

C = TypeVar("C", bound=apsw.Connection)


def create_database(path: Path, vfs: SealedVFS | None) -> None:
    """Make an empty WAL database beside `path`, then link it there: nobody ever opens half a database.

    In the clear if `vfs` is None. Nobody else may be making it at the same time. Raises FileExistsError.
    """
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    fresh.touch(mode=0o600, exist_ok=False)  # -wal and -shm take their mode from the database
    try:
        connection = apsw.Connection(str(fresh), vfs=vfs.name if vfs else None)
        try:
            if vfs:
                connection.reserve_bytes(reserve=TRAILER_BYTES)
            connection.pragma("page_size", vfs.page_size if vfs else PAGE_SIZE)
            connection.pragma("journal_mode", "wal")
        finally:
            connection.close()
        if not path.exists():
            Path(f"{path}-map").unlink(missing_ok=True)  # of a creation that was killed before the database followed
        place_database(fresh, path)
    finally:
        for leftover in ("", "-map"):
            Path(f"{fresh}{leftover}").unlink(missing_ok=True)


def place_database(fresh: Path, path: Path) -> None:
    """Give a finished database, closed and with nothing in its log, its name. Raises FileExistsError.

    Its map first: a database is never seen without one, and of two who make it only one places both.
    """
    fresh_map, map_path = Path(f"{fresh}-map"), Path(f"{path}-map")
    if not fresh_map.exists():
        return place_new_file(fresh, path)
    place_new_file(fresh_map, map_path)
    try:
        place_new_file(fresh, path)
    except BaseException:
        map_path.unlink()
        raise


def connect(
    path: Path,
    vfs: SealedVFS | None,
    *,
    wait_s: float,
    cache_kib: int,
    kind: type[C] = apsw.Connection,  # type: ignore[assignment]  # the bound itself, where nothing is named
) -> C:
    """Open an existing database: write in BEGIN IMMEDIATE only, read to the end of each statement."""
    connection = kind(str(path), vfs=vfs.name if vfs else None, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # With a wrong key no frame of the log opens and SQLite holds it for empty: closing would delete it, and with
        # it what was acknowledged. Until the first page has been read, closing leaves the log alone.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(int(wait_s * 1000))  # before the first statement: opening waits as well
        connection.setlk_timeout(0, 0)  # who writes waits for its turn; and a VFS would be told in every transaction
        # One plan for a statement, whatever is bound: a range would be compiled anew with every new bound.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for name, value in (
            ("temp_store", "file" if vfs else "memory"),
            ("synchronous", "full"),
            ("secure_delete", "on"),
            ("cache_size", -cache_kib),
            ("trusted_schema", "off"),
            ("cell_size_check", "on"),
            ("mmap_size", 0),
            ("wal_autocheckpoint", 0),
        ):
            connection.pragma(name, value)
        if vfs:
            connection.authorizer = _refuse_ways_out
        if connection.pragma("journal_mode") != "wal":
            raise apsw.CantOpenError("the database is not in WAL mode, or this folder cannot hold a WAL")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except BaseException:
        connection.close()
        raise
    return connection


_FIXED_PRAGMAS = {
    "journal_mode": ("wal",),  # sealed pages are crash-safe with write-ahead logging only
    "synchronous": ("full", "2"),  # the rule that tells a torn log from a bent one needs it
    "secure_delete": ("on", "1", "true", "yes"),  # what was forgotten leaves no trace in a page
    "trusted_schema": ("off", "0", "false", "no"),
    "cell_size_check": ("on", "1", "true", "yes"),
    "mmap_size": ("0",),
    "writable_schema": ("off", "0", "false", "no"),
}
"""Settings that our promises rest on, each with the values that keep them."""


def _refuse_ways_out(
    operation: int, first: str | None, second: str | None, _schema: str | None, _trigger: str | None
) -> int:
    """What would write outside the seal: an attached file, another kind of journal.

    VACUUM attaches a nameless temporary database; a name that is not written out in the statement is None here.
    """
    if operation == apsw.SQLITE_ATTACH and first != "":
        return apsw.SQLITE_DENY
    if operation == apsw.SQLITE_PRAGMA and second is not None:
        allowed = _FIXED_PRAGMAS.get((first or "").lower())
        return apsw.SQLITE_OK if allowed is None or second.lower() in allowed else apsw.SQLITE_DENY
    return apsw.SQLITE_OK
