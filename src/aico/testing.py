"""For tests of what is built on AICO: a vault that opens in a millisecond, a clock that stands still."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from aico.ai.embedding import Embedder, Vectors
from aico.clock import Clock, to_us
from aico.settings import EmbedderSpec, KdfCost, Settings
from aico.vault import Vault, open_vault

PASSPHRASE = "only for tests"  # noqa: S105


class FixedClock:
    """A clock that stands at `at` until it is moved, and draws the same ids for the same seed."""

    def __init__(self, at: datetime = datetime(2026, 5, 8, 12, 0, tzinfo=UTC), *, seed: int = 0) -> None:
        self._now_us, self._random = to_us(at), Random(seed)  # noqa: S311  # ids in tests, not keys

    def now_us(self) -> int:
        """Where the clock stands, in microseconds since 1970 UTC."""
        return self._now_us

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the seed's sequence."""
        return self._random.randbytes(count)

    def move(self, by: timedelta) -> None:
        """Set the clock forward, or back with a negative span."""
        self._now_us += by // timedelta(microseconds=1)


class HashEmbedder:
    """A tiny deterministic stand-in for an embedding model: texts with the same words lie near each other.

    Each lower-case word is a fixed direction (the hashing trick); `synonyms` maps words to the one they stand for, so
    that a test can have two texts mean the same without a word in common.
    """

    query_prefix = passage_prefix = ""
    window = 512

    def __init__(self, *, dimension: int = 64, synonyms: Mapping[str, str] | None = None) -> None:
        self.id, self.dimension = f"hash/{dimension}", dimension
        self._synonyms = dict(synonyms or {})

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dimension], each row of length 1."""
        vectors = np.array([sum(map(self._direction, text.lower().split()), self._direction("")) for text in texts])
        vectors = vectors.reshape(len(texts), self.dimension)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / lengths, np.float32)

    def _direction(self, word: str) -> npt.NDArray[np.float64]:
        stem = word.strip(".,;:!?\"'()[]")
        seed = int.from_bytes(blake2b(self._synonyms.get(stem, stem).encode(), digest_size=8).digest(), "big")
        return np.random.default_rng(seed).standard_normal(self.dimension)


def cheap_settings(*, clock: Clock | None = None, embedder: Embedder | EmbedderSpec | str | None = None) -> Settings:
    """Settings whose key derivation costs a millisecond, without an embedding model unless one is given,
    and nothing in your keyring.

    Never keep anything real in such a vault.
    """
    settings = Settings(kdf=KdfCost(memory_kib=64, passes=1, lanes=1), embedder=embedder, anchor_in_keyring=False)
    return settings if clock is None else replace(settings, clock=clock)


@contextmanager
def temporary_vault(
    *, clock: Clock | None = None, embedder: Embedder | EmbedderSpec | str | None = None
) -> Iterator[Vault]:
    """An open vault in a temporary folder, gone when the block ends. Its passphrase is `PASSPHRASE`."""
    with TemporaryDirectory(prefix="aico-test-") as folder:
        settings = cheap_settings(clock=clock, embedder=embedder)
        with open_vault(Path(folder) / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
            yield vault
