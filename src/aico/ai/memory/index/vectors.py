"""What documents mean: vectors as 16-bit fixed-point rows in memory, compared with the question's.

While there are few, every row is compared. Fixed point is half the size of 32-bit floats and faster to scan, because
reading memory is what takes the time: 100,000 rows of 384 take 77 MB and 6 to 7 ms, as floats 154 MB and 12 ms. Above
`CODED_FROM` rows, short codes tell which rows are likely the nearest, and only these are compared.

The scale is such that 32-bit floats hold every sum of products exactly: these are whole numbers, and no part of the
sum is larger than the product of both lengths (Cauchy and Schwarz). So no score depends on the order of arrival.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.codes import Codes, can_code
from aico.ai.memory.index.parts import Parts
from aico.ai.memory.index.postings import Floats, Ints, Mask

SCALE = 4_000
"""What 1.0 is in fixed point: its square, with room for rounding, is below 2^24. A cosine is off by about 0.0001."""
NO_VECTOR = np.float32(-2)
"""Stands for the cosine of a document that has no vector: below any that is."""

CODED_FROM = 20_000
"""So many rows are compared in about a millisecond; above, codes are faster (docs/decisions/0035)."""
CODE_EVERY = 4_000
"""Newest rows without a code, all compared, before they are coded."""
WIDE, WIDE_SHARE = 400, 1_000
"""How many rows the codes may name: so many, and one more for each `WIDE_SHARE` there are."""
USUAL_FROM = 200
"""From so many vectors on, what the memories have in common counts for more than what strangers have."""
_FINER = 16
_EXACT_SHARE = 4
"""A filter that leaves fewer than one in so many is answered by comparing all that it leaves."""

_PACKED_FROM = 1_000
"""Rows that may lie empty in any case; beyond, as many as a quarter of all."""
BLOCK_ROWS = 16_384
"""Rows lie in blocks of so many, so that growing never copies them."""
_STEP_ROWS = 512
"""Rows converted at a time while scanning: what stays in the processor's cache."""
_NONE = -1

Rows = npt.NDArray[np.int16]
Places = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64]


def fixed_point(vectors: npt.NDArray[np.floating]) -> Rows:
    """Vectors, brought to length 1, as rows of 16-bit numbers."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    rows: Rows = np.rint(vectors * (SCALE / np.maximum(lengths, 1e-9))).astype(np.int16)
    return rows


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a question means: its vector, and those of texts that have nothing to do with anything."""

    question: Rows = field(repr=False)
    strangers: Rows = field(repr=False)

    @classmethod
    def of(cls, question: npt.NDArray[np.floating], strangers: npt.NDArray[np.floating]) -> "Meaning":
        """From unit vectors of one model: one, and some rows."""
        return cls(fixed_point(question), fixed_point(strangers))


@dataclass(frozen=True, slots=True)
class Apart:
    """What sets a question apart from other texts, and what its likeness is measured by."""

    direction: Rows = field(repr=False)
    """The question's vector less a share of what all texts have in common, brought to length 1."""
    chance: float
    """Its mean cosine with any text."""
    spread: float
    """How far above that it would be with a text that says the same."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Rows that are to be coded, away from any lock: `run`, then hand it to `VectorTable.take_codes`."""

    blocks: "list[Rows]" = field(repr=False)
    codes: Codes | None
    end: int
    generation: int

    def run(self) -> Codes:
        """The codes of all rows up to `end`. Rows that change meanwhile get the code of what they were, or are."""
        codes = self.codes or Codes.trained(self._sample())
        return codes.and_more(self._rows_from(len(codes)))

    def _rows_from(self, first: int) -> Iterator[Rows]:
        while first < self.end:
            block, start = divmod(first, BLOCK_ROWS)
            rows = self.blocks[block][start : start + self.end - first]
            yield rows
            first += len(rows)

    def _sample(self) -> Rows:
        some = np.random.default_rng(0).permutation(self.end)[:20_000]
        rows = np.concatenate(
            [self.blocks[n][some[some // BLOCK_ROWS == n] % BLOCK_ROWS] for n in range(len(self.blocks))]
        )
        rows = rows[rows.any(axis=1)]
        return np.random.default_rng(0).permutation(rows)


class VectorTable:
    """The vectors of numbered documents: none, one, or one for each passage of a long text.

    The row of a vector that was let go is zeroed. It is the next to be filled, unless it has a code, which would then
    tell of another vector: such rows stay empty until dead documents are dropped together. Thread rule: many may search
    while nobody changes anything.
    """

    def __init__(self) -> None:
        self._blocks: list[Rows] = []
        self._row_count = 0
        self._free: list[int] = []
        self._empty = 0
        """Rows let go that have a code."""
        self._row_of = np.empty(0, np.int32)
        """Of each document, -1 for none."""
        self._more: dict[int, list[int]] = {}
        """Further rows of those few documents that have several."""
        self._document_of = np.empty(0, np.int32)
        """Of each row, -1 for none."""
        self._sum = np.zeros(0, np.int64)
        self._codes: Codes | None = None
        self._coding_to = 0
        self._generation = 0
        """Rises when rows change their places."""

    def __len__(self) -> int:
        """How many vectors there are."""
        return self._row_count - len(self._free) - self._empty

    @property
    def dimension(self) -> int:
        """How many numbers a row has, 0 before the first."""
        return len(self._sum)

    def size_bytes(self) -> int:
        """The memory of rows and codes."""
        dimension = len(self._sum)
        return self._row_count * (2 * dimension + 4) + self.coded * dimension // 4 + self._row_of.nbytes

    @property
    def coded(self) -> int:
        """How many rows have a code, from the first on."""
        return 0 if self._codes is None else len(self._codes)

    def add(self, documents: Sequence[int], rows: Rows) -> None:
        """Give each document a vector, beside those it has."""
        if not documents:
            return
        self.reserve(max(documents) + 1)
        places = self._take_places(len(documents), dimension=rows.shape[1])
        for document, place, row in zip(documents, places, rows, strict=True):
            self._row(place)[:] = row
            self._document_of[place] = document
            if self._row_of[document] == _NONE:
                self._row_of[document] = place
            else:
                self._more.setdefault(document, []).append(place)
        self._sum += rows.sum(axis=0, dtype=np.int64)

    def drop(self, document: int) -> None:
        """Let go of a document's vectors, if it has any."""
        for place in self._places_of(document):
            row = self._row(place)
            self._sum -= row
            row[:] = 0
            self._document_of[place] = _NONE
            if place < max(self.coded, self._coding_to):
                self._empty += 1
            else:
                self._free.append(place)
        if document < len(self._row_of):
            self._row_of[document] = _NONE
        self._more.pop(document, None)

    def move(self, document: int, to: int) -> None:
        """The document has another number from now on."""
        if places := self._places_of(document):
            self.reserve(to + 1)
            self._row_of[to], self._row_of[document] = self._row_of[document], _NONE
            self._document_of[places] = to
            if document in self._more:
                self._more[to] = self._more.pop(document)

    def reserve(self, document_count: int) -> None:
        """Have room for so many documents."""
        self._row_of = _with_room(self._row_of, document_count)

    def set_apart(self, meaning: Meaning, *, common: float) -> Apart:
        """The question without `common` of the mean of all vectors, which some texts ("That's great!") are near to and
        so like every question: hubs, as Radovanović, Nanopoulos and Ivanović call them ("Hubs in space", 2010). Scans nothing.

        What the strangers have in common stands for `USUAL_FROM` memories, as a handful of these may be about one thing.
        """
        strangers, count = meaning.strangers.sum(axis=0, dtype=np.int64), len(meaning.strangers)
        usual_from = USUAL_FROM if count else 0
        usual = (self._sum + strangers * (usual_from / max(count, 1))) / (len(self) + usual_from)
        apart = np.rint(_FINER * (meaning.question - common * usual)).astype(np.int64)  # whole: exact in any order
        length = max(sqrt(_dot(apart, apart)) / (_FINER * SCALE), 1e-6)
        direction, total = fixed_point(apart), self._sum + strangers
        asked, any_text = (_dot(total, vector) / SCALE**2 for vector in (meaning.question, direction))
        if count > 1:  # a stranger is like their mean as far as it is that mean: no text of this person's is
            themselves = (count**2 - _dot(strangers, strangers) / SCALE**2) / (count * (count - 1))
            any_text += common * themselves * usual_from / (len(self) + usual_from) / length
        texts = len(self) + count
        return Apart(direction, any_text / texts, max(1 - asked / texts, 1e-6) / length)

    # Comparing

    def nearest(self, question: Rows, count: int, allowed: Mask | None) -> tuple[Ints, Floats]:
        """Documents with their cosines, among them the `count` most like the question; of those `allowed`, if given.

        Below `CODED_FROM` rows that is certain; above, one in a hundred may be missed.
        """
        if self._codes is None:
            places = self._living(0, allowed)
        else:
            left = len(self) if allowed is None else int(np.count_nonzero(allowed)) or 1
            if left * _EXACT_SHARE < len(self):
                places = self._living(0, allowed)
            else:
                wide = max(WIDE, count) + len(self) // WIDE_SHARE
                likely = self._codes.likely(question, wide * len(self) // left)
                places = np.concatenate([self._those(likely, allowed), self._living(self.coded, allowed)])
        cosines = self._cosines(question, places)
        return self._by_document(places, cosines)

    def cosines(self, question: Rows, documents: Ints | Places) -> Floats:
        """The cosine of the question with each document's best vector, to the same bit whenever it came."""
        rows = np.full(len(documents), _NONE, np.int32)
        known = documents < len(self._row_of)
        rows[known] = self._row_of[documents[known]]
        found = np.full(len(documents), NO_VECTOR, np.float32)
        held = np.flatnonzero(rows != _NONE)
        found[held] = self._cosines(question, rows[held].astype(np.int64))
        if self._more:
            for place in held.tolist():
                if (more := self._more.get(int(documents[place]))) is not None:
                    found[place] = max(found[place], self._cosines(question, np.array(more)).max())
        return found

    def _living(self, first: int, allowed: Mask | None) -> Places:
        """The rows from `first` on that belong to a document, one that is allowed."""
        return first + self._where(self._document_of[first : self._row_count], allowed)

    def _those(self, places: Places, allowed: Mask | None) -> Places:
        return places[self._where(self._document_of[places], allowed)]

    @staticmethod
    def _where(documents: Ints, allowed: Mask | None) -> Places:
        if allowed is None:
            return np.flatnonzero(documents != _NONE)
        return np.flatnonzero((documents != _NONE) & allowed[documents])

    def _by_document(self, places: Places, cosines: Floats) -> tuple[Ints, Floats]:
        """Each document once, with its best."""
        documents = self._document_of[places]
        if not self._more:
            return documents, cosines
        order = np.lexsort((-cosines, documents))
        documents, cosines = documents[order], cosines[order]
        first = np.flatnonzero(np.diff(documents, prepend=_NONE))
        return documents[first], cosines[first]

    def _cosines(self, question: Rows, places: Places) -> Floats:
        """Of some rows, in their order."""
        order = np.argsort(places) if len(places) > 1 and (places[1:] < places[:-1]).any() else None
        ascending = places if order is None else places[order]
        products, asked, scratch = np.empty(len(places), np.float32), question.astype(np.float32), _Scratch.of(question)
        for first in range(0, len(places), _STEP_ROWS):
            floats = scratch.floats_of(self._blocks, ascending[first : first + _STEP_ROWS])
            np.dot(floats, asked, out=products[first : first + _STEP_ROWS])
        products /= np.float32(SCALE**2)
        if order is None:
            return products
        found = np.empty_like(products)
        found[order] = products
        return found

    # Coding

    def coding(self) -> Coding | None:
        """What there is to code, None while it is not worth it or cannot be done. Tell `take_codes` what came of it."""
        if (
            self._coding_to or not self.worth_coding()
        ):  # one at a time: else a row could get the code of another's vector
            return None
        self._coding_to = self._row_count
        self._empty += len(self._free)  # rows that lie below `_coding_to` now
        self._free = []
        return Coding(list(self._blocks), self._codes, self._coding_to, self._generation)

    def worth_coding(self) -> bool:
        """Whether there are many rows, and many of them without a code."""
        new = self._row_count - self.coded
        return self._row_count > CODED_FROM and new > CODE_EVERY and can_code(dimension=len(self._sum))

    def take_codes(self, work: Coding, codes: Codes | None) -> None:
        """Use what a `coding` led to; None where it failed."""
        if work.generation == self._generation:
            self._codes, self._coding_to = codes or self._codes, 0

    def renumber(self, renumbered: Ints) -> None:
        """Give each document its new number; those that get none (-1) have no vectors any more."""
        held = self._document_of != _NONE
        self._document_of[held] = renumbered[self._document_of[held]]
        self._find_rows(int(renumbered.max(initial=_NONE)) + 1)
        if self._empty > max(_PACKED_FROM, self._row_count // 4):
            self._pack()

    def _pack(self) -> None:
        """Close the gaps. What refers to the old blocks still finds there what it knew."""
        places = self._living(0, None)
        for first in range(
            0, len(places), BLOCK_ROWS
        ):  # from higher places to lower ones: nothing is overwritten unread
            self._blocks[first // BLOCK_ROWS] = self._gathered(places[first : first + BLOCK_ROWS])
        del self._blocks[-(-len(places) // BLOCK_ROWS) :]
        self._document_of, self._row_count = self._document_of[places], len(places)
        self._free, self._empty, self._codes, self._coding_to = [], 0, None, 0
        self._generation += 1
        self._find_rows(len(self._row_of))

    # Taking apart

    def copy_for_parts(self) -> "VectorTable":
        """A copy of all that `parts` and `row_parts` read but the rows, which may change meanwhile."""
        copied = VectorTable()
        copied._blocks, copied._row_count, copied._codes = list(self._blocks), self._row_count, self._codes
        copied._document_of, copied._sum, copied._empty = self._document_of.copy(), self._sum, self._empty
        copied._free, copied._more = self._free[:], dict(self._more)
        return copied

    def parts(self, renumbered: Ints) -> Parts:
        """All but the rows, when documents get other numbers, and those that get none (-1) go with their vectors."""
        places = self._kept(renumbered)
        return {
            "document_of": renumbered[self._document_of[places]].astype(np.int32),
            "dimension": np.array([len(self._sum)], np.int64),
        }

    def row_parts(self, renumbered: Ints) -> Iterator[Rows]:
        """The rows in that order, block by block."""
        places = self._kept(renumbered)
        for first in range(0, len(places), BLOCK_ROWS):
            yield self._gathered(places[first : first + BLOCK_ROWS])

    def code_parts(self, renumbered: Ints) -> Codes | None:
        """The codes of the rows in that order: as they are, or made anew where a row in between goes."""
        places = self._kept(renumbered)
        if self._codes is None:
            return None
        if np.array_equal(places[: self.coded], np.arange(self.coded)):
            return self._codes
        firsts = range(0, len(places), BLOCK_ROWS)
        blocks = zip(firsts, self.row_parts(renumbered), strict=True)
        return self._codes.emptied().and_more(rows[: len(places) - first] for first, rows in blocks)

    def sum_of(self, blocks: Iterable[Rows]) -> Sums:
        """The sum of all rows in some blocks."""
        total = np.zeros(len(self._sum), np.int64)
        for block in blocks:
            total += block.sum(axis=0, dtype=np.int64)
        return total

    @classmethod
    def of_parts(
        cls, parts: Parts, blocks: list[Rows], total: Sums, codes: Codes | None, *, document_count: int
    ) -> "VectorTable":
        """What was taken apart. The blocks are kept, and have room for `BLOCK_ROWS` rows each."""
        made = cls()
        made._document_of, made._blocks, made._codes, made._sum = parts["document_of"], blocks, codes, total
        made._row_count = len(made._document_of)
        made._find_rows(document_count)
        return made

    def _find_rows(self, document_count: int) -> None:
        """Find the rows of each document anew."""
        self._row_of, self._more = np.full(document_count, _NONE, np.int32), {}
        places = self._living(0, None).astype(np.int32)
        documents = self._document_of[places]
        self._row_of[documents[::-1]] = places[::-1]  # the first of several
        for place in places[self._row_of[documents] != places].tolist():
            self._more.setdefault(int(self._document_of[place]), []).append(place)

    def _kept(self, renumbered: Ints) -> Places:
        places = self._living(0, None)
        kept: Places = places[renumbered[self._document_of[places]] != _NONE]
        return kept

    def _gathered(self, places: Places) -> Rows:
        """A new block with these rows."""
        block = np.zeros((BLOCK_ROWS, len(self._sum)), np.int16)
        for number in np.unique(places // BLOCK_ROWS).tolist():
            inside = np.flatnonzero(places // BLOCK_ROWS == number)
            block[inside] = self._blocks[number][places[inside] % BLOCK_ROWS]
        return block

    def _take_places(self, count: int, *, dimension: int) -> list[int]:
        if not len(self._sum):
            self._sum = np.zeros(dimension, np.int64)
        places = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first, self._row_count = self._row_count, self._row_count + count - len(places)
        while len(self._blocks) * BLOCK_ROWS < self._row_count:
            self._blocks.append(np.zeros((BLOCK_ROWS, dimension), np.int16))
        self._document_of = _with_room(self._document_of, self._row_count)
        return places + list(range(first, self._row_count))

    def _row(self, place: int) -> Rows:
        block, start = divmod(place, BLOCK_ROWS)
        row: Rows = self._blocks[block][start]
        return row

    def _places_of(self, document: int) -> list[int]:
        if document >= len(self._row_of) or self._row_of[document] == _NONE:
            return []
        return [int(self._row_of[document]), *self._more.get(document, ())]


def _dot(one: npt.NDArray[np.integer], other: npt.NDArray[np.integer]) -> int:
    return int(np.dot(one.astype(np.int64), other.astype(np.int64)))


class _Scratch(threading.local):
    """Arrays of one thread to convert rows in: fresh ones would cost more than the conversion."""

    def __init__(self) -> None:
        self._whole, self._floats = np.empty((0, 0), np.int16), np.empty((0, 0), np.float32)

    @classmethod
    def of(cls, question: Rows) -> "_Scratch":
        if _scratch._whole.shape[1] != len(question):
            _scratch._whole = np.empty((_STEP_ROWS, len(question)), np.int16)
            _scratch._floats = np.empty((_STEP_ROWS, len(question)), np.float32)
        return _scratch

    def floats_of(self, blocks: list[Rows], places: Places) -> Floats:
        """Up to `_STEP_ROWS` rows, ascending, as floats; good until the next call."""
        count, lowest, highest = len(places), int(places[0]), int(places[-1])
        block, first = divmod(lowest, BLOCK_ROWS)
        if highest - lowest + 1 == count and first + count <= BLOCK_ROWS:
            rows = blocks[block][first : first + count]
        else:
            rows = self._gathered(blocks, places)
        np.copyto(self._floats[:count], rows)
        return self._floats[:count]

    def _gathered(self, blocks: list[Rows], places: Places) -> Rows:
        touched = range(int(places[0]) // BLOCK_ROWS, int(places[-1]) // BLOCK_ROWS + 1)
        ends = np.searchsorted(places, [(block + 1) * BLOCK_ROWS for block in touched]).tolist()
        for block, start, end in zip(touched, [0, *ends[:-1]], ends, strict=True):
            inside = places[start:end] - block * BLOCK_ROWS
            np.take(blocks[block], inside, axis=0, out=self._whole[start:end], mode="clip")
        return self._whole[: len(places)]


_scratch = _Scratch()


def _with_room(numbers: Ints, count: int) -> Ints:
    """The numbers, followed by as many -1 as make `count` or more."""
    room = len(numbers)
    if count <= room:
        return numbers
    return np.concatenate([numbers, np.full(max(1024, count - room, room // 8), _NONE, np.int32)])
