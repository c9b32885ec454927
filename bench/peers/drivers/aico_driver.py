"""This project, with its default model for texts that were embedded before, else with the bench's bag of words."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _serve import DIMENSION, Embedder, serve

import aico
from aico.testing import cheap_settings


class Bag:
    """The bench's embedder in this project's protocol."""

    id, dimension, query_prefix, passage_prefix, window = "bench/bag", DIMENSION, "", "", 100_000

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self._embedder.one(text) for text in texts], np.float32).reshape(len(texts), DIMENSION)


class Aico:
    version = aico.__version__

    def __init__(self, folder: Path, embedder: Embedder, *, own_model: bool) -> None:
        settings = cheap_settings(embedder="auto" if own_model else Bag(embedder))
        self._vault = aico.open(folder / "vault", passphrase="only a benchmark", settings=settings)
        self._ids: dict[str, str] = {}

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None:
        ids = self._vault.memory.record_many(user, [aico.Message(**_message(item)) for item in items])
        self._ids.update(zip(ids, (item["id"] for item in items), strict=True))

    def add(self, user: str, item: dict[str, Any]) -> None:
        self._ids[self._vault.memory.record(user, **_message(item))] = item["id"]

    def settle(self) -> None:
        self._vault.views.wait()

    def search(self, user: str, question: str, limit: int) -> list[str]:
        hits = self._vault.memory.recall(user, question, limit=limit, kinds=("message",))
        return [self._ids[hit.id] for hit in hits]

    def close(self) -> None:
        self._vault.close()


def _message(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": item["text"],
        "role": item["role"],
        "speaker": item["speaker"],
        "conversation": item["conversation"],
        "at": datetime.fromisoformat(item["at"]),
        "source_id": item["id"],
    }


if __name__ == "__main__":
    serve(lambda folder, embedder: Aico(folder, embedder, own_model="--own-model" in sys.argv))
