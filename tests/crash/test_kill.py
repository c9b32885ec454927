"""kill -9 at random moments: no acknowledged write is lost, nothing half-done shows, and the database opens at once."""

import pytest

from tests.children import run
from tests.crash.storms import kill_storm, rekey_storm


def stormed(path, rounds: int, writers: int, seed: int) -> dict:
    done = run(kill_storm, str(path / "aico.db"), rounds, writers, seed, patience_s=rounds * 5 + 60)
    assert done.error is None, done
    print(f"\n{done.value}")
    assert done.value["wrong"] is None, done.value
    assert done.value["errors"] == []
    return done.value


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path):
    assert stormed(tmp_path, 10, 2, seed=1)["acknowledged"] > 0


@pytest.mark.slow
def test_many_killed_writers_lose_nothing_that_was_acknowledged(tmp_path):
    for writers in (1, 2, 4):
        (tmp_path / str(writers)).mkdir()
        stormed(tmp_path / str(writers), 200 // writers, writers, seed=writers)


def test_a_rekey_killed_anywhere_leaves_a_database_that_one_key_opens(tmp_path):
    done = run(rekey_storm, str(tmp_path / "aico.db"), 15, 1)
    assert done.error is None, done
    print(f"\n{done.value}")
    assert done.value["wrong"] is None, done.value


@pytest.mark.slow
def test_many_killed_rekeys_leave_a_database_that_one_key_opens(tmp_path):
    done = run(rekey_storm, str(tmp_path / "aico.db"), 150, 2, patience_s=900)
    assert done.error is None, done
    print(f"\n{done.value}")
    assert done.value["wrong"] is None, done.value
