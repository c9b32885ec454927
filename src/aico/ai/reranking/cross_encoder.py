"""A cross-encoder in a folder on this machine: `model.onnx` and the `tokenizer.json` that belongs to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aico.ai.onnx import quiet_runtime
from aico.ai.reranking import Relevances
from aico.ai.reranking.answers import checked_relevances, probabilities, unusable
from aico.errors import ModelUnavailable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
_BATCH = 16
_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What exported encoders ask for, and where the tokenizer has it."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: "Tokenizer"
    session: "InferenceSession"
    padding: dict[str, int]
    """What each input is filled up with."""


class CrossEncoder:
    """Any sequence classifier with one score (a logit) or two classes (the second is "relevant"). Any thread may use it.

    Nothing is loaded before the first question. A question and a text count up to `window` tokens together. It
    runs on one core; what it costs is the model's size times the number of texts.
    """

    def __init__(self, folder: Path, *, window: int = 512) -> None:
        self.id = f"onnx/{folder.name}"
        self._folder, self._window = folder, window
        self._lock = Lock()
        self._found: _Loaded | None = None

    def relevances(self, question: str, texts: Sequence[str]) -> Relevances:
        """How likely each text answers the question. Raises ModelUnavailable (no such file, package, or kind of model)."""
        out = np.empty(len(texts), np.float32)
        if not texts:
            return out
        loaded = self._loaded()
        try:
            pairs = loaded.tokenizer.encode_batch([(question, text) for text in texts])
            for places in _batches([len(pair) for pair in pairs]):
                out[places] = self._scores(loaded, [pairs[place] for place in places])
        except ModelUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001  # native libraries, with errors of their own, which may hold a text
            raise self._failed(exc) from None
        return out

    def _scores(self, loaded: _Loaded, pairs: "list[Encoding]") -> Relevances:
        wanted = [node.name for node in loaded.session.get_inputs()]
        inputs = {name: _padded(pairs, _INPUTS[name], fill=loaded.padding[name]) for name in wanted}
        answer: Any = np.asarray(loaded.session.run(None, inputs)[0], np.float64)
        if answer.ndim == 2 and answer.shape[1] == 2:
            answer = answer[:, 1] - answer[:, 0]  # the logit of the second of two classes
        elif answer.size == len(pairs):
            answer = answer.reshape(len(pairs))
        else:
            raise unusable(self.id, f"scores of the shape {answer.shape} to {len(pairs)} texts")
        return checked_relevances(probabilities(answer), count=len(pairs), model=self.id)

    def _loaded(self) -> _Loaded:
        with self._lock:
            if self._found is None:
                try:
                    self._found = _load(self._folder, self._window)
                except ImportError as exc:
                    raise ModelUnavailable(
                        f"the reranker {self.id} needs a package that is not installed ({exc.name}); "
                        "recall keeps its own order",
                        hint="pip install 'aico[rerank]'",
                    ) from exc
                except Exception as exc:  # native libraries, with errors of their own
                    raise self._failed(exc) from exc
            return self._found

    def _failed(self, error: Exception) -> ModelUnavailable:
        return ModelUnavailable(
            f"the reranker {self.id} cannot be run ({type(error).__name__}); recall keeps its own order",
            hint=f"its folder holds {MODEL_FILE}, a cross-encoder's, and {TOKENIZER_FILE}",
        )


def _load(folder: Path, window: int) -> _Loaded:
    from tokenizers import Tokenizer

    onnxruntime = quiet_runtime()
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    padding = tokenizer.padding or {}
    tokenizer.no_padding()  # batches are filled up here, each to its own longest
    tokenizer.enable_truncation(window)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep what the longest batch took
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(folder / MODEL_FILE, options, providers=["CPUExecutionProvider"])
    unknown = {node.name for node in session.get_inputs()} - set(_INPUTS)
    if unknown:
        raise ValueError("no encoder of a pair of texts")
    fill = {
        "input_ids": padding.get("pad_id", _padding_id(tokenizer)),
        "attention_mask": 0,
        "token_type_ids": padding.get("pad_type_id", 0),
    }
    return _Loaded(tokenizer, session, fill)


def _padding_id(tokenizer: "Tokenizer") -> int:
    """The padding's token by its usual names: BERT's, RoBERTa's. The mask hides it whichever it is."""
    known = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((number for number in known if number is not None), 0)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places in groups of about one length, so that little is spent on padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for first in range(0, len(order), _BATCH):
        yield order[first : first + _BATCH]


def _padded(pairs: "list[Encoding]", part: str, *, fill: int) -> npt.NDArray[np.int64]:
    rows = [getattr(pair, part) for pair in pairs]
    whole = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for place, row in zip(whole, rows, strict=True):
        place[: len(row)] = row
    return whole
