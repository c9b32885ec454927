"""Codes name what is likely near; the rows decide, and nothing that left or is not allowed is found."""

import numpy as np
import pytest

from aico.ai.memory.index import Filter, RecallIndex
from aico.ai.memory.index import codes as codes_module
from aico.ai.memory.index import vectors as vectors_module
from aico.ai.memory.index.vectors import VectorTable, fixed_point
from tests.ai.memory.index.test_recall_index import a_message
from tests.ai.memory.index.test_snapshot import read_back, written
from tests.ai.memory.index.test_vectors import asked

pytest.importorskip("faiss", reason="codes need the extra `embed`")
DIMENSION = 8
COUNT = 700


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred rows are many, and lie in several blocks."""
    for name, value in {
        "CODED_FROM": 200, "CODE_EVERY": 50, "WIDE": 10, "WIDE_SHARE": 20, "BLOCK_ROWS": 128, "_PACKED_FROM": 20,
    }.items():  # fmt: skip
        monkeypatch.setattr(vectors_module, name, value)
    monkeypatch.setattr("aico.ai.memory.index.snapshot.BLOCK_ROWS", 128)


def some_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def index_of(vectors: np.ndarray) -> RecallIndex:
    """Message n has vector n; every tenth is in a conversation of its own kind."""
    index = RecallIndex()
    index.add(a_message(n, "word", conversation=b"t" * 16 if n % 10 == 0 else b"c" * 16) for n in range(len(vectors)))
    index.add_vectors([a_message(n, "").id for n in range(len(vectors))], vectors)
    return index


def found(index: RecallIndex, question: np.ndarray, where: Filter = Filter()) -> list[int]:
    return [hit.row for hit in index.search("zebra", limit=1, where=where, meaning=asked(question))]


def test_what_is_nearest_is_found_by_its_code() -> None:
    vectors = some_vectors(COUNT)
    index, exact = index_of(vectors), index_of(vectors)
    index.code_vectors()
    assert (index.coded_count, exact.coded_count) == (COUNT, 0)
    questions = some_vectors(50, seed=1)
    same = [found(index, question) == found(exact, question) for question in questions]
    assert sum(same) >= 49
    assert all(found(index, vectors[n])[0] in range(COUNT) for n in range(10))


def test_vectors_that_come_later_are_found_before_they_are_coded_and_after() -> None:
    index = index_of(some_vectors(COUNT))
    index.code_vectors()
    later = some_vectors(60, seed=2)
    index.add(a_message(COUNT + n, "word") for n in range(60))
    for n in range(60):
        index.add_vectors([a_message(COUNT + n, "").id], later[n : n + 1])
    places = index._vectors
    nearest = [int(documents[np.argmax(cosines)]) for documents, cosines in map(whole(places), later)]
    assert nearest == list(range(COUNT, COUNT + 60))
    assert index.worth_coding()
    index.code_vectors()
    assert index.coded_count == COUNT + 60
    assert [int(d[np.argmax(c)]) for d, c in map(whole(places), later)] == nearest


def whole(table: VectorTable):
    return lambda vector: table.nearest(fixed_point(vector), 10, None)


def test_a_vector_that_was_dropped_is_not_found_and_its_row_not_given_to_another() -> None:
    vectors = some_vectors(COUNT)
    index = index_of(vectors)
    index.code_vectors()
    index.remove([a_message(3, "").id])
    assert 3 not in found(index, vectors[3])
    index.add([a_message(3, "word")])
    index.add_vectors([a_message(3, "").id], -vectors[3][None])
    documents, cosines = index._vectors.nearest(fixed_point(-vectors[3]), 10, None)
    assert index._table.column("row")[documents[np.argmax(cosines)]] == 3
    assert index.vector_count == COUNT


@pytest.mark.parametrize("share", [2, 10])
def test_a_filter_leaves_what_it_lets_through_and_finds_it(share: int) -> None:
    vectors = some_vectors(COUNT)
    index = index_of(vectors)
    index.code_vectors()
    allowed = np.arange(COUNT) % share == 0
    right = 0
    for question in some_vectors(40, seed=3):
        documents, cosines = index._vectors.nearest(fixed_point(question), 10, allowed)
        assert allowed[documents].all()
        right += int(documents[np.argmax(cosines)] == np.flatnonzero(allowed)[np.argmax(vectors[allowed] @ question)])
    assert right >= 38
    hits = index.search("word", limit=COUNT, where=Filter(conversation=b"t" * 16), meaning=asked(vectors[0]))
    assert {hit.row for hit in hits} == set(range(0, COUNT, 10))


def test_when_many_rows_are_empty_they_are_closed_up_and_coded_anew() -> None:
    vectors = some_vectors(COUNT)
    index = index_of(vectors)
    index.code_vectors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aico.ai.memory.index.recall_index._COMPACT_FROM", 10)
        index.remove([a_message(n, "").id for n in range(0, COUNT, 3)])
    assert (index.coded_count, index.vector_count) == (0, 466)
    index.code_vectors()
    assert index.coded_count == 466
    left = [n for n in range(COUNT) if n % 3]
    exact = index_of(vectors)
    exact.remove([a_message(n, "").id for n in range(0, COUNT, 3)])
    assert [found(index, vectors[n]) for n in left[:40]] == [found(exact, vectors[n]) for n in left[:40]]


def test_codes_made_while_rows_moved_are_not_used() -> None:
    index = index_of(some_vectors(COUNT))
    table = index._vectors
    work = table.coding()
    assert work is not None
    made = work.run()
    for document in range(COUNT // 2):
        table.drop(document)
    table.renumber(np.arange(COUNT, dtype=np.int32))
    table.take_codes(work, made)
    assert (table.coded, len(table)) == (0, COUNT // 2)


def test_a_snapshot_keeps_the_codes_and_makes_those_of_shifted_rows_anew() -> None:
    vectors = some_vectors(COUNT)
    index = index_of(vectors)
    index.code_vectors()
    again = read_back(written(index))
    assert again.coded_count == COUNT
    assert [found(again, vector) for vector in vectors[:40]] == [found(index, vector) for vector in vectors[:40]]
    index.remove([a_message(n, "").id for n in range(5)])
    again = read_back(written(index))
    assert again.coded_count == COUNT - 5
    assert [found(again, vector) for vector in vectors[5:45]] == [found(index, vector) for vector in vectors[5:45]]


def test_without_the_library_every_vector_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = some_vectors(COUNT)
    index = index_of(vectors)
    index.code_vectors()
    raw, right = written(index), [found(index_of(vectors), vector) for vector in vectors[:20]]
    monkeypatch.setattr(codes_module, "_installed", lambda: False)
    again, anew = read_back(raw), index_of(vectors)
    anew.code_vectors()
    for without in (again, anew):
        assert (without.coded_count, without.worth_coding()) == (0, False)
        assert [found(without, vector) for vector in vectors[:20]] == right
