"""The encoder once more, in plain floating point and as the papers write it: what the fast one is compared with."""

import math
from pathlib import Path

import numpy as np

from aico.ai.embedding.e5_file import E5File, Floats, unpacked


def reference_vector(path: Path, ids: list[int]) -> Floats:
    """The vector of one text (Devlin et al., 2019, arXiv:1810.04805; mean over tokens: arXiv:2402.05672)."""
    file = E5File(path)
    words = unpacked(file.word_rows()[ids])
    positions = file.vector("emb.pos").reshape(-1, file.width)[: len(ids)]
    value = _normed(file, "emb.ln", words + positions + file.vector("emb.type")[: file.width])
    for layer in range(file.layers):
        at = f"l{layer}"
        value = _normed(file, f"{at}.aln", value + _linear(file, f"{at}.ao", _attended(file, at, value)))
        inner = _linear(file, f"{at}.fi", value)
        gelu = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        value = _normed(file, f"{at}.oln", value + _linear(file, f"{at}.fo", gelu))
    mean = value.mean(axis=0)
    return mean / np.linalg.norm(mean)


def _attended(file: E5File, at: str, value: Floats) -> Floats:
    query, key, content = (
        _linear(file, f"{at}.{part}", value).reshape(len(value), file.heads, -1).swapaxes(0, 1) for part in "qkv"
    )
    scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return (shares @ content).swapaxes(0, 1).reshape(len(value), -1)


def _linear(file: E5File, name: str, value: Floats) -> Floats:
    return value @ file.matrix(f"{name}.w", columns=value.shape[1]).T + file.vector(f"{name}.b")


def _normed(file: E5File, name: str, value: Floats) -> Floats:
    centred = value - value.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    return scaled * file.vector(f"{name}.w") + file.vector(f"{name}.b")
