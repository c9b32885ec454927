"""The engine `libsql`: a file that the libSQL wheel writes, in the clear or with its pages encrypted.

The cipher is AES-256-CBC without authentication (docs/decisions/0002 and 0031): it hides, and notices nothing.
"""

import secrets
import time
from pathlib import Path
from typing import Any

from aico.data.libsql.copying import copy_database
from aico.data.libsql.engine import EngineConnection, EngineName
from aico.data.libsql.native.connection import NativeConnection
from aico.data.libsql.native.errors import is_panic, ours
from aico.data.libsql.sealed.page_cipher import DatabaseKeys, SoleKey
from aico.data.libsql.turn import Turn
from aico.errors import MissingExtra, StorageError, Tampered
from aico.files import place_new_file

PROTECTION = "pages encrypted with AES-256-CBC, not authenticated"
_KEY_INFO = b"aico libsql database 1"
_LOOKS, _LOOK_AGAIN_S = 3, 0.02
_SETTINGS = (
    ("temp_store", "memory"),
    ("synchronous", "full"),
    ("secure_delete", "on"),
    ("trusted_schema", "off"),
    ("cell_size_check", "on"),
    ("foreign_keys", "off"),
    ("mmap_size", 0),
)


class NativeEngine:
    """One database file; with `keys`, encrypted. Raises MissingExtra where the wheel is not installed."""

    name: EngineName = "libsql"
    detects_tampering = False

    def __init__(self, path: Path, keys: DatabaseKeys | None, *, wait_s: float, cache_kib: int) -> None:
        self._libsql, self._path, self._keys = imported(), path, keys
        self._wait_s, self._cache_kib, self._key_checked = wait_s, cache_kib, False
        memory = self._libsql.connect(":memory:")  # the wheel's own `sqlite_version_info` names another release
        version = memory.execute("SELECT sqlite_version()").fetchone()[0]
        memory.close()
        self.description = f"libSQL on SQLite {version} ({PROTECTION if keys else 'in the clear'})"

    def create(self) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new-{secrets.token_hex(8)}")
        try:
            self._make(fresh, f"{secrets.randbits(31)} {secrets.randbits(31)}")
            place_new_file(fresh, self._path)
        finally:
            for leftover in ("", "-wal", "-shm"):
                Path(f"{fresh}{leftover}").unlink(missing_ok=True)

    def connect(self) -> NativeConnection:
        if not self._key_checked:
            self._check_key()
            self._key_checked = True
        return self._connected(self._path)

    def _check_key(self) -> None:
        """Raise Tampered for a wrong key or another kind of file, before it is opened as it will be used.

        With a wrong key the engine still moves the log into the database when it closes, and both are lost. Immutable,
        it reads the file alone: no log, no lock, nothing is written.
        """
        if self._path.stat().st_size == 0:
            raise Tampered(f"{self._path.name} is empty; nothing was changed", hint="restore a backup")
        for attempt in range(_LOOKS):
            opened = self._libsql.connect(f"{self._path.as_uri()}?immutable=1", _uri=True, encryption_key=self._key())
            try:
                opened.execute("PRAGMA schema_version").fetchall()
                return
            except ValueError as exc:  # its first page may just be written by another process
                if attempt == _LOOKS - 1:
                    raise ours(exc, self._path.name) from exc
            finally:
                opened.close()
            time.sleep(_LOOK_AGAIN_S)

    def _key(self) -> str | None:
        return None if self._keys is None else _text_of(self._keys)

    def copy(self, source: NativeConnection, fresh: Path, place: Path) -> None:
        self._make(fresh, _numbers_of(source))
        target = self._connected(fresh)
        try:
            copy_database(source, target)
        finally:
            target.close()
        place_new_file(fresh, place)

    def turn(self) -> Turn:
        return Turn(self._path, wait_s=self._wait_s)

    def close(self) -> None:
        """There is nothing but connections."""

    def _make(self, path: Path, numbers: str) -> None:
        path.touch(mode=0o600, exist_ok=False)  # -wal and -shm take their mode from the database
        application_id, user_version = numbers.split()
        made = self._connected(path, first_of_all=("PRAGMA journal_mode = wal",))
        try:
            made.command(f"PRAGMA application_id = {application_id}")
            made.command(f"PRAGMA user_version = {user_version}")
        finally:
            made.close()

    def _connected(self, path: Path, *, first_of_all: tuple[str, ...] = ()) -> NativeConnection:
        def connect() -> Any:
            opened = self._libsql.connect(str(path), timeout=0.0, isolation_level=None, encryption_key=self._key())
            try:
                for sql in first_of_all:
                    opened.execute(sql).fetchall()
                for name, value in (*_SETTINGS, ("cache_size", -self._cache_kib)):
                    opened.execute(f"PRAGMA {name} = {value}").fetchall()
                if opened.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    raise StorageError(f"{path.name} is not in WAL mode, or this folder cannot hold a WAL")
                opened.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            except BaseException as exc:
                if not is_panic(exc):
                    opened.close()
                raise
            return opened

        return NativeConnection(connect, path.name, encrypted=self._keys is not None, wait_s=self._wait_s)


def imported() -> Any:
    """The wheel. Raises MissingExtra."""
    try:
        import libsql
    except ImportError as exc:
        raise MissingExtra(
            "the engine libsql needs the libsql wheel; nothing was opened", hint="pip install 'aico[libsql]'"
        ) from exc
    return libsql


def database_id_of(connection: EngineConnection) -> str:
    """The two numbers that a database is given when it is made, and that its copies share; 16 hexadecimal digits."""
    return "".join(f"{int(number):08x}" for number in _numbers_of(connection).split())


def _numbers_of(connection: EngineConnection) -> str:
    return " ".join(str(connection.rows(f"PRAGMA {name}")[0][0]) for name in ("application_id", "user_version"))


def _text_of(keys: DatabaseKeys) -> str:
    """The passphrase that the wheel wants. A raw key as other programs give it, a vault's by derivation: its pages have
    a key of their own, whichever engine writes them."""
    key = keys.newest_key
    secret = key.reveal() if isinstance(keys, SoleKey) else key.derive(_KEY_INFO)
    return f'x"{secret.hex()}"'
