"""JSON values under a namespace and a key, sealed with everything else: where other frameworks keep what is theirs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aico.clock import IdSource, from_us
from aico.data.json_values import checked_json, checked_json_text, read_json
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import TEXT_MAX_BYTES, checked_name
from aico.data.row_ids import NaturalIds, parsed_id, rows_by_id
from aico.errors import InvalidInput, NotFound

Namespace = tuple[str, ...]
_ALIVE = "(expires_at IS NULL OR expires_at > ?)"
_TTL_MAX_US = 1 << 55  # about a thousand years: its end can still be written down


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its place. `namespace` begins with the broadest label."""

    id: str
    namespace: Namespace = field(repr=False)
    key: str = field(repr=False)
    value: Any = field(repr=False)  # any JSON
    memory: str | None
    """The id of the message or fact that it says more about."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A value to be kept, in the place of an older one.

    `texts` is what a search finds it by. After `ttl` without being written or asked for it is gone. With a `memory`,
    the id of a message or fact, it is forgotten when that is.
    """

    namespace: Sequence[str] = field(repr=False)
    key: str = field(repr=False)
    value: Any = field(repr=False)  # any JSON
    texts: Sequence[str] = field(default=(), repr=False)
    ttl: timedelta | None = None
    memory: str | None = None


class ItemRepository:
    """Items by user id and place. Any thread may use it; what expired is never returned, and removed by the next write."""

    def __init__(self, connection: LibSQLConnection, *, natural_ids: NaturalIds, ids: IdSource) -> None:
        self._connection, self._natural_ids, self._ids = connection, natural_ids, ids

    def new_key(self) -> str:
        """A key that comes after all earlier ones."""
        return self._ids.new_id().hex()

    def put(self, user_id: bytes, puts: Iterable[Put]) -> list[bytes]:
        """Keep each, inside the caller's transaction; their ids. Raises InvalidInput or NotFound before any is written."""
        now, rows = self._ids.now_us(), [self._row(user_id, put) for put in puts]
        self._connection.execute("DELETE FROM items WHERE expires_at <= ?", (now,))
        self._connection.execute_many(
            "INSERT INTO items (id, user_id, namespace, key, value, texts, memory_id, ttl_us, created_at, updated_at, "
            "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "user_id = excluded.user_id, namespace = excluded.namespace, key = excluded.key, value = excluded.value, texts = excluded.texts, memory_id = excluded.memory_id, ttl_us = excluded.ttl_us, "
            "updated_at = excluded.updated_at, expires_at = excluded.expires_at",
            [(*row, now, now, None if row[-1] is None else now + row[-1]) for row in rows],
        )
        return [row[0] for row in rows]

    def find(self, user_id: bytes, namespace: Sequence[str], key: str) -> Item | None:
        """The item at one place."""
        id_ = self._natural_ids.item(user_id, checked_namespace(namespace), checked_name(key, field="key"))
        row = self._connection.fetch_one(
            f"SELECT * FROM items WHERE id = ? AND user_id = ? AND {_ALIVE}", (id_, user_id, self._ids.now_us())
        )
        return None if row is None else _item(row)

    def of_memories(self, user_id: bytes, memories: Iterable[str], prefix: Sequence[str]) -> dict[str, Item]:
        """The items under a prefix that go with messages and facts, by the id of these."""
        wanted = (parsed_id(memory, what="memory") for memory in memories)
        sql = f"SELECT * FROM items WHERE memory_id IN ({{ids}}) AND +user_id = ? AND {_UNDER}"
        rows = rows_by_id(self._connection, sql, wanted, user_id, *_bounds(prefix))
        return {row["memory_id"].hex(): _item(row) for row in rows}

    def list(
        self,
        user_id: bytes,
        prefix: Sequence[str],
        *,
        limit: int = -1,
        offset: int = 0,
        newest_first: bool = False,
        holding: Mapping[str, str] | None = None,
    ) -> Sequence[Item]:
        """Items under a prefix of the namespace in the order they were first written, or the last written first.

        With `holding` those alone whose value has these texts under these keys, which are ASCII letters, digits and
        underscores: SQLite looks, some ten times as fast as reading every value.
        """
        order, texts = "key DESC" if newest_first else "row_id", holding or {}
        held = "".join(f" AND json_extract(value, '$.{_checked_key(key)}') = ?" for key in texts)
        rows = self._connection.fetch_all(
            f"SELECT * FROM items WHERE user_id = ? AND {_UNDER} AND {_ALIVE}{held} ORDER BY {order} LIMIT ? OFFSET ?",
            (user_id, *_bounds(prefix), self._ids.now_us(), *texts.values(), limit, offset),
        )
        return [_item(row) for row in rows]

    def by_ids(self, user_id: bytes, ids: Iterable[bytes], prefix: Sequence[str]) -> dict[bytes, Item]:
        """Those of some items that are under the prefix."""
        sql = f"SELECT * FROM items WHERE id IN ({{ids}}) AND user_id = ? AND {_UNDER} AND {_ALIVE}"
        rows = rows_by_id(self._connection, sql, ids, user_id, *_bounds(prefix), self._ids.now_us())
        return {row["id"]: _item(row) for row in rows}

    def namespaces(self, user_id: bytes, prefix: Sequence[str]) -> Sequence[Namespace]:
        """Every namespace under the prefix that holds something."""
        rows = self._connection.fetch_all(
            f"SELECT DISTINCT namespace FROM items WHERE user_id = ? AND {_UNDER} AND {_ALIVE}",
            (user_id, *_bounds(prefix), self._ids.now_us()),
        )
        return sorted(tuple(read_json(row["namespace"])) for row in rows)

    def refresh(self, ids: Iterable[str]) -> None:
        """Let what has a time to live begin it anew, inside the caller's transaction."""
        self._connection.execute_many(
            "UPDATE items SET expires_at = ? + ttl_us WHERE id = ? AND ttl_us IS NOT NULL",
            [(self._ids.now_us(), bytes.fromhex(id_)) for id_ in ids],
        )

    def delete(self, user_id: bytes, namespace: Sequence[str], key: str) -> int:
        """Remove the item at one place, inside the caller's transaction; how many there were."""
        id_ = self._natural_ids.item(user_id, checked_namespace(namespace), checked_name(key, field="key"))
        return self._connection.execute("DELETE FROM items WHERE id = ? AND user_id = ?", (id_, user_id)).rowcount

    def clear(self, user_id: bytes, prefix: Sequence[str]) -> int:
        """Remove all under a prefix, inside the caller's transaction; how many there were."""
        sql = f"DELETE FROM items WHERE user_id = ? AND {_UNDER}"
        return self._connection.execute(sql, (user_id, *_bounds(prefix))).rowcount

    def _row(self, user_id: bytes, put: Put) -> tuple[Any, ...]:  # what SQLite binds
        namespace, key = checked_namespace(put.namespace), checked_name(put.key, field="key")
        texts = [text for text in put.texts if text.strip()]
        return (
            self._natural_ids.item(user_id, namespace, key),
            user_id,
            namespace,
            key,
            checked_json(put.value, field="value", most_bytes=TEXT_MAX_BYTES),
            checked_json(texts, field="texts", most_bytes=TEXT_MAX_BYTES) if texts else None,
            None if put.memory is None else self._memory_id(user_id, put.memory),
            None if put.ttl is None else _ttl_us(put.ttl),
        )

    def _memory_id(self, user_id: bytes, memory: str) -> bytes:
        memory_id = parsed_id(memory, what="memory")
        for table in ("messages", "facts"):
            if self._connection.fetch_one(f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?", (memory_id, user_id)):
                return memory_id
        raise NotFound("no memory of this user has this id; nothing was written")


_UNDER = "(namespace = ? OR (namespace >= ? AND namespace < ?))"


def checked_namespace(namespace: Sequence[str], *, may_be_empty: bool = False) -> str:
    """A namespace as it is kept. Raises InvalidInput for what is no sequence of names."""
    if isinstance(namespace, str) or not isinstance(namespace, Sequence) or not (namespace or may_be_empty):
        raise InvalidInput("a namespace is a sequence of names; nothing was done", field="namespace")
    return checked_json([checked_name(label, field="namespace") for label in namespace], field="namespace")


def checked_namespace_text(text: str, *, field: str) -> str:
    """A namespace that comes as JSON, as `checked_namespace` keeps it. Raises InvalidInput."""
    labels: list[str] = read_json(checked_json_text(text, field=field, kind=list[str]))
    return checked_namespace(labels)


def _bounds(prefix: Sequence[str]) -> tuple[str, str, str]:
    """The namespace itself, and from where to where its inner ones lie: a comma follows the last shared label."""
    whole = checked_namespace(prefix, may_be_empty=True)
    if whole == "[]":
        return whole, "[", "\\"
    return whole, f"{whole[:-1]},", f"{whole[:-1]}-"


def checked_ttl_us(length_us: int, *, field: str) -> int:
    """A time to live in microseconds. Raises InvalidInput for one whose end could not be written down."""
    if not 0 < length_us < _TTL_MAX_US:
        raise InvalidInput("a time to live is longer than nothing, and no more than a thousand years", field=field)
    return length_us


def _ttl_us(ttl: timedelta) -> int:
    return checked_ttl_us(ttl // timedelta(microseconds=1), field="ttl")


def _item(row: Row) -> Item:
    return Item(
        id=row["id"].hex(),
        namespace=tuple(read_json(row["namespace"])),
        key=row["key"],
        value=read_json(row["value"]),
        memory=None if row["memory_id"] is None else row["memory_id"].hex(),
        created_at=from_us(row["created_at"]),
        updated_at=from_us(row["updated_at"]),
        expires_at=None if row["expires_at"] is None else from_us(row["expires_at"]),
    )


def is_plain_key(key: str) -> bool:
    """Whether `holding` of `list` takes this key of a value."""
    return key.isascii() and key.replace("_", "").isalnum()


def _checked_key(key: str) -> str:
    if not is_plain_key(key):
        raise InvalidInput("a key that is looked for is of ASCII letters, digits and underscores", field="holding")
    return f'"{key}"'
