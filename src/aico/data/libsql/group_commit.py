"""Many threads, one commit: whoever comes first commits for all who wait.

A durable commit costs a disk sync whatever it holds. Threads of one process therefore put their work in one
queue; the first becomes the leader, runs everything that waits in one transaction, and hands the lead on. There
is no writer thread: a lone writer pays no hand-over.

The main thread stays out of it: signals interrupt it between any two steps, and the work of others must neither
fall with it nor run twice.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

BATCH_MAX = 256
T = TypeVar("T")


class Transactions(Protocol):
    """What the queue needs of the connection that commits for it."""

    def exclusive(self) -> AbstractContextManager[object]:
        """Hold the right to write, in this process and among all."""
        ...

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def roll_back(self) -> None: ...
    def savepoint(self) -> AbstractContextManager[object]: ...


class _Job:
    __slots__ = ("_signal", "error", "settled", "value", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.value, self.settled = work, None, False
        self.error: BaseException | None = None
        self._signal = threading.Lock()
        self._signal.acquire()

    def sleep(self) -> None:
        """Until settled by a leader, or called to lead."""
        self._signal.acquire()

    def wake(self) -> None:
        self._signal.release()

    def outcome(self) -> Any:  # whatever the caller's work returned
        if self.error is not None:
            raise self.error
        return self.value


class GroupCommit:
    """Runs work inside shared transactions. Any thread but the main one may submit."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._mutex = threading.Lock()  # guards the two below
        self._waiting: deque[_Job] = deque()
        self._led = False

    def submit(self, work: Callable[[], T]) -> T:
        """What `work` returned, once it is committed and durable; or raises what it raised, taken back whole.

        One failing caller takes back only its own statements. `work` may run in another thread.
        """
        job = _Job(work)
        with self._mutex:
            self._waiting.append(job)
            leads, self._led = not self._led, True
        if not leads:
            job.sleep()
        if not job.settled:
            self._lead(job)
        value: T = job.outcome()
        return value

    def _lead(self, own: _Job) -> None:
        try:
            with self._transactions.exclusive():
                self._commit(self._take_batch(), own)
        finally:
            with self._mutex:
                if (
                    own in self._waiting
                ):  # no turn came: this job fails in its own thread, the others try for themselves
                    self._waiting.remove(own)
                following = self._waiting[0] if self._waiting else None
                self._led = following is not None
            if following is not None:
                following.wake()

    def _take_batch(self) -> list[_Job]:
        with self._mutex:
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _commit(self, batch: list[_Job], own: _Job) -> None:
        try:
            self._transactions.begin()
            for job in batch:
                self._run(job, alone=len(batch) == 1)
            self._transactions.commit()
        except BaseException as error:  # noqa: BLE001  # handed to each caller, who raises it
            for job in batch:
                job.error = error
            self._transactions.roll_back()
        finally:  # nobody is left waiting, even where taking back fails as well
            for job in batch:
                job.settled = True
                if job is not own:
                    job.wake()

    def _run(self, job: _Job, *, alone: bool) -> None:
        """Run one job; what it raises is its own, and takes back its own statements alone."""
        if alone:
            job.value = job.work()  # a failure takes the whole transaction back
            return
        try:
            with self._transactions.savepoint():
                job.value = job.work()
        except BaseException as error:  # noqa: BLE001  # handed to the caller whose work raised it
            job.error = error
