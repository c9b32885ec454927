"""The default model, multilingual-e5-small: a hundred languages in one space, on this machine, without a download."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.embedding.e5_encoder import E5Encoder
from aico.ai.embedding.e5_file import E5File
from aico.ai.embedding.e5_tokenizer import E5Tokenizer
from aico.ai.embedding.weights import check_weights
from aico.errors import ModelUnavailable

NAME = "multilingual-e5-small"
_BATCH_TEXTS, _BATCH_TOKENS = 8, 512
"""More at once is no faster on one thread, and takes more memory."""
_CHARACTERS_A_TOKEN = 64
"""No token has more, so what is behind `window` times as many characters is not looked at."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: E5Tokenizer
    encoder: E5Encoder


class E5Embedder:
    """multilingual-e5-small (Wang et al., 2024, arXiv:2402.05672) from its 4-bit weights. Any thread may use it.

    Nothing is loaded before the first `embed`, which takes about a second longer. About 250 MB in memory with Python,
    6 ms a query and 9 ms a short message on one core (docs/decisions/0015).
    """

    id = f"{NAME}/q4"
    dimension = 384
    window = 512
    query_prefix, passage_prefix = "query: ", "passage: "

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = Lock()
        self._found: _Loaded | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of some texts, prefixes included; each counts up to its 512th token.

        Raises ModelUnavailable when the weights or the packages that run them are missing or damaged.
        """
        out = np.empty((len(texts), self.dimension), np.float32)
        if not texts:
            return out
        loaded = self._loaded()
        characters = self.window * _CHARACTERS_A_TOKEN
        try:
            tokens = [loaded.tokenizer.ids(text[:characters], window=self.window) for text in texts]
            for batch in _batches([len(ids) for ids in tokens]):
                out[batch] = loaded.encoder.vectors([tokens[position] for position in batch])
        except Exception as exc:  # noqa: BLE001  # native libraries, with errors of their own, which may hold a text
            raise _failed(exc) from None
        return out

    def _loaded(self) -> _Loaded:
        with self._lock:
            if self._found is None:
                self._found = _load(self._weights)
            return self._found


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions in groups of about one length, the shortest first, so that little is spent on padding."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == _BATCH_TEXTS or (len(batch) + 1) * lengths[position] > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(position)
    yield batch


def _load(weights: Path) -> _Loaded:
    check_weights(weights)
    try:
        file = E5File(weights)
        return _Loaded(E5Tokenizer(file.vocabulary), E5Encoder(file))
    except ImportError as exc:
        raise ModelUnavailable(
            f"the model {NAME} needs a package that is not installed ({exc.name}); memories are found by their words",
            hint="pip install 'aico[embed]'",
        ) from exc
    except Exception as exc:  # native libraries, with errors of their own
        raise _failed(exc) from exc


def _failed(error: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"the model {NAME} cannot be run ({type(error).__name__}); memories are found by their words",
        hint="install the newest packages: pip install --upgrade 'aico[embed]'",
    )
