"""A thread that does what is left to do while nobody waits for it: started when first woken, gone with its owner."""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

SETTLE_S = 0.3
"""How long it lets others finish first: a command that writes one message and ends should not load a model."""


class Background:
    """Calls `work` after every `wake`. Any thread may use it.

    `work` returns when it wants to be called again, in seconds, or None when nothing is left; it looks at `stopping`
    as often as it can. The thread never keeps the interpreter alive.
    """

    def __init__(self, work: Callable[[], float | None], *, name: str, settle_s: float = SETTLE_S) -> None:
        self._work, self._name, self._settle_s, self._process = work, name, settle_s, os.getpid()
        # Of C, and no Event or Condition: whoever wakes it may be interrupted anywhere, and an Event would stay locked.
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._starting = threading.Lock()
        self._woken = False
        self._thread: threading.Thread | None = None
        self.stopping = False

    def wake(self) -> None:
        """There may be something to do. Costs less than a microsecond when it knows already."""
        if self._woken or self.stopping:
            return
        self._woken = True
        try:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
            self._asked.put(True)
        except BaseException:  # a signal's too: the next one wakes it
            self._woken = False
            raise

    def stop(self) -> None:
        """End the thread after the step it may be in, and wait for that. May be called twice, and in a forked child."""
        self.stopping = True
        self._asked.put(False)
        if self._thread is not None and os.getpid() == self._process:
            self._thread.join()

    def _run(self) -> None:
        again_in_s: float | None = None
        while self._is_asked(again_in_s) and self._rests(self._settle_s):
            self._woken = False  # before looking: what comes from here on is seen in the next round
            again_in_s = self._work()

    def _is_asked(self, within_s: float | None) -> bool:
        """Wait to be woken, or for the time that `work` named; false to end."""
        try:
            return self._asked.get(timeout=within_s) and not self.stopping
        except Empty:
            return True

    def _rests(self, seconds: float) -> bool:
        """Do nothing for a while; false if it is to end meanwhile."""
        try:
            return self._asked.get(timeout=seconds)  # nothing but an end comes while it knows that it was woken
        except Empty:
            return True
