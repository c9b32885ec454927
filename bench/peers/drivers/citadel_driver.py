"""Citadel: an encrypted region for each user, hybrid recall by text and vector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import citadeldb
from _serve import DIMENSION, Embedder, serve

AT_ONCE = 1_000


class Bag:
    """The bench's embedder in Citadel's protocol."""

    dim, model_id, metric = DIMENSION, "bench", "cosine"

    def __init__(self, embedder: Embedder) -> None:
        self.embed = self.embed_queries = embedder
        self.embed_with_cancel = self.embed_queries_with_cancel = lambda texts, _: embedder(texts)


class Citadel:
    version = citadeldb.__version__

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._embedder = Bag(embedder)
        folder.mkdir(parents=True, exist_ok=True)
        options = citadeldb.DatabaseOptions(argon2_profile="iot") if _takes_profile() else None
        self._database = citadeldb.connect(
            str(folder / "citadel.db"), key="only a benchmark", create=True, region_keys=True, options=options
        )
        self._memory, self._regions = self._database.memory(), set[str]()

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None:
        self._ensure(user)
        for first in range(0, len(items), AT_ONCE):
            self._memory.remember_batch(user, [_atom(item) for item in items[first : first + AT_ONCE]])

    def add(self, user: str, item: dict[str, Any]) -> None:
        self._ensure(user)
        self._memory.remember(user, _atom(item))

    def settle(self) -> None:
        return

    def search(self, user: str, question: str, limit: int) -> list[str]:
        return [hit.payload["id"] for hit in self._memory.recall(user, text=question, k=limit)]

    def close(self) -> None:
        self._database.close()

    def _ensure(self, user: str) -> None:
        if user not in self._regions:
            self._memory.create_encrypted_region(user, self._embedder)
            self._regions.add(user)


def _atom(item: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "turn", "text": item["text"], "payload": {"id": item["id"], "speaker": item["speaker"]}}


def _takes_profile() -> bool:
    try:
        citadeldb.DatabaseOptions(argon2_profile="iot")
    except (citadeldb.CitadelError, ValueError, TypeError):
        return False
    return True


if __name__ == "__main__":
    serve(Citadel)
