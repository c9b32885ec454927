"""BM25 against the formula, computed slowly."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory.index import bm25 as scoring
from aico.ai.memory.index.bm25 import LENGTH_SHARE, SATURATION, Scorer, added_up, best_by_words
from aico.ai.memory.index.postings import InvertedIndex

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
        scores = scorer.weigh([word]).at(np.arange(len(documents), dtype=np.int32))
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
def test_worths_looked_up_for_some_are_those_of_all(documents: list[list[str]], wanted: set[int]) -> None:
    index, count = InvertedIndex(), len(documents)
    index.add_many(enumerate(documents))
    numbers = np.array(sorted(number for number in wanted if number < count), np.int32)
    found = scorer_of(index, documents, [True] * count).weigh(["a", "b"])
    scores = np.zeros(count, np.float32)
    for places, worths in found.worths() if found.parts else []:
        scores[places] = worths
    assert (found.at(numbers) == scores[numbers]).all()


@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 3000),
    question=st.lists(st.integers(0, 60), max_size=6),
    count=st.integers(1, 120),
    allowed_share=st.sampled_from([0.02, 0.5, 1.0]),
    dead_share=st.sampled_from([0.0, 0.01, 0.3]),
    data=st.data(),
)
def test_the_best_by_words_are_those_of_looking_at_every_document(
    seed: int, size: int, question: list[int], count: int, allowed_share: float, dead_share: float, data: st.DataObject
) -> None:
    draws = np.random.default_rng(seed)
    words = np.minimum(draws.zipf(1.3, (size, 8)), 60)  # a few in most documents, most in a few
    documents = [[str(word) for word in row] for row in words.tolist()]
    index = InvertedIndex()
    index.add_many(enumerate(documents[: size // 2]))
    for number, some in enumerate(documents[size // 2 :], size // 2):
        index.add(number, some)
    alive = draws.random(size) >= dead_share
    alive[0] = True
    allowed = alive & (draws.random(size) < allowed_share)
    everything = bool(allowed.all())
    scorer = scorer_of(index, documents, alive.tolist())
    found = [scorer.weigh([str(word), str(word + 30)]) for word in dict.fromkeys(question)]
    every = np.arange(size, dtype=np.int32)
    whole = added_up(found, [word.at(every) for word in found], size) * allowed
    best = np.flatnonzero(whole > 0)
    if len(best) > count:
        best = np.flatnonzero(whole >= np.partition(whole, -count)[-count])
    listed_from, look_pays_from = data.draw(st.sampled_from([(0, 0), (size + 1, 0), (0, size), (size + 1, 10 * size)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_LISTED_FROM", listed_from)
        patch.setattr(scoring, "_LOOK_PAYS_FROM", look_pays_from)
        patch.setattr(scoring, "_LOOKUP", data.draw(st.sampled_from([0, 10])))
        numbers, scores = best_by_words(found, count, size=size, allowed=None if everything else allowed)
    assert (np.diff(numbers) > 0).all() and allowed[numbers].all()
    assert (scores == whole[numbers]).all()
    assert set(best.tolist()) <= set(numbers.tolist())


def test_documents_that_hold_a_frequent_word_alone_are_not_looked_at() -> None:
    rare = set(np.random.default_rng(0).choice(20_000, 40, replace=False).tolist())
    documents = [["often", "rare"] if number in rare else ["often"] for number in range(20_000)]
    index = InvertedIndex()
    index.add_many(enumerate(documents))
    scorer = scorer_of(index, documents, [True] * len(documents))
    numbers, _ = best_by_words([scorer.weigh(["often"]), scorer.weigh(["rare"])], 20, size=20_000, allowed=None)
    assert numbers.tolist() == sorted(rare)


def test_segments_stay_few_while_documents_keep_coming() -> None:
    index = InvertedIndex()
    for batch in range(100):
        index.add_many((batch * 10 + number, ["a", "b"]) for number in range(10))
    assert len(index._segments) <= 5
    assert sum(len(part.documents) for part in index.find("a")) == 1_000
