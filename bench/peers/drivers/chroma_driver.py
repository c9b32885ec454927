"""Chroma alone: a persistent client, one collection, cosine, filtered by user."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chromadb
from _serve import Embedder, serve
from chromadb.config import Settings

AT_ONCE = 5_000


class Chroma:
    version = chromadb.__version__

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._embed = embedder
        client = chromadb.PersistentClient(str(folder / "chroma"), settings=Settings(anonymized_telemetry=False))
        self._collection = client.get_or_create_collection(
            "memories", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None:
        for first in range(0, len(items), AT_ONCE):
            some = items[first : first + AT_ONCE]
            texts = [item["text"] for item in some]
            self._collection.add(
                ids=[item["id"] for item in some],
                documents=texts,
                embeddings=self._embed(texts),
                metadatas=[{"user": user, "speaker": item["speaker"], "at": item["at"]} for item in some],
            )

    def add(self, user: str, item: dict[str, Any]) -> None:
        self.add_many(user, [item])

    def settle(self) -> None:
        return

    def search(self, user: str, question: str, limit: int) -> list[str]:
        found = self._collection.query(
            query_embeddings=self._embed([question]), n_results=limit, where={"user": user}, include=["documents"]
        )
        return found["ids"][0]

    def close(self) -> None:
        return


if __name__ == "__main__":
    serve(Chroma)
