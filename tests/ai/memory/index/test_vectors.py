"""Vectors in the index: found by likeness beyond chance, and no answer depends on how they came."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aico.ai.memory.index import Document, Filter, Meaning, RecallIndex
from aico.ai.memory.index.vectors import NO_VECTOR, SCALE, VectorTable, fixed_point
from tests.ai.memory.index.test_rebuild import documents, filters, queries, sizes
from tests.ai.memory.index.test_recall_index import HOUR_US, NOON, a_message, apart

DIMENSION = 8


def unit(*values: float) -> np.ndarray:
    vector = np.array([*values, *[0.0] * (DIMENSION - len(values))], np.float32)
    return vector / np.linalg.norm(vector)


def direction(number: int) -> np.ndarray:
    return np.eye(DIMENSION, dtype=np.float32)[number]


def asked(vector: np.ndarray) -> Meaning:
    return Meaning.of(vector, np.stack([direction(6), direction(7)]))


def index_of(*entries: tuple[Document, np.ndarray]) -> RecallIndex:
    index = RecallIndex()
    index.add(document for document, _ in entries)
    index.add_vectors([document.id for document, _ in entries], np.stack([vector for _, vector in entries]))
    return index


def test_a_document_is_found_by_its_vector_alone() -> None:
    index = index_of(*zip(apart("my red bicycle", "soup for dinner"), [direction(0), direction(1)], strict=True))
    [hit] = index.search("Fahrrad", meaning=asked(unit(1, 0.1)))
    assert (hit.row, hit.words) == (0, ())
    assert hit.meaning > 0.9
    assert 0 < hit.score < 1


def test_what_is_no_more_like_than_anything_is_not_found() -> None:
    vectors = [unit(1, 1, 1, -1), unit(1, 1, -1, 1)]
    index = index_of(*zip(apart("my red bicycle", "soup for dinner"), vectors, strict=True))
    assert index.search("zebra", meaning=asked(direction(4))) == []


def test_words_and_meaning_together_beat_either() -> None:
    entries = apart("the bicycle is red", "cycling all summer", "the bicycle is blue")
    index = index_of(*zip(entries, [direction(0), unit(0.1, 1), unit(0.1, 1)], strict=True))
    assert index.search("bicycle", meaning=asked(direction(1)))[0].row == 2


def test_a_filter_holds_for_vectors_too() -> None:
    index = index_of(*zip(apart("one", "two"), [direction(0), direction(0)], strict=True))
    later = Filter(since_us=NOON + 12 * HOUR_US)
    assert [hit.row for hit in index.search("zebra", meaning=asked(direction(0)), where=later)] == [1]


def test_the_best_of_several_passages_counts() -> None:
    index = index_of((a_message(0, "a long story"), direction(0)))
    index.add_vectors([a_message(0, "").id], direction(1)[None])
    assert index.vector_count == 2
    for number in (0, 1):
        assert index.search("zebra", meaning=asked(direction(number)))[0].meaning > 0.9


def test_a_document_that_is_replaced_keeps_its_vector_and_one_that_is_removed_does_not() -> None:
    index = index_of((a_message(0, "one"), direction(0)))
    index.add([a_message(0, "one more")])
    assert len(index.search("zebra", meaning=asked(direction(0)))) == 1
    index.remove([a_message(0, "").id])
    index.add([a_message(0, "one")])
    assert index.search("zebra", meaning=asked(direction(0))) == []
    assert index.vector_count == 0


def test_dropping_all_vectors_leaves_the_words() -> None:
    index = index_of((a_message(0, "my bicycle"), direction(0)))
    index.drop_vectors()
    assert index.search("zebra", meaning=asked(direction(0))) == []
    assert len(index.search("bicycle", meaning=asked(direction(0)))) == 1


def test_vectors_of_unknown_documents_are_ignored() -> None:
    index = RecallIndex()
    index.add_vectors([b"x" * 16], direction(0)[None])
    assert index.vector_count == 0


def test_rows_that_are_let_go_are_zeroed_and_filled_again() -> None:
    table = VectorTable()
    table.add([0, 1], fixed_point(np.stack([direction(0), direction(1)])))
    table.drop(0)
    table.add([2], fixed_point(direction(2)[None]))
    assert len(table) == 2
    all_four = np.arange(4, dtype=np.int32)
    assert table.cosines(fixed_point(direction(2)), all_four).tolist() == [NO_VECTOR, 0, 1, NO_VECTOR]


@pytest.mark.parametrize("count", [1, 1023, 1025, 20_000])
def test_a_scan_of_any_size_tells_the_cosine(count: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((count, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = VectorTable()
    table.add(range(count), fixed_point(vectors))
    question = vectors[count // 2]
    documents, scanned = table.nearest(fixed_point(question), count, None)
    cosines = table.cosines(fixed_point(question), np.arange(count, dtype=np.int32))
    assert (cosines[documents] == scanned).all()
    assert np.abs(cosines - vectors @ question).max() < 1e-3
    whole = np.array(
        [int(row @ fixed_point(question).astype(np.int64)) for row in fixed_point(vectors[:50]).astype(np.int64)]
    )
    assert (cosines[:50] == whole.astype(np.float32) / np.float32(SCALE**2)).all(), "sums are exact in any order"
    apart = table.set_apart(Meaning(fixed_point(question), np.zeros((0, 16), np.int16)), common=0.0)
    assert abs(apart.chance - float((vectors @ question).mean())) < 1e-3
    assert abs(apart.spread - (1 - apart.chance)) < 1e-3
    assert fixed_point(np.array([[2.0, 0.0], [0.0, 0.0]])).tolist() == [[SCALE, 0], [0, 0]]


vectors = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 0.5, 1.0]), min_size=DIMENSION, max_size=DIMENSION).map(
    lambda values: unit(*values) if any(values) else direction(0)
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "vectors", "vectors", "remove", "drop", "search"]),
        st.lists(st.tuples(documents(), vectors), min_size=1, max_size=8),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(history=steps, query=queries, meant=vectors, where=filters, limit=st.sampled_from([2, 100]))
def test_after_any_history_an_index_with_vectors_answers_like_one_built_afresh(
    history: list, query: str, meant: np.ndarray, where: Filter, limit: int
) -> None:
    with sizes(many=3, recent=2, compact_from=3):
        index, alive, held = RecallIndex(), dict[bytes, Document](), dict[bytes, list[np.ndarray]]()
        for step, entries in history:
            ids = [document.id for document, _ in entries]
            if step == "add":
                index.add(document for document, _ in entries)
                alive.update((document.id, document) for document, _ in entries)
            elif step == "vectors":
                index.add_vectors(ids, np.stack([vector for _, vector in entries]))
                for document, vector in entries:
                    if document.id in alive:
                        held.setdefault(document.id, []).append(vector)
            elif step == "remove":
                index.remove(ids)
                for document in ids:
                    alive.pop(document, None)
                    held.pop(document, None)
            elif step == "drop":
                index.drop_vectors(ids)
                for document in ids:
                    held.pop(document, None)
            else:
                index.search(query, meaning=asked(meant))
        afresh = RecallIndex()
        afresh.add(alive.values())
        for document in sorted(held):
            afresh.add_vectors([document] * len(held[document]), np.stack(held[document]))
        assert index.vector_count == afresh.vector_count == sum(map(len, held.values()))
        meaning = asked(meant)
        assert index.search(query, where=where, meaning=meaning, limit=limit) == afresh.search(
            query, where=where, meaning=meaning, limit=limit
        )


def test_what_is_like_everything_is_less_like_a_question() -> None:
    about = [unit(0.6, *[1.0 if place == number else 0.0 for place in range(4)]) for number in range(4)]
    everything = np.sum(about, axis=0)
    vectors = fixed_point(np.stack([*about, everything / np.linalg.norm(everything)]))
    table = VectorTable()
    table.add(range(5), vectors)
    meaning = asked(unit(0.8, 0.7, 0.2, 0.2))
    likeness = {}
    for common in (0.0, 0.75):
        found = table.set_apart(meaning, common=common)
        cosines = table.cosines(found.direction, np.arange(5, dtype=np.int32))
        likeness[common] = (cosines - found.chance) / found.spread
    assert likeness[0.75][4] < likeness[0.0][4]
    assert likeness[0.75][0] - likeness[0.75][4] > likeness[0.0][0] - likeness[0.0][4]
