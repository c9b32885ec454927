"""An index taken apart into plain arrays: what a snapshot keeps, and what is left when dead rows are dropped."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Parts: TypeAlias = Mapping[str, Array]


def packed_names(names: Sequence[str]) -> Array:
    """Names as one array of bytes: their number of characters each, then all of them."""
    lengths = np.fromiter(map(len, names), np.uint32, len(names))
    text = "".join(names).encode("utf-8", "surrogatepass")
    head = np.array([len(names)], np.uint64)
    return np.frombuffer(head.tobytes() + lengths.tobytes() + text, np.uint8)


def unpacked_names(packed: Array) -> list[str]:
    """What `packed_names` packed."""
    whole = packed.tobytes()
    count = int.from_bytes(whole[:8], "little")
    lengths = np.frombuffer(whole, np.uint32, count, 8)
    text = whole[8 + 4 * count :].decode("utf-8", "surrogatepass")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if count else []


def under(name: str, parts: Parts) -> dict[str, Array]:
    """Parts with a name in front of each."""
    return {f"{name}.{key}": part for key, part in parts.items()}


def inside(name: str, parts: Parts) -> dict[str, Array]:
    """Those parts that have the name in front, without it."""
    start = f"{name}."
    return {key.removeprefix(start): part for key, part in parts.items() if key.startswith(start)}
