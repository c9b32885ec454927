"""A random history over several processes, with kills and views deleted under them; then every view says what a fresh
rebuild says, and the rows are those of the truth."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aico
from aico.data.change_feed import ChangeFeed
from aico.testing import PASSPHRASE, HashEmbedder, cheap_settings, temporary_vault
from tests import children

USERS, CONVERSATIONS = ("mia", "otto"), ("breakfast", "the long way home", "night")
WORDS = "heron tram bees winter pond yellow hive otter bridge lantern".split()
QUERIES = ("bees in winter", "a yellow tram", "heron at the pond", "lantern on the bridge")
CANARY = "flowerpot-canary-key"
VIEW_FOLDERS = ("lmdb", "index", "duckdb")


def opened(folder: str | Path) -> aico.Vault:
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings(embedder=HashEmbedder()))


def worker(folder: str) -> None:
    """Does what it is told, a line at a time, until it is killed or told to end."""
    with opened(folder) as vault:
        print("ready", flush=True)
        while (line := input()) != "end":
            dice = random.Random(line)
            try:
                STEPS[line.partition(" ")[0]](vault, dice)
            except aico.errors.NotFound:  # another process forgot it first
                pass
            print("done", flush=True)


def _record(vault: aico.Vault, dice: random.Random) -> None:
    text = f"{CANARY} {' '.join(dice.choices(WORDS, k=5))} {dice.random()}"
    vault.memory.record(dice.choice(USERS), text, conversation=dice.choice(CONVERSATIONS))


def _remember(vault: aico.Vault, dice: random.Random) -> None:
    vault.memory.remember(dice.choice(USERS), f"{CANARY} {' '.join(dice.choices(WORDS, k=3))} {dice.random()}")


def _forget(vault: aico.Vault, dice: random.Random) -> None:
    user, conversation = dice.choice(USERS), dice.choice(CONVERSATIONS)
    if found := vault.memory.recent(user, conversation, limit=50):
        vault.memory.forget(user, id=dice.choice(found).id)


def _look(vault: aico.Vault, dice: random.Random) -> None:
    user, conversation = dice.choice(USERS), dice.choice(CONVERSATIONS)
    if vault.users.find(user) is None:
        return
    vault.memory.recent(user, conversation)
    vault.memory.recall(user, dice.choice(QUERIES))
    vault.memory.context(user, dice.choice(QUERIES), conversation=conversation)
    vault.analytics.sql(user, "SELECT count(*) FROM messages")


def _prune(vault: aico.Vault, dice: random.Random) -> None:
    ChangeFeed(vault.connection, clock=vault.settings.clock).prune(keep=dice.randrange(1, 30))


def _rebuild(vault: aico.Vault, dice: random.Random) -> None:
    vault.views.rebuild(dice.choice([view.name for view in vault.views]))


def _delete(vault: aico.Vault, dice: random.Random) -> None:
    shutil.rmtree(vault.folder / "data" / dice.choice(VIEW_FOLDERS), ignore_errors=True)


STEPS: dict[str, Callable[[aico.Vault, random.Random], None]] = {
    "record": _record, "remember": _remember, "forget": _forget, "look": _look, "prune": _prune, "rebuild": _rebuild,
    "delete": _delete,
}  # fmt: skip
CHANCES = {"record": 10, "remember": 3, "forget": 2, "look": 8, "prune": 1, "rebuild": 1, "delete": 1, "kill": 1}


def answers(vault: aico.Vault) -> dict[str, Any]:
    """Whatever a view has a say in."""
    said: dict[str, Any] = {}
    for user in USERS:
        if vault.users.find(user) is None:
            continue
        for conversation in CONVERSATIONS:
            said[f"recent {user} {conversation}"] = vault.memory.recent(user, conversation, limit=1000)
            for query in QUERIES:
                said[f"context {user} {conversation} {query}"] = vault.memory.context(
                    user, query, conversation=conversation
                )
        for query in QUERIES:
            said[f"recall {user} {query}"] = vault.memory.recall(user, query, limit=50)
        rows = "SELECT id, role, said_at, position, characters FROM messages ORDER BY id"
        said[f"columns {user}"] = [
            (id_.hex, role, at.isoformat(sep=" ", timespec="microseconds"), position, characters)
            for id_, role, at, position, characters in vault.analytics.sql(user, rows).rows
        ]
        assert said[f"columns {user}"] == vault.query(user, sql=rows).rows, "the columns are the rows of the truth"
    return said


def live_a_history(seed: str, *, processes: int, steps: int) -> None:
    dice = random.Random(seed)
    with temporary_vault(embedder=HashEmbedder()) as vault:
        workers: list[Any] = [None] * processes
        running: list[children.Child] = []

        def begin(place: int) -> None:
            workers[place] = children.started(worker, vault.folder)
            child = workers[place].__enter__()
            running[place : place + 1] = [child]
            assert child.line() == "ready", seed

        for place in range(processes):
            begin(place)
        for number in range(steps):
            place = dice.randrange(processes)
            [kind] = dice.choices(list(CHANCES), weights=list(CHANCES.values()))
            if kind == "kill":
                running[place].tell(f"record {seed} {number}")  # in the middle of something
                running[place].kill()
                workers[place].__exit__(None, None, None)
                begin(place)
            else:
                running[place].tell(f"{kind} {seed} {number}")
                assert running[place].line() == "done", (seed, number, kind)
        for place in range(processes):
            running[place].tell("end")
            done = running[place].end()
            assert done.error is None, (seed, done)
            workers[place].__exit__(None, None, None)
        vault.views.wait()
        before = answers(vault)
        for view in vault.views:
            view.drop()
        for key, fresh in answers(vault).items():
            assert before[key] == fresh, (seed, key)
        report = vault.audit([CANARY])
        assert report.control_hits
        assert not report.leaks, (seed, report.leaks)


@pytest.mark.parametrize("seed", ["herring", "plover"])
def test_after_a_random_history_every_view_is_what_a_fresh_rebuild_is(seed: str) -> None:
    pytest.importorskip("duckdb", reason="the columns need the extra aico[analytics]")
    live_a_history(seed, processes=2, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [f"long {number}" for number in range(12)])
def test_after_a_long_history_every_view_is_what_a_fresh_rebuild_is(seed: str) -> None:
    live_a_history(seed, processes=4, steps=400)
