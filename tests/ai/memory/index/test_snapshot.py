"""A snapshot answers like the index it was taken of, and holds nothing of what had left it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.ai.memory.index import Document, Filter, RecallIndex, snapshot
from aico.ai.memory.index.parts import packed_names, unpacked_names
from aico.ai.memory.index.snapshot import FORMAT, Head, analysis_digest, read_head, read_ids
from aico.errors import IndexOutOfStep
from tests.ai.memory.index.test_rebuild import documents, filters, queries, sizes
from tests.ai.memory.index.test_recall_index import a_message, apart
from tests.ai.memory.index.test_vectors import asked, vectors

steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "vectors", "vectors", "remove", "drop", "search"]),
        st.lists(st.tuples(documents(), vectors), min_size=1, max_size=4),
    ),
    max_size=6,
)


class Bytes(io.BytesIO):
    """What was written, to be read as a snapshot is."""

    def fill(self, target) -> None:
        view = memoryview(target).cast("B")
        assert self.readinto(view) == len(view)


def written(index: RecallIndex) -> bytes:
    target = Bytes()
    index.freeze().write(target, lambda arrays: Head(FORMAT, analysis_digest(), 1, "m", 7, b"k", 9, arrays))
    return target.getvalue()


def read_back(raw: bytes) -> RecallIndex:
    source = Bytes(raw)
    index = RecallIndex.of_snapshot(source, Head(**{**fields(read_head(source)), "gap_us": 10_800_000_000}))
    assert source.read() == b"", "every byte belongs to something"
    return index


def fields(head: Head) -> dict:
    return {name: getattr(head, name) for name in head.__struct_fields__}


def take(index: RecallIndex, step: str, entries: list, query: str, meant: np.ndarray) -> None:
    ids = [document.id for document, _ in entries]
    if step == "add":
        index.add(document for document, _ in entries)
    elif step == "vectors":
        index.add_vectors(ids, np.stack([vector for _, vector in entries]))
    elif step == "remove":
        index.remove(ids)
    elif step == "drop":
        index.drop_vectors(ids)
    else:
        index.search(query, meaning=asked(meant))


@settings(max_examples=150, deadline=None)
@given(before=steps, after=steps, query=queries, meant=vectors, where=filters)
def test_after_any_history_a_snapshot_goes_on_like_the_index(
    before: list, after: list, query: str, meant: np.ndarray, where: Filter
) -> None:
    with sizes(many=3, recent=2, compact_from=3):
        index = RecallIndex()
        for step, entries in before:
            take(index, step, entries, query, meant)
        again = read_back(written(index))
        for rest in [[], after]:
            for step, entries in rest:
                take(index, step, entries, query, meant)
                take(again, step, entries, query, meant)
            assert (len(again), again.vector_count) == (len(index), index.vector_count)
            for meaning in (None, asked(meant)):
                assert again.search(query, where=where, meaning=meaning) == index.search(
                    query, where=where, meaning=meaning
                )
            assert again.containing_all(query, where) == index.containing_all(query, where)


@settings(max_examples=100, deadline=None)
@given(kept=st.lists(documents(), max_size=8), gone=st.lists(documents(), max_size=8), meant=vectors)
def test_nothing_of_what_left_is_in_the_bytes(kept: list[Document], gone: list[Document], meant: np.ndarray) -> None:
    index, alone = RecallIndex(), RecallIndex()
    alone.add(kept)
    index.add(gone)
    index.add_vectors([entry.id for entry in gone], np.stack([meant] * len(gone)) if gone else np.zeros((0, 8)))
    index.add(kept)
    index.drop_vectors()
    index.remove({entry.id for entry in gone} - {entry.id for entry in kept})
    assert len(written(index)) == len(written(alone))
    assert read_ids_of(written(index)) == {entry.id for entry in kept}


def read_ids_of(raw: bytes) -> set[bytes]:
    source = Bytes(raw)
    return read_ids(source, read_head(source))


def test_the_words_name_and_vector_of_a_removed_message_are_not_in_the_bytes() -> None:
    index = RecallIndex()
    index.add([*apart("a red bicycle", "soup for dinner"), a_message(7, "the parrot spoke Katalanisch", speaker="Rui")])
    vector = np.array([[0.6, 0.8, 0, 0, 0, 0, 0, 0]], np.float32)
    index.add_vectors([a_message(7, "").id], vector)
    as_kept = np.array([[2400, 3200]], np.int16).tobytes()
    needles = [b"parrot", b"katalanisch", b"Rui", as_kept]
    assert all(needle in written(index) for needle in needles)
    index.remove([a_message(7, "").id])
    assert not any(needle in written(index) for needle in needles)


def test_a_snapshot_does_not_change_with_what_comes_later() -> None:
    index = RecallIndex()
    index.add(apart("a red bicycle", "soup for dinner"))
    frozen = index.freeze()
    index.add([a_message(5, "the parrot spoke")])
    index.remove([apart("a red bicycle", "soup")[0].id])
    target = Bytes()
    frozen.write(target, lambda arrays: Head(FORMAT, analysis_digest(), 1, "m", 7, b"k", 9, arrays))
    again = read_back(target.getvalue())
    assert [len(again.search(word)) for word in ("bicycle", "parrot")] == [1, 0]


def test_a_snapshot_of_another_release_or_of_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    index = RecallIndex()
    raw = written(index)
    for other in (b"\xff" * 8 + raw, raw[:8] + b"?" + raw[9:], raw[:8].replace(raw[:1], b"\x03") + b"{}}" + raw):
        with pytest.raises(IndexOutOfStep):
            read_head(Bytes(other))
    monkeypatch.setattr(snapshot, "analysis_digest", lambda: "another")
    with pytest.raises(IndexOutOfStep, match="reads words differently"):
        read_head(Bytes(raw))


@given(st.lists(st.text()))
def test_names_come_back_as_they_were_packed(names: list[str]) -> None:
    assert unpacked_names(packed_names(names)) == names
    assert unpacked_names(packed_names([*names, "\ud800", ""])) == [*names, "\ud800", ""]
