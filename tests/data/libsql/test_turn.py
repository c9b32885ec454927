"""The turn between writers, with its waits that end at any moment."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aico.data.libsql.turn import Turn
from aico.errors import Busy

WAIT_S = 0.02


@pytest.fixture
def waiting() -> Callable[[], int]:
    """How many threads of this test wait for a turn, or for being asked to."""
    others = set(threading.enumerate())
    return lambda: sum(thread.name == "aico-turn" for thread in set(threading.enumerate()) - others)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Turn]:
    with closing(Turn(tmp_path / "notes.db", wait_s=WAIT_S)) as turn:
        yield turn


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Turn]:
    with closing(Turn(tmp_path / "notes.db", wait_s=60)) as turn:
        yield turn


def hold(turn: Turn, for_s: float) -> threading.Thread:
    """Keep the turn in another thread, from now on."""
    held = threading.Event()

    def run() -> None:
        with turn:
            held.set()
            time.sleep(for_s)

    thread = threading.Thread(target=run)
    thread.start()
    held.wait()
    return thread


def none_soon(waiting: Callable[[], int]) -> bool:
    deadline = time.monotonic() + 10
    while waiting() and time.monotonic() < deadline:
        time.sleep(0.005)
    return not waiting()


def test_one_thread_waits_for_one_lock_after_the_other_and_ends_with_the_turn(tmp_path, theirs, waiting):
    with closing(Turn(tmp_path / "notes.db", wait_s=60)) as turn:
        for _ in range(5):
            holder = hold(theirs, 0.01)
            with turn:
                pass
            holder.join()
        assert waiting() == 1
    assert none_soon(waiting)


def test_a_wait_that_was_given_up_lets_go_of_nothing_that_is_held_since(tmp_path, ours, theirs):
    """It gets its lock after all, beside the one who asked again and was given it."""
    for _ in range(20):
        holder = hold(theirs, 2 * WAIT_S)
        with pytest.raises(Busy), ours:
            pass
        try:
            with ours:
                time.sleep(WAIT_S)  # the wait that was given up gets its lock, and lets go of it
                with closing(Turn(tmp_path / "notes.db", wait_s=0.001)) as third, pytest.raises(Busy):
                    third.__enter__()
        except Busy:  # this time was up as well
            pass
        holder.join()


def test_a_turn_that_comes_just_as_the_time_is_up_is_either_ours_or_free(tmp_path, ours, theirs, waiting):
    """Whatever came of a wait, nobody holds the turn afterwards, and the next wait is as long as any other."""
    draw = random.Random(7)
    for _ in range(60):
        holder = hold(theirs, WAIT_S * draw.uniform(0.9, 1.1))
        try:
            with ours, closing(Turn(tmp_path / "notes.db", wait_s=0.001)) as third, pytest.raises(Busy):
                third.__enter__()
        except Busy:
            pass
        holder.join()
        with theirs:  # it is free
            pass
    holder = hold(theirs, 10 * WAIT_S)
    began = time.monotonic()
    with pytest.raises(Busy), ours:
        pass
    assert time.monotonic() - began >= 0.9 * WAIT_S
    holder.join()
    ours.close()
    theirs.close()
    assert none_soon(waiting)
