"""The ids of rows: 16 bytes inside, 32 hexadecimal digits outside.

A row that a caller names has a keyed hash of that name as its id, the same on every device of one person.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from aico.data.libsql import LibSQLConnection, Row, Value
from aico.errors import NotFound
from aico.security.envelope import Place, canonical
from aico.security.keys import NaturalKey

ID_BYTES = 16
_IDS_AT_ONCE = 500  # SQLite binds 32,766 values at most


class NaturalIds:
    """Keyed BLAKE2b-128 (RFC 7693) of a natural key, domain-separated per table. Without the key an id tells nothing."""

    def __init__(self, key: NaturalKey) -> None:
        self._key = key

    def adopt(self, key: NaturalKey) -> None:
        """Name everything by another key from now on: only while there is nothing yet that has a name."""
        self._key = key

    @property
    def key(self) -> NaturalKey:
        """The naming key, which goes with an export."""
        return self._key

    def user(self, name: str, generation: int) -> bytes:
        """A person, by short name; a name that was erased begins again with the next generation."""
        return self._id(b"users", (same_name(name), generation))

    def conversation(self, user_id: bytes, name: str) -> bytes:
        """A conversation of one person, by the caller's name for it."""
        return self._id(b"conversations", (user_id, same_name(name)))

    def message(self, conversation_id: bytes, source_id: str) -> bytes:
        """A message that has an id where it comes from."""
        return self._id(b"messages", (conversation_id, source_id))

    def fact(self, user_id: bytes, text: str) -> bytes:
        """What one person is said to hold true, however it is spelt: case, spaces and a last full stop do not count."""
        words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        return self._id(b"facts", (user_id, words.rstrip(".。!") or words))

    def fact_source(self, fact_id: bytes, message_id: bytes) -> bytes:
        """That a fact was drawn from a message."""
        return self._id(b"fact_sources", (fact_id, message_id))

    def mark(self, owner_id: bytes) -> bytes:
        """What a person marked a memory with: one row for each memory."""
        return self._id(b"memory_marks", (owner_id,))

    def tag(self, owner_id: bytes, tag: str) -> bytes:
        """A tag of a memory."""
        return self._id(b"memory_tags", (owner_id, same_name(tag)))

    def relationship(self, user_id: bytes, related_user_id: bytes, relationship_type: str) -> bytes:
        """What one person is to another."""
        return self._id(b"relationships", (user_id, related_user_id, same_name(relationship_type)))

    def preference(self, user_id: bytes, key: str) -> bytes:
        """A preference of one person, by its key."""
        return self._id(b"preferences", (user_id, same_name(key)))

    def item(self, user_id: bytes, namespace: str, key: str) -> bytes:
        """A value of another framework, by its namespace as it is kept and its key."""
        return self._id(b"items", (user_id, namespace, same_name(key)))

    def brought(self, user_id: bytes, kind: str, source_id: str) -> bytes:
        """A row of one person that another product had under an id of its own."""
        return self._id(b"brought", (user_id, kind, source_id))

    def passage(self, message_id: bytes, start: int) -> bytes:
        """A part of a message too long for an embedding model, by where it begins."""
        return self._id(b"passages", (message_id, start))

    def embedding(self, owner_id: bytes, model: str) -> bytes:
        """What one model made of one message, passage or fact. Two of equal content are two rows: one may be forgotten."""
        return self._id(b"embeddings", (owner_id, model))

    def _id(self, table: bytes, place: Place) -> bytes:
        return hashlib.blake2b(canonical(place), digest_size=ID_BYTES, key=self._key.reveal(), person=table).digest()


def same_name(name: str) -> str:
    """A name as it is kept and compared: in Unicode's NFC, so that "é" is one letter however it was typed."""
    return unicodedata.normalize("NFC", name)


def parsed_id(text: str, *, what: str) -> bytes:
    """The bytes of an id as the API shows it. Raises NotFound for what cannot be one."""
    found = _id_in(text)
    if found is None:
        raise NotFound(f"no {what} has this id; nothing was changed", hint="an id has 32 hexadecimal digits")
    return found


def is_id(text: str) -> bool:
    """Whether a text looks like an id as the API shows it."""
    return _id_in(text) is not None


def _id_in(text: str) -> bytes | None:
    try:
        found = bytes.fromhex(text)
    except (ValueError, TypeError):
        return None
    return found if len(found) == ID_BYTES else None


def rows_by_id(connection: LibSQLConnection, sql: str, ids: Iterable[bytes], *others: Value) -> Iterator[Row]:
    """The rows with these ids. `sql` has `{ids}` where they go, and a `?` behind it for each other value.

    A condition on the person wears a plus, as in `+user_id = ?`: with many ids SQLite would else think it cheaper to
    read all that the person has.
    """
    rest = iter(ids)
    while some := list(islice(rest, _IDS_AT_ONCE)):
        yield from connection.fetch_all(sql.format(ids=", ".join("?" * len(some))), (*some, *others))
