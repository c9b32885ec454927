"""Runs a function of a test module in a process of its own: to kill it, to limit it, or to watch how it ends.

done = run(worker, folder, 3)           # waits; `done.value` is what it returned, `done.error` what it raised
with started(worker, folder) as child:  # reads what it prints line by line, may kill it
    child.line()

python -m tests.children MODULE FUNCTION ARGUMENTS      arguments and result are JSON
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE_S = 120.0
"""Nothing here takes so long: who is still running then hangs."""


class Hangs(AssertionError):
    """The child did not end."""


@dataclass(frozen=True)
class Done:
    """How a child ended: `error` is the name of the exception's type, `status` negative for a signal."""

    status: int
    value: Any
    error: str | None
    message: str


class Child:
    """A running child."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> str:
        """The next line it prints, empty when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, text: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self, *, patience_s: float = PATIENCE_S) -> Done:
        """Wait for its end. Raises Hangs."""
        try:
            out, err = self.process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Hangs(f"the child was still running after {patience_s:g} s") from None
        last = out.strip().rpartition("\n")[2]
        found = (
            json.loads(last) if last.startswith('{"value"') else {"value": None, "error": None, "message": err[-2000:]}
        )
        return Done(self.process.returncode, found["value"], found["error"], found["message"])


@contextmanager
def started(function: Callable[..., Any], *arguments: Any, **environment: str) -> Iterator[Child]:
    """A child that runs `function(*arguments)`, killed at the end of the block if it still runs."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.children",
            function.__module__,
            function.__qualname__,
            json.dumps(arguments, default=str),
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def run(function: Callable[..., Any], *arguments: Any, patience_s: float = PATIENCE_S, **environment: str) -> Done:
    """Run `function(*arguments)` in a child to its end. Raises Hangs."""
    with started(function, *arguments, **environment) as child:
        return child.end(patience_s=patience_s)


def _main(module: str, name: str, arguments: str) -> None:
    function = getattr(importlib.import_module(module), name)
    value, error, message = None, None, ""
    try:
        value = function(*json.loads(arguments))
    except BaseException as exc:
        error, message = type(exc).__name__, str(exc)
    print("\n" + json.dumps({"value": value, "error": error, "message": message}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
