"""Models that the package `fastembed` knows by name. It fetches a model from a hub the first time it is named."""

from collections.abc import Sequence
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.embedding.answers import checked_vectors
from aico.ai.onnx import quiet_runtime
from aico.errors import MissingExtra, ModelUnavailable

MODEL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


def require_fastembed() -> None:
    """Raises MissingExtra where the package is not installed."""
    if find_spec("fastembed") is None:
        raise MissingExtra(
            "models by name need the package fastembed; nothing was changed", hint="pip install 'aico[fastembed]'"
        )


class FastembedEmbedder:
    """A model of fastembed's list, such as the seed's `paraphrase-multilingual-MiniLM-L12-v2`. Any thread may use it.

    Nothing is loaded, or fetched, before the first `embed`.
    """

    query_prefix = passage_prefix = ""

    def __init__(self, model: str = MODEL, *, window: int = 128) -> None:
        self.id, self.window = f"fastembed/{model}", window
        self._name = model if "/" in model else f"sentence-transformers/{model}"
        self._lock = Lock()
        self._model: Any = None  # fastembed's TextEmbedding
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """The length of a vector; loads the model where nothing was embedded yet. Raises ModelUnavailable."""
        if self._dimension is None:
            self._dimension = self.embed(["a"]).shape[1]
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dimension], each row of length 1. Raises ModelUnavailable."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        answers = self._run(list(texts))
        vectors = checked_vectors(answers, count=len(texts), dimension=self._dimension, model=self.id)
        self._dimension = vectors.shape[1]
        return vectors

    def _run(self, texts: list[str]) -> list[Any]:
        try:
            require_fastembed()
            with self._lock:
                if self._model is None:
                    quiet_runtime()
                    from fastembed import TextEmbedding

                    self._model = TextEmbedding(self._name, threads=1)
            return list(self._model.embed(texts))
        except MissingExtra as exc:
            raise ModelUnavailable(f"{self.id} cannot be used: {exc}", hint=exc.hint) from exc
        except Exception as exc:  # noqa: BLE001  # a hub, a file system and a native runtime, each with its own errors
            raise ModelUnavailable(
                f"{self.id} cannot be used ({type(exc).__name__}); memories are found by their words",
                hint="check that fastembed knows the model's name, and that it could be fetched once",
            ) from None
