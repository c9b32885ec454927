"""What the index is given and gives back, and the table of what it remembers of each document."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.analysis import Reading
from aico.ai.memory.index.postings import Floats, Ints, Mask

MESSAGE, FACT = "message", "fact"
ALL_KINDS = frozenset({MESSAGE, FACT})

Name = TypeVar("Name", bytes, str)

_NO_NAME, _UNKNOWN = -1, -2
_STILL = np.iinfo(np.int64).max
"""Stands for an end that has not come."""


@dataclass(frozen=True, slots=True)
class Document:
    """What the index needs of one message or fact. Its text never shows in a repr."""

    row: int
    id: bytes
    kind: str
    """`message` or `fact`."""
    text: str = field(repr=False)
    at_us: int
    """When it was said, in µs since 1970 UTC; of a fact, since when it holds or when it was recorded."""
    utc_offset_min: int = 0
    """The author's clock, for "8 May"."""
    conversation: bytes | None = None
    position: int = 0
    """Order within a conversation is (at_us, position, id)."""
    role: str = "user"
    speaker: str | None = field(default=None, repr=False)
    believed_from_us: int = 0
    believed_until_us: int | None = None
    """When a fact was superseded or closed; None while it is believed."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents a search may return.

    Time is half open: `since_us` ≤ at < `until_us`. Without `as_of_us`, facts no longer believed are left
    out; with it, facts believed at that instant and messages said until then are returned.
    """

    conversation: bytes | None = None
    kinds: frozenset[str] = ALL_KINDS
    since_us: int | None = None
    until_us: int | None = None
    as_of_us: int | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Scored:
    """One document found, and why."""

    id: bytes
    row: int
    kind: str
    score: float
    """0..1, falling with rank; comparable between questions as far as words and vectors allow."""
    words: tuple[str, ...] = field(repr=False)
    """The question's words that the document itself holds, as the question wrote them, in its order."""
    neighbours: tuple[tuple[bytes, tuple[str, ...]], ...] = field(repr=False)
    """Neighbouring messages whose words lifted this one, with those words; strongest first, at most two."""
    same_speaker: bool
    """It was said by whom the question is about."""
    meaning: float = 0.0
    """How much it means what the question means: 0 no more than any text, 1 the same."""


class DocumentTable:
    """One row a document, in order of arrival; columns are NumPy arrays that grow. A removed row is only dead.

    Thread rule: one thread at a time.
    """

    def __init__(self) -> None:
        self.size = 0
        self.alive_count = 0
        self.total_length = 0
        """Words in all documents alive."""
        self._speaker_counts: Counter[int] = Counter()
        self._language_counts: Counter[tuple[int, bool]] = Counter()
        self._columns: dict[str, npt.NDArray[Any]] = {name: np.empty(0, kind) for name, kind in _COLUMNS.items()}
        self._conversations: _Numbers[bytes] = _Numbers()
        self._speakers: _Numbers[str] = _Numbers()
        self._languages: _Numbers[str] = _Numbers()

    def append(self, documents: Sequence[Document], readings: Sequence[Reading]) -> None:
        """Add rows for documents and what was read in their texts."""
        rows = [
            (
                entry.row, int.from_bytes(entry.id[:8], "big"), int.from_bytes(entry.id[8:], "big"),
                entry.kind == FACT, entry.at_us, entry.position, entry.role == "user",
                self._conversations.number(entry.conversation), self._speakers.number(entry.speaker),
                entry.believed_from_us if entry.kind == FACT else entry.at_us,
                _STILL if entry.believed_until_us is None else entry.believed_until_us,
                len(reading.terms), reading.asks, self._languages.number(reading.language), reading.certain, True,
            )
            for entry, reading in zip(documents, readings, strict=True)
        ]  # fmt: skip
        first, end = self.size, self.size + len(rows)
        self._ensure_room(end)
        for column, values in zip(self._columns.values(), zip(*rows, strict=True), strict=True):
            column[first:end] = values
        self.size = end
        self._tally(first, end, weight=1)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A view of one column's rows."""
        return self._columns[name][: self.size]

    @property
    def alive(self) -> Mask:
        """Which rows still stand for a document."""
        return self.column("alive")

    def id_of(self, number: int) -> bytes:
        """The 16-byte id of a row."""
        high, low = self._columns["id_high"][number], self._columns["id_low"][number]
        return int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big")

    def kind_of(self, number: int) -> str:
        """The kind of a row's document."""
        return FACT if self._columns["is_fact"][number] else MESSAGE

    def matching(self, where: Filter, *, believed_only: bool = True) -> Mask:
        """The rows alive that a filter lets through; facts no longer believed only if `believed_only` is off."""
        mask = self.alive.copy()
        at, is_fact = self.column("at"), self.column("is_fact")
        if where.as_of_us is None and believed_only:
            mask &= self.column("believed_until") == _STILL
        elif where.as_of_us is not None:
            mask &= (self.column("believed_from") <= where.as_of_us) & (self.column("believed_until") > where.as_of_us)
        if where.conversation is not None:
            mask &= self.column("conversation") == self._conversations.find(where.conversation)
        if where.since_us is not None:
            mask &= at >= where.since_us
        if where.until_us is not None:
            mask &= at < where.until_us
        if MESSAGE not in where.kinds:
            mask &= is_fact
        if FACT not in where.kinds:
            mask &= ~is_fact
        return mask

    def speakers(self) -> dict[int, str]:
        """The names of speakers who said something that is still there."""
        return {
            number: self._speakers.names[number]
            for number, count in self._speaker_counts.items()
            if count and number >= 0
        }

    def languages(self) -> tuple[list[str], str]:
        """The codes of the languages in use, sorted, and the one that prevails: most texts surely in it, then most at all."""
        votes = {}
        for number, code in enumerate(self._languages.names):
            surely, perhaps = self._language_counts[number, True], self._language_counts[number, False]
            if surely + perhaps:
                votes[code] = (surely, perhaps, code)
        return sorted(votes), max(votes, key=votes.__getitem__, default="en")

    def order_in_time(self, numbers: npt.NDArray[np.integer[Any]]) -> Ints:
        """The places of some rows, earliest first; ids settle ties."""
        at, high, low = (self.column(name)[numbers] for name in ("at", "id_high", "id_low"))
        return np.lexsort((low, high, at)).astype(np.int32)

    def order_by_score(self, numbers: npt.NDArray[np.integer[Any]], scores: Floats) -> Ints:
        """The places of some rows, highest score first, then latest first; ids settle ties."""
        at, high, low = (self.column(name)[numbers] for name in ("at", "id_high", "id_low"))
        return np.lexsort((low, high, -at, -scores)).astype(np.int32)

    def kill(self, number: int) -> None:
        """The row's document is gone."""
        self._columns["alive"][number] = False
        self._tally(number, number + 1, weight=-1)

    def _tally(self, first: int, end: int, *, weight: int) -> None:
        """Count some rows in or out of the totals."""
        speakers, languages, certain, lengths = (
            self._columns[name][first:end].tolist() for name in ("speaker", "language", "certain", "length")
        )
        self.alive_count += weight * (end - first)
        self.total_length += weight * sum(lengths)
        for speaker in speakers:
            self._speaker_counts[speaker] += weight
        for key in zip(languages, certain, strict=True):
            self._language_counts[key] += weight

    def compact(self) -> Ints:
        """Drop dead rows. Returns the new number of each old row, -1 for those dropped."""
        alive = self.alive.copy()
        renumbered = np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32)
        self._columns = {name: self.column(name)[alive] for name in self._columns}
        self.size = int(np.count_nonzero(alive))
        self._columns["conversation"] = self._conversations.keep_only(self.column("conversation"))
        self._columns["speaker"] = self._speakers.keep_only(self.column("speaker"))
        self._speaker_counts = Counter(self.column("speaker").tolist())
        return renumbered

    def _ensure_room(self, size: int) -> None:
        room = len(self._columns["row"])
        if size > room:
            room = max(1024, size, room * 3 // 2)
            for name, column in self._columns.items():
                self._columns[name] = np.empty(room, column.dtype)
                self._columns[name][: len(column)] = column


class _Numbers(Generic[Name]):
    """Small numbers for the names that came by; -1 for none."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self._number: dict[Name, int] = {}

    def number(self, name: Name | None) -> int:
        if name is None:
            return _NO_NAME
        number = self._number.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

    def find(self, name: Name) -> int:
        return self._number.get(name, _UNKNOWN)

    def keep_only(self, numbers: Ints) -> Ints:
        """Forget the names that no longer occur among `numbers`; returns these as the others are numbered now."""
        used = np.unique(numbers[numbers != _NO_NAME])
        self.names = [self.names[number] for number in used.tolist()]
        self._number = {name: number for number, name in enumerate(self.names)}
        return np.where(numbers == _NO_NAME, _NO_NAME, np.searchsorted(used, numbers)).astype(np.int32)


_COLUMNS: dict[str, type] = {
    "row": np.int64, "id_high": np.uint64, "id_low": np.uint64, "is_fact": np.bool_, "at": np.int64, "position": np.int64,
    "from_user": np.bool_, "conversation": np.int32, "speaker": np.int32, "believed_from": np.int64,
    "believed_until": np.int64, "length": np.int32, "asks": np.bool_, "language": np.int16, "certain": np.bool_, "alive": np.bool_,
}  # fmt: skip
"""In the order of the values in `DocumentTable.append`."""
