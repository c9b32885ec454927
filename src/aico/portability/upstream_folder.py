"""Where an upstream AICO installation keeps what, and how its rows, entries and documents read.

The data folder holds `data/aico.db` with its salt, `data/memory/working` (LMDB) and `data/memory/semantic` (Chroma).
"""

import json
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from aico.data.chroma.stored import is_there, stored_documents
from aico.data.libsql.foreign import ForeignDatabase, foreign_database
from aico.data.lmdb.foreign import foreign_values
from aico.errors import InvalidInput, NotFound
from aico.portability.chats import instant
from aico.security.keys import Passphrase
from aico.security.upstream_keys import upstream_database_key

DATABASE, SALT = "aico.db", "aico.db.salt"
WORKING, SEMANTIC = Path("memory", "working"), Path("memory", "semantic")
WORKING_DATABASE, SEMANTIC_COLLECTION = "session_memory", "conversation_segments"
SALT_BYTES = range(8, 257)


@dataclass(frozen=True, slots=True)
class OldMessage:
    """One message as upstream kept it; `id` is upstream's, empty for a copy in its vector store."""

    user: str = field(repr=False)
    conversation: str = field(repr=False)
    role: str
    text: str = field(repr=False)
    at: datetime | None
    id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """An opened installation, which stays as it is."""

    folder: Path = field(repr=False)
    database: ForeignDatabase

    def working_messages(self) -> Generator[OldMessage | None, None, None]:
        """Those of the last 30 days, each once, a conversation's in order; None for an entry that cannot be read."""
        if (self.folder / WORKING / "data.mdb").is_file():
            with closing(foreign_values(self.folder / WORKING, WORKING_DATABASE)) as values:
                for value in values:
                    yield _working_message(value)

    def semantic_messages(self) -> Iterator[OldMessage]:
        """All that ever went into the vector store, some of them several times."""
        if is_there(self.folder / SEMANTIC):
            for document in stored_documents(self.folder / SEMANTIC, SEMANTIC_COLLECTION):
                kept = {**dict.fromkeys(("user_id", "conversation_id", "role", "timestamp"), ""), **document.metadata}
                at = moment(kept["timestamp"] or kept.get("created_at"))
                yield OldMessage(kept["user_id"], kept["conversation_id"], kept["role"], document.text, at)


@contextmanager
def opened_installation(place: Path, secret: Passphrase) -> Iterator[Installation]:
    """Open the installation in a folder: its data folder, or the folder `data` in it.

    `secret` is the master password, or the master key in hexadecimal. Raises NotFound, InvalidInput, or as
    `foreign_database` and `upstream_database_key`.
    """
    folder = _data_folder(place.expanduser())
    try:
        salt = (folder / SALT).read_bytes()
    except OSError:
        salt = b""
    if len(salt) not in SALT_BYTES:
        raise InvalidInput(
            f"{SALT} is missing or is none, and without it no key opens the old database; nothing was imported",
            hint=f"it lies beside {DATABASE}: copy both",
        )
    with foreign_database(folder / DATABASE, upstream_database_key(secret, database_salt=salt)) as database:
        yield Installation(folder, database)


def _data_folder(place: Path) -> Path:
    if not place.is_dir():
        raise NotFound("there is no such folder; nothing was imported", hint="give upstream AICO's data folder")
    for folder in (place / "data", place):
        if (folder / DATABASE).is_file():
            return folder
    raise InvalidInput(
        f"this is not an AICO installation: there is no data/{DATABASE} in it; nothing was imported",
        hint="give upstream AICO's data folder",
    )


def moment(value: object) -> datetime | None:
    """A time as upstream wrote it: UTC without saying so, with a Z behind an offset, or seconds since 1970."""
    if isinstance(value, str) and value.endswith("Z") and "+" in value:
        value = value[:-1]
    return instant(value)


def listed(value: object) -> list[str]:
    """The texts of a JSON list, none where it is something else."""
    try:
        found = json.loads(value) if isinstance(value, str) else []
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _working_message(value: bytes) -> OldMessage | None:
    try:
        entry = msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    user, conversation, role, text, id = (
        found if isinstance(found := entry.get(key), str) else ""
        for key in ("user_id", "conversation_id", "role", "content", "message_id")
    )
    return OldMessage(user, conversation, role, text, moment(entry.get("timestamp") or entry.get("_stored_at")), id)
