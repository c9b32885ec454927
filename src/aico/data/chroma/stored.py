"""Reads the documents of a Chroma folder straight from its SQLite file: Chroma itself would upgrade what it opens.

Documents lie in `embedding_metadata`, one row a key, and the latest of them still in `embeddings_queue` until Chroma
moves them over, which it does when it next reads. Layout of Chroma 1.0 to 1.5; vectors are made anew, so they stay.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aico.errors import StorageError

DATABASE = "chroma.sqlite3"
DOCUMENT = "chroma:document"
DELETED = 3
"""The operation of a queue's row that takes a document away; 0 adds, 1 updates, 2 does either."""

_SETTLED = """SELECT e.embedding_id, m.key, m.string_value FROM collections c
JOIN segments s ON s.collection = c.id AND s.scope = 'METADATA'
JOIN embeddings e ON e.segment_id = s.id JOIN embedding_metadata m ON m.id = e.id
WHERE c.name = ? AND m.string_value IS NOT NULL ORDER BY e.id"""
_QUEUED = """SELECT q.id, q.operation, q.metadata FROM collections c
JOIN embeddings_queue q ON q.topic LIKE '%/' || c.id WHERE c.name = ? ORDER BY q.seq_id"""


@dataclass(slots=True)
class StoredDocument:
    """One document's text and what was noted with it, as far as that is text."""

    id: str = field(repr=False)
    text: str = field(default="", repr=False)
    metadata: dict[str, str] = field(default_factory=dict, repr=False)


def stored_documents(folder: Path, collection: str) -> list[StoredDocument]:
    """The documents of a collection in the order they came; none where there is no such collection.

    All of them are in memory, without their vectors. Raises StorageError.
    """
    found: dict[str, StoredDocument] = {}
    path = (folder / DATABASE).resolve()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as opened:
            for id, key, value in opened.execute(_SETTLED, (collection,)):
                _note(found.setdefault(id, StoredDocument(id)), {key: value})
            for id, operation, metadata in opened.execute(_QUEUED, (collection,)):
                if operation == DELETED:
                    found.pop(id, None)
                elif metadata:
                    _note(found.setdefault(id, StoredDocument(id)), _decoded(metadata))
    except (sqlite3.Error, ValueError) as exc:
        raise StorageError(
            f"the old Chroma folder cannot be read ({type(exc).__name__}); what was read before is imported",
            hint="it must be of Chroma 1.0 to 1.5, and the old AICO must not be running",
        ) from None
    return list(found.values())


def _decoded(metadata: str) -> dict[str, Any]:  # any JSON
    return msgspec.json.decode(metadata, type=dict[str, Any])


def _note(document: StoredDocument, metadata: dict[str, Any]) -> None:
    for key, value in metadata.items():
        if key == DOCUMENT:
            document.text = str(value)
        elif isinstance(value, str):
            document.metadata[key] = value


def is_there(folder: Path) -> bool:
    """Whether a folder is one of Chroma's."""
    return (folder / DATABASE).is_file()
