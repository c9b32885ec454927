"""Receipts of what was forgotten, and the second look: is anything of it left, in the truth or in any view?"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from aico.ai.memory.hits import Hit
from aico.ai.memory.traces import Trace
from aico.ai.memory.view import View
from aico.clock import from_us
from aico.data.audit_log import Action
from aico.data.conversations import Moment
from aico.data.facts import Fact
from aico.data.libsql import LibSQLConnection, Row
from aico.data.row_ids import parsed_id, rows_by_id
from aico.errors import AicoError, InvalidInput, NotFound

OF_EITHER = (
    ("memory_marks", "owner_id"),
    ("memory_tags", "owner_id"),
    ("memory_visits", "owner_id"),
    ("feedback_events", "subject_id"),
    ("sensitive_feedback", "subject_id"),
    ("items", "memory_id"),
)
OF_MESSAGES = (
    ("embeddings", "owner_id"),  # those of its passages name the passage, and go before it
    ("passages", "message_id"),
    ("fact_sources", "message_id"),
    *OF_EITHER,
    ("messages", "id"),
)
OF_FACTS = (
    ("embeddings", "owner_id"),
    ("fact_history", "fact_id"),
    ("fact_sources", "fact_id"),
    *OF_EITHER,
    ("facts", "id"),
)
"""Where the rows lie that go with a memory: the table, and its column that holds the memory's id."""
_LOOKED_AT = tuple(dict.fromkeys((*OF_MESSAGES, *OF_FACTS, ("facts", "source_message_id"))))
_OF_NOTHING = """SELECT count(*) FROM embeddings e WHERE e.user_id = ?
    AND NOT EXISTS (SELECT 1 FROM messages WHERE id = e.owner_id)
    AND NOT EXISTS (SELECT 1 FROM facts WHERE id = e.owner_id)
    AND NOT EXISTS (SELECT 1 FROM passages p JOIN messages m ON m.id = p.message_id WHERE p.id = e.owner_id)"""
WORDING = "wording"
"""The kind of an erasure that is no row's but a fact's normalised words', so that no model brings them back."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """Something of what was forgotten that is left: in which table or view, and how many rows where that is known.

    A view that could not be asked counts as one that has it, and `trouble` says why.
    """

    place: str
    count: int | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Receipt:
    """What was forgotten, or with `preview` what would be. It keeps ids and counts; only a preview shows content.

    A plain record that may be kept and copied. A copy cannot look again; `memory.receipt` finds the original by its id.
    """

    id: str
    at: datetime
    preview: bool
    messages: tuple[str, ...]
    facts: tuple[str, ...]
    removed: dict[str, int]
    """Rows removed, by table; rows that were emptied count as removed."""
    log_cleared: bool | None
    """Whether no page image of before was left in the write-ahead log; None of a receipt that was found again."""
    drawn: tuple[str, ...] = ()
    """Facts drawn only from the forgotten messages. They are among `facts`, or were kept without their source."""
    items: tuple[Moment | Fact, ...] = field(default=(), repr=False)
    traces: tuple[Trace, ...] = field(default=(), repr=False)
    """In a preview: what else carries the content and would go."""
    near: tuple[Hit, ...] = field(default=(), repr=False)
    """In a preview: what else the words bring, and would stay."""

    def verify(self) -> bool:
        """Look for every forgotten row again, in the truth and in every view: true if none is left.

        Raises InvalidInput for a preview, which removed nothing, and for a copy.

        >>> vault.memory.forget("mia", id=said).verify()
        True
        """
        return not self.remains()

    def remains(self) -> Sequence[Remainder]:
        """Where something is left, by table and view; empty is as it should be. Raises as `verify`.

        >>> vault.memory.forget("mia", id=said).remains()
        []
        """
        if self.preview:
            raise InvalidInput("this receipt is a preview: nothing was forgotten", hint="call forget without preview")
        look_again: Callable[[Receipt], Sequence[Remainder]] | None = self.__dict__.get("_look_again")
        if look_again is None:
            raise InvalidInput(
                "this is a copy of a receipt: it cannot look again", hint="memory.receipt finds it by its id"
            )
        return look_again(self)

    def able_to(self, look_again: Callable[["Receipt"], Sequence[Remainder]]) -> "Receipt":
        """The same receipt, able to look again. Not a field: it holds the vault, which no copy may."""
        self.__dict__["_look_again"] = look_again
        return self

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_look_again"}


class Receipts:
    """Finds receipts by what the truth keeps of them, and looks whether anything is left. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, views: Sequence[View]) -> None:
        self._connection, self._views = connection, views

    def get(self, user_id: bytes, receipt: str) -> Receipt:
        """A receipt by its id. What was brought back on purpose since is no longer on it. Raises NotFound."""
        wanted = parsed_id(receipt, what="receipt")
        rows = self._connection.fetch_all(
            "SELECT receipt_id, id, kind, at FROM erasures WHERE user_id = ? AND receipt_id = ? "
            "AND kind IN ('message', 'fact') ORDER BY row_id",
            (user_id, wanted),
        )
        counts = self._counts(user_id, wanted)
        if not rows and not counts:
            raise NotFound("no receipt of this user has this id", hint="`aico forget --list` shows those there are")
        return self._rebuilt(user_id, wanted, rows, counts)

    def list(self, user_id: bytes) -> Sequence[Receipt]:
        """Every receipt, oldest first. Reads every erasure of the user once."""
        rows = self._connection.fetch_all(
            "SELECT receipt_id, id, kind, at FROM erasures WHERE user_id = ? "
            "AND kind IN ('message', 'fact') ORDER BY at, row_id",
            (user_id,),
        )
        by_receipt: dict[bytes, list[Row]] = {}
        for row in rows:
            by_receipt.setdefault(row["receipt_id"], []).append(row)
        return [self._rebuilt(user_id, id_, some, self._counts(user_id, id_)) for id_, some in by_receipt.items()]

    def remains(self, user_id: bytes, receipt: Receipt) -> Sequence[Remainder]:
        """What is left of one receipt, in the truth and in every view."""
        gone = [bytes.fromhex(id_) for id_ in (*receipt.messages, *receipt.facts)]
        found = [Remainder(table, count) for table, count in self._rows_left(user_id, gone) if count]
        return [*found, *self._held_by_views(user_id, gone)]

    def forgotten(self, user_id: bytes) -> Sequence[bytes]:
        """The ids of all memories of a person that were ever forgotten."""
        sql = "SELECT id FROM erasures WHERE user_id = ? AND kind IN ('message', 'fact')"
        return [row["id"] for row in self._connection.fetch_all(sql, (user_id,))]

    def is_left_in_a_view(self, user_id: bytes, memory: bytes) -> bool:
        """Whether this memory was forgotten, and a view has it nevertheless or cannot tell."""
        sql = "SELECT 1 FROM erasures WHERE id = ? AND user_id = ? AND kind IN ('message', 'fact')"
        return bool(self._connection.fetch_one(sql, (memory, user_id)) and self._held_by_views(user_id, [memory]))

    def remains_of_all(self) -> tuple[int, Sequence[Remainder]]:
        """How many memories were ever forgotten, and what is left of any, of any user. Time grows with their number."""
        gone: dict[bytes, list[bytes]] = {}
        for row in self._connection.fetch_all("SELECT user_id, id FROM erasures WHERE kind IN ('message', 'fact')"):
            gone.setdefault(row["user_id"], []).append(row["id"])
        left: list[Remainder] = []
        for user_id, ids in gone.items():
            left += [Remainder(table, count) for table, count in self._rows_left(user_id, ids) if count]
            orphans = self._connection.fetch_all(_OF_NOTHING, (user_id,))[0][0]
            left += [Remainder("embeddings of no memory", orphans)] if orphans else []
            left += self._held_by_views(user_id, ids)
        return sum(map(len, gone.values())), left

    def _rows_left(self, user_id: bytes, ids: Iterable[bytes]) -> Iterable[tuple[str, int]]:
        wanted = list(ids)
        for table, column in _LOOKED_AT:
            sql = f"SELECT 1 FROM {table} WHERE {column} IN ({{ids}}) AND +user_id = ?"
            if table == "passages":
                sql = f"SELECT 1 FROM passages WHERE {column} IN ({{ids}}) AND ? IS NOT NULL"
            yield table, sum(1 for _ in rows_by_id(self._connection, sql, wanted, user_id))

    def _held_by_views(self, user_id: bytes, ids: Sequence[bytes]) -> Sequence[Remainder]:
        found = []
        for view in self._views:
            try:
                if view.holds_any(user_id, ids):
                    found.append(Remainder(view.name))
            except AicoError as exc:
                found.append(Remainder(view.name, trouble=str(exc)))
        return found

    def _counts(self, user_id: bytes, receipt_id: bytes) -> dict[str, int]:
        row = self._connection.fetch_one(
            "SELECT counts FROM audit_log WHERE user_id = ? AND subject_id = ? AND action = ?",
            (user_id, receipt_id, str(Action.FORGOTTEN)),
        )
        return {} if row is None else msgspec.json.decode(row["counts"], type=dict[str, int])

    def _rebuilt(self, user_id: bytes, receipt_id: bytes, rows: Sequence[Row], counts: dict[str, int]) -> Receipt:
        ids = {kind: tuple(row["id"].hex() for row in rows if row["kind"] == kind) for kind in ("message", "fact")}
        at = rows[0]["at"] if rows else self._noted_at(receipt_id)
        receipt = Receipt(receipt_id.hex(), from_us(at), False, ids["message"], ids["fact"], counts, None)
        return receipt.able_to(lambda found: self.remains(user_id, found))

    def _noted_at(self, receipt_id: bytes) -> int:
        """When a receipt was written of which no memory is on any more."""
        return int(self._connection.fetch_all("SELECT at FROM audit_log WHERE subject_id = ?", (receipt_id,))[0][0])
