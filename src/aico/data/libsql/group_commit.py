"""Many threads, one commit: whoever comes first commits for all who wait.

A durable commit costs a disk sync whatever it holds. Threads of one process therefore put their work in one
queue; the first becomes the leader, runs everything that waits in one transaction, and hands the lead on. There
is no writer thread: a lone writer pays no hand-over.
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
    __slots__ = ("_signal", "error", "leads", "settled", "value", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.value, self.settled, self.leads = work, None, False, False
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
    """Runs work inside shared transactions. Any thread may submit."""

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
            job.leads = not self._led
            self._led = True
        if not job.leads:
            try:
                job.sleep()
            except BaseException:
                self._give_up(job)
                raise
        if not job.settled:
            self._lead(job)
        value: T = job.outcome()
        return value

    def _lead(self, own: _Job) -> None:
        try:
            with self._transactions.exclusive():
                self._commit(self._take_batch(), own)
        finally:
            self._give_up(own)

    def _give_up(self, job: _Job) -> None:
        """Leave the queue, and hand the lead on if `job` has it. The others try for themselves."""
        with self._mutex:
            if job in self._waiting:
                self._waiting.remove(job)
            if not job.leads:
                return
            job.leads, self._led = False, bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].wake()

    def _take_batch(self) -> list[_Job]:
        with self._mutex:
            return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _commit(self, batch: list[_Job], own: _Job) -> None:
        try:
            self._transactions.begin()
            for job in batch:
                self._run(job, alone=len(batch) == 1)
            self._transactions.commit()
        except Exception as error:  # noqa: BLE001  # handed to each caller, who raises it
            self._transactions.roll_back()
            for job in batch:
                job.error = error
        except BaseException:  # an interrupt of the leader's thread is not the others' failure
            self._transactions.roll_back()
            with self._mutex:
                self._waiting.extendleft(reversed([job for job in batch if job is not own]))
            raise
        for job in batch:
            job.settled = True
            if job is not own:
                job.wake()

    def _run(self, job: _Job, *, alone: bool) -> None:
        """Run one job; what it raises is its own, and takes back its own statements alone."""
        job.error = None
        if alone:
            job.value = job.work()  # a failure takes the whole transaction back
            return
        try:
            with self._transactions.savepoint():
                job.value = job.work()
        except KeyboardInterrupt:  # sent to the leader's thread, whoever's work it was running
            raise
        except BaseException as error:  # noqa: BLE001  # handed to the caller whose work raised it
            job.error = error
