"""A second look at what was found: what any reranker offers, whichever runs it. None is used unless it is chosen."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Relevances = npt.NDArray[np.float32]
"""How likely each text answers the question, 0 to 1: float32[n]."""


class Reranker(Protocol):
    """A model that reads a question and a text together, which a vector of either cannot. Any thread may use it."""

    @property
    def id(self) -> str:
        """Names the model, such as `onnx/bge-reranker-v2-m3`."""
        ...

    def relevances(self, question: str, texts: Sequence[str]) -> Relevances:
        """How likely each of the texts answers the question, in the texts' order. Raises ModelUnavailable."""
        ...
