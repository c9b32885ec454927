"""The ModelService of AICO's backend as an embedding model: whatever has its `get_embeddings`."""

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from typing import Any, Protocol

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.embedding.answers import checked_vectors, unusable
from aico.errors import ModelUnavailable

MODEL = "paraphrase-multilingual"
_ANSWER_WAIT_S = 60.0


class ModelService(Protocol):
    """What the backend offers: `{"success": true, "data": {"embedding": [...]}}` for one text at a time."""

    def get_embeddings(self, model: str, prompt: str) -> dict[str, Any] | Awaitable[dict[str, Any]]: ...


class ModelServiceEmbedder:
    """A ModelService, whether its method is a coroutine or not. Any thread may use it, as far as the service allows.

    Coroutines run in `loop`, the running event loop that the service belongs to, which must not be the caller's own;
    without one, each call gets a loop in a thread of its own.
    """

    query_prefix = passage_prefix = ""

    def __init__(
        self,
        service: ModelService,
        *,
        model: str = MODEL,
        window: int = 128,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.id, self.window = f"modelservice/{model}", window
        self._service, self._model, self._loop = service, model, loop
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """The length of a vector; asks the service where nothing was embedded yet. Raises ModelUnavailable."""
        if self._dimension is None:
            self._dimension = self.embed(["a"]).shape[1]
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dimension], each row of length 1. Raises ModelUnavailable."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        answers = [self._vector(answer) for answer in self._answers(texts)]
        vectors = checked_vectors(answers, count=len(texts), dimension=self._dimension, model=self.id)
        self._dimension = vectors.shape[1]
        return vectors

    def _answers(self, texts: Sequence[str]) -> list[Any]:
        try:
            if self._loop is not None:
                return asyncio.run_coroutine_threadsafe(self._ask(texts), self._loop).result(
                    _ANSWER_WAIT_S * len(texts)
                )
            with ThreadPoolExecutor(1, "aico-modelservice") as alone:  # the caller's thread may run a loop already
                return alone.submit(lambda: asyncio.run(self._ask(texts))).result()
        except Exception as exc:  # noqa: BLE001  # somebody else's code, with errors of its own
            raise ModelUnavailable(
                f"the model service failed ({type(exc).__name__}); memories are found by their words until it is back",
                hint="check that the service runs",
            ) from None

    async def _ask(self, texts: Sequence[str]) -> list[Any]:
        found = []
        for text in texts:
            answer = self._service.get_embeddings(model=self._model, prompt=text)
            found.append(await asyncio.wait_for(answer, _ANSWER_WAIT_S) if isawaitable(answer) else answer)
        return found

    def _vector(self, answer: Any) -> Any:
        if (
            not isinstance(answer, dict)
            or answer.get("success") is not True
            or not isinstance(answer.get("data"), dict)
        ):
            raise unusable(self.id, "no success")
        return answer["data"].get("embedding")
