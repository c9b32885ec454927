"""Writers that are killed at random moments, run inside one child process that forks them: no import is paid twice.

Each writer tells what was acknowledged through a pipe, after the call returned. Its parent kills it with signal 9,
then lets a fresh process open the database, look for everything acknowledged, and verify every page.
"""

import os
import random
import select
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial

import aico
from aico.errors import AicoError, Busy
from aico.testing import PASSPHRASE, cheap_settings
from tests.data.libsql.cases import sealed, text_of

MONEY, ACCOUNTS = 1000, 8


def prepare(path: str) -> None:
    with sealed(path) as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        connection.execute("CREATE INDEX rows_by_text ON rows (text)")
        connection.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, money INTEGER NOT NULL)")
        connection.execute_many(
            "INSERT INTO accounts VALUES (?, ?)", ((number, MONEY // ACCOUNTS) for number in range(ACCOUNTS))
        )


def kill_storm(path: str, rounds: int, writers: int, seed: int) -> dict:
    """Kill `writers` processes in each of `rounds`; what was found."""
    in_fork(lambda _: prepare(path))
    chance, acknowledged, errors, slowest = random.Random(seed), set(), [], 0.0
    for turn in range(rounds):
        running = [
            start_fork(lambda pipe, who=who: _write_for_ever(path, pipe, turn * 10 + who)) for who in range(writers)
        ]
        time.sleep(chance.uniform(0.02, 0.15))
        for child, _ in running:
            os.kill(child, signal.SIGKILL)
        for child, pipe in running:
            os.waitpid(child, 0)
            for line in _lines(pipe):
                if line.startswith("!"):
                    errors.append(line)
                else:
                    acknowledged.add(int(line))
        began = time.monotonic()
        answer = in_fork(lambda pipe: _examine(path, acknowledged, pipe))
        slowest = max(slowest, time.monotonic() - began)
        if answer != "whole":
            return {"round": turn, "wrong": answer, "acknowledged": len(acknowledged)}
    return {
        "kills": rounds * writers,
        "acknowledged": len(acknowledged),
        "errors": errors,
        "wrong": None,
        "slowest look": round(slowest, 2),
    }


def _write_for_ever(path: str, pipe: int, seed: int) -> None:
    chance = random.Random(seed)
    try:
        with sealed(path, page_cache_kib=chance.choice([40, 400, 4000]), busy_wait_s=60) as connection:
            while True:
                number = seed * 1_000_000 + chance.randrange(1_000_000)
                done = _one_step(connection, chance, number)
                os.write(pipe, b"".join(b"%d\n" % one for one in done))
    except BaseException as exc:
        os.write(pipe, f"! {type(exc).__name__}: {exc}\n".encode())


def _one_step(connection, chance: random.Random, number: int) -> list[int]:
    """One thing a companion does; the rows that are acknowledged by it."""
    what = chance.random()
    if what < 0.35:
        _add(connection, number)
        return [number]
    if what < 0.5:
        connection.write(lambda: _add(connection, number))
        return [number]
    if what < 0.65:
        with connection.transaction():
            for one in range(number, number + 40):
                _add(connection, one)
        return list(range(number, number + 40))
    if what < 0.75:
        with connection.transaction():
            _add(connection, number)
            try:
                with connection.transaction():
                    connection.execute("UPDATE rows SET text = 'never' WHERE number % 7 = 0")
                    raise KeyError
            except KeyError:
                pass
        return [number]
    if what < 0.92:
        one, two = chance.sample(range(ACCOUNTS), 2)
        with connection.transaction():
            connection.execute("UPDATE accounts SET money = money - 5 WHERE id = ?", (one,))
            connection.execute("UPDATE accounts SET money = money + 5 WHERE id = ?", (two,))
        return []
    if what < 0.96:
        connection.clear_log()
        return []
    if what < 0.98:
        connection.execute("VACUUM")
        return []
    connection.fetch_all("SELECT text FROM rows ORDER BY text DESC")
    return []


def _add(connection, number: int) -> None:
    connection.execute("INSERT OR IGNORE INTO rows VALUES (?, ?)", (number, text_of(number)))


def _examine(path: str, expected: set[int], pipe: int) -> None:
    with sealed(path, create=False) as connection:
        rows = dict(connection.fetch_all("SELECT number, text FROM rows"))
        wrong = [number for number, text in rows.items() if text != text_of(number)]
        money = connection.fetch_one("SELECT sum(money) FROM accounts")[0]
        indexed = connection.fetch_one("SELECT count(*) FROM rows INDEXED BY rows_by_text WHERE text > ''")[0]
        connection.verify()
    if lost := expected - set(rows):
        answer = f"{len(lost)} acknowledged rows lost, such as {min(lost)}"
    elif wrong or money != MONEY or indexed != len(rows):
        answer = f"wrong rows {wrong[:3]}, money {money}, indexed {indexed} of {len(rows)}"
    else:
        answer = "whole"
    os.write(pipe, answer.encode() + b"\n")


# Rekeying


def rekey_storm(path: str, rounds: int, seed: int) -> dict:
    """Kill a process in the middle of rekeying, again and again; one of the two keys opens everything.

    A thread of the same process writes all the while.
    """
    chance, keys, opened = (
        random.Random(seed),
        [bytes([1]) * 32, bytes([2]) * 32],
        {"old key": 0, "new key": 0, "both": 0},
    )
    in_fork(lambda _: _prepare_rekey(path, keys[0]))
    for turn in range(rounds):
        child, pipe = start_fork(lambda pipe: _rekey(path, keys, pipe))
        select.select([pipe], [], [], 60)
        time.sleep(chance.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished = "done" in _lines(pipe)
        answers = [in_fork(lambda pipe, key=key: _open_with(path, key, pipe)) for key in keys]
        if "whole" not in answers or set(answers) - {"whole", "Tampered"} or (finished and answers[1] != "whole"):
            return {"round": turn, "wrong": answers, "finished": finished}
        opened["both" if answers == ["whole", "whole"] else "old key" if answers[0] == "whole" else "new key"] += 1
        if answers[1] == "whole":
            keys = [keys[1], bytes([3 + turn % 200]) * 32]
    return {"kills": rounds, "wrong": None, **opened}


def _prepare_rekey(path: str, key: bytes) -> None:
    with sealed(path, key) as connection:
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        connection.execute_many("INSERT INTO rows VALUES (?, ?)", ((number, text_of(number)) for number in range(3000)))
        connection.execute("CREATE TABLE noise (x)")
        connection.execute("INSERT INTO noise VALUES (0)")


def _rekey(path: str, keys: list[bytes], pipe: int) -> None:
    with sealed(path, keys[0]) as connection:
        connection.execute("UPDATE rows SET text = text WHERE number % 3 = 0")  # something in the log

        def write() -> None:
            while True:
                connection.execute("UPDATE noise SET x = x + 1")

        threading.Thread(target=write, daemon=True).start()
        os.write(pipe, b"begun\n")
        connection.rekey(keys[1])
        os.write(pipe, b"done\n")
        connection.execute("UPDATE rows SET text = text WHERE number % 2 = 0")
        time.sleep(60)


def _open_with(path: str, key: bytes, pipe: int) -> None:
    try:
        with sealed(path, key, create=False) as connection:
            whole = connection.fetch_all("SELECT number, text FROM rows ORDER BY number") == [
                (n, text_of(n)) for n in range(3000)
            ]
            connection.verify()
            answer = "whole" if whole else "WRONG"
    except Exception as exc:
        answer = type(exc).__name__
    os.write(pipe, answer.encode() + b"\n")


# A whole vault


def vault_storm(folder: str, processes: int, kills: int, rotating: bool, seed: int) -> dict:
    """`processes` write and read one vault for ever; one after another is killed and replaced; what was found.

    With `rotating` one process more rotates the keys all the while, and is killed as well.
    """
    chance, storm = random.Random(seed), _Storm(folder)
    in_fork(lambda _: open_cheaply(folder).close())
    for who in range(processes + rotating):
        storm.start(rotates=who == processes)
    began, slowest = time.monotonic(), 0.0
    for kill in range(1, kills + 1):
        storm.listen(chance.uniform(0.0, 0.25))
        storm.start(rotates=storm.kill(chance.randrange(len(storm.running))))
        if kill % LOOK_EVERY == 0 or kill == kills:
            looked = time.monotonic()
            answer = in_fork(lambda pipe: _look(folder, storm.acknowledged, pipe))
            slowest = max(slowest, time.monotonic() - looked)
            if answer != "whole":
                storm.end()
                return {"wrong": answer, "kill": kill, **storm.told()}
    storm.end()
    answer = in_fork(lambda pipe: _look(folder, storm.acknowledged, pipe))
    return {
        "wrong": None if answer == "whole" else answer,
        "kills": kills,
        **storm.told(),
        "took_s": round(time.monotonic() - began),
        "slowest_look_s": round(slowest, 1),
    }


LOOK_EVERY = 100
"""Kills between two looks for everything that was acknowledged."""


class _Storm:
    """Processes that tell what was acknowledged to them, or an error with a mark before it."""

    def __init__(self, folder: str) -> None:
        self.folder, self.started = folder, 0
        self.running: list[tuple[int, int, bool]] = []
        self.acknowledged: set[str] = set()
        self.rotations, self.reads, self.errors = 0, 0, Counter[str]()
        self._rest: dict[int, bytes] = {}

    def start(self, *, rotates: bool) -> None:
        self.started += 1
        work = partial(_rotate_for_ever, self.folder) if rotates else partial(_live, self.folder, self.started)
        child, pipe = start_fork(work)
        self.running.append((child, pipe, rotates))
        self._rest[pipe] = b""

    def listen(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([pipe for _, pipe, _ in self.running], [], [], left)
            for pipe in ready:
                if not self._take(pipe):
                    time.sleep(0.01)  # it ended by itself, after telling why

    def kill(self, number: int) -> bool:
        """Whether it was the one that rotates."""
        child, pipe, rotates = self.running.pop(number)
        os.kill(child, signal.SIGKILL)
        while self._take(pipe):
            pass
        os.close(pipe)
        del self._rest[pipe]
        os.waitpid(child, 0)
        return rotates

    def end(self) -> None:
        while self.running:
            self.kill(0)

    def told(self) -> dict:
        return {
            "acknowledged": len(self.acknowledged),
            "reads": self.reads,
            "rotations": self.rotations,
            "errors": dict(self.errors),
        }

    def _take(self, pipe: int) -> bool:
        part = os.read(pipe, 1 << 16)
        *lines, self._rest[pipe] = (self._rest[pipe] + part).split(b"\n")
        for line in lines:
            text = line.decode()
            if text.startswith("+"):
                self.acknowledged.add(text[1:])
            elif text == "read":
                self.reads += 1
            elif text == "rotated":
                self.rotations += 1
            elif text:
                self.errors[text] += 1
        return bool(part)


def open_cheaply(folder: str) -> aico.Vault:
    """The storm's vault."""
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def _live(folder: str, number: int, pipe: int) -> None:
    """What a companion does, until it is killed. Every acknowledged source id is told after the call came back."""
    chance, count = random.Random(number), 0

    def message() -> aico.Message:
        nonlocal count
        count += 1
        source = number * 100_000 + count
        return aico.Message(text_of(source), conversation=f"c{number % 8}", source_id=str(source))

    def tell(*lines: str) -> None:
        os.write(pipe, "".join(f"{line}\n" for line in lines).encode())

    with open_cheaply(folder) as vault:
        while True:
            what, new = chance.random(), [message() for _ in range(chance.choice((1, 1, 1, 5, 40)))]
            if len(new) == 1:
                one = new[0]
                vault.memory.record("mia", one.text, conversation=one.conversation, source_id=one.source_id)
            else:
                vault.memory.record_many("mia", new)
            tell(*(f"+{one.source_id}" for one in new))
            if what < 0.3:
                last = vault.memory.recent("mia", new[-1].conversation, limit=200)
                tell("read")
                if not any(moment.source_id == new[-1].source_id for moment in last):
                    tell("what was just recorded is not read")
                if any(moment.text != text_of(int(moment.source_id)) for moment in last):
                    tell("a wrong text was read")
            elif what < 0.33:
                vault.connection.clear_log()
            elif what < 0.35:
                vault.audit_log.append(aico.data.audit_log.Action.EXPORTED)


def _rotate_for_ever(folder: str, pipe: int) -> None:
    with open_cheaply(folder) as vault:
        while True:
            with suppress(Busy):  # somebody reads for long, or looks: the next call goes on
                vault.keys.rotate(*([] if vault.keys.rotation_unfinished() else [PASSPHRASE]))
                os.write(pipe, b"rotated\n")
            time.sleep(0.2)


def _look(folder: str, acknowledged: set[str], pipe: int) -> None:
    """Whether everything that was acknowledged is there and nothing is wrong, as a vault opened afresh has it."""
    with open_cheaply(folder) as vault:
        with vault.connection.snapshot() as rows:
            found = dict(map(tuple, rows("SELECT source_id, text FROM messages")))
        wrong = [source for source, text in found.items() if text != text_of(int(source))]
        intact = vault.audit_log.verify().intact
        try:
            vault.connection.verify()
            answer = "whole"
        except AicoError as exc:
            answer = f"{type(exc).__name__}: {exc}"
    if lost := acknowledged - found.keys():
        answer = f"{len(lost)} acknowledged messages lost, such as {min(lost)}"
    elif wrong or not intact:
        answer = f"wrong texts {wrong[:3]}, audit log {'intact' if intact else 'broken'}"
    os.write(pipe, answer.encode() + b"\n")


# Forking


def start_fork(work) -> tuple[int, int]:
    """(process id, where to read what it tells)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(writing)
        except BaseException as exc:
            os.write(writing, f"raised {type(exc).__name__}: {exc}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def in_fork(work) -> str:
    """What a fork of this process answers."""
    child, pipe = start_fork(work)
    answer = "".join(_lines(pipe))
    _, status = os.waitpid(child, 0)
    return answer if not os.WIFSIGNALED(status) else f"signal {os.WTERMSIG(status)}"


def _lines(pipe: int) -> list[str]:
    """All that was told before the pipe was closed; a last line cut by the kill was not told."""
    with os.fdopen(pipe) as opened:
        return [line.strip() for line in opened if line.endswith("\n")]
