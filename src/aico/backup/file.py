"""One backup file: written and read in constant memory, each page checked as it is read.

    magic "AICObkup" | version 1 byte | length of vault.json 4 bytes | vault.json | one sealed stream

The stream (`aico.security.stream`, key purpose "backups") is bound to the copy of vault.json in front of it. It holds

    length 4 bytes | head, JSON
    digest 16 bytes, for each page of the database
    number 4 bytes | page without its reserved bytes, for each page that is stored here

Numbers are big-endian. A digest is BLAKE2b-128 of the page under the head's digest key, which all backups of a chain
share, so that an unchanged page is known by its digest.
"""

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from aico.data.libsql.sealed.page_copies import PAGE_OVERHEAD_BYTES
from aico.errors import FormatTooNew, InvalidInput, NotFound, Tampered, storage_error
from aico.files import NotAPlainFile, open_plain_file, place_new_file, sync_folder
from aico.security.envelope import Place
from aico.security.keys import ValueKey
from aico.security.keyslots import LARGEST_FILE_BYTES
from aico.security.stream import CHUNK_BYTES, SealedReader, SealedWriter, stream_generation

MAGIC, VERSION = b"AICObkup", 1
DIGEST_BYTES, DIGEST_KEY_BYTES = 16, 32
_HEAD_MAX_BYTES = 4096
_PAGE_SIZES = frozenset(1 << bits for bits in range(12, 17))

Keys = Mapping[int, ValueKey]
NumberedPages = Iterator[tuple[int, bytes]]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself. `chain` counts the backups it builds on."""

    id: str
    vault_id: str
    parent: str | None
    chain: int
    created_us: int
    page_size: int
    page_count: int
    stored_pages: int
    digest_key: bytes

    def digest(self, page: bytes) -> bytes:
        """By which a page is known to be the same."""
        return hashlib.blake2b(page, digest_size=DIGEST_BYTES, key=self.digest_key).digest()


@dataclass(frozen=True)
class BackupFile:
    """A backup whose head and digests have been read."""

    path: Path
    head: Head
    digests: bytes
    keys: Keys
    size_bytes: int

    def digest_of(self, number: int) -> bytes:
        """The digest of page `number`, empty behind the last."""
        return self.digests[(number - 1) * DIGEST_BYTES : number * DIGEST_BYTES]

    def pages(self) -> NumberedPages:
        """The pages stored here, in rising order, each checked. Raises Tampered, also when the file ends too early."""
        size = self.head.page_size - PAGE_OVERHEAD_BYTES
        with _opened(self.path, self.keys) as stream:
            _skip_to_pages(stream, self.head)
            last = 0
            for _ in range(self.head.stored_pages):
                number, page = int.from_bytes(_exactly(stream, 4), "big"), _exactly(stream, size)
                if not last < number <= self.head.page_count or self.head.digest(page) != self.digest_of(number):
                    raise _tampered(self.path)
                last = number
                yield number, page
            if stream.read(1):
                raise _tampered(self.path)


def write_backup(
    path: Path, *, vault_json: bytes, head: Head, digests: Sequence[bytes], pages: NumberedPages, keys: Keys
) -> None:
    """Write a backup whole or not at all; never over an existing file. Raises InvalidInput, DiskFull or StorageError."""
    encoded = msgspec.json.encode(head)

    def pieces() -> Iterator[bytes]:
        yield len(encoded).to_bytes(4, "big") + encoded
        yield b"".join(digests)
        for number, page in pages:
            yield number.to_bytes(4, "big") + page

    _write(path, vault_json, pieces(), keys, lambda fresh: place_new_file(fresh, path), "no backup was made")


def rewrite_backup(path: Path, *, vault_json: bytes, keys: Keys) -> None:
    """Seal a backup anew under the newest of the keys, in front of it this vault.json; replaced whole or not at all.

    Raises as `read_backup`, DiskFull or StorageError; the file is as it was then.
    """
    with _opened(path, keys) as stream:
        chunks = iter(partial(stream.read, CHUNK_BYTES), b"")
        _write(path, vault_json, chunks, keys, lambda fresh: fresh.replace(path), "it was not sealed anew")


def generation_of(path: Path) -> int:
    """The key generation that a backup is sealed under, as it says itself. Raises as `read_backup`."""
    with _readable_file(path) as file:
        _vault_json(path, file)
        return stream_generation(file)


def _write(
    path: Path,
    vault_json: bytes,
    pieces: Iterable[bytes],
    keys: Keys,
    give_the_name: Callable[[Path], object],
    consequence: str,
) -> None:
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(MAGIC + bytes([VERSION]) + len(vault_json).to_bytes(4, "big") + vault_json)
            sealed = SealedWriter(target, keys=dict(keys), bound_to=_place(vault_json))
            for piece in pieces:
                sealed.write(piece)
            sealed.finish()
            target.flush()
            os.fsync(target.fileno())
        give_the_name(fresh)
        sync_folder(path.parent)
    except FileExistsError:
        raise InvalidInput(f"{path} exists; a backup never overwrites", hint="name another file") from None
    except OSError as exc:
        raise storage_error(exc, path, f"{consequence}; the vault is as it was") from exc
    finally:
        fresh.unlink(missing_ok=True)


def read_vault_json(path: Path) -> bytes:
    """The vault.json of the day the backup was made, which says how to unlock it. Raises as `read_backup`."""
    with _readable_file(path) as file:
        return _vault_json(path, file)


def read_head(path: Path, keys: Keys) -> Head:
    """What the backup says of itself. Costs 64 KiB of reading. Raises as `read_backup`."""
    with _opened(path, keys) as stream:
        return _head(path, stream)


def read_backup(path: Path, keys: Keys) -> BackupFile:
    """Head and digests of a backup.

    Raises NotFound, StorageError, FormatTooNew, or Tampered for a file that is no backup, was changed or belongs to
    another vault.
    """
    with _opened(path, keys) as stream:
        head = _head(path, stream)
        digests = _exactly(stream, head.page_count * DIGEST_BYTES)
    with _readable_file(path) as file:
        return BackupFile(path, head, digests, keys, os.fstat(file.fileno()).st_size)


@contextmanager
def _opened(path: Path, keys: Keys) -> Iterator[BinaryIO]:
    with _readable_file(path) as file:
        vault_json = _vault_json(path, file)
        yield io.BufferedReader(SealedReader(file, keys=dict(keys), bound_to=_place(vault_json)), CHUNK_BYTES)


@contextmanager
def _readable_file(path: Path) -> Iterator[BinaryIO]:
    try:
        descriptor = open_plain_file(path)
    except FileNotFoundError:
        raise NotFound(f"there is no backup {path}", hint="`aico backup list` shows what there is") from None
    except NotAPlainFile:
        raise _tampered(path) from None
    except OSError as exc:
        raise storage_error(exc, path, "nothing was changed") from exc
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _vault_json(path: Path, file: BinaryIO) -> bytes:
    start = file.read(len(MAGIC) + 1)
    if not start.startswith(MAGIC) or len(start) <= len(MAGIC):
        raise _tampered(path)
    if start[-1] > VERSION:
        raise FormatTooNew(f"{path.name} was made by a newer release; nothing was changed", hint="update aico")
    size = int.from_bytes(file.read(4), "big")
    if not 0 < size <= LARGEST_FILE_BYTES or len(found := file.read(size)) != size:
        raise _tampered(path)
    return found


def _head(path: Path, stream: BinaryIO) -> Head:
    size = int.from_bytes(_exactly(stream, 4), "big")
    if size > _HEAD_MAX_BYTES:
        raise _tampered(path)
    try:
        head = msgspec.json.decode(_exactly(stream, size), type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _tampered(path) from None
    if head.page_size not in _PAGE_SIZES or not 0 <= head.stored_pages <= head.page_count < 1 << 32:
        raise _tampered(path)
    return head


def _skip_to_pages(stream: BinaryIO, head: Head) -> None:
    _exactly(stream, int.from_bytes(_exactly(stream, 4), "big"))
    _exactly(stream, head.page_count * DIGEST_BYTES)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise Tampered("a backup ends before it is whole; nothing of it was used", hint="use another backup")
    return found


def _place(vault_json: bytes) -> Place:
    return ("backup", VERSION, hashlib.sha256(vault_json).digest())


def _tampered(path: Path) -> Tampered:
    return Tampered(
        f"{path.name} is not a whole backup of this vault: it was changed, cut, or is another kind of file; nothing was changed",
        hint="use another backup",
    )
