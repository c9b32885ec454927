"""The leak audit: is any known text readable in what lies on the disk?

Searches every file as a stranger would, without any key, for given phrases and sampled real content, in UTF-8, UTF-16,
base64 at each alignment and hexadecimal. The search runs in a child process: opening a live database file here would
drop SQLite's locks. The phrases reach it through a pipe, never a file or a command line.

    python -m aico.audit      reads one JSON request from standard input, prints one JSON answer
"""

import base64
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aico.data.limits import checked_text
from aico.errors import InvalidInput, StorageError

if TYPE_CHECKING:
    from aico.data.libsql import LibSQLConnection

NEEDLE_MIN_BYTES = 8
"""Shorter ones turn up in random bytes: 8 bytes come by chance once in 2^64 places."""
CHUNK_BYTES = 8 * 1024 * 1024
SAMPLE_CHARACTERS = 24


class Leak(msgspec.Struct, frozen=True):
    """One place where a phrase is readable. `needle` counts from 0; the phrase itself is not repeated."""

    file: str
    encoding: str
    needle: int
    offset: int


class AuditReport(msgspec.Struct, frozen=True):
    """What was searched and found. Without control hits the search itself is broken and its silence means nothing."""

    files: int
    searched_bytes: int
    needles: int
    control_hits: int
    leaks: tuple[Leak, ...]
    unreadable: tuple[str, ...]


class _Request(msgspec.Struct, frozen=True):
    places: tuple[str, ...]
    control: str
    needles: tuple[str, ...]


def search_for_leaks(places: Sequence[Path], needles: Sequence[str]) -> AuditReport:
    """Search every file below `places` for the needles, in a child process.

    First a control file in the clear, made for this search, must be found in every encoding. It holds random words
    and not the needles: real content is never written in the clear, not even to prove a search.
    Raises InvalidInput for no needle or one under 8 bytes, StorageError if the search could not run.
    """
    if not needles:
        raise InvalidInput(
            "there is nothing to search for; nothing was searched", hint="record something, or give a phrase"
        )
    for needle in needles:
        checked_text(needle, field="phrase", consequence="nothing was searched")
        if len(needle.encode()) < NEEDLE_MIN_BYTES:
            raise InvalidInput(
                f"a phrase has fewer than {NEEDLE_MIN_BYTES} bytes and would turn up by chance; nothing was searched"
            )
    with tempfile.TemporaryDirectory(prefix="aico-audit-") as folder:
        canary = secrets.token_urlsafe(24)
        control = Path(folder) / "control"
        control.write_bytes(b"\0".join(pattern for _, pattern in _patterns(canary)))
        request = _Request(tuple(str(place) for place in places), str(control), (canary, *needles))
        done = subprocess.run(  # our own interpreter and module
            [sys.executable, "-m", "aico.audit"], input=msgspec.json.encode(request), capture_output=True, check=False
        )
    if done.returncode != 0:
        raise StorageError(f"the audit could not run: its process ended with {done.returncode}; nothing was changed")
    report = msgspec.json.decode(done.stdout, type=AuditReport)
    if report.control_hits < len(list(_patterns(canary))):
        raise StorageError(
            "the audit did not find all of its own control file, so its silence would mean nothing; nothing was changed"
        )
    return report


def sampled_content(connection: "LibSQLConnection", count: int) -> list[str]:
    """Pieces of real content for a search: from random messages, facts and notes, and the names of people and conversations."""
    texts = connection.fetch_all(
        "SELECT text FROM (SELECT text FROM messages UNION ALL SELECT text FROM facts UNION ALL "
        "SELECT note FROM memory_marks WHERE note IS NOT NULL) ORDER BY random() LIMIT ?",
        (count,),
    )
    names = connection.fetch_all(
        "SELECT name FROM (SELECT name FROM conversations UNION ALL SELECT full_name FROM users UNION ALL "
        "SELECT DISTINCT speaker FROM messages) WHERE name IS NOT NULL ORDER BY random() LIMIT ?",
        (max(1, count // 4),),
    )
    pieces = [_piece(text) for (text,) in texts] + [name for (name,) in names]
    return [piece for piece in pieces if len(piece.encode()) >= NEEDLE_MIN_BYTES]


def used_temporary_places() -> list[Path]:
    """Where a vault could leave something outside its folder: our own names, and SQLite's, in the temporary folder."""
    folder = Path(tempfile.gettempdir())
    return sorted({*folder.glob("aico-*"), *folder.glob("etilqs_*")} - set(folder.glob("aico-audit-*")))


def _piece(text: str) -> str:
    start = secrets.randbelow(max(1, len(text) - SAMPLE_CHARACTERS))
    return text[start : start + SAMPLE_CHARACTERS]


def _search(request: _Request) -> AuditReport:
    patterns = [(number, *pattern) for number, needle in enumerate(request.needles) for pattern in _patterns(needle)]
    control_hits = sum(1 for _ in _hits(Path(request.control), patterns))
    leaks, unreadable = list[Leak](), list[str]()
    files = searched = 0
    for path in _files(request.places):
        try:
            files, searched = files + 1, searched + path.stat().st_size
            leaks += _hits(path, patterns)
        except OSError:
            unreadable.append(str(path))
    return AuditReport(files, searched, len(request.needles) - 1, control_hits, tuple(leaks), tuple(unreadable))


def _files(places: Sequence[str]) -> Iterator[Path]:
    for place in map(Path, places):
        if place.is_file():
            yield place
        for folder, _, names in os.walk(place):
            yield from (
                path for name in sorted(names) if (path := Path(folder) / name).is_file() and not path.is_symlink()
            )


def _hits(path: Path, patterns: list[tuple[int, str, bytes]]) -> Iterator[Leak]:
    """The first place of each pattern in a file, read in chunks that overlap by the longest pattern."""
    overlap = max(len(pattern) for _, _, pattern in patterns) - 1
    missing, tail, start = patterns, b"", 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            window = tail + chunk
            found = {(number, name): at for number, name, pattern in missing if (at := window.find(pattern)) >= 0}
            yield from (
                Leak(str(path), name, number - 1, start - len(tail) + at) for (number, name), at in found.items()
            )
            missing = [one for one in missing if (one[0], one[1]) not in found]
            tail, start = window[-overlap:], start + len(chunk)


def _patterns(needle: str) -> Iterator[tuple[str, bytes]]:
    """A phrase as it could lie on a disk."""
    raw = needle.encode()
    yield "utf-8", raw
    yield "utf-16-le", needle.encode("utf-16-le")
    yield "utf-16-be", needle.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "hex upper", raw.hex().upper().encode()
    for shift in range(3):
        yield f"base64 at {shift}", _base64_core(raw, shift)


def _base64_core(raw: bytes, shift: int) -> bytes:
    """The characters of a base64 text that depend on `raw` alone when it begins `shift` bytes into a group of three."""
    encoded = base64.b64encode(bytes(shift) + raw)
    first = (0, 2, 3)[shift]
    whole = (shift + len(raw)) * 8 // 6
    return encoded[first:whole]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_search(msgspec.json.decode(sys.stdin.buffer.read(), type=_Request))))
