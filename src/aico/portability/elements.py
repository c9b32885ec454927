"""The elements of a JSON list one by one, however large the list is.

Products write years of chats as one list in one file. Only brackets outside of strings are looked at here, a
chunk at a time, and each element is then decoded by itself (a regular expression over the same bytes took eight times
as long). A file of objects without a list around them (one object,
or one a line) is read in the same way.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

CHUNK_BYTES = 256 * 1024
ELEMENT_MAX_BYTES = 32 * 1024 * 1024
"""A larger element is passed over without being kept: it bounds what an import takes in memory."""

_BETWEEN = b" \t\r\n,[]"


class Readable(Protocol):
    """A binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its number from 1 and its first byte's place from 0; `raw` is empty where there is a `problem`."""

    number: int
    offset: int
    raw: bytes
    problem: str = ""


def elements(file: Readable, *, most_bytes: int = ELEMENT_MAX_BYTES) -> Iterator[Element]:
    """Every object or list in the top-level list, in order; one pass, in memory of one element and one chunk.

    What is damaged comes as an element with a `problem`: one too large, a scalar in the list, a file that ends early.
    """
    nesting, growing = _Nesting(), _Growing(most_bytes)
    number, chunk_offset, base = 0, 0, -1
    while chunk := file.read(CHUNK_BYTES):
        if base < 0:
            bare = chunk.removeprefix(codecs.BOM_UTF8).lstrip()
            if not bare:
                chunk_offset += len(chunk)
                continue
            base = 1 if bare[:1] == b"[" else 0
            chunk, chunk_offset = bare, chunk_offset + len(chunk) - len(bare)
        done, open_at = 0, 0 if growing.begun else -1
        for end, opens, depth in nesting.brackets(chunk, base):
            if opens:
                open_at = end - 1
                if chunk[done:open_at].strip(_BETWEEN):
                    number += 1
                    yield Element(number, chunk_offset + done, b"", "it is not an object")
                growing.begin(chunk_offset + open_at)
            elif depth == base and open_at >= 0:
                growing.add(chunk[open_at:end])
                number, done, open_at = number + 1, end, -1
                yield growing.finished(number)
            elif depth < 0:
                yield Element(number + 1, chunk_offset + end - 1, b"", "a bracket is closed that was never opened")
                return
        if open_at >= 0:
            growing.add(chunk[open_at:])
        elif chunk[done:].strip(_BETWEEN):
            number += 1
            yield Element(number, chunk_offset + done, b"", "it is not an object")
        chunk_offset += len(chunk)
    if growing.begun or nesting.depth > 0:
        yield Element(number + 1, growing.offset if growing.begun else chunk_offset, b"", "the file ends in the middle")


class _Growing:
    """The element that is being read."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._parts: list[bytes] = []
        self._size_bytes, self.offset, self.begun = 0, 0, False

    def begin(self, offset: int) -> None:
        self._parts, self._size_bytes, self.offset, self.begun = [], 0, offset, True

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes > self._most_bytes:
            self._parts.clear()
        else:
            self._parts.append(part)

    def finished(self, number: int) -> Element:
        raw, self._parts, self.begun = b"".join(self._parts), [], False
        if self._size_bytes > self._most_bytes:
            return Element(number, self.offset, b"", f"it is larger than {self._most_bytes:,} bytes")
        return Element(number, self.offset, raw)


class _Nesting:
    """How deep in brackets a text is, kept from chunk to chunk: strings may span them."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = self._escaped = False

    def brackets(self, chunk: bytes, base: int) -> list[tuple[int, bool, int]]:
        """(place behind it, whether it opens, depth behind it) of brackets that begin or end what lies at `base`."""
        raw = np.frombuffer(chunk, np.uint8)
        quotes = np.flatnonzero(self._whole_quotes(raw))
        folded = raw | 0x20  # "[" and "{" are one bit apart, and so are "]" and "}"
        found = np.flatnonzero((folded == ord("{")) | (folded == ord("}")))
        found = found[(np.searchsorted(quotes, found) + self._in_string) % 2 == 0]
        opens = folded[found] == ord("{")
        depths = self.depth + np.cumsum(np.where(opens, 1, -1))
        if found.size:
            self.depth = int(depths[-1])
        self._in_string = (quotes.size + self._in_string) % 2 == 1
        telling = np.where(opens, depths == base + 1, depths <= base)
        return list(zip((found[telling] + 1).tolist(), opens[telling].tolist(), depths[telling].tolist(), strict=True))

    def _whole_quotes(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which bytes are quotation marks without a backslash before them that is not itself escaped."""
        quotes: npt.NDArray[np.bool_] = raw == ord('"')
        slashes = np.flatnonzero(raw == ord("\\"))
        if self._escaped:
            quotes[0] = False
            slashes = slashes[slashes > 0]
        first = np.diff(slashes, prepend=-2) != 1  # of each run
        escaping = slashes[(slashes - slashes[first][np.cumsum(first) - 1]) % 2 == 0]
        self._escaped = bool(escaping.size) and int(escaping[-1]) == raw.size - 1
        quotes[escaping[: escaping.size - self._escaped] + 1] = False
        return quotes
