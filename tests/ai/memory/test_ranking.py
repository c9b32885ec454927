"""The steps of the ranking, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory import ranking


def floats(*values: float) -> ranking.Floats:
    return np.array(values, np.float32)


def ints(*values: int) -> ranking.Ints:
    return np.array(values, np.int32)


def truths(*values: bool) -> ranking.Mask:
    return np.array(values, np.bool_)


ALL_FIVE = truths(True, True, True, True, True)
A_LINE_OF_FIVE = (ints(-1, 0, 1, 2, 3), ints(1, 2, 3, 4, -1))


@given(values=st.lists(st.integers(0, 50), max_size=400), count=st.integers(1, 20))
def test_the_best_are_all_that_reach_the_last_place(values: list[int], count: int) -> None:
    scores = np.array(values, np.float32)
    positive = sorted((value for value in values if value > 0), reverse=True)
    bar = positive[min(count, len(positive)) - 1] if positive else 1
    assert ranking.best(scores, count).tolist() == [
        number for number, value in enumerate(values) if value > 0 and value >= bar
    ]


def test_candidates_are_widened_by_two_turns_to_either_side() -> None:
    assert ranking.widen(ints(0), *A_LINE_OF_FIVE, ALL_FIVE).tolist() == [0, 1, 2]
    assert ranking.widen(ints(2), *A_LINE_OF_FIVE, ALL_FIVE).tolist() == [0, 1, 2, 3, 4]


def test_what_is_not_allowed_is_not_reached_by_widening() -> None:
    allowed = truths(True, False, True, True, True)
    assert ranking.widen(ints(2), *A_LINE_OF_FIVE, allowed).tolist() == [0, 2, 3, 4]


def test_neighbours_lend_a_half_and_a_quarter_and_those_not_allowed_nothing() -> None:
    allowed = truths(True, False, True, True, True)
    who, weights = ranking.neighbourhood(ints(2, 4), *A_LINE_OF_FIVE, allowed)
    lent = {int(number): float(weight) for number, weight in zip(who[:, 0], weights[:, 0], strict=True)}
    assert lent == {1: 0.0, 3: 0.5, 0: 0.25, 4: 0.25}
    assert weights[:, 1].tolist() == [0.5, 0.0, 0.25, 0.0]


def test_a_second_word_is_worth_more_than_more_of_the_first() -> None:
    once, twice = ranking.word_worth(floats(1.0, 2.0), idf=1.0).tolist()
    assert once < twice < 2 * once
    assert twice < 1.0


@given(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=20), st.floats(0.01, 10))
def test_the_worth_of_a_word_rises_with_its_score_and_stays_below_its_rarity(scores: list[float], idf: float) -> None:
    worths = ranking.word_worth(np.array(sorted(scores), np.float32), idf=idf)
    assert (np.diff(worths) >= -1e-6).all()
    assert (worths <= np.float32(idf)).all()


def test_an_episode_lends_a_share_of_the_mean_of_its_three_best() -> None:
    shares = ranking.episode_shares(floats(4, 1, 3, 2, 9), ints(7, 7, 7, 7, 1))
    assert shares.tolist() == pytest.approx([1.2, 1.2, 1.2, 1.2, 3.6])


def test_turns_of_whom_the_question_is_about_count_more_and_questions_less() -> None:
    plain, about, asking, short, fact = ranking.turn_factors(
        lengths=ints(25, 25, 25, 0, 3),
        asks=truths(False, False, True, False, True),
        about=truths(False, True, False, False, False),
        is_fact=truths(False, False, False, False, True),
    ).tolist()
    assert short < plain < about == fact
    assert asking < plain


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_no_total_reaches_the_best_possible(idfs: list[float], about_someone: bool, meaning: bool) -> None:
    highest = floats(*(idf * 1.9 for idf in idfs))
    words = sum(
        float(ranking.word_worth(floats(float(score) * 2.5), idf=idf)[0])
        for score, idf in zip(highest, idfs, strict=True)
    )
    episode = float(ranking.episode_shares(floats(float(highest.sum())), ints(0))[0])
    factor = ranking.turn_factors(
        lengths=ints(99), asks=truths(False), about=truths(about_someone), is_fact=truths(False)
    )
    meant = float(ranking.meaning_worth(floats(1), floats(1.5))[0]) if meaning else 0.0
    bound = ranking.best_possible(words=True, meaning=meaning, about_someone=about_someone)
    assert ((words + episode) / sum(idfs) + meant) * float(factor[0]) < bound + 1e-5
