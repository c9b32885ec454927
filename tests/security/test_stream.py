"""Sealed streams: cut, reordered, joined, mixed, moved or flipped, they never give a byte that is not theirs."""

import io
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.errors import FormatTooNew, InvalidInput, Tampered
from aico.security.keys import ValueKey
from aico.security.stream import CHUNK_BYTES, HEADER_BYTES, MAGIC, SealedReader, SealedWriter, open_stream, seal_stream

KEYS = {1: ValueKey(bytes(range(32)))}
PLACE = ("files", "a.jpg")
SEALED_CHUNK = CHUNK_BYTES + 16
SIZES = [0, 1, 65535, 65536, 65537, 131072, 200000]


def content(size: int) -> bytes:
    return bytes(number * 31 % 251 for number in range(size))


def sealed(plain: bytes, *, keys=KEYS, place=PLACE) -> bytes:
    target = io.BytesIO()
    assert seal_stream(io.BytesIO(plain), target, keys=keys, bound_to=place) == len(plain)
    return target.getvalue()


def opened(raw: bytes, *, keys=KEYS, place=PLACE) -> bytes:
    return b"".join(open_stream(io.BytesIO(raw), keys=keys, bound_to=place))


def refused(raw: bytes, **options) -> None:
    with pytest.raises((Tampered, FormatTooNew)):
        opened(raw, **options)


def chunks(raw: bytes) -> list[bytes]:
    body = raw[HEADER_BYTES:]
    return [body[start : start + SEALED_CHUNK] for start in range(0, len(body), SEALED_CHUNK)]


class Dribble(io.RawIOBase):
    """A pipe that hands out a few bytes at a time, however many are asked for."""

    def __init__(self, raw: bytes, most: int) -> None:
        self._rest, self._most = memoryview(raw), most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        asked = self._most if size < 0 else min(size, self._most)
        part, self._rest = bytes(self._rest[:asked]), self._rest[asked:]
        return part


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_of_any_size_round_trips(size):
    raw = sealed(content(size))
    assert opened(raw) == content(size)
    assert len(raw) == HEADER_BYTES + size + 16 * max(1, -(-size // CHUNK_BYTES))


@given(plain=st.binary(max_size=300), most=st.integers(1, 60))
def test_a_dribbling_source_changes_nothing(plain, most):
    target = io.BytesIO()
    seal_stream(Dribble(plain, most), target, keys=KEYS, bound_to=PLACE)
    assert opened(target.getvalue()) == plain
    assert b"".join(open_stream(Dribble(target.getvalue(), most), keys=KEYS, bound_to=PLACE)) == plain


def test_a_stream_goes_through_pipes():
    plain = content(200000)
    raw = sealed(plain)
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(raw), 7001):
                pipe.write(raw[start : start + 7001])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        assert b"".join(open_stream(pipe, keys=KEYS, bound_to=PLACE)) == plain
    feeder.join()


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_cut_anywhere_is_refused(size):
    raw = sealed(content(size))
    borders = {HEADER_BYTES + number * SEALED_CHUNK for number in range(size // CHUNK_BYTES + 1)}
    cuts = {
        cut
        for border in borders
        for cut in (border - 1, border, border + 1, border + 15, border + 16, border + 17, border + 30000)
    }
    for cut in sorted({0, 1, 8, 11, len(raw) - 16, len(raw) - 1} | cuts):
        if 0 <= cut < len(raw):
            refused(raw[:cut])


def test_chunks_reordered_repeated_or_left_out_are_refused():
    raw = sealed(content(200000))
    header, parts = raw[:HEADER_BYTES], chunks(raw)
    assert len(parts) == 4
    refused(header + b"".join([parts[1], parts[0], *parts[2:]]))
    refused(header + b"".join([parts[0], parts[0], *parts[1:]]))
    refused(header + b"".join([parts[0], *parts[2:]]))
    refused(header + b"".join(reversed(parts)))
    refused(header + parts[-1])


def test_streams_joined_together_are_refused():
    short, long = sealed(b"short"), sealed(content(65536))
    refused(short + short)
    refused(short + long)
    refused(long + short)
    refused(long + long[HEADER_BYTES:])
    refused(long + b"\0")
    refused(long + bytes(16))


def test_a_chunk_of_another_stream_is_refused():
    one, other = sealed(content(131072)), sealed(content(131072))
    refused(one[:HEADER_BYTES] + chunks(one)[0] + chunks(other)[1])
    refused(other[:HEADER_BYTES] + one[HEADER_BYTES:])


def test_a_stream_moved_to_another_place_is_refused():
    refused(sealed(b"a memory"), place=("files", "b.jpg"))
    refused(sealed(b"a memory"), place=("files", b"a.jpg"))


def test_another_key_or_generation_is_refused():
    raw = sealed(b"a memory")
    refused(raw, keys={1: ValueKey(bytes(32))})
    refused(raw, keys={2: KEYS[1]})
    relabelled = raw[: len(MAGIC) + 1] + b"\x00\x02" + raw[len(MAGIC) + 3 :]
    refused(relabelled, keys={2: KEYS[1]})


def test_a_newer_version_is_named_as_newer():
    raw = sealed(b"a memory")
    with pytest.raises(FormatTooNew):
        opened(raw[: len(MAGIC)] + b"\x02" + raw[len(MAGIC) + 1 :])


@pytest.mark.parametrize("size", [0, 5])
def test_every_single_bit_flip_is_refused(size):
    raw = sealed(content(size))
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(bytes(flipped))


@settings(max_examples=30)
@given(bit=st.integers(0, (HEADER_BYTES + 131073 + 48) * 8 - 1))
def test_a_flip_in_a_long_stream_gives_nothing_that_is_not_genuine(bit):
    plain = content(131073)
    flipped = bytearray(LONG)
    flipped[bit // 8] ^= 1 << bit % 8
    got = []
    with pytest.raises((Tampered, FormatTooNew)):
        got.extend(open_stream(io.BytesIO(bytes(flipped)), keys=KEYS, bound_to=PLACE))
    assert plain.startswith(b"".join(got))


LONG = sealed(content(131073))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", [1_000, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7, 1 << 20])
def test_a_stream_fills_buffers_of_any_size_and_refuses_to_fill_more(size, part):
    plain, found = content(size), b""
    reader = SealedReader(io.BytesIO(sealed(plain)), keys=KEYS, bound_to=PLACE)
    while len(found) < size:
        buffer = bytearray(min(part, size - len(found)))
        reader.fill(buffer)
        found += buffer
    assert found == plain
    with pytest.raises(Tampered):
        reader.fill(bytearray(1))


def test_a_flipped_bit_is_refused_while_filling():
    raw = sealed(content(200_000))
    for place in range(HEADER_BYTES, len(raw), 9_973):
        broken = bytearray(raw)
        broken[place] ^= 1
        with pytest.raises(Tampered):
            SealedReader(io.BytesIO(broken), keys=KEYS, bound_to=PLACE).fill(bytearray(200_000))


def test_a_place_before_the_beginning_is_refused_and_closing_twice_is_fine():
    reader = SealedReader(io.BytesIO(sealed(b"content")), keys=KEYS, bound_to=PLACE)
    with pytest.raises(InvalidInput, match="before its beginning"):
        reader.seek(-1)
    assert reader.read() == b"content"
    reader.close()
    reader.close()
    assert SealedWriter(io.BytesIO(), keys=KEYS, bound_to=PLACE).writable()


def test_a_file_cut_while_it_is_read_is_refused():
    """The attack: the end was verified at opening, then the file is cut."""
    source = io.BytesIO(sealed(content(5 * CHUNK_BYTES)))
    reader = SealedReader(source, keys=KEYS, bound_to=PLACE)
    source.truncate(HEADER_BYTES + SEALED_CHUNK + 100)
    with pytest.raises(Tampered):
        reader.fill(bytearray(4 * CHUNK_BYTES))


def test_a_source_that_is_not_ready_is_not_taken_for_its_end():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb", buffering=0) as target:
        target.write(sealed(content(100))[:50])
        with pytest.raises(InvalidInput, match="not ready"):
            list(open_stream(source, keys=KEYS, bound_to=PLACE))
