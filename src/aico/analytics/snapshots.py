"""What was loaded, kept for the next start: Arrow streams in memory, sealed as one stream of ours, one file a person.

    head, JSON: positions by table, the person's time zone
    each table as an Arrow stream (lz4), with its name and length in front

DuckDB never sees the file. A snapshot that is missing, damaged, of another person, vault or release is made anew.
"""

import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from aico.errors import AicoError, storage_error
from aico.files import open_plain_file
from aico.security.envelope import Place
from aico.security.keys import ValueKey
from aico.security.stream import open_stream, seal_stream

VERSION = 2
"""Of the tables' columns: rises with any change to them, so that an older snapshot is not read."""
SUFFIX, _UNFINISHED = ".columns", ".part"


class Head(msgspec.Struct, frozen=True):
    """What a snapshot says of itself. `positions`: the last change, or the last log line, each table has."""

    positions: dict[str, int]
    zone: str | None
    sizes: dict[str, int]


class Snapshots:
    """The sealed files below one folder, each under a name that tells nobody whose it is.

    `keys` gives the keys as they are now: they may be rotated by another process.
    """

    def __init__(self, folder: Path, keys: Callable[[], Mapping[int, ValueKey]]) -> None:
        self._folder, self._keys = folder, keys

    def read(self, user_id: bytes) -> tuple[Head, dict[str, memoryview]] | None:
        """A person's snapshot, each table as it was given; None where there is none that opens, which is then deleted."""
        try:
            with os.fdopen(open_plain_file(self._path(user_id)), "rb") as file:
                plain = memoryview(b"".join(open_stream(file, keys=dict(self._keys()), bound_to=_place(user_id))))
            at = 4 + int.from_bytes(plain[:4], "big")
            head = msgspec.json.decode(plain[4:at], type=Head)
        except FileNotFoundError:
            return None
        except (AicoError, msgspec.DecodeError, UnicodeDecodeError, OSError):
            self.delete(user_id)
            return None
        tables = {}
        for name, size in head.sizes.items():
            tables[name] = plain[at : at + size]
            at += size
        return head, tables

    def write(
        self, user_id: bytes, *, positions: Mapping[str, int], zone: str | None, tables: Mapping[str, bytes]
    ) -> Path:
        """Write a snapshot beside its place, where `put` makes it the person's. Raises StorageError."""
        head = msgspec.json.encode(Head(dict(positions), zone, {name: len(one) for name, one in tables.items()}))
        whole = io.BytesIO(b"".join((len(head).to_bytes(4, "big"), head, *tables.values())))
        part = self._path(user_id).with_suffix(f".{os.getpid()}{_UNFINISHED}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                seal_stream(whole, file, keys=dict(self._keys()), bound_to=_place(user_id))
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            part.unlink(missing_ok=True)
            raise storage_error(exc, part, "the columns are loaded from the truth the next time") from exc
        return part

    def put(self, user_id: bytes, part: Path) -> None:
        """Give what `write` made its name. Raises StorageError, also where it was deleted meanwhile."""
        try:
            part.replace(self._path(user_id))
        except OSError as exc:
            raise storage_error(exc, part, "the columns are loaded from the truth the next time") from exc

    def delete(self, user_id: bytes) -> None:
        """Delete a person's snapshot, if there is one, and what a process that was killed left of writing one."""
        path = self._path(user_id)
        self._delete([path, *self._folder.glob(f"{path.stem}.*{_UNFINISHED}")])

    def delete_all(self) -> None:
        """Delete everybody's."""
        self._delete([*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*{_UNFINISHED}")])

    def _delete(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def exists(self, user_id: bytes) -> bool:
        """Whether there is one, good or not."""
        return self._path(user_id).exists()

    def _path(self, user_id: bytes) -> Path:
        keys = self._keys()
        return self._folder / f"{keys[max(keys)].derive(b'name' + user_id)[:16].hex()}{SUFFIX}"


def _place(user_id: bytes) -> Place:
    return ("columns", VERSION, user_id)
