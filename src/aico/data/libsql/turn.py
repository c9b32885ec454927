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
        self._door = _LockFile(Path(f"{database}-door"))
        self._turn = _LockFile(Path(f"{database}-turn"))
        self._waiter: _Waiter | None = None  # one that waits for nothing

    def __enter__(self) -> Self:
        try:
            self._take(self._door)
            self._take(self._turn)
            self._door.let_go()
        except BaseException:  # a signal's exception too: nobody would give them back
            self._turn.let_go()
            self._door.let_go()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.let_go()

    def close(self) -> None:
        """Give the lock files back. May be called twice."""
        self._door.close()
        self._turn.close()
        if self._waiter is not None:
            self._waiter.end()
            self._waiter = None

    def _take(self, lock: "_LockFile") -> None:
        if lock.try_to_take():
            return
        waiter, self._waiter = self._waiter or _Waiter(), None
        if not waiter.wait(lock, self._wait_s):
            raise Busy(
                f"another process kept {self._database.name} for {self._wait_s:g} s; nothing was written",
                hint="try again; if it goes on, `aico doctor` tells whether a process hangs",
            )
        self._waiter = waiter


class _LockFile:
    """A file that is locked by `flock`: through our own descriptor or, where we had to wait, one opened for that wait.

    A lock belongs to what opened the file. Were it one for both, a wait that was given up would in the end let go of what
    we hold by then.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._own = path, _opened(path)
        self.waited_for = -1

    def try_to_take(self) -> bool:
        try:
            fcntl.flock(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def opened_anew(self) -> int:
        return _opened(self._path)

    def let_go(self) -> None:
        """Whichever way it is held, if it is."""
        fcntl.flock(self._own, fcntl.LOCK_UN)
        descriptor, self.waited_for = self.waited_for, -1
        if descriptor >= 0:
            _unlock_and_close(descriptor)

    def close(self) -> None:
        """May be called twice."""
        own, self._own = self._own, -1
        if own >= 0:
            os.close(own)


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

    def wait(self, lock: _LockFile, wait_s: float) -> bool:
        """Whether the lock was taken within `wait_s` seconds; if not, it is given back as soon as it comes."""
        self._signal.acquire(blocking=False)  # it was given, where the lock came just as the time was up
        self._descriptor, self._taken = lock.opened_anew(), False
        kept = False
        try:
            self._asked.put(self._descriptor)
            self._signal.acquire(timeout=wait_s)
            kept = self._settle(lock)
        finally:
            if not kept:  # too late, or a signal's exception: whoever waited here will not give back what comes later
                self._settle(None)
                self.end()
        return kept

    def end(self) -> None:
        """End the thread, once it waits for nothing."""
        self._asked.put(None)

    def _settle(self, lock: _LockFile | None) -> bool:
        """Hand what was taken over to the lock, or give it back where there is none; whether it was handed over."""
        with self._settled:
            self._given_up = not self._taken or lock is None
            if self._taken and lock is not None:
                lock.waited_for, self._descriptor = self._descriptor, -1
            elif self._taken and self._descriptor >= 0:
                self._give_back()
            return not self._given_up

    def _run(self) -> None:
        while (descriptor := self._asked.get()) is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with self._settled:
                if self._given_up:
                    self._give_back()
                    return
                self._taken = True
                self._signal.release()

    def _give_back(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        _unlock_and_close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _unlock_and_close(descriptor: int) -> None:
    """Both: in a forked child the file may still be open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
