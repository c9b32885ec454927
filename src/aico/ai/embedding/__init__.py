"""Texts as vectors: what any embedding model offers, whichever runs it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""Unit vectors, one row a text: float32[n, d]."""


class Embedder(Protocol):
    """An embedding model. Any thread may use it.

    Two models never mix: vectors are kept under `id`, and another model, or another way to run the same one that
    gives other vectors, has another `id`.
    """

    @property
    def id(self) -> str:
        """Names the model and whatever changes its vectors, such as `multilingual-e5-small/q4`."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    @property
    def window(self) -> int:
        """How many tokens of a text count; what is longer is split into passages first."""
        ...

    @property
    def query_prefix(self) -> str:
        """What stands before a question, empty for models that make no difference."""
        ...

    @property
    def passage_prefix(self) -> str:
        """What stands before a memory."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of some texts, prefixes included, each of length 1. Raises ModelUnavailable."""
        ...
