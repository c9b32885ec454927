"""What each driver does alike: it is told over a pipe what to do, does it through its system's own API, and says how long
that took. It runs in an environment of its own, so nothing but NumPy and the standard library is imported here.

The embedder is the same for all: vectors that were made before for texts that are known, else a bag of words, each word
a fixed random direction. Neither costs anything worth measuring.
"""

import json
import resource
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

DIMENSION = 384
USER = "mia"
_directions: dict[str, np.ndarray] = {}


class System(Protocol):
    """One memory system, as its own users would set it up."""

    version: str

    def add_many(self, user: str, items: Sequence[dict[str, Any]]) -> None: ...
    def add(self, user: str, item: dict[str, Any]) -> None: ...
    def search(self, user: str, question: str, limit: int) -> list[str]: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


class Embedder:
    """Texts to unit vectors, float32."""

    def __init__(self) -> None:
        self._known: dict[str, np.ndarray] = {}

    def learn(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """These texts have these vectors."""
        self._known.update(zip(texts, vectors, strict=True))

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        return [self.one(text).tolist() for text in texts]

    def one(self, text: str) -> np.ndarray:
        """The vector of one text."""
        known = self._known.get(text)
        if known is not None:
            return known
        total = sum((_direction(word) for word in text.lower().split()), _direction(""))
        return np.asarray(total / np.linalg.norm(total), np.float32)


def serve(start: Callable[[Path, Embedder], System]) -> None:
    """Do what standard input asks, an object a line, and answer each with an object."""
    embedder, system = Embedder(), None
    for line in sys.stdin:
        order = json.loads(line)
        began, answer = perf_counter(), {}
        match order.pop("do"):
            case "open":
                system = start(Path(order["folder"]), embedder)
                answer["version"] = system.version
            case "learn":
                embedder.learn(json.loads(Path(order["texts"]).read_text()), np.load(order["vectors"]))
            case "add_many":
                items = json.loads(Path(order["items"]).read_text())[order["first"] : order["last"]]
                began = perf_counter()
                system.add_many(order["user"], items)
            case "add":
                system.add(order["user"], order["item"])
            case "settle":
                system.settle()
            case "search":
                answer["ids"] = system.search(order["user"], order["question"], order["limit"])
            case "close":
                system.close()
        answer |= {
            "seconds": perf_counter() - began,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), flush=True)


def _direction(word: str) -> np.ndarray:
    found = _directions.get(word)
    if found is None:
        found = _directions[word] = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSION)
    return found
