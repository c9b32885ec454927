"""LangGraph's SQLite store with its vector index (sqlite-vec), a namespace for each user.

Its documentation names the embedded fields `fields`, this release reads `text_fields` and else embeds the whole value.
Where Python's own SQLite loads no extension, the same store runs on the one that `pysqlite3` brings.
"""

import sqlite3
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _serve import DIMENSION, Embedder, serve
from langgraph.store.base import PutOp
from langgraph.store.sqlite import SqliteStore

AT_ONCE = 500


class LangGraph:
    version = version("langgraph-checkpoint-sqlite")

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        engine: Any = sqlite3
        if not hasattr(sqlite3.Connection, "enable_load_extension"):
            import pysqlite3

            engine = pysqlite3
        self._connection = engine.connect(str(folder / "store.db"), check_same_thread=False, isolation_level=None)
        self._store = SqliteStore(
            self._connection,
            index={"dims": DIMENSION, "embed": embedder.__call__, "fields": ["text"], "text_fields": ["text"]},
        )
        self._store.setup()

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None:
        for first in range(0, len(items), AT_ONCE):
            self._store.batch([PutOp((user,), item["id"], _value(item)) for item in items[first : first + AT_ONCE]])

    def add(self, user: str, item: dict[str, Any]) -> None:
        self._store.put((user,), item["id"], _value(item))

    def settle(self) -> None:
        return

    def search(self, user: str, question: str, limit: int) -> list[str]:
        return [found.key for found in self._store.search((user,), query=question, limit=limit)]

    def close(self) -> None:
        self._connection.close()


def _value(item: dict[str, Any]) -> dict[str, Any]:
    return {"text": item["text"], "speaker": item["speaker"], "at": item["at"]}


if __name__ == "__main__":
    serve(LangGraph)
