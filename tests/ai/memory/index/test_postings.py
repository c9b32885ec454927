"""BM25 against the formula, computed slowly."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory.index.postings import LENGTH_SHARE, SATURATION, InvertedIndex, Scorer

texts = st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), min_size=1, max_size=12)


def scorer_of(index: InvertedIndex, documents: list[list[str]], alive: list[bool]) -> Scorer:
    lengths = [len(words) for words in documents]
    return Scorer(
        index,
        lengths=np.array(lengths, np.int32),
        alive=np.array(alive, np.bool_),
        alive_count=sum(alive),
        total_length=sum(length for length, lives in zip(lengths, alive, strict=True) if lives),
    )


def bm25(word: str, documents: list[list[str]], alive: list[bool]) -> list[float]:
    living = [words for words, lives in zip(documents, alive, strict=True) if lives]
    average = sum(map(len, living)) / len(living) or 1
    holders = sum(word in words for words in living)
    idf = log(1 + (len(living) - holders + 0.5) / (holders + 0.5))
    return [
        idf * (SATURATION + 1) * words.count(word)
        / (words.count(word) + SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * len(words) / average))
        if word in words else 0.0
        for words in documents
    ]  # fmt: skip


@given(documents=texts, split=st.integers(0, 12), data=st.data())
def test_scores_are_bm25_however_the_documents_came(
    documents: list[list[str]], split: int, data: st.DataObject
) -> None:
    index = InvertedIndex()
    index.add_many(enumerate(documents[:split]))
    for number, words in enumerate(documents[split:], min(split, len(documents))):
        index.add(number, words)
    alive = data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents)).filter(any))
    scorer = scorer_of(index, documents, alive)
    for word in "abz":
        scores = np.zeros(len(documents), np.float32)
        scorer.weigh([word]).add_to(scores)
        assert scores[alive] == pytest.approx(np.array(bm25(word, documents, alive))[alive], rel=1e-5)


@given(documents=texts, data=st.data())
def test_compaction_keeps_the_living_and_forgets_the_words_of_the_dead(
    documents: list[list[str]], data: st.DataObject
) -> None:
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), np.bool_)
    index = InvertedIndex()
    index.add_many(enumerate(documents))
    index = InvertedIndex.of_parts(index.parts(np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32)))
    living = [words for words, lives in zip(documents, alive.tolist(), strict=True) if lives]
    for word in "abcdef":
        holders = [number for part in index.find(word) for number in part.documents.tolist()]
        assert holders == [number for number, words in enumerate(living) if word in words]
    assert set(index._numbering) == {word for words in living for word in words}


@given(documents=texts, wanted=st.sets(st.integers(0, 11)))
def test_worths_looked_up_for_some_are_those_added_up_for_all(documents: list[list[str]], wanted: set[int]) -> None:
    index, count = InvertedIndex(), len(documents)
    index.add_many(enumerate(documents))
    marked = np.array([number in wanted for number in range(count)], np.bool_)
    numbers, place_of = np.flatnonzero(marked), np.full(count, -1, np.int32)
    place_of[numbers] = np.arange(len(numbers))
    found = scorer_of(index, documents, [True] * count).weigh(["a", "b"])
    scores = np.zeros(count, np.float32)
    found.add_to(scores)
    assert (found.at(marked, place_of, len(numbers)) == scores[numbers]).all()


def test_segments_stay_few_while_documents_keep_coming() -> None:
    index = InvertedIndex()
    for batch in range(100):
        index.add_many((batch * 10 + number, ["a", "b"]) for number in range(10))
    assert len(index._segments) <= 5
    assert sum(len(part.documents) for part in index.find("a")) == 1_000
