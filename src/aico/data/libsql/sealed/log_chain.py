"""SQLite's log is a chain: each frame's checksum goes on from that of the one before it."""

from functools import cache, partial
from typing import Any

FRAME_HEADER = 24


class Recovery:
    """SQLite reads a log from its beginning: how far the frames follow on one another.

    Each frame's checksum goes on from that of the one before. SQLite takes one that does not for the end of its log and
    reads no further, so that is looked for here. The first `must_have` frames are in the database file in part: the log
    must not end before a commit that covers them.
    """

    def __init__(self, header: bytes, count: int, must_have: int) -> None:
        self.order = _order(header)
        self._checksum, self._count, self._must_have = header[24:], count, must_have
        self._number = self._committed = 0

    @property
    def may_end(self) -> bool:
        """Whether a commit was read that covers all that is in the database file."""
        return self._committed >= self._must_have

    @property
    def ends_too_early(self) -> bool:
        """Whether the last frame was read and the log may not end."""
        return self._number == self._count and not self.may_end

    def goes_on_with(self, frame: memoryview) -> bool:
        """Whether the next frame follows on the one before it."""
        if not follows(frame, self._checksum, self.order):
            return False
        self._checksum, self._number = bytes(frame[16:24]), self._number + 1
        if is_commit(frame):
            self._committed = self._number
        return True


def is_header(header: bytes) -> bool:
    """Whether the checksum over a WAL header is right (SQLite file format, section 4.2): a changed byte means no log."""
    return header[24:] == _checksum(header[:24], bytes(8), _order(header))


def _order(header: bytes) -> str:
    """The byte order in which this log's checksums are taken: its magic is 0x377f0682 or, big-endian, 0x377f0683."""
    return ">" if header[3:4] == b"\x83" else "<"


def is_commit(frame: memoryview) -> bool:
    return frame[4:8] != bytes(4)


def follows(frame: memoryview, before: bytes, order: str) -> bool:
    """Whether a frame's checksum is that over its own bytes, begun with the checksum of what stands before it."""
    return frame[16:24] == _checksum(bytes(frame[:8]) + bytes(frame[FRAME_HEADER:]), before, order)


def _checksum(data: bytes, before: bytes, order: str) -> bytes:
    """SQLite's running checksum (file format, section 4.2) over `data`, a multiple of eight bytes.

    One step is linear modulo 2^32: first += x + second; second += y + first. So the whole is a sum of products with the
    powers of that step, and costs NumPy microseconds where a loop takes a tenth of a millisecond a page.
    """
    import numpy as np

    words = np.frombuffer(data, f"{order}u4").astype(np.uint32)
    start = np.frombuffer(before, ">u4").astype(np.uint32)
    sums = [int(words @ weights) + int(start @ of_start) for weights, of_start in _weights(len(words) // 2)]
    return b"".join((one & 0xFFFFFFFF).to_bytes(4, "big") for one in sums)


@cache
def _weights(pairs: int) -> Any:  # arrays of uint32
    """For either sum: what each word, and the two sums before, contribute to it after so many pairs of words."""
    import numpy as np

    weights: tuple[list[int], list[int]] = ([0] * (2 * pairs), [0] * (2 * pairs))
    steps = [(1, 0), (0, 1)]  # the product of the steps behind a pair
    for pair in reversed(range(pairs)):
        for of_sum, (first, second) in zip(weights, steps, strict=True):
            of_sum[2 * pair : 2 * pair + 2] = [first + second, second]  # x adds to both sums, y to the second
        steps = [((first + second) & 0xFFFFFFFF, (first + 2 * second) & 0xFFFFFFFF) for first, second in steps]
    as_array = partial(np.array, dtype=np.uint64)
    return [
        (as_array(of).astype(np.uint32), as_array(step).astype(np.uint32))
        for of, step in zip(weights, steps, strict=True)
    ]
