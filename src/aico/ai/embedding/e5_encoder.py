"""The encoder of multilingual-e5-small: the graph of this folder, filled with the file's weights, in ONNX Runtime.

Matrices run as 8-bit integers with weights of 7 bits, so that no sum of products overflows on processors without VNNI:
they need no weights, and so no vectors, of their own. The matrix behind the activation, whose input has outliers, runs in
four parts with a scale each. Figures are in docs/decisions/0015.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aico.ai.embedding.e5_file import E5File, Floats, unpacked
from aico.ai.onnx import quiet_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GRAPH = "e5-small.onnx"
_WEIGHT_LIMIT = 63
"""With 127, two products of 255 * 127 would overflow 16 bits where a processor adds pairs."""
_PARTS = 4


class E5Encoder:
    """Token ids in, one vector a text out. Any thread may use it; each call runs on its caller's thread."""

    def __init__(self, file: E5File) -> None:
        self._width, self._rows = file.width, file.word_rows()
        self._positions = file.vector("emb.pos").reshape(-1, file.width) + file.vector("emb.type")[: file.width]
        self._session = _session(file)

    def vectors(self, batch: list[list[int]]) -> Floats:
        """The mean of each text's token vectors, scaled to length 1. Fast when the texts are of about one length."""
        lengths = np.array([len(ids) for ids in batch], np.int32)
        padded = np.zeros((len(batch), lengths.max()), np.intp)
        for row, ids in zip(padded, batch, strict=True):
            row[: len(ids)] = ids
        words = self._words(padded) + self._positions[: padded.shape[1]]
        (tokens,) = self._session.run(None, {"words": words, "lengths": lengths})
        inside = np.arange(padded.shape[1]) < lengths[:, None]
        sums = (tokens * inside[..., None]).sum(axis=1)
        unit: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return unit

    def _words(self, ids: npt.NDArray[np.intp]) -> Floats:
        """Each token's row of the word table."""
        return unpacked(self._rows[ids.ravel()]).reshape(*ids.shape, self._width)


def _session(file: E5File) -> "InferenceSession":
    """One thread and no arena: a second thread gained nothing, and an arena keeps what the longest batch took."""
    onnxruntime = quiet_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # errors only
    weights = dict(_weights(file))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    graph = files(__package__).joinpath(GRAPH).read_bytes()
    session: InferenceSession = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session


def _weights(file: E5File) -> Iterator[tuple[str, npt.NDArray[Any]]]:  # 8-bit integers and floats
    """Everything the graph names, from the tensors of the file: `l0.q.w` becomes `l0.q.w.values` and `l0.q.w.scales`."""
    for name in file.names():
        layer, _, part = name.partition(".")
        if part == "fo.w":
            matrix = file.matrix(name, columns=file.inner_width).T
            for number, rows in enumerate(np.split(matrix, _PARTS)):
                yield from _quantised(name, rows, part=f".{number}")
        elif part in ("q.w", "k.w", "v.w", "ao.w", "fi.w"):
            yield from _quantised(name, file.matrix(name, columns=file.width).T)
        elif layer != "emb" or part.startswith("ln"):
            yield name, file.vector(name)


def _quantised(name: str, matrix: Floats, *, part: str = "") -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The matrix as integers, with a scale for each of its columns."""
    scales = np.abs(matrix).max(axis=0) / _WEIGHT_LIMIT
    yield f"{name}.values{part}", np.rint(matrix / scales).astype(np.int8)
    yield f"{name}.scales{part}", scales
