"""Programs of our users keep their types: mypy, as strict as it can be, has nothing to say about them."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "__")))


@pytest.mark.timeout(900)  # the types of other frameworks are many, where nothing of them is in mypy's cache yet
def test_mypy_understands_every_program() -> None:
    for needed in ("mypy", "agents", "langgraph.store.base"):
        pytest.importorskip(needed, reason="types are checked where the group `lint` and every extra are installed")
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, PROGRAMS)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
