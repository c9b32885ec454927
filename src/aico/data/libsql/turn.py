"""A fair turn between processes around everything that writes to one database.

SQLite's own busy waiting sleeps and retries: with pages sealed in Python, five of eight processes wrote once in
two seconds. Here whoever waits next holds the door, the kernel keeps the queue, and a killed process lets go.
"""

import fcntl
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from aico.errors import Busy


class Turn:
    """A context manager that holds the right to write. Thread rule: one thread at a time; not re-entrant.

    Its two lock files are opened by nothing else: closing any descriptor of the database or its -shm in a
    process would drop SQLite's own locks.
    """

    def __init__(self, database: Path, *, wait_s: float) -> None:
        self._wait_s, self._database = wait_s, database
        self._door = _open_lock(database, "door")
        self._turn = _open_lock(database, "turn")
        self._waiter: _Waiter | None = None  # one that waits for nothing

    def __enter__(self) -> Self:
        try:
            self._take(self._door)
            self._take(self._turn)
            fcntl.flock(self._door, fcntl.LOCK_UN)
        except BaseException:  # a signal's exception too: nobody would give them back
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            fcntl.flock(self._door, fcntl.LOCK_UN)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the lock files back. May be called twice."""
        for descriptor in (self._door, self._turn):
            if descriptor >= 0:
                os.close(descriptor)
        self._door = self._turn = -1
        if self._waiter is not None:
            self._waiter.end()
            self._waiter = None

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        waiter, self._waiter = self._waiter or _Waiter(), None
        if not waiter.wait(descriptor, self._wait_s):
            raise Busy(
                f"another process kept {self._database.name} for {self._wait_s:g} s; nothing was written",
                hint="try again; if it goes on, `aico doctor` tells whether a process hangs",
            )
        self._waiter = waiter


class _Waiter:
    """Waits in the kernel's queue, in a thread of its own, because flock knows no time limit.

    For one lock after the other: a thread for each would cost a fifth of what many writers can record. Who gave up
    waiting leaves it alone, and it ends once it has given back what came too late.
    """

    def __init__(self) -> None:
        # Locks and a queue of C and no Event: an interrupt inside an Event leaves it locked.
        self._asked: SimpleQueue[int | None] = SimpleQueue()
        self._settled = threading.Lock()
        self._taken = self._given_up = False
        self._signal = threading.Lock()
        self._signal.acquire()
        threading.Thread(target=self._run, name="aico-turn", daemon=True).start()

    def wait(self, descriptor: int, wait_s: float) -> bool:
        """Whether the lock was taken within `wait_s` seconds; if not, it is given back as soon as it comes."""
        self._signal.acquire(blocking=False)  # it was given, where the lock came just as the time was up
        # A duplicate shares the lock, and stays valid should the turn be closed while we still wait.
        self._descriptor, self._taken = os.dup(descriptor), False
        kept = False
        try:
            self._asked.put(self._descriptor)
            self._signal.acquire(timeout=wait_s)
            kept = self._settle(keep=True)
        finally:
            if not kept:  # too late, or a signal's exception: whoever waited here will not give back what comes later
                self._settle(keep=False)
                self.end()
        return kept

    def end(self) -> None:
        """End the thread, once it waits for nothing."""
        self._asked.put(None)

    def _settle(self, *, keep: bool) -> bool:
        with self._settled:
            self._given_up = not (self._taken and keep)
            if self._taken:
                self._let_go(unlock=not keep)
            return self._taken and keep

    def _run(self) -> None:
        while (descriptor := self._asked.get()) is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with self._settled:
                if self._given_up:
                    self._let_go(unlock=True)
                    return
                self._taken = True
                self._signal.release()

    def _let_go(self, *, unlock: bool) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            if unlock:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _open_lock(database: Path, name: str) -> int:
    return os.open(f"{database}-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
