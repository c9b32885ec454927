"""The ids of rows: 16 bytes inside, 32 hexadecimal digits outside.

A row that a caller names has a keyed hash of that name as its id, the same on every device of one person.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from aico.data.libsql import LibSQLConnection, Row
from aico.errors import NotFound
from aico.security.envelope import Place, canonical
from aico.security.keys import NaturalKey

ID_BYTES = 16
_IDS_AT_ONCE = 500  # SQLite binds 32,766 values at most


class NaturalIds:
    """Keyed BLAKE2b-128 (RFC 7693) of a natural key, domain-separated per table. Without the key an id tells nothing."""

    def __init__(self, key: NaturalKey) -> None:
        self._key = key

    def user(self, name: str, generation: int) -> bytes:
        """A person, by short name; a name that was erased begins again with the next generation."""
        return self._id(b"users", (same_name(name), generation))

    def conversation(self, user_id: bytes, name: str) -> bytes:
        """A conversation of one person, by the caller's name for it."""
        return self._id(b"conversations", (user_id, same_name(name)))

    def message(self, conversation_id: bytes, source_id: str) -> bytes:
        """A message that has an id where it comes from."""
        return self._id(b"messages", (conversation_id, source_id))

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
    try:
        found = bytes.fromhex(text)
    except (ValueError, TypeError):
        found = b""
    if len(found) != ID_BYTES:
        raise NotFound(f"no {what} has this id; nothing was changed", hint="an id has 32 hexadecimal digits")
    return found


def rows_by_id(connection: LibSQLConnection, sql: str, ids: Iterable[bytes], user_id: bytes) -> Iterator[Row]:
    """The user's rows with these ids. `sql` has `{ids}` where they go and a last `?` for the user."""
    rest = iter(ids)
    while some := list(islice(rest, _IDS_AT_ONCE)):
        yield from connection.fetch_all(sql.format(ids=", ".join("?" * len(some))), (*some, user_id))
