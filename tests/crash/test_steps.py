"""kill -9 at each write of a rotation, a migration, a backup and a restore: what was acknowledged is there, and it goes on."""

import pytest

from tests.children import run
from tests.crash.steps import CASES, kill_everywhere

EVERY = {"rotation": 53, "migration": 47, "backup": 61, "restore": 37}
"""The quick suite looks at some of the writes, `python -m bench storm` at each."""


def killed(name: str, folder, every: int) -> dict:
    done = run(kill_everywhere, name, str(folder), every, patience_s=1800)
    assert done.error is None, done
    print(f"\n{name}: {done.value}")
    assert done.value["wrong"] is None, done.value
    return done.value


@pytest.mark.parametrize("name", CASES)
def test_killed_at_some_writes_it_loses_nothing_and_goes_on(tmp_path, name):
    assert killed(name, tmp_path, EVERY[name])["kills"] > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_killed_at_each_write_it_loses_nothing_and_goes_on(tmp_path, name):
    assert killed(name, tmp_path, 1)["kills"] > 50
