"""What a reranker answered, looked at before anything is ordered by it."""

from typing import Any

import numpy as np

from aico.ai.reranking import Relevances
from aico.errors import ModelUnavailable


def checked_relevances(answer: Any, *, count: int, model: str) -> Relevances:  # numbers of a stranger
    """One relevance for each of `count` texts, between 0 and 1.

    Models give a probability or its logit. An answer with a number outside 0 to 1 is logits, all of it.
    Raises ModelUnavailable for what is not that many finite numbers.
    """
    try:
        scores = np.array(answer, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise unusable(model, "something else than numbers") from None
    if scores.shape != (count,):
        raise unusable(model, f"numbers of the shape {scores.shape} to {count} texts")
    if not np.isfinite(scores).all():
        raise unusable(model, "a number that is not finite")
    if scores.min(initial=0) < 0 or scores.max(initial=0) > 1:
        scores = probabilities(scores)
    return scores.astype(np.float32)


def probabilities(logits: Any) -> Any:  # NumPy's arrays of any float
    """The logistic function, without an overflow at either end."""
    return 0.5 * (1 + np.tanh(0.5 * logits))


def unusable(model: str, answered: str) -> ModelUnavailable:
    """The error for an answer that orders nothing. `answered` tells its shape, never its content."""
    return ModelUnavailable(
        f"the reranker {model} answered with {answered}; recall keeps its own order until it is mended",
        hint="check that it is a reranking model, with one score for a question and a text",
    )
