"""A long JSON list, one element at a time."""

import io
import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aico.portability import elements as reading
from aico.portability.elements import elements

texts = st.text(alphabet=st.sampled_from('ab"\\[]{},:é😀\n\x00'), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def pieces(raw: bytes, chunk_bytes: int, **how):
    before, reading.CHUNK_BYTES = reading.CHUNK_BYTES, chunk_bytes
    try:
        return list(elements(io.BytesIO(raw), **how))
    finally:
        reading.CHUNK_BYTES = before


@given(
    items=st.lists(st.dictionaries(texts, values, max_size=4) | st.lists(values, max_size=4), max_size=6),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    chunk_bytes=st.integers(1, 40),
)
@example(items=[{"a": "\\"}, {"b": '\\"'}, {'"': "\\\\"}], indent=None, ascii_only=True, chunk_bytes=1)
def test_every_element_comes_whole_whatever_the_chunks(items, indent, ascii_only, chunk_bytes):
    raw = json.dumps(items, indent=indent, ensure_ascii=ascii_only).encode()
    found = pieces(raw, chunk_bytes)
    assert [json.loads(one.raw) for one in found] == items
    assert [one.number for one in found] == list(range(1, len(items) + 1))
    assert all(raw[one.offset :].startswith(one.raw) for one in found)


@given(
    items=st.lists(st.dictionaries(texts, values, max_size=3), min_size=1, max_size=4), chunk_bytes=st.integers(1, 30)
)
def test_objects_without_a_list_around_them_are_read_too(items, chunk_bytes):
    lines = b"\xef\xbb\xbf" + b"\n".join(json.dumps(one).encode() for one in items)
    assert [json.loads(one.raw) for one in pieces(lines, max(4, chunk_bytes))] == items


@given(
    raw=st.binary(max_size=60) | st.text(alphabet='[]{}",\\ a1', max_size=60).map(str.encode), chunk=st.integers(1, 20)
)
def test_any_bytes_end(raw, chunk):
    for one in pieces(raw, chunk):
        assert bool(one.raw) != bool(one.problem)


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        (b'[{"a": 1}, {"b": ', ["", "ends in the middle"]),
        (b'[{"a": 1}, {"b": 2}', ["", "", "ends in the middle"]),
        (b'[{"a": 1}, 7, {"b": 2}]', ["", "not an object", ""]),
        (b'[{"a": 1}]]', ["", "never opened"]),
        (b'[{"a": "open}, {}]', ["ends in the middle"]),
        (b"[]", []),
        (b"", []),
        (b"   \n", []),
    ],
)
def test_damage_is_told_in_its_place(raw, problems):
    for chunk_bytes in (1, 5, 1000):
        found = pieces(raw, chunk_bytes)
        assert len(found) == len(problems)
        assert all(expected in one.problem for one, expected in zip(found, problems, strict=True))


def test_an_element_too_large_is_passed_over_and_the_next_is_whole():
    raw = json.dumps([{"a": 1}, {"b": "x" * 5000}, {"c": 3}]).encode()
    found = pieces(raw, 100, most_bytes=1000)
    assert [one.problem for one in found] == ["", "it is larger than 1,000 bytes", ""]
    assert json.loads(found[2].raw) == {"c": 3}


def test_a_gigantic_string_takes_no_memory():
    class Endless(io.RawIOBase):
        left = 400

        def read(self, size=-1):
            self.left -= 1
            return b'[{"a": "' if self.left == 399 else b"x" * 1_000_000 if self.left > 0 else b""

    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [cut] = elements(Endless())
    assert "ends in the middle" in cut.problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000 or os.uname().sysname != "Linux"
