"""mem0 with `infer=False`, its default local vector store (Qdrant in a folder), and the bench's embedder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _serve import DIMENSION, Embedder, serve

os.environ |= {"MEM0_TELEMETRY": "False", "OPENAI_API_KEY": "none: no model is ever asked"}


class Bag:
    """The bench's embedder in the place of mem0's."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self._embedder.one(text).tolist()

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        return self._embedder(texts)


class Mem0:
    def __init__(self, folder: Path, embedder: Embedder) -> None:
        os.environ["MEM0_DIR"] = str(folder)
        import mem0

        self.version = mem0.__version__
        store = {"path": str(folder / "qdrant"), "embedding_model_dims": DIMENSION, "on_disk": True}
        self._memory = mem0.Memory.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": store},
                "history_db_path": str(folder / "history.db"),
            }
        )
        self._memory.embedding_model = Bag(embedder)

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None:
        for item in items:
            self.add(user, item)

    def add(self, user: str, item: dict[str, Any]) -> None:
        self._memory.add(
            [{"role": item["role"], "content": item["text"]}], user_id=user, metadata={"key": item["id"]}, infer=False
        )

    def settle(self) -> None:
        return

    def search(self, user: str, question: str, limit: int) -> list[str]:
        found = self._memory.search(question, filters={"user_id": user}, top_k=limit, threshold=0.0)
        return [hit["metadata"]["key"] for hit in found["results"]]

    def close(self) -> None:
        return


if __name__ == "__main__":
    serve(Mem0)
