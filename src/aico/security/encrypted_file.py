"""Files of a person's own, sealed: they read and write as `open` does, and are replaced whole or not at all.

    with EncryptedFile(path, "w", key_manager) as file:
        file.write("Dear diary")

A file is one sealed stream (`aico.security.stream`), bound to the purpose it was written for.
"""

import io
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Protocol, Self

from aico.errors import IntegrityError, InvalidInput, NotFound, StorageError, storage_error
from aico.files import locked_folder, sync_folder
from aico.security.envelope import Place
from aico.security.keys import ValueKey
from aico.security.stream import CHUNK_BYTES, SealedReader, SealedWriter, open_stream, stream_generation

MODES = ("r", "w", "a", "rb", "wb", "ab")


class FileKeys(Protocol):
    """Who has the keys: `AICOKeyManager` after `authenticate`."""

    def file_keys(self) -> dict[int, ValueKey]:
        """The keys that seal files, by key generation."""
        ...


class EncryptedFile:
    """A sealed file, and a context manager. One thread at a time; of several who write, the last to close wins.

    What was written is the file's content once `close` has replaced the old one whole: after a crash, or an exception
    inside the `with` block, the old content is there as it was. Any part is read without what stands before it.

    Raises InvalidInput for an unknown mode or missing keys, NotFound, Tampered, DiskFull or StorageError.
    """

    def __init__(
        self,
        file_path: Path | str,
        mode: str = "r",
        key_manager: FileKeys | None = None,
        purpose: str = "default",
        *,
        encoding: str = "utf-8",
    ) -> None:
        if mode not in MODES:
            known = ", ".join(MODES)
            raise InvalidInput(f"a sealed file is opened as one of {known}; nothing was changed", field="mode")
        if key_manager is None:
            raise InvalidInput(
                "a sealed file needs somebody who has the keys; nothing was changed",
                hint="pass key_manager=AICOKeyManager(…) after authenticate",
                field="key_manager",
            )
        self.path, self.mode, self.purpose = Path(file_path).expanduser().absolute(), mode, purpose
        self._keys, self._place = key_manager.file_keys(), ("file", purpose)
        self._replacement = None if mode.startswith("r") else _Replacement(self.path, self._keys, self._place)
        if mode.startswith("a"):
            self._begin_with_old_content()
        buffered: IO[bytes] = (
            io.BufferedReader(self._opened(), CHUNK_BYTES)
            if self._replacement is None
            else io.BufferedWriter(self._replacement, CHUNK_BYTES)
        )
        self._file: IO[Any] = buffered if mode.endswith("b") else io.TextIOWrapper(buffered, encoding=encoding)

    def read(self, size: int = -1) -> Any:  # text or bytes, by mode
        """`size` characters, or bytes in a binary mode; all that is left without one."""
        return self._file.read(size)

    def readline(self, size: int = -1) -> Any:
        """The next line, empty at the end."""
        return self._file.readline(size)

    def readlines(self) -> list[Any]:
        """All lines that are left."""
        return self._file.readlines()

    def write(self, data: Any) -> int:
        """Add text, or bytes in a binary mode."""
        return self._file.write(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Add several pieces, as they are."""
        self._file.writelines(lines)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, when reading."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where reading goes on, or how many bytes the new content has so far."""
        if self._replacement is None:
            return self._file.tell()
        self._file.flush()
        return self._replacement.tell()

    def flush(self) -> None:
        """Seal what waits in memory; it becomes the file's content when the file is closed."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Put what was written in the place of the old content, for good. May be called twice."""
        if self._file.closed:
            return
        try:
            if self._replacement is not None:
                self._file.flush()
                self._replacement.take_the_place()
        finally:
            self._give_up()

    def verify_encryption(self) -> bool:
        """Read the whole file on the disk: true if every byte carries our seal. Raises Tampered if not, or NotFound."""
        with _read(self.path) as source:
            for _ in open_stream(source, keys=self._keys, bound_to=self._place):
                pass
        return True

    def get_encryption_info(self) -> dict[str, Any]:  # for display
        """How the file is protected, and its size on the disk; no key."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return {"algorithm": "AES-256-GCM", "chunk_bytes": CHUNK_BYTES, "purpose": self.purpose, "size_bytes": size}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._give_up()

    def _opened(self) -> SealedReader:
        source = _read(self.path)
        try:
            return SealedReader(source, keys=self._keys, bound_to=self._place)
        except BaseException:
            source.close()
            raise

    def _begin_with_old_content(self) -> None:
        assert self._replacement is not None
        try:
            with _read(self.path) as source:
                for chunk in open_stream(source, keys=self._keys, bound_to=self._place):
                    self._replacement.write(chunk)
        except NotFound:
            return  # as `open` does: a file that is not there begins empty
        except BaseException:
            self._replacement.discard()
            raise

    def _give_up(self) -> None:
        if self._replacement is not None:
            self._replacement.discard()
        self._file.close()


def reseal_file(path: Path, keys: Mapping[int, ValueKey], *, purposes: Sequence[str]) -> bool:
    """Seal a file anew under the newest of the keys; whether it is under it now.

    False where none of the purposes opens it whole, or somebody wrote it meanwhile, and it was left as it is. Raises
    DiskFull or StorageError.
    """
    known = dict(keys)
    with _read(path) as source:
        read = os.fstat(source.fileno())
        for purpose in purposes:
            source.seek(0)
            try:
                if stream_generation(source) == max(known):
                    return True
                source.seek(0)
                return _resealed(source, path, known, ("file", purpose), read)
            except IntegrityError:
                continue
    return False


def _resealed(source: BinaryIO, path: Path, keys: dict[int, ValueKey], place: Place, read: os.stat_result) -> bool:
    replacement = _Replacement(path, keys, place)
    try:
        for chunk in open_stream(source, keys=keys, bound_to=place):
            replacement.write(chunk)
        return replacement.take_the_place(of=read)
    finally:
        replacement.discard()


class _Replacement(io.RawIOBase):
    """The next content of a file, beside it until it takes its place."""

    def __init__(self, path: Path, keys: dict[int, ValueKey], place: Place) -> None:
        self._path, self._fresh = path, path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
        self._discarded, self._process = False, os.getpid()
        try:
            self._target = os.fdopen(os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            self._sealed = SealedWriter(self._target, keys=keys, bound_to=place)
            self._target.flush()
        except OSError as exc:
            raise self._error(exc) from exc

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._sealed.size

    def write(self, data: Any) -> int:  # any buffer of bytes
        if self._discarded or self._is_inherited():
            return len(data)  # what the layers above still held
        try:
            size = self._sealed.write(data)
            self._target.flush()  # a child that is forked inherits nothing that it would write once more
            return size
        except OSError as exc:
            raise self._error(exc) from exc

    def take_the_place(self, *, of: os.stat_result | None = None) -> bool:
        """Be the file's content from now on, for good. With `of` only if that is still the file in its place."""
        if self._is_inherited():
            raise StorageError(
                "this process was forked after the file was opened; the parent goes on with it, nothing was written",
                hint="open the file in the child, after the fork",
            )
        try:
            self._sealed.finish()
            self._target.flush()
            os.fsync(self._target.fileno())
            with locked_folder(self._path.parent):
                if of is not None and not os.path.samestat(of, self._path.stat()):
                    return False
                self._fresh.replace(self._path)
            sync_folder(self._path.parent)
            return True
        except OSError as exc:
            raise self._error(exc) from exc

    def discard(self) -> None:
        """Be nothing, unless it took its place before. May be called twice. In a forked child the parent's file stays."""
        if self._is_inherited():
            return
        self._discarded = True
        self._fresh.unlink(missing_ok=True)
        try:
            self._target.close()
        except OSError:
            return  # it could not write the rest of what nobody wants

    def _is_inherited(self) -> bool:
        """Whether this is a forked child: two who seal with one counter would give the key away."""
        return os.getpid() != self._process

    def _error(self, exc: OSError) -> Exception:
        return storage_error(exc, self._path, "it is as it was")


def _read(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as exc:
        raise storage_error(exc, path, "nothing was read") from exc
