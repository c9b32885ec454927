"""Turns what the libSQL wheel raises into our errors: ValueErrors that are told apart by their text alone, and panics.

The texts are SQLite's own (`sqlite3_errstr` and messages). What they, or the wheel itself, say about a value or an address
may hold it, and is never passed on.
"""

from aico.data.libsql.engine_words import repeated
from aico.errors import AicoError, Busy, DiskFull, InvalidInput, StorageError, Tampered

_BUSY = ("database is locked", "database table is locked", "database schema is locked", "locking protocol")
_DAMAGED = ("database disk image is malformed", "file is not a database")
_UNUSABLE = (
    "unable to open",
    "Failed to connect",
    "disk I/O error",
    "attempt to write a readonly database",
    "out of memory",
    "access permission denied",
)
_OF_A_SERVER = ("Hrana:", "http error", "error trying to connect", "stream not found", "Remote")

_SIGNS = (
    ("Connection refused", "nothing answers there"),
    ("dns error", "its name is not known"),
    ("401", "it refused the token"),
    ("403", "it refused the token"),
    ("InvalidUri", "this is no address"),
    ("InvalidHeaderValue", "the token holds characters that no token has"),
    ("certificate", "its certificate is not trusted"),
)
_REFUSALS = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_RANGE", "SQLITE_TOOBIG", "SQL_PARSE_ERROR", "SQLITE_ERROR")


def is_busy(error: ValueError) -> bool:
    """Whether somebody else holds what was wanted, so that trying again may help."""
    return str(error).startswith(_BUSY)


def ours(error: ValueError, name: str) -> AicoError:
    """Our error for one of the wheel's, about the database `name`."""
    said = str(error)
    if is_busy(error):
        return Busy(f"another process keeps {name}; nothing was written", hint="try again")
    if said.startswith(_DAMAGED):
        return Tampered(f"{name} is damaged, or the key belongs to another database ({said})", hint="restore a backup")
    if "database or disk is full" in said:
        return DiskFull(
            f"the disk that holds {name} is full; the write was taken back whole", hint="make room, then try again"
        )
    if said.startswith(_OF_A_SERVER):
        return of_a_server(said, name)
    if any(sign in said for sign in _UNUSABLE):
        return StorageError(
            f"{name} cannot be used ({_sign(said)}); what was acknowledged before is kept",
            hint="check that the disk is there, has room and the folder is yours",
        )
    return InvalidInput(f"{name} refused the statement: {repeated(said)}; nothing was written")


def of_a_server(said: str, name: str) -> AicoError:
    """For what a server answered, or did not; the wheel's own words may hold the address and what was sent."""
    if any(code in said for code in ("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(f"somebody else keeps the server's database {name}; nothing was written", hint="try again")
    refused = next((code for code in _REFUSALS if code in said), None)
    if refused is not None:
        return InvalidInput(f"the server {name} refused the statement ({refused}); nothing was written")
    what = next((what for sign, what in _SIGNS if sign in said), "")
    return StorageError(
        f"the server {name} cannot be used: {what}; nothing was done"
        if what
        else f"the server {name} answered with an error, or not at all; it is not known whether a write was done",
        hint="check address, token and network, then try again",
    )


def gave_up(name: str) -> StorageError:
    """For a panic: the connection it happened on is given up, and with it the transaction that was open."""
    return StorageError(
        f"libSQL gave up on what it read from {name}; nothing was written, an open transaction was taken back",
        hint="`aico doctor` examines the database; it may be damaged: this engine cannot tell",
    )


def is_panic(error: BaseException) -> bool:
    """Whether the wheel's native code failed; the class is not importable from anywhere."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def _sign(said: str) -> str:
    return next(sign for sign in _UNUSABLE if sign in said)
