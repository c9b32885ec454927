"""An index as a stream of bytes, made of plain arrays: read back in a fraction of the time that building it takes.

    length of the head, 8 bytes little-endian | head, JSON | the arrays, one after the other, in the head's order

It holds what the living documents need and nothing else: no word, name or vector of one that was removed. Whoever
keeps it seals it.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
import pycld2
import Stemmer

from aico.ai.memory.index.codes import Codes
from aico.ai.memory.index.documents import DocumentTable
from aico.ai.memory.index.episodes import Episodes
from aico.ai.memory.index.languages import LANGUAGE_FILES
from aico.ai.memory.index.parts import Array, Parts, inside, under
from aico.ai.memory.index.postings import InvertedIndex
from aico.ai.memory.index.uncertain import UncertainWords
from aico.ai.memory.index.vectors import BLOCK_ROWS, Rows, VectorTable
from aico.errors import IndexOutOfStep

FORMAT = 1
_READ_BY = ("analysis", "scripts", "languages")
_LENGTH_BYTES = 8
_HEAD_MOST = 1 << 20
_IDS = ("documents.column.id_high", "documents.column.id_low")
"""They come first, so that who looks for an id need not read the rest."""


class Head(msgspec.Struct, frozen=True):
    """What a snapshot says of itself."""

    format: int
    made_by: str
    """`analysis_digest` of who wrote it."""
    gap_us: int
    """The pause between episodes."""
    model: str
    """The model of its vectors, empty where there are none to be had."""
    number: int
    """The change of the truth that it reflects, which with its key and instant tells one history from another."""
    key: bytes
    at: int
    arrays: list[tuple[str, str, list[int]]]
    """Name, type and shape of each."""


class Source(Protocol):
    """What a snapshot is read from."""

    def fill(self, target: Any) -> None:
        """Fill a writable buffer, or raise."""
        ...


class Frozen:
    """An index at one moment, to be written down while the index itself goes on.

    The rows of vectors are still those of the index: one that changes meanwhile is written as it was, as it is, or half
    of each. All that changes a row is a later change of the truth, and whoever reads the snapshot reads on from there.
    """

    def __init__(
        self,
        table: DocumentTable,
        inverted: InvertedIndex,
        episodes: Episodes,
        uncertain: UncertainWords,
        vectors: VectorTable,
    ) -> None:
        self._table, self._inverted, self._episodes = table, inverted, episodes
        self._uncertain, self._vectors = uncertain, vectors

    def write(self, target: BinaryIO, head: Callable[[list[tuple[str, str, list[int]]]], Head]) -> None:
        """Write the index to `target`, under the head that `head` makes from the list of its arrays."""
        renumbered = self._table.renumbering()
        dead = len(renumbered) > self._table.alive_count
        documents = under("documents", self._table.parts())
        small: dict[str, Array] = {name: documents.pop(name) for name in _IDS}
        small |= documents
        small |= under("postings", self._inverted.parts(renumbered if dead else None))
        small |= under("episodes", self._episodes.parts(renumbered))
        small |= under("uncertain", self._uncertain.parts(renumbered))
        small |= under("vectors", self._vectors.parts(renumbered))
        codes = self._vectors.code_parts(renumbered)
        if codes is not None:
            small["codes"] = codes.packed()
        rows, dimension = len(small["vectors.document_of"]), int(small["vectors.dimension"][0])
        arrays = [(name, part.dtype.str, list(part.shape)) for name, part in small.items()]
        arrays += [("rows", np.dtype(np.int16).str, [rows, dimension]), ("sum", np.dtype(np.int64).str, [dimension])]
        encoded = msgspec.json.encode(head(arrays))
        target.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
        for part in small.values():
            target.write(_bytes_of(part))
        total, left = np.zeros(dimension, np.int64), rows
        for block in self._vectors.row_parts(renumbered):
            total += block.sum(axis=0, dtype=np.int64)
            target.write(_bytes_of(block[:left]))
            left -= len(block)
        target.write(_bytes_of(total))


def _bytes_of(part: Array) -> memoryview:
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def read_head(source: Source) -> Head:
    """What the snapshot says of itself. Raises IndexOutOfStep if it is none that this release reads."""
    length = bytearray(_LENGTH_BYTES)
    source.fill(length)
    if (size := int.from_bytes(length, "little")) > _HEAD_MOST:
        raise IndexOutOfStep("a snapshot has no head; it is not used")
    encoded = bytearray(size)
    source.fill(encoded)
    try:
        head = msgspec.json.decode(encoded, type=Head)
    except (msgspec.DecodeError, ValueError) as exc:
        raise IndexOutOfStep("a snapshot's head is not one that this release reads") from exc
    if head.format != FORMAT or head.made_by != analysis_digest():
        raise IndexOutOfStep("a snapshot was made by another release, which reads words differently")
    return head


def read_arrays(source: Source, head: Head) -> Iterator[tuple[str, Array]]:
    """The arrays in turn; the rows of vectors as blocks of their own, each under the name `rows`."""
    for name, kind, shape in head.arrays:
        if name == "rows":
            for first in range(0, shape[0], BLOCK_ROWS):
                block: Rows = np.empty((BLOCK_ROWS, shape[1]), np.int16)
                source.fill(block[: shape[0] - first].reshape(-1).view(np.uint8))
                yield name, block
        else:
            array: Array = np.empty(shape, _type_of(kind))
            if array.size:
                source.fill(array.reshape(-1).view(np.uint8))
            yield name, array


def _type_of(kind: str) -> "np.dtype[Any]":
    try:
        return np.dtype(kind)
    except (SyntaxError, TypeError, ValueError) as exc:
        raise IndexOutOfStep("a snapshot has an array of an unknown type; it is not used") from exc


def read_ids(source: Source, head: Head) -> set[bytes]:
    """The ids of all documents in it."""
    halves = dict(zip(_IDS, (array for _, array in read_arrays(source, head)), strict=False))
    together = np.stack([halves[name] for name in _IDS], axis=1).astype(">u8").tobytes()
    return {together[place : place + 16] for place in range(0, len(together), 16)}


def read_parts(source: Source, head: Head) -> tuple[Parts, list[Rows]]:
    """Everything in it: the arrays by name, and the blocks of rows."""
    parts, blocks = dict[str, Array](), list[Rows]()
    for name, array in read_arrays(source, head):
        if name == "rows":
            blocks.append(array)
        else:
            parts[name] = array
    return parts, blocks


def vectors_of(parts: Parts, blocks: list[Rows], *, document_count: int) -> VectorTable:
    """The vectors in a snapshot."""
    codes = Codes.unpacked(parts["codes"]) if "codes" in parts else None
    return VectorTable.of_parts(inside("vectors", parts), blocks, parts["sum"], codes, document_count=document_count)


@cache
def analysis_digest() -> str:
    """Stands for all that decides which terms a text has: our own rules, the stemmers, the detector, Unicode.

    An index is read back by those alone who would build the same.
    """
    said = blake2b(digest_size=16)
    modules = (import_module(f"aico.ai.memory.index.{name}").__file__ for name in _READ_BY)
    for file in (*(Path(file) for file in modules if file is not None), *LANGUAGE_FILES):
        said.update(file.read_bytes())
    versions = (Stemmer.version(), pycld2.__version__, unicodedata.unidata_version, sys.byteorder)
    said.update(repr(versions).encode())
    return said.hexdigest()
