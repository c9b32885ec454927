"""Turns what the engine raises into our errors, so that no caller ever sees a type of `apsw`."""

from pathlib import Path
from types import TracebackType

import apsw

from aico.data.libsql.engine_words import repeatable, repeated
from aico.data.libsql.sealed.page_map import PageTampered
from aico.errors import AicoError, Busy, DiskFull, InvalidInput, StorageError, Tampered, storage_error

_CALLERS_FAULT = (
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.TooBigError,
    apsw.BindingsError,
    apsw.AuthError,
)

REFUSED = (apsw.SQLError, InvalidInput)
"""What either engine raises for a statement that does not fit the tables."""


class translated:  # reads as a verb where it is used: `with translated(path):`
    """Raise ours for theirs, around a block that only talks to the engine.

    Messages of the engine are repeated where they name tables and columns, and withheld, also as the cause, where they
    could quote a value. A class and no generator: it stands around every statement, and costs a third of one.
    """

    __slots__ = ("_database",)

    def __init__(self, database: Path) -> None:
        self._database = database

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, AicoError):
            return
        if isinstance(error, apsw.Error):
            withheld = isinstance(error, apsw.SQLError) and not _is_about_the_statement(error)
            raise _ours(error, self._database.name) from (None if withheld else error)
        if isinstance(error, UnicodeError):  # its own message and attributes hold the text
            raise InvalidInput(
                "a text is not whole: it holds half of a character and cannot be kept or shown faithfully; nothing was written",
                hint="repair the text where it was cut, then try again",
            ) from None
        if isinstance(error, TypeError | OverflowError | ValueError | KeyError):
            raise InvalidInput(f"{self._database.name} cannot take a value: {error}; nothing was written") from error
        if isinstance(error, OSError):
            raise storage_error(error, self._database, "nothing was written") from error


def _is_about_the_statement(exc: apsw.SQLError) -> bool:
    """An error that points into the statement's text was found while compiling it."""
    return getattr(exc, "error_offset", -1) >= 0 or repeatable(str(exc))


def _ours(exc: apsw.Error, name: str) -> AicoError:
    if isinstance(exc, PageTampered):
        return Tampered(
            f"{name}: {exc}, or the key belongs to another database; no wrong value was returned",
            hint="restore a backup; `aico doctor` checks every page",
        )
    if isinstance(exc, apsw.CorruptError | apsw.NotADBError):
        return Tampered(f"{name} is damaged: {exc}; no wrong value was returned", hint="restore a backup")
    if isinstance(exc, apsw.BusyError | apsw.LockedError):
        return Busy(f"another process keeps {name}: {exc}; nothing was written", hint="try again")
    if isinstance(exc, apsw.FullError):
        return DiskFull(
            f"the disk that holds {name} is full; the write was taken back whole", hint="make room, then try again"
        )
    if isinstance(exc, apsw.SQLError) and not _is_about_the_statement(exc):
        return InvalidInput(f"{name} refused the statement: {repeated(str(exc))}; nothing was written")
    if isinstance(exc, _CALLERS_FAULT):
        return InvalidInput(f"{name} refused the statement: {exc}; nothing was written")
    return StorageError(
        f"{name} cannot be used: {exc}; what was acknowledged before is kept",
        hint="check that the disk is there, has room and the folder is yours",
    )
