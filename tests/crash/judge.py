"""Opens damaged copies, each in a process of its own, and says how that ended.

A small server forks for every copy: what crashes or hangs is only that fork.

    with Judge() as judge:
        judge.outcome("database", folder)    # "rows 42", "Tampered", "WRONG …", "HANG", "SIGNAL 11", "ESCAPED KeyError …"

    python -m tests.crash.judge         one JSON request a line on standard input, one JSON answer a line on standard output
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from aico.errors import AicoError
from tests.children import ROOT

PATIENCE_S = 60.0


class Judge:
    """The server, started once for many copies. It imports `modules` before it forks."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def __enter__(self) -> "Judge":
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.judge", *self._modules],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def outcome(self, kind: str, folder: Path) -> str:
        """How opening and reading everything in `folder` ended."""
        self._server.stdin.write(json.dumps([kind, str(folder)]) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def read_database(folder: str) -> str:
    """Everything of a database made by `tests.data.libsql.cases`."""
    from tests.data.libsql.cases import count_if_right, sealed

    with sealed(f"{folder}/aico.db", create=False) as connection:
        count = count_if_right(connection)
        connection.verify()
    return f"rows {count}"


def read_vault(folder: str) -> str:
    """Everything of a vault made by `tests.crash.test_flips`."""
    import aico
    from aico.testing import PASSPHRASE, cheap_settings
    from tests.data.libsql.cases import text_of

    with aico.open(folder, passphrase=PASSPHRASE, create=False, settings=cheap_settings()) as vault:
        texts = [moment.text for moment in vault.memory.recent("mia", "c1", limit=10_000)]
        assert texts == [text_of(number) for number in range(len(texts))], "a wrong value"
        facts = [fact.text for fact in vault.facts.list("mia", limit=1_000_000)]
        assert facts == ["Mia lives in Lisbon"], "a wrong fact"
        vault.connection.verify()
    return f"rows {len(texts)}"


def read_part(kind: str, folder: str) -> str:
    """What rests on the files of one kind, in a world of `tests.crash.world`."""
    from tests.crash.world import read_world

    return read_world(kind, Path(folder))


def _judged(kind: str, folder: str) -> str:
    try:
        if kind.startswith("world "):
            return read_part(kind.removeprefix("world "), folder)
        return {"database": read_database, "vault": read_vault}[kind](folder)
    except AicoError as exc:
        return type(exc).__name__
    except AssertionError as exc:
        return f"WRONG {exc}"
    except BaseException as exc:
        return f"ESCAPED {type(exc).__name__}: {exc}"


def _in_fork(kind: str, folder: str) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, _judged(kind, folder).encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        answered, _, _ = select.select([pipe], [], [], PATIENCE_S)
        answer = pipe.read(4000).decode() if answered else "HANG"
    if not answered:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return f"SIGNAL {os.WTERMSIG(status)}" if answered and os.WIFSIGNALED(status) else answer


def _main() -> None:
    for name in ("aico.vault", "aico.testing", "tests.data.libsql.cases", *sys.argv[1:]):
        importlib.import_module(name)  # once, for all forks

    for line in sys.stdin:
        print(json.dumps(_in_fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
