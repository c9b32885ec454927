"""The weight file of multilingual-e5-small: vocabulary, 4-bit matrices and floats, read as they lie in the file.

Little-endian throughout: magic `E5S1`, a version, nine numbers that describe the model, the vocabulary (count, four
special ids, end offsets, scores, all pieces in one run of UTF-8), a table of characters that is not needed here, then a
directory of tensors, each at a place counted from the start of the file. A 4-bit matrix is rows of blocks: 32 weights
share one scale, in a half float, and lie in 16 bytes, the first 16 weights in the low halves; a weight is
(value - 8) * scale. Only a file whose checksum was compared is read (`weights.py`).
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 32
_BLOCKS = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_MODEL = struct.Struct("<4s I 7i f i")
_VOCABULARY = struct.Struct("<5i Q")
_TENSOR = struct.Struct("<B I Q Q")

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces of a unigram model, by id: piece `i` is `text[offsets[i]:offsets[i + 1]]`."""

    text: Bytes
    offsets: npt.NDArray[np.int64]
    scores: Floats
    begin_id: int
    pad_id: int
    end_id: int
    unknown_id: int


class E5File:
    """An open weight file. What is read from it is a copy, but for the table of words."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _, _, self.width, self.layers, self.heads, self.inner_width, *_ = _MODEL.unpack_from(self._mapped)
        self.vocabulary, place = self._read_vocabulary(_MODEL.size)
        self._tensors = self._read_directory(place)

    def names(self) -> list[str]:
        """The tensors' names, such as `emb.word`, `l0.q.w` or `l11.fo.b`."""
        return list(self._tensors)

    def vector(self, name: str) -> Floats:
        """A tensor kept as plain floats, without its shape."""
        place, size = self._tensors[name]
        floats: Floats = self._array("<f4", size // 4, place)[0]
        return floats

    def matrix(self, name: str, *, columns: int) -> Floats:
        """A 4-bit matrix of so many columns, one row an output."""
        place, size = self._tensors[name]
        packed, _ = self._array(_BLOCKS, size // _BLOCKS.itemsize, place)
        return unpacked(packed.reshape(-1, columns // _BLOCK))

    def word_rows(self) -> npt.NDArray[np.void]:
        """The packed rows of the word table, one a token: mapped by themselves, read from the file when looked up."""
        place, size = self._tensors["emb.word"]
        blocks_a_row = self.width // _BLOCK
        shape = (size // (_BLOCKS.itemsize * blocks_a_row), blocks_a_row)
        return np.memmap(self._path, _BLOCKS, "r", offset=place, shape=shape)

    def _read_vocabulary(self, place: int) -> tuple[Vocabulary, int]:
        count, begin, end, pad, unknown, text_size = _VOCABULARY.unpack_from(self._mapped, place)
        place += _VOCABULARY.size
        offsets, place = self._array("<u4", count + 1, place)
        scores, place = self._array("<f4", count, place)
        text, place = self._array("u1", text_size, place)
        _, table_size = struct.unpack_from(
            "<i I", self._mapped, place
        )  # characters to replace: the tokenizer knows more
        vocabulary = Vocabulary(text, offsets.astype(np.int64), scores, begin, pad, end, unknown)
        return vocabulary, place + 8 + table_size

    def _read_directory(self, place: int) -> dict[str, tuple[int, int]]:
        """Where each tensor lies: place and size in bytes."""
        (count,) = struct.unpack_from("<i", self._mapped, place)
        place += 4
        found = {}
        for _ in range(count):
            (length,) = struct.unpack_from("<H", self._mapped, place)
            name = self._mapped[place + 2 : place + 2 + length].decode()
            _, _, start, size = _TENSOR.unpack_from(self._mapped, place + 2 + length)
            found[name] = (start, size)
            place += 2 + length + _TENSOR.size
        return found

    def _array(self, kind: npt.DTypeLike, count: int, place: int) -> tuple[Any, int]:
        """A copy of so many values of a kind, and the place behind them."""
        found = np.frombuffer(self._mapped, kind, count, place).copy()
        return found, place + found.nbytes


def unpacked(rows: npt.NDArray[np.void]) -> Floats:
    """Rows of packed blocks as rows of weights."""
    nibbles = rows["nibbles"]
    weights = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8
    return (weights * rows["scale"].astype(np.float32)[..., None]).reshape(len(rows), -1)
