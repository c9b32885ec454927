"""What a person thinks of a memory lifts or lowers it, in every process, for that person alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

import aico
from aico.ai.memory.importance import lifted
from aico.errors import NotFound
from aico.testing import PASSPHRASE, FixedClock, cheap_settings

FIRST, SECOND = "We ate plum cake in the garden.", "We ate plum cake in the kitchen."


@pytest.fixture
def vault(tmp_path):
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as opened:
        yield opened


@pytest.fixture
def ids(vault):
    return [vault.memory.record("mia", text, conversation=text) for text in (FIRST, SECOND)]


def found(vault, user="mia"):
    return vault.memory.recall(user, "where did we eat plum cake?")


def test_a_helpful_memory_comes_first_and_one_that_was_not_comes_last_and_stays(vault, ids):
    last = found(vault)[-1]
    vault.memory.rate("mia", last.id, helpful=True)
    hits = found(vault)
    assert hits[0].id == last.id
    assert hits[0].why.endswith("rated helpful")
    vault.memory.rate("mia", last.id, helpful=False)
    hits = found(vault)
    assert hits[-1].id == last.id
    assert hits[-1].why.endswith("rated not helpful")
    assert len(hits) == 2


def test_of_two_ratings_at_one_instant_the_later_one_counts(tmp_path):
    settings = replace(cheap_settings(), clock=FixedClock())
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=settings) as vault:
        said = vault.memory.record("mia", FIRST, conversation="c")
        vault.memory.rate("mia", said, helpful=True)
        vault.memory.rate("mia", said, helpful=False)
        assert found(vault)[0].why.endswith("rated not helpful")


def test_the_rating_given_last_counts_also_after_the_clock_was_set_back(tmp_path):
    clock = FixedClock()
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings(clock=clock)) as vault:
        said = vault.memory.record("mia", FIRST, conversation="c")
        vault.memory.rate("mia", said, helpful=True)
        clock.move(-timedelta(hours=1))
        vault.memory.rate("mia", said, helpful=False)
        assert found(vault)[0].why.endswith("rated not helpful")


def test_a_favourite_is_lifted_until_it_is_none_and_whatever_was_found_before_stays(vault, ids):
    before = found(vault)
    vault.album.favourite("mia", before[-1].id)
    hits = found(vault)
    assert (hits[0].id, hits[1]) == (before[-1].id, before[0])
    assert 1 > hits[0].score > before[-1].score
    assert hits[0].why.endswith("a favourite")
    vault.album.favourite("mia", before[-1].id, on=False)
    assert found(vault) == before


def test_another_process_sees_it_and_a_kept_context_does_not_outlive_it(vault, ids, tmp_path):
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as other:
        before = found(other)
        [kept] = other.memory.context("mia", "plum cake", token_budget=24).items
        rated = next(hit.id for hit in before if hit.id != kept.id)
        vault.memory.rate("mia", rated, helpful=True)
        assert found(other)[0].id == rated
        assert [item.id for item in other.memory.context("mia", "plum cake", token_budget=24).items] == [rated]


def test_taken_back_or_sensitive_or_of_somebody_else_it_counts_for_nothing(vault, ids):
    before = found(vault)
    event = vault.memory.rate("mia", before[-1].id, helpful=True)
    vault.feedback.delete("mia", event)
    vault.feedback.record("mia", "rating", "helpful", hit=before[-1].id, value=1, is_sensitive=True)
    vault.memory.record("tom", "Nothing about cake.", conversation="t")
    with pytest.raises(NotFound):
        vault.memory.rate("tom", before[-1].id, helpful=True)
    assert found(vault) == before


def test_it_is_forgotten_with_the_memory(vault, ids):
    vault.memory.rate("mia", ids[0], helpful=True)
    vault.memory.forget("mia", id=ids[0])
    assert vault.feedback.list("mia") == []
    assert [hit.text for hit in found(vault)] == [SECOND]


def test_odds_are_multiplied_and_stay_probabilities():
    import numpy as np

    likely = np.array([0.0, 0.2, 0.5, 0.9], np.float32)
    assert lifted(likely, np.full(4, 2, np.float32)).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 18 / 19])
