"""What a person adds to a memory, be it a message or a fact: a favourite, a note, a tone, tags, and visits to it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from aico.clock import IdSource, from_us
from aico.data.libsql import LibSQLConnection
from aico.data.limits import checked_name, checked_text
from aico.data.row_ids import NaturalIds, rows_by_id

FAVOURITES = "SELECT owner_id FROM memory_marks WHERE user_id = ? AND favourite = 1"
NOTED = "SELECT owner_id FROM memory_marks WHERE user_id = ? AND note IS NOT NULL"
TAGGED = "SELECT owner_id FROM memory_tags WHERE user_id = ? AND tag = ?"
"""Which memories are marked so, for a larger statement."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What one memory is marked with. `tone` is the feeling that goes with it, in the person's own word."""

    favourite: bool = False
    note: str | None = field(default=None, repr=False)
    tone: str | None = field(default=None, repr=False)
    tags: tuple[str, ...] = field(default=(), repr=False)
    visits: int = 0
    last_visit_at: datetime | None = None


class MarkRepository:
    """Marks of the truth. Whether the memory is the user's is the caller's to know. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, *, natural_ids: NaturalIds, ids: IdSource) -> None:
        self._connection, self._natural_ids, self._ids = connection, natural_ids, ids

    def of(self, user_id: bytes, owners: Iterable[bytes]) -> dict[bytes, Marks]:
        """The marks of each of these memories that has some."""
        wanted = list(owners)
        found: dict[bytes, Marks] = {}
        sql = "SELECT owner_id, favourite, note, tone FROM memory_marks WHERE owner_id IN ({ids}) AND +user_id = ?"
        for owner, favourite, note, tone in rows_by_id(self._connection, sql, wanted, user_id):
            found[owner] = Marks(favourite=bool(favourite), note=note, tone=tone)
        sql = "SELECT owner_id, tag FROM memory_tags WHERE owner_id IN ({ids}) AND +user_id = ? ORDER BY tag"
        for owner, tag in rows_by_id(self._connection, sql, wanted, user_id):
            marks = found.get(owner, Marks())
            found[owner] = replace(marks, tags=(*marks.tags, tag))
        sql = (
            "SELECT owner_id, count(*), max(at) FROM memory_visits "
            "WHERE owner_id IN ({ids}) AND +user_id = ? GROUP BY owner_id"
        )
        for owner, visits, last in rows_by_id(self._connection, sql, wanted, user_id):
            found[owner] = replace(found.get(owner, Marks()), visits=visits, last_visit_at=from_us(last))
        return found

    def set_favourite(self, user_id: bytes, owner: bytes, *, favourite: bool) -> None:
        """Make it a favourite, or one no longer."""
        self._set(user_id, owner, "favourite", int(favourite))

    def set_note(self, user_id: bytes, owner: bytes, note: str | None) -> None:
        """Write the note beside it, in the place of an older one; None takes it away. Raises InvalidInput."""
        self._set(user_id, owner, "note", None if note is None else checked_text(note, field="note"))

    def set_tone(self, user_id: bytes, owner: bytes, tone: str | None) -> None:
        """Name the feeling that goes with it; None takes it away. Raises InvalidInput."""
        self._set(user_id, owner, "tone", None if tone is None else checked_name(tone, field="tone"))

    def add_tags(self, user_id: bytes, owner: bytes, tags: Iterable[str]) -> None:
        """Put tags on it; those it has stay. Raises InvalidInput."""
        self._connection.execute_many(
            "INSERT INTO memory_tags (id, user_id, owner_id, tag) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
            "SET user_id = excluded.user_id, owner_id = excluded.owner_id, tag = excluded.tag "
            "WHERE user_id <> excluded.user_id",
            [(self._natural_ids.tag(owner, tag), user_id, owner, tag) for tag in map(_checked_tag, tags)],
        )

    def remove_tags(self, owner: bytes, tags: Iterable[str]) -> None:
        """Take tags off it; those it does not have are ignored. Raises InvalidInput."""
        self._connection.execute_many(
            "DELETE FROM memory_tags WHERE id = ?",
            [(self._natural_ids.tag(owner, tag),) for tag in map(_checked_tag, tags)],
        )

    def add_visit(self, user_id: bytes, owner: bytes) -> None:
        """Note that the person came back to it now."""
        self._connection.execute(
            "INSERT INTO memory_visits (id, user_id, owner_id, at) VALUES (?, ?, ?, ?)",
            (self._ids.new_id(), user_id, owner, self._ids.now_us()),
        )

    def move(self, user_id: bytes, *, old: bytes, new: bytes) -> None:
        """Hand everything over to the memory that takes this one's place. Of two notes both stay, of two tones its own."""
        found = self.of(user_id, [old, new])
        marks, own = found.get(old), found.get(new, Marks())
        if marks is None:
            return
        notes = dict.fromkeys(note for note in (own.note, marks.note) if note)
        for column, value in (
            ("favourite", int(own.favourite or marks.favourite)),
            ("note", "\n".join(notes)),
            ("tone", own.tone or marks.tone),
        ):
            if value:
                self._set(user_id, new, column, value)
        self.add_tags(user_id, new, marks.tags)
        for table in ("memory_marks", "memory_tags"):
            self._connection.execute(f"DELETE FROM {table} WHERE owner_id = ?", (old,))
        self._connection.execute("UPDATE memory_visits SET owner_id = ? WHERE owner_id = ?", (new, old))

    def tag_counts(self, user_id: bytes) -> list[tuple[str, int]]:
        """Each tag in use and how many memories have it, by name."""
        rows = self._connection.fetch_all(
            "SELECT tag, count(*) FROM memory_tags WHERE user_id = ? GROUP BY tag ORDER BY tag", (user_id,)
        )
        return [(tag, count) for tag, count in rows]

    def _set(self, user_id: bytes, owner: bytes, column: str, value: int | str | None) -> None:
        mark = self._natural_ids.mark(owner)
        self._connection.execute(
            "INSERT INTO memory_marks (id, user_id, owner_id, favourite) VALUES (?, ?, ?, 0) ON CONFLICT (id) DO UPDATE "
            "SET user_id = excluded.user_id, owner_id = excluded.owner_id, favourite = 0, note = NULL, tone = NULL "
            "WHERE user_id <> excluded.user_id",
            (mark, user_id, owner),
        )
        self._connection.execute(f"UPDATE memory_marks SET {column} = ? WHERE id = ?", (value, mark))


class Marking(ABC):
    """The calls by which a person marks memories, shared by `FactBook` and `Album`. `id` is the memory's."""

    def __init__(self, connection: LibSQLConnection, marks: MarkRepository) -> None:
        self._connection, self._marks = connection, marks

    def favourite(self, user: str, id: str, *, on: bool = True) -> None:
        """Make it a favourite, or with `on=False` one no longer. Raises NotFound.

        >>> vault.album.favourite("mia", said)
        >>> [moment.text for moment in vault.album.messages("mia", favourite=True)]
        ['I moved to Lisbon in May.']
        """
        self._mark(user, id, lambda user_id, owner: self._marks.set_favourite(user_id, owner, favourite=on))

    def note(self, user: str, id: str, text: str | None) -> None:
        """Write a note beside it, in the place of an older one; None takes it away. Raises NotFound, InvalidInput.

        >>> vault.album.note("mia", said, "It rained all day.")
        >>> vault.album.get("mia", said).marks.note
        'It rained all day.'
        """
        self._mark(user, id, lambda user_id, owner: self._marks.set_note(user_id, owner, text))

    def tone(self, user: str, id: str, tone: str | None) -> None:
        """Name the feeling that goes with it, such as "grateful"; None takes it away. Raises NotFound, InvalidInput.

        >>> vault.facts.tone("mia", fact, "glad")
        >>> vault.facts.get("mia", fact).marks.tone
        'glad'
        """
        self._mark(user, id, lambda user_id, owner: self._marks.set_tone(user_id, owner, tone))

    def tag(self, user: str, id: str, *tags: str) -> None:
        """Put tags on it. Raises NotFound, InvalidInput.

        >>> vault.album.tag("mia", said, "travel")
        >>> vault.album.get("mia", said).marks.tags
        ('travel',)
        """
        self._mark(user, id, lambda user_id, owner: self._marks.add_tags(user_id, owner, tags))

    def untag(self, user: str, id: str, *tags: str) -> None:
        """Take tags off it; those it does not have are ignored. Raises NotFound, InvalidInput.

        >>> vault.album.tag("mia", said, "travel")
        >>> vault.album.untag("mia", said, "travel")
        >>> vault.album.get("mia", said).marks.tags
        ()
        """
        self._mark(user, id, lambda _, owner: self._marks.remove_tags(owner, tags))

    def visit(self, user: str, id: str) -> None:
        """Note that the person came back to it now. Raises NotFound.

        >>> vault.album.visit("mia", said)
        >>> vault.album.get("mia", said).marks.visits
        1
        """
        self._mark(user, id, self._marks.add_visit)

    def _mark(self, user: str, id: str, work: Callable[[bytes, bytes], None]) -> None:
        def marked() -> None:
            work(*self._owner(user, id))

        self._connection.write(marked)

    @abstractmethod
    def _owner(self, user: str, id: str) -> tuple[bytes, bytes]:
        """The ids of the user and of their memory. Raises NotFound."""


def _checked_tag(tag: str) -> str:
    return checked_name(tag, field="tag")
