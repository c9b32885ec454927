"""Orders the best hits anew by a reranker, where one is chosen; without one, or while it fails, nothing changes."""

import time
from collections.abc import Sequence
from dataclasses import replace

from aico.ai.memory.hits import Hit
from aico.ai.reranking import Reranker
from aico.ai.reranking.answers import checked_relevances
from aico.errors import ModelUnavailable

RETRY_S = 30.0
"""How long a model that failed is left alone, so that each recall does not wait for it anew."""


class SecondLook:
    """The best `depth` hits, each read once more together with the question. Any thread may use it."""

    def __init__(self, reranker: Reranker | None, *, depth: int) -> None:
        self._reranker, self._depth = reranker, depth
        self._not_before = 0.0

    @property
    def model(self) -> str | None:
        """The chosen reranker, None without one."""
        return None if self._reranker is None else self._reranker.id

    @property
    def is_left_alone(self) -> bool:
        """Whether it failed a moment ago, so that recall answers without it."""
        return time.monotonic() < self._not_before

    def wanted(self, limit: int) -> int:
        """How many hits to find for an answer of `limit`."""
        return limit if self._reranker is None else max(limit, self._depth)

    def best(self, question: str, hits: Sequence[Hit], *, limit: int) -> list[Hit]:
        """The `limit` best hits in the order of both judgements together: the mean of a hit's score and its relevance.

        A cross-encoder says nearly 0 or nearly 1. Where it is sure it decides; where it says the same of two hits,
        what it cannot see does, such as their neighbours. A hit below `depth` was not read and counts as not relevant.
        """
        if self._reranker is None or not hits or self.is_left_alone:
            return list(hits[:limit])
        read = hits[: self._depth]
        try:
            answer = self._reranker.relevances(question, [_as_read(hit) for hit in read])
            relevances = checked_relevances(answer, count=len(read), model=self._reranker.id).tolist()
        except ModelUnavailable:
            self._not_before = time.monotonic() + RETRY_S
            return list(hits[:limit])
        judged = [_judged(hit, relevance) for hit, relevance in zip(read, relevances, strict=True)]
        judged += [replace(hit, score=hit.score / 2) for hit in hits[self._depth :]]
        return sorted(judged, key=lambda hit: -hit.score)[:limit]  # stable: of equals the first found stays first

    def try_out(self) -> None:
        """Ask the model about two letters of nobody's, if there is one; from then on it is used again.

        Raises ModelUnavailable.
        """
        if self._reranker is not None:
            checked_relevances(self._reranker.relevances("a", ["a"]), count=1, model=self._reranker.id)
            self._not_before = 0.0


def _as_read(hit: Hit) -> str:
    """The text with who said it: a question that names somebody asks for their words."""
    return hit.text if hit.speaker is None else f"{hit.speaker}: {hit.text}"


def _judged(hit: Hit, relevance: float) -> Hit:
    seen = f"read with the question: {relevance:.2f}".replace("0.", ".")
    return replace(hit, score=(hit.score + relevance) / 2, why=f"{hit.why}; {seen}")
