"""The collection `conversation_segments`: vectors under opaque ids, with everything else sealed before it enters.

    id          keyed hash of the memory and of the vector's place in it
    embedding   as it is: a sealed vector cannot be compared. Whoever runs the engine reads it
    document    the text, sealed
    metadata    keyed tags of user, conversation, kind and memory, by which it filters; and a note, sealed

Tags tell which rows belong together, never to whom. Nothing is asked of any embedding function, and nothing is fetched.
"""

import base64
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from aico.data.chroma.stored import DATABASE
from aico.errors import IntegrityError, MissingExtra, StorageError
from aico.security.envelope import Sealer
from aico.security.keys import ValueKey
from aico.settings import ChromaSpec

COLLECTION, BUILDING = "conversation_segments", "conversation_segments_next"
"""The one that answers, and the one that another model's vectors are gathered in until they are complete."""
_AT_ONCE = 500
_VACUUM_WAIT_S = 30.0
"""For other processes that have the folder open."""


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed beside a vector."""

    memory: bytes
    kind: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Near:
    """One memory and how like the question it is: the cosine, from -1 to 1."""

    note: Note
    likeness: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One vector of a memory, and what goes with it. A long message has several, numbered by `part`."""

    note: Note
    part: int
    user: bytes
    conversation: bytes | None
    text: str = field(repr=False)
    vector: npt.NDArray[np.float32] = field(repr=False)


class Segments:
    """The collections of one vault. Thread rule: one thread at a time; `near` may run beside others.

    Whatever Chroma raises, and a server that does not answer, is StorageError.
    """

    def __init__(self, spec: ChromaSpec, folder: Path, *, keys: Mapping[int, ValueKey], vault: str) -> None:
        self._sealer, self._names = Sealer(dict(keys)), keys[max(keys)].derive(b"chroma names")
        self._vault = hashlib.blake2b(vault.encode(), digest_size=16).hexdigest()  # the id is public, and outlives keys
        self._client = _client(spec, folder, self._vault)
        self._database = folder / DATABASE if spec.kind == "local" else None

    def open(self, model: str) -> tuple[int, str]:
        """How far the vectors of this model have come: the change, and the mark noted with it; 0 if there are none."""
        tag = self._tag("model", model.encode())
        for collection in self._all():
            if collection.metadata.get("model") == tag:
                return int(collection.metadata.get("position", 0)), str(collection.metadata.get("mark", ""))
        return 0, ""

    def begin(self, model: str) -> None:
        """Make an empty collection for this model's vectors, beside that of another."""
        tag, answering = self._tag("model", model.encode()), self._find(COLLECTION)
        if answering is not None and answering.metadata.get("model") == tag:
            self._drop(COLLECTION)
            answering = None
        self._drop(BUILDING)
        with _ours():
            self._client.create_collection(
                COLLECTION if answering is None else BUILDING,
                configuration={"hnsw": {"space": "cosine"}},
                metadata={"vault": self._vault, "model": tag, "keys": self._tag("keys", b"")},
                embedding_function=None,
            )

    def reach(self, model: str, position: int, mark: str) -> None:
        """Note that everything up to this change is in. A model's collection that is complete takes the other's place."""
        collection = self._of(model)
        if collection.name == BUILDING:
            self._drop(COLLECTION)
        metadata = {**(collection.metadata or {}), "position": position, "mark": mark}
        with _ours():
            collection.modify(name=COLLECTION, metadata=metadata)

    def put(self, model: str, segments: Iterable[Segment]) -> None:
        """Add vectors, or put them in the place of those of the same memory and part. May be repeated."""
        collection, batch = self._of(model), list[Segment]()
        for segment in segments:
            batch.append(segment)
            if len(batch) == _AT_ONCE:
                self._put(collection, batch)
                batch = []
        if batch:
            self._put(collection, batch)

    def remove(self, memories: Iterable[bytes]) -> None:
        """Remove every vector of these memories, of any model. Ids that are not there are ignored."""
        tags = [self._tag("memory", id_) for id_ in memories]
        for collection in self._all():
            for first in range(0, len(tags), _AT_ONCE):
                with _ours():
                    collection.delete(where={"memory": {"$in": tags[first : first + _AT_ONCE]}})

    def holds_any(self, memories: Iterable[bytes]) -> bool:
        """Whether any vector of one of these memories is in it."""
        tags = [self._tag("memory", id_) for id_ in memories]
        for collection in self._all():
            for first in range(0, len(tags), _AT_ONCE):
                where = {"memory": {"$in": tags[first : first + _AT_ONCE]}}
                with _ours():
                    if collection.get(where=where, limit=1, include=[])["ids"]:
                        return True
        return False

    def near(
        self,
        model: str,
        vector: npt.NDArray[np.float32],
        *,
        limit: int,
        user: bytes,
        conversation: bytes | None,
        kinds: Sequence[str],
    ) -> Iterator[Near]:
        """The vectors most like this one, best first, as many as are asked for and at least `limit`, if there are."""
        collection = self._of(model)
        terms: list[dict[str, Any]] = [
            {"user": self._tag("user", user)},
            {"kind": {"$in": [self._tag("kind", kind.encode()) for kind in kinds]}},
        ]
        if conversation is not None:
            terms.append({"conversation": self._tag("conversation", conversation)})
        seen, wanted = 0, limit
        while True:
            with _ours():
                found = collection.query(
                    query_embeddings=[vector.tolist()],
                    n_results=wanted,
                    where={"$and": terms},
                    include=["metadatas", "distances"],
                )
            rows = list(zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True))
            for id_, metadata, distance in rows[seen:]:
                yield Near(self._note(id_, metadata), 1.0 - float(distance))
            if len(rows) < wanted:
                return
            seen, wanted = len(rows), wanted * 4

    def text_of(self, model: str, memory: bytes) -> list[str]:
        """The texts that lie sealed with a memory's vectors."""
        where = {"memory": self._tag("memory", memory)}
        collection = self._of(model)
        with _ours():
            found = collection.get(where=where, include=["documents"])
        return [
            self._opened(id_, "text", sealed).decode()
            for id_, sealed in zip(found["ids"], found["documents"], strict=True)
        ]

    def count(self) -> int:
        """How many vectors the collection that answers has."""
        found = self._find(COLLECTION)
        with _ours():
            return 0 if found is None else int(found.count())

    def drop_of_other_keys(self) -> None:
        """Remove what was put under other keys than the newest: no tag of ours finds a row there, and it must be made anew."""
        own = self._tag("keys", b"")
        for collection in self._all():
            if collection.metadata.get("keys") != own:
                self._drop(collection.name)

    def drop(self) -> None:
        """Remove everything."""
        self._drop(COLLECTION)
        self._drop(BUILDING)

    def remove_for_good(self, memories: Iterable[bytes]) -> bool:
        """Remove these memories' vectors; whether all had to go with them.

        In the vault's own folder Chroma keeps what was removed in its queue and free pages, so everything is dropped.
        """
        if self._database is None:
            self.remove(memories)
            return False
        self.drop()
        return True

    def mark(self, *parts: bytes | int) -> str:
        """A keyed hash of what tells one history from another."""
        return self._tag("mark", repr(parts).encode())

    def _put(self, collection: Any, batch: Sequence[Segment]) -> None:
        ids = [self._tag("segment", one.note.memory + one.part.to_bytes(4, "big")) for one in batch]
        with _ours():
            collection.upsert(
                ids=ids,
                embeddings=np.array([one.vector for one in batch], np.float32),
                documents=[self._sealed(id_, "text", one.text.encode()) for id_, one in zip(ids, batch, strict=True)],
                metadatas=[
                    {
                        "user": self._tag("user", one.user),
                        "conversation": self._tag("conversation", one.conversation or b""),
                        "kind": self._tag("kind", one.note.kind.encode()),
                        "memory": self._tag("memory", one.note.memory),
                        "note": self._sealed(id_, "note", msgspec.msgpack.encode(one.note)),
                    }
                    for id_, one in zip(ids, batch, strict=True)
                ],
            )

    def _of(self, model: str) -> Any:  # a chromadb.Collection
        tag = self._tag("model", model.encode())
        for collection in self._all():
            if collection.metadata.get("model") == tag:
                return collection
        raise StorageError("Chroma has no vectors of this model; nothing was read", hint="aico views rebuild chroma")

    def _all(self) -> list[Any]:
        return [found for name in (COLLECTION, BUILDING) if (found := self._find(name)) is not None]

    def _find(self, name: str) -> Any:
        """A collection, None where there is none. Raises StorageError for another vault's."""
        with _ours():
            if name not in [collection.name for collection in self._client.list_collections()]:
                return None
            found = self._client.get_collection(name, embedding_function=None)
        if (found.metadata or {}).get("vault") != self._vault:
            raise StorageError(
                f"Chroma's collection {name} belongs to another vault or program; it was not touched",
                hint="give this vault a database of its own there",
            )
        return found

    def _drop(self, name: str) -> None:
        if self._find(name) is not None:
            with _ours():
                self._client.delete_collection(name)
                if self._database is not None:
                    _scrub(self._database)

    def _tag(self, what: str, value: bytes) -> str:
        return hashlib.blake2b(what.encode() + b"\0" + value, digest_size=16, key=self._names).hexdigest()

    def _sealed(self, id_: str, part: str, value: bytes) -> str:
        return base64.b64encode(self._sealer.seal(value, bound_to=("chroma", id_, part))).decode()

    def _opened(self, id_: str, part: str, sealed: object) -> bytes:
        try:
            return self._sealer.open(base64.b64decode(str(sealed), validate=True), bound_to=("chroma", id_, part))
        except ValueError as exc:
            raise IntegrityError(f"Chroma gave back a {part} that is not ours; it is not used") from exc

    def _note(self, id_: str, metadata: Mapping[str, object]) -> Note:
        return msgspec.msgpack.decode(self._opened(id_, "note", metadata.get("note")), type=Note)


def _scrub(database: Path) -> None:
    """Of a dropped collection Chroma leaves the rows in free pages and the folder of its index: take them away."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=_VACUUM_WAIT_S)) as opened:
        opened.execute("VACUUM")
        used = {str(id_) for (id_,) in opened.execute("SELECT id FROM segments")}
    for folder in database.parent.iterdir():
        if folder.is_dir() and folder.name not in used:
            shutil.rmtree(folder)


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, StorageError):
        raise
    except Exception as exc:  # its own errors, those of its HTTP client, panics of its core as exceptions
        raise StorageError(
            f"Chroma could not do it: {type(exc).__name__}; the truth is untouched and answers instead",
            hint="see that its server runs and is of this release",
        ) from exc


def _client(spec: ChromaSpec, folder: Path, vault: str) -> Any:
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError as exc:
        raise MissingExtra("this vault has a view in Chroma", hint="pip install 'aico[chroma]'") from exc
    quiet = Settings(anonymized_telemetry=False, is_persistent=False)
    with _ours():
        if spec.kind == "server":
            address = urlsplit(spec.url or "")
            return chromadb.HttpClient(
                host=address.hostname or "localhost",
                port=address.port or (443 if address.scheme == "https" else 8000),
                ssl=address.scheme == "https",
                headers=spec.headers(),
                settings=Settings(anonymized_telemetry=False),
                **({} if spec.database is None else {"database": spec.database}),
            )
        if spec.kind == "local":
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
        database = f"vault-{vault}"
        admin = chromadb.AdminClient(quiet)  # in one process all clients in memory share what they hold
        try:
            admin.get_database(database)
        except Exception:  # noqa: BLE001  # its kind of "not found" differs between releases
            admin.create_database(database)
        return chromadb.EphemeralClient(settings=quiet, database=database)
