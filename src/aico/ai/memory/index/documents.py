"""What the index is given and gives back, and the table of what it remembers of each document."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.analysis import Reading
from aico.ai.memory.index.parts import Parts, inside, packed_names, under, unpacked_names
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
    speaker: str | None = field(default=None, repr=False)
    """A name as it was recorded."""
    episode_of: bytes | None = None
    """A message: only its episode, the turns of its conversation with no long pause between them."""
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
    when: str = ""
    """The time the question names, where this is of that time."""


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
        self._names: dict[str, _Numbers[Any]] = {
            "conversation": self._conversations,
            "speaker": self._speakers,
            "language": self._languages,
        }

    def append(self, documents: Sequence[Document], readings: Sequence[Reading]) -> None:
        """Add rows for documents and what was read in their texts."""
        rows = [
            (
                entry.row, int.from_bytes(entry.id[:8], "big"), int.from_bytes(entry.id[8:], "big"),
                entry.kind == FACT, entry.at_us, entry.position, entry.role == "user",
                self._conversations.number(entry.conversation), self._speakers.number(entry.speaker),
                entry.believed_from_us if entry.kind == FACT else entry.at_us,
                _STILL if entry.believed_until_us is None else entry.believed_until_us,
                len(reading.terms), reading.asks, reading.tells_time, reading.tells_amount,
                self._languages.number(reading.language), reading.certain, True, entry.believed_until_us is None,
            )
            for entry, reading in zip(documents, readings, strict=True)
        ]  # fmt: skip
        first, end = self.size, self.size + len(rows)
        self._ensure_room(end)
        for column, values in zip(self._columns.values(), zip(*rows, strict=True), strict=True):
            column[first:end] = values
        self.size = end
        self._tally(first, end, weight=1)

    def size_bytes(self) -> int:
        """The memory of all columns."""
        return sum(column.nbytes for column in self._columns.values())

    def column(self, name: str) -> npt.NDArray[Any]:
        """A view of one column's rows."""
        return self._columns[name][: self.size]

    @property
    def alive(self) -> Mask:
        """Which rows still stand for a document."""
        return self.column("alive")

    @property
    def current(self) -> Mask:
        """The rows that a search without a filter may return: those alive, facts only as long as they are believed."""
        return self.column("current")

    def id_of(self, number: int) -> bytes:
        """The 16-byte id of a row."""
        high, low = self._columns["id_high"][number], self._columns["id_low"][number]
        return int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big")

    def ids_of(self, numbers: npt.NDArray[np.integer[Any]]) -> list[bytes]:
        """The ids of some rows: one conversion for all."""
        halves = np.stack([self._columns[name][numbers] for name in ("id_high", "id_low")], axis=-1)
        together = halves.astype(">u8").tobytes()
        return [together[place : place + 16] for place in range(0, len(together), 16)]

    def matching(self, where: Filter, *, believed_only: bool = True) -> Mask:
        """The rows alive that a filter lets through; facts no longer believed only if `believed_only` is off.

        Of any episode: which there are, the table does not know.
        """
        mask = self.alive.copy()
        at, is_fact = self.column("at"), self.column("is_fact")
        if where.as_of_us is None and believed_only:
            mask &= self.column("believed_until") == _STILL
        elif where.as_of_us is not None:
            mask &= (self.column("believed_from") <= where.as_of_us) & (self.column("believed_until") > where.as_of_us)
        if where.conversation is not None:
            mask &= self.column("conversation") == self._conversations.find(where.conversation)
        if where.speaker is not None:
            mask &= self.column("speaker") == self._speakers.find(where.speaker)
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
        self._columns["alive"][number] = self._columns["current"][number] = False
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

    def renumbering(self) -> Ints:
        """The number that each row gets when the dead ones are dropped, -1 for these."""
        alive = self.alive
        return np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32)

    def parts(self) -> Parts:
        """The rows alive, and the names that occur in them."""
        alive = self.alive
        columns = {name: self.column(name)[alive] for name in self._columns}
        names = {}
        for name, numbers in self._names.items():
            columns[name], kept = numbers.only(columns[name])
            names[name] = packed_names([key.hex() if isinstance(key, bytes) else key for key in kept])
        return under("column", columns) | under("names", names)

    @classmethod
    def of_parts(cls, parts: Parts) -> "DocumentTable":
        """What `parts` gave."""
        made = cls()
        columns = inside("column", parts)
        made._columns = {name: columns[name] for name in _COLUMNS}  # in the order in which rows are appended
        made.size = len(made._columns["row"])
        names = {name: unpacked_names(packed) for name, packed in inside("names", parts).items()}
        made._conversations.learn([bytes.fromhex(name) for name in names["conversation"]])
        made._speakers.learn(names["speaker"])
        made._languages.learn(names["language"])
        made._tally_all()
        return made

    def copy_for_parts(self) -> "DocumentTable":
        """A copy of all that `parts` reads: what comes later does not change it. Rows are only ever added or killed."""
        copied = DocumentTable()
        copied.size, copied._columns = self.size, {name: self.column(name) for name in self._columns}
        copied._columns |= {name: self.column(name).copy() for name in ("alive", "current")}
        for name, numbers in self._names.items():
            copied._names[name].learn(numbers.names)
        return copied

    def _tally_all(self) -> None:
        """Count rows that are all alive."""
        self.alive_count, self.total_length = self.size, int(self.column("length").sum(dtype=np.int64))
        counted = np.unique(self.column("speaker"), return_counts=True)
        self._speaker_counts = Counter(dict(zip(*(part.tolist() for part in counted), strict=True)))
        language = self.column("language").astype(np.int64) * 2 + self.column("certain")
        keys, counts = (part.tolist() for part in np.unique(language, return_counts=True))
        self._language_counts = Counter(
            {(key >> 1, bool(key & 1)): count for key, count in zip(keys, counts, strict=True)}
        )

    def _ensure_room(self, size: int) -> None:
        room = len(self._columns["row"])
        if size > room:
            room = max(1024, size, room + room // 8)
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

    def learn(self, names: Sequence[Name]) -> None:
        """Number these names from 0 on, in their order."""
        self.names = list(names)
        self._number = {name: number for number, name in enumerate(self.names)}

    def only(self, numbers: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[Name]]:
        """These numbers as they would be if only the names among them were known, and those names."""
        used = np.unique(numbers[numbers != _NO_NAME])
        anew = np.where(numbers == _NO_NAME, _NO_NAME, np.searchsorted(used, numbers)).astype(numbers.dtype)
        return anew, [self.names[number] for number in used.tolist()]


_COLUMNS: dict[str, type] = {
    "row": np.int64, "id_high": np.uint64, "id_low": np.uint64, "is_fact": np.bool_, "at": np.int64, "position": np.int64,
    "from_user": np.bool_, "conversation": np.int32, "speaker": np.int32, "believed_from": np.int64,
    "believed_until": np.int64, "length": np.int32, "asks": np.bool_, "tells_time": np.bool_, "tells_amount": np.bool_,
    "language": np.int16, "certain": np.bool_, "alive": np.bool_, "current": np.bool_,
}  # fmt: skip
"""In the order of the values in `DocumentTable.append`."""
