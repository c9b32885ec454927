"""What a model outside this process answered, looked at before anything is built on it."""

from typing import Any

import numpy as np

from aico.ai.embedding import Vectors
from aico.errors import ModelUnavailable


def checked_vectors(answer: Any, *, count: int, dimension: int | None, model: str) -> Vectors:  # JSON of a stranger
    """The answer as unit vectors: `count` of them, of the known dimension if there is one.

    Raises ModelUnavailable for anything else: lists of other lengths, what is no number, zero or infinite vectors.
    """
    try:
        vectors = np.array(answer, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise unusable(model, "something else than vectors of one length") from None
    if vectors.shape[:1] != (count,) or vectors.ndim != 2 or not vectors.shape[1]:
        raise unusable(model, f"vectors of the shape {vectors.shape} to {count} texts")
    if dimension is not None and vectors.shape[1] != dimension:
        raise unusable(model, f"vectors of {vectors.shape[1]} numbers, and of {dimension} before")
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise unusable(model, "a vector without a length")
    return np.asarray(vectors / lengths, np.float32)


def unusable(model: str, answered: str) -> ModelUnavailable:
    """The error for an answer that no vector can be made of. `answered` tells its shape, never its content."""
    return ModelUnavailable(
        f"the model {model} answered with {answered}; memories are found by their words until it is mended",
        hint="check that it is an embedding model, and that the server still runs the same one",
    )
