"""A random history of calls of two people, against plain data, over all that a vault keeps and every view of it.

Between any two calls the process may be killed, or the vault closed and opened again, or a person taken out into an
export and brought into an empty vault: each time all is as the data says.
"""

import io
import os
import pickle
import random
import shutil
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import aico
from aico.errors import NotFound
from aico.testing import temporary_vault
from tests import children
from tests.histories.calls import call_of
from tests.histories.model import PEOPLE, WORDS, Model, observed, open_vault

WHO = st.sampled_from(PEOPLE)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="aico-life-"))
        self.model, self.opened = Model(), 0
        self.vault = self.open(self.folder / "vault")

    def open(self, folder: Path) -> aico.Vault:
        self.opened += 1
        return open_vault(folder, self.model, seed=self.opened)

    @rule(dice=st.randoms(use_true_random=False))
    def call(self, dice):
        call_of(self.model, dice)(self.vault)

    @rule()
    def close_and_open(self):
        self.vault.close()
        self.vault = self.open(self.vault.folder)

    @rule()
    def crash(self):
        """What a killed process leaves behind is what lies on the disk at that moment: the log not yet read back."""
        left = self.folder / f"crashed-{self.opened}"
        shutil.copytree(self.vault.folder, left)
        self.vault.close()
        self.vault = self.open(left)

    @rule(name=WHO)
    def out_and_in(self, name):
        if not self.model.people[name].exists:
            return
        out = io.BytesIO()
        self.vault.export(out, name)
        with temporary_vault() as other:
            other.import_(io.BytesIO(out.getvalue()))
            again = io.BytesIO()
            other.export(again, name)
            assert again.getvalue() == out.getvalue()

    @rule(name=WHO)
    def reach_for_the_others(self, name):
        [other] = set(PEOPLE) - {name}
        if not self.model.people[other].exists:
            return
        for found, get in (
            (self.vault.album.messages(other), self.vault.album),
            (self.vault.facts.list(other), self.vault.facts),
        ):
            for one in found[:1]:
                with pytest.raises(NotFound):
                    get.get(name, one.id)

    @invariant()
    def all_is_as_the_data_says(self):
        assert observed(self.vault) == self.model.shown()

    @invariant()
    def recall_finds_all_that_has_a_word(self):
        for name, person in self.model.people.items():
            believed = [fact for fact in person.facts.values() if fact.status == "accepted" and not fact.closed]
            held = {kept.text for kept in (*person.messages.values(), *believed)}
            for word in WORDS[:2]:
                found = {hit.text for hit in self.vault.memory.recall(name, word, limit=500)}
                assert found <= held
                assert {text for text in held if word in text.split()} <= found

    def teardown(self):
        self.vault.close()
        shutil.rmtree(self.folder)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)


# Killed


def next_call(model: Model, seed: int):
    return call_of(model, random.Random(f"{seed}/{model.calls}"))


def live(folder: str, seed: int) -> None:
    """Go on from where the model stands, one call after the other, and say so after each."""
    model = pickle.loads((Path(folder) / "model").read_bytes())  # our own
    with open_vault(Path(folder) / "vault", model, seed=seed) as vault:
        print("open", flush=True)
        while True:
            next_call(model, seed)(vault)
            os.write(1, b"did\n")


def killed(folder: Path, model: Model, seed: int) -> list[Model]:
    """Let a process live and kill it at some moment; the last call it told of, the one it was at, and what lies between."""
    dice, told = random.Random(seed), 0
    (folder / "model").write_bytes(pickle.dumps(model))
    with children.started(live, folder, seed) as child:
        assert child.line() == "open", child.end().message
        for _ in range(dice.randrange(40)):
            assert child.line() == "did", child.end()
            told += 1
        time.sleep(dice.random() * 0.012)
        child.kill()
        while child.line() == "did":
            told += 1
    for _ in range(told):
        next_call(model, seed)
    at_it = deepcopy(model)
    next_call(at_it, seed)
    return [model, *at_it.between, at_it]


def survives(folder: Path, *, kills: int, seed: int) -> None:
    model = Model()
    for number in range(kills):
        candidates = killed(folder, model, seed + number)
        for one in candidates:
            one.now = candidates[-1].now
            one.exports.clear()  # whether the last one was written is not to be seen in the vault
            one.between.clear()
        with open_vault(folder / "vault", candidates[-1], seed=-seed - number) as vault:
            found = observed(vault)
            assert vault.audit_log.verify().intact
            assert not (wrong := [finding for finding in vault.doctor() if finding.ok is False]), wrong
        fitting = [one for one in candidates if one.shown() == found]
        assert fitting, (found, [one.shown() for one in candidates])
        model = fitting[-1]


def test_after_a_kill_every_call_that_was_told_of_is_there_and_the_one_in_flight_whole_or_not_at_all(tmp_path):
    survives(tmp_path, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10_000, 50_000, 10_000))
def test_a_long_life_with_many_kills(tmp_path, seed):
    survives(tmp_path, kills=30, seed=seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10))
def test_a_long_history_of_calls(tmp_path, seed):
    model = Model()
    with open_vault(tmp_path / "vault", model) as vault:
        for number in range(200):
            call_of(model, random.Random(f"{seed}/{number}"))(vault)
            assert observed(vault) == model.shown()
