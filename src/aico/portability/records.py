"""Which rows are a person's memory, and how each looks as one line of an export.

One entry of KINDS describes one table; its columns are read from the database, so a column that a later schema adds
is exported without a word here. docs/export-format.md documents every line that comes of it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NewType, Protocol

from aico.clock import from_us, to_us, utc_offset_minutes
from aico.data.items import checked_namespace_text, checked_ttl_us
from aico.data.json_values import checked_json_text
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.limits import TEXT_MAX_BYTES, checked_label, checked_name, checked_text
from aico.data.row_ids import ID_BYTES, NaturalIds
from aico.errors import InvalidInput

Record = dict[str, Any]  # a JSON object of an export
RowValues = NewType("RowValues", dict[str, Value])
Natural = Callable[[NaturalIds, bytes, RowValues], bytes | None]


class Check(Protocol):
    """Looks at a value of a line."""

    def __call__(self, value: Any, /, *, field: str) -> Value:  # what the column's type takes
        """The value as it is kept. Raises InvalidInput."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of record and the table it comes from.

    `owner` is the column with the user's id, which no line repeats; `refers_to` are columns with the id of another row of
    the same person, and the tables it may be in. `instants` are microseconds, written in ISO 8601;
    `offset_of` names the column with the author's UTC offset beside one of them. `keys` are columns that have another
    name in a record. `natural` gives the id that such a row has under a vault's own naming key, None for any id.
    `checks` are for columns that hold more than any text or number, such as JSON: what cannot be read again is not kept.
    `forgotten_by` are columns: where one of their ids was forgotten, the row stays away. `computed` are columns that the
    vault fills by itself from the others.
    """

    name: str
    table: str
    owner: str = "user_id"
    refers_to: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instants: tuple[str, ...] = ()
    offset_of: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    keys: dict[str, str] = field(default_factory=dict)
    natural: Natural | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    forgotten_by: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()


def _conversation_id(ids: NaturalIds, user_id: bytes, row: RowValues) -> bytes | None:
    return ids.conversation(user_id, str(row["name"]))


def _message_id(ids: NaturalIds, user_id: bytes, row: RowValues) -> bytes | None:
    conversation, source_id = row["conversation_id"], row["source_id"]
    return (
        ids.message(conversation, source_id) if isinstance(source_id, str) and isinstance(conversation, bytes) else None
    )


def _fact_id(ids: NaturalIds, user_id: bytes, row: RowValues) -> bytes | None:
    found_by_a_model = row["model"] is not None and row["supersedes"] is None
    return ids.fact(user_id, str(row["text"])) if found_by_a_model else None


def _source_id(ids: NaturalIds, _: bytes, row: RowValues) -> bytes:
    return ids.fact_source(_id(row, "fact_id"), _id(row, "message_id"))


def _mark_id(ids: NaturalIds, _: bytes, row: RowValues) -> bytes:
    return ids.mark(_id(row, "owner_id"))


def _tag_id(ids: NaturalIds, _: bytes, row: RowValues) -> bytes:
    return ids.tag(_id(row, "owner_id"), str(row["tag"]))


def _preference_id(ids: NaturalIds, user_id: bytes, row: RowValues) -> bytes:
    return ids.preference(user_id, str(row["key"]))


def _item_id(ids: NaturalIds, user_id: bytes, row: RowValues) -> bytes:
    return ids.item(user_id, str(row["namespace"]), str(row["key"]))


def _id(row: RowValues, column: str) -> bytes:
    value = row[column]
    assert isinstance(value, bytes)  # `Table.values` made it so
    return value


_OF_A_MEMORY = {"owner_id": ("messages", "facts")}
_MERGED = ("messages", "conversations")
USER = Kind(
    "user",
    "users",
    owner="id",
    instants=("created_at", "updated_at"),
    flags=("is_active",),
    names=("name",),
    checks={"time_zone": checked_label},
)
KINDS = (
    USER,
    Kind("conversation", "conversations", instants=("created_at",), names=("name",), natural=_conversation_id),
    Kind(
        "message",
        "messages",
        refers_to={"conversation_id": ("conversations",)},
        instants=("at",),
        offset_of={"at": "utc_offset_min"},
        names=("role",),
        natural=_message_id,
        forgotten_by=("id",),
    ),
    Kind(
        "fact",
        "facts",
        refers_to={"source_message_id": ("messages",), "supersedes": ("facts",)},
        instants=("valid_from", "valid_until", "recorded_at", "superseded_at", "proposed_at"),
        natural=_fact_id,
        forgotten_by=("id", "source_message_id"),
        computed=("content_key",),
    ),
    Kind(
        "fact_source",
        "fact_sources",
        refers_to={"fact_id": ("facts",), "message_id": ("messages",)},
        natural=_source_id,
        forgotten_by=("fact_id", "message_id"),
    ),
    Kind(
        "fact_history",
        "fact_history",
        refers_to={"fact_id": ("facts",), "by_fact_id": ("facts",)},
        instants=("at",),
        forgotten_by=("fact_id",),
    ),
    Kind(
        "mark",
        "memory_marks",
        refers_to=_OF_A_MEMORY,
        flags=("favourite",),
        natural=_mark_id,
        forgotten_by=("owner_id",),
    ),
    Kind("tag", "memory_tags", refers_to=_OF_A_MEMORY, natural=_tag_id, forgotten_by=("owner_id",)),
    Kind("visit", "memory_visits", refers_to=_OF_A_MEMORY, instants=("at",), forgotten_by=("owner_id",)),
    Kind(
        "preference",
        "preferences",
        instants=("updated_at",),
        names=("key",),
        natural=_preference_id,
        checks={"value": checked_json_text},
    ),
    Kind(
        "feedback",
        "feedback_events",
        refers_to={"subject_id": ("messages", "facts", "conversations")},
        instants=("at",),
        keys={"kind": "of"},
        checks={"payload": partial(checked_json_text, kind=dict[str, Any])},
        forgotten_by=("subject_id",),
    ),
    Kind(
        "item",
        "items",
        refers_to={"memory_id": ("messages", "facts")},
        instants=("created_at", "updated_at", "expires_at"),
        names=("key",),
        natural=_item_id,
        checks={
            "namespace": checked_namespace_text,
            "value": checked_json_text,
            "texts": partial(checked_json_text, kind=list[str]),
            "ttl_us": checked_ttl_us,
        },
        forgotten_by=("memory_id",),
    ),
    Kind("merged", "merged_rows", refers_to={"id": _MERGED, "into_id": _MERGED}, instants=("at",), keys={"kind": "of"}),
    Kind("erasure", "erasures", refers_to={"id": ("messages", "facts")}, instants=("at",), keys={"kind": "of"}),
)
"""In the order of an export: what a record names comes before it."""

NOT_EXPORTED = {
    "passages": "made again from the messages",
    "embeddings": "made again from the messages and facts",
    "devices": "of the vault, not of a person",
    "user_relationships": "between two people, and the other one's record is theirs",
}
"""Tables with a change feed that are left out, and why: none is left out by being overlooked."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name there and in a record, and what it takes."""

    name: str
    key: str
    declared: str
    required: bool
    default: str | None
    """As SQL, for lines that were written before the column was added."""


class Table:
    """Turns the rows of one kind into records and back."""

    def __init__(self, kind: Kind, connection: LibSQLConnection) -> None:
        found = connection.fetch_all(
            'SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?)', (kind.table,)
        )
        left = {"row_id", *kind.offset_of.values(), *kind.computed, *({kind.owner} if kind.owner != "id" else ())}
        self.kind = kind
        self.columns = [
            Column(name, kind.keys.get(name, name), declared.upper(), bool(required) and default is None, default)
            for name, declared, required, default in found
            if name not in left
        ]
        self._insert = [column.name for column in self.columns] + [*kind.offset_of.values()]
        if kind.owner != "id":
            self._insert.append(kind.owner)

    @property
    def select(self) -> str:
        """All rows of one user, in the order they came."""
        return f"SELECT * FROM {self.kind.table} WHERE {self.kind.owner} = ? ORDER BY row_id"

    @property
    def insert(self) -> str:
        """One row, unless its id is there."""
        defaults = {column.name: column.default for column in self.columns if column.default is not None}
        places = ", ".join(f"coalesce(?, {defaults[name]})" if name in defaults else "?" for name in self._insert)
        return (
            f"INSERT INTO {self.kind.table} ({', '.join(self._insert)}) VALUES ({places}) ON CONFLICT (id) DO NOTHING"
        )

    def record(self, row: Row) -> Record:
        """The line of a row: its kind first, then its columns in the table's order, without those that are empty."""
        record: Record = {"kind": self.kind.name}
        for column in self.columns:
            if (value := row[column.name]) is not None:
                record[column.key] = self._shown(column.name, value, row)
        return record

    def _shown(self, name: str, value: Any, row: Row) -> object:  # whatever the database holds
        if isinstance(value, bytes):
            return value.hex()
        if name in self.kind.instants:
            offset = self.kind.offset_of.get(name)
            return from_us(value, utc_offset_min=row[offset] if offset else 0).isoformat(timespec="microseconds")
        return bool(value) if name in self.kind.flags else value

    def values(self, record: Record) -> RowValues:
        """The row of a line, without its owner. Raises InvalidInput, naming the field."""
        row: dict[str, Value] = {}
        for column in self.columns:
            given = record.get(column.key)
            if given is None and column.required:
                raise InvalidInput("it is missing", field=column.key)
            row[column.name] = None if given is None else self._kept(column, given, row)
        return RowValues(row)

    def parameters(self, row: RowValues, owner_id: bytes) -> Sequence[Value]:
        """What `insert` binds."""
        return [owner_id if name == self.kind.owner and name != "id" else row[name] for name in self._insert]

    def unknown_keys(self, record: Record) -> set[str]:
        """Keys of a line that this release has no column for."""
        return record.keys() - {column.key for column in self.columns} - {"kind"}

    def _kept(self, column: Column, given: object, row: dict[str, Value]) -> Value:
        value = self._as_declared(column, given, row)
        check = self.kind.checks.get(column.name)
        return value if check is None else check(value, field=column.key)

    def _as_declared(self, column: Column, given: object, row: dict[str, Value]) -> Value:
        if column.name in self.kind.instants:
            at = _instant(given, column.key)
            if offset := self.kind.offset_of.get(column.name):
                row[offset] = utc_offset_minutes(at)
            return to_us(at, field=column.key)
        if column.declared == "BLOB":
            return _bytes(given, column)
        if column.declared == "TEXT" and isinstance(given, str):
            return _text(given, column, is_name=column.name in self.kind.names)
        if column.declared == "INTEGER" and isinstance(given, int) and -(1 << 63) <= given < 1 << 63:
            return int(given)
        if column.declared == "REAL" and isinstance(given, int | float) and not isinstance(given, bool):
            with suppress(OverflowError):
                return float(given)
        raise InvalidInput(f"it is not what {column.declared} takes", field=column.key)


def _instant(given: object, key: str) -> datetime:
    try:
        at = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        raise InvalidInput("it is not a moment in ISO 8601 with its UTC offset", field=key)
    return at


def _bytes(given: object, column: Column) -> bytes:
    try:
        raw = bytes.fromhex(given) if isinstance(given, str) else b""
    except ValueError:
        raw = b""
    if not raw or (column.name == "id" and len(raw) != ID_BYTES):
        raise InvalidInput("it is not what an id looks like: 32 hexadecimal digits", field=column.key)
    return raw


def _text(given: str, column: Column, *, is_name: bool) -> str:
    if is_name:
        return checked_name(given, field=column.key)
    if column.name == "text" or len(given) > TEXT_MAX_BYTES // 4:
        return checked_text(given, field=column.key)
    return given
