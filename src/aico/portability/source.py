"""Where an import reads from: a file, a ZIP archive or a folder. Nothing is ever unpacked to the disk.

Members of an archive are found by the last part of their name and read as streams, so a path inside it can point
nowhere; sizes are bounded before a byte is read.
"""

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from aico.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 64 * 1024
MEMBER_MAX_BYTES = 8 * 1024**3
RATIO_MAX = 300
"""A member of over 64 MiB that shrank more than this is no chat but a ZIP bomb (real exports shrink 4 to 12 times)."""
DIRECTORY_MAX_BYTES = 16 * 1024 * 1024
"""Of an archive's list of members, which is read as a whole: about a hundred thousand files."""
_RATIO_FROM_BYTES = 64 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024

_CHATS = re.compile(r"conversations(-\d+)?\.jsonl?\Z")
_KINDS = {
    "image files": {".png", ".jpg", ".jpeg", ".webp", ".gif", ".heic", ".svg", ".bmp"},
    "audio and video files": {".wav", ".mp3", ".m4a", ".ogg", ".opus", ".webm", ".mp4", ".aac", ".flac"},
}
_NAMED = {
    "memories.json",
    "projects.json",
    "users.json",
    "user.json",
    "message_feedback.json",
    "shared_conversations.json",
}
_NAMED |= {"chat.html", "group_chats.json", "sora.json", "shopping.json", "model_comparisons.json"}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the input; `open` gives its bytes from the start."""

    name: str = field(repr=False)
    size_bytes: int | None
    open: Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Source:
    """The files to read, in order, and what lies beside them and is not read, by kind."""

    parts: list[Part]
    left_out: Counter[str]

    @property
    def size_bytes(self) -> int | None:
        """Of all parts together, None where it is not known."""
        sizes = [part.size_bytes for part in self.parts if part.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.parts) else None


@contextmanager
def opened_source(place: Path | str | BinaryIO) -> Iterator[Source]:
    """The input behind a path or an open binary file. Raises NotFound, or InvalidInput if it cannot be an export."""
    if not isinstance(place, str | Path):
        yield Source([Part("", None, lambda: nullcontext(place))], Counter())
        return
    if not str(place):
        raise InvalidInput("the file has no name; nothing was imported", hint="check its path")
    path = Path(place).expanduser()
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield _folder(path)
            return
        with path.open("rb") as file:
            if stat.S_ISREG(mode) and file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
                with _damage_named():
                    archive = zipfile.ZipFile(_SmallReads(file))
                with archive:
                    yield _archive(archive)
                return
            size = path.stat().st_size if stat.S_ISREG(mode) else None
            if size is not None:
                file.seek(0)
            yield Source([Part(path.name, size, lambda: nullcontext(file))], Counter())
    except FileNotFoundError:
        raise NotFound("there is no such file; nothing was imported", hint="check its path") from None
    except OSError as exc:
        raise InvalidInput(
            f"the file cannot be read: {exc.strerror}; what was read before is imported",
            hint="check its path and permissions; importing again goes on",
        ) from None


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes: "chatgpt", "claude", "aico", or "jsonl" where nothing else fits.

    The key that tells comes before any message in each of the products' files, and inside a text its quotes would be
    escaped. Raises InvalidInput for a list of something else.
    """
    found = re.search(rb'(?<!\\)"(mapping|chat_messages|aico_export)"\s*:', head)
    if found:
        return {b"mapping": "chatgpt", b"chat_messages": "claude", b"aico_export": "aico"}[found[1]]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and not re.fullmatch(rb"\s*\[\s*\]\s*", head):
        raise InvalidInput(
            "this is not an export that aico knows; nothing was imported",
            hint="give ChatGPT's or Claude's export as it came, or JSON Lines; --from says which it is",
        )
    return "jsonl"


def with_head(file: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first line, or 64 KiB of it, and the file as if nothing had been read.

    Raises InvalidInput for a ZIP archive that comes through a pipe: it is read from its end.
    """
    head = b""
    while len(head) < HEAD_BYTES and b"\n" not in head.lstrip() and (more := file.readline(HEAD_BYTES - len(head))):
        head += more
    if len(head) < HEAD_BYTES and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"[", b"{\n", b"{\r")):
        head += file.read(HEAD_BYTES - len(head))  # a file laid out over many lines
    if head.startswith(b"PK\x03\x04"):
        raise InvalidInput(
            "this is a ZIP archive, which cannot be read from a pipe; nothing was imported", hint="name it as a file"
        )
    return head, io.BufferedReader(_Continued(head, file), _BUFFER_BYTES)


class _Continued(io.RawIOBase):
    """Bytes that were read already, then the rest of a file, which it leaves open."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = memoryview(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        into = memoryview(buffer).cast("B")
        if self._head:
            part, self._head = self._head[: len(into)], self._head[len(into) :]
        else:
            read = self._rest.read1 if isinstance(self._rest, io.BufferedReader) else self._rest.read
            part = memoryview(read(len(into)))
        into[: len(part)] = part
        return len(part)


class _SmallReads(io.RawIOBase):
    """An archive's file, which refuses the one read that would take the list of a million members into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        wanted = DIRECTORY_MAX_BYTES + 1 if size is None or size < 0 else size
        read = self._file.read(wanted) if wanted <= DIRECTORY_MAX_BYTES + 1 else b""
        if wanted > DIRECTORY_MAX_BYTES + 1 or len(read) > DIRECTORY_MAX_BYTES:
            raise InvalidInput(
                f"the ZIP file's list of members has more than {DIRECTORY_MAX_BYTES:,} bytes; nothing was imported",
                hint="if it is real, unpack it yourself and import the folder",
            )
        return read


class _Member(io.RawIOBase):
    """A file in an archive, whose damage is told as ours."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        into = memoryview(buffer).cast("B")
        with _damage_named():
            part = self._member.read(len(into))
        into[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._member.close()
        super().close()


@contextmanager
def _damage_named() -> Iterator[None]:
    """Around a call into `zipfile` alone: what it raises for bytes that are no archive."""
    try:
        yield
    except InvalidInput:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, struct.error):
        raise InvalidInput(
            "the ZIP file is damaged or not whole; what was read before the damage is imported",
            hint="download the export again, then import it: only what is missing is added",
        ) from None


def _folder(folder: Path) -> Source:
    """Files of the folder and of its direct subfolders; links are not followed."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    files = [Path(entry.path) for entry in listed if entry.is_file(follow_symlinks=False)]
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            with os.scandir(entry.path) as inner:
                files += sorted(Path(one.path) for one in inner if one.is_file(follow_symlinks=False))
    return _chosen(_file(path) for path in files)


def _file(path: Path) -> Part:
    def opened() -> AbstractContextManager[BinaryIO]:
        return path.open("rb")

    return Part(path.name, path.stat().st_size, opened)


def _archive(archive: zipfile.ZipFile) -> Source:
    return _chosen(_member(archive, info) for info in archive.infolist() if not info.filename.endswith("/"))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Part:
    name = info.filename.replace("\\", "/").rpartition("/")[2]

    def opened() -> AbstractContextManager[BinaryIO]:
        if info.flag_bits & 1:
            raise InvalidInput(f"{name} is encrypted inside the ZIP file", hint="unpack it, then import the folder")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput(f"{name} is packed in an unusual way", hint="unpack it, then import the folder")
        shrunk = info.file_size > RATIO_MAX * max(1, info.compress_size) and info.file_size > _RATIO_FROM_BYTES
        if shrunk or info.file_size > MEMBER_MAX_BYTES:
            raise InvalidInput(
                f"{name} would unpack to {info.file_size:,} bytes, more than a chat export can have",
                hint="if it is real, unpack it yourself and import the folder",
            )
        with _damage_named():
            return io.BufferedReader(_Member(archive.open(info)), _BUFFER_BYTES)

    return Part(name, info.file_size, opened)


def _chosen(files: Iterable[Part]) -> Source:
    """The chats among the files, else every JSON Lines file; the others are counted."""
    every = list(files)
    chats = [part for part in every if _CHATS.fullmatch(part.name)] or [
        part for part in every if part.name.endswith(".jsonl")
    ]
    if not chats:
        raise InvalidInput(
            "there are no conversations in it: no conversations.json, no JSON Lines; nothing was imported",
            hint="give the export as the product sent it",
        )
    taken = {id(part) for part in chats}
    left_out = Counter(_kind_of_file(part.name) for part in every if id(part) not in taken)
    return Source(sorted(chats, key=lambda part: part.name), left_out)


def _kind_of_file(name: str) -> str:
    if name in _NAMED:
        return f"the file {name}"
    suffix = Path(name).suffix.lower()
    return next((kind for kind, suffixes in _KINDS.items() if suffix in suffixes), "other files")
