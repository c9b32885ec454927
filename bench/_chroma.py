"""Chroma, persistent, as the peer of `recall`: the same vectors, filtered by user, in a process of its own."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench._report import percentile, resident_mb, seconds

ADDED_AT_ONCE = 5_000
CANDIDATES = 10


def is_installed() -> bool:
    """Whether there is a peer to measure."""
    return find_spec("chromadb") is not None


def measure(
    folder: Path, vectors: npt.NDArray[np.float32], questions: npt.NDArray[np.float32], exact: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Times of a filtered query, how many of the exact ten it finds, what it takes; `folder` is new."""
    import chromadb
    from chromadb.config import Settings

    before = resident_mb()
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("conversation_segments", metadata={"hnsw:space": "ip"})
    added_s = 0.0
    for first in range(0, len(vectors), ADDED_AT_ONCE):
        some = range(first, min(first + ADDED_AT_ONCE, len(vectors)))
        added_s += seconds(
            lambda some=some: collection.add(
                ids=[str(number) for number in some],
                embeddings=vectors[some.start : some.stop],
                metadatas=[{"user": "mia"} for _ in some],
            )
        )
    query_ms, found = list[float](), list[list[int]]()
    for question in questions:
        query_ms.append(seconds(lambda q=question: found.append(_asked(collection, q))) * 1000)
    return {
        "query_p50_ms": round(percentile(query_ms, 50), 3),
        "query_p95_ms": round(percentile(query_ms, 95), 3),
        "recall@10": round(float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, exact, strict=True)])), 4),
        "added_per_s": round(len(vectors) / added_s),
        "memory_mb": round(resident_mb() - before, 1),
    }


def _asked(collection: Any, question: npt.NDArray[np.float32]) -> list[int]:
    found = collection.query(query_embeddings=question[None], n_results=CANDIDATES, where={"user": "mia"}, include=[])
    return [int(id_) for id_ in found["ids"][0]]
