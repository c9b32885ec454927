"""Models behind an address that the user set up: Ollama, and whatever speaks OpenAI's embeddings protocol."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.embedding.answers import checked_vectors, unusable
from aico.ai.endpoint import Endpoint

_TEXTS_A_QUESTION = 64
"""Servers limit what one question may hold; OpenAI's takes 2,048 texts, small ones fewer."""
_PROBE = "a"
"""What is sent to learn the dimension, where nothing was embedded yet. Nothing of anybody's."""


class _Served(ABC):
    """A model whose vectors come from a server. Any thread may use it. The texts leave this process."""

    query_prefix = passage_prefix = ""
    kind: str

    def __init__(self, endpoint: Endpoint, model: str, *, window: int = 512) -> None:
        self.id, self.window = f"{self.kind}/{model}", window
        self._endpoint, self._model = endpoint, model
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """The length of a vector; asks the server where nothing was embedded yet. Raises ModelUnavailable."""
        if self._dimension is None:
            self._dimension = self.embed([_PROBE]).shape[1]
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dimension], each row of length 1. Raises ModelUnavailable."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        parts = (texts[start : start + _TEXTS_A_QUESTION] for start in range(0, len(texts), _TEXTS_A_QUESTION))
        return np.concatenate([self._embed_part(part) for part in parts])

    def _embed_part(self, texts: Sequence[str]) -> Vectors:
        answer = self._ask(list(texts))
        vectors = checked_vectors(answer, count=len(texts), dimension=self._dimension, model=self.id)
        self._dimension = vectors.shape[1]
        return vectors

    @abstractmethod
    def _ask(self, texts: list[str]) -> Any:
        """The server's vectors, in the texts' order, not yet looked at."""


class OllamaEmbedder(_Served):
    """A model that Ollama runs, such as `paraphrase-multilingual` (its `POST /api/embed`)."""

    kind = "ollama"

    def _ask(self, texts: list[str]) -> Any:
        answer = self._endpoint.post("api/embed", {"model": self._model, "input": texts})
        return answer.get("embeddings") if isinstance(answer, dict) else None


class OpenAIEmbedder(_Served):
    """A model behind OpenAI's embeddings protocol; the address ends where `/embeddings` begins, often in `/v1`."""

    kind = "openai"

    def _ask(self, texts: list[str]) -> Any:
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        answer = self._endpoint.post("embeddings", body)
        try:  # the order is not promised: each vector says which text it belongs to
            by_text = {int(item["index"]): item["embedding"] for item in answer["data"]}
            return [by_text[position] for position in range(len(by_text))]
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise unusable(self.id, "something else than a list of vectors") from None
