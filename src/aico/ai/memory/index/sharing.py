"""A lock that many may share, or one hold alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """`with lock.shared():` for those who read, `with lock.alone():` for the one who changes. Either costs microseconds.

    Who wants it alone waits for the readers inside and keeps new ones out, so a stream of readers starves nobody.
    Neither may be taken inside the other, nor twice by one thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers, self._waiting, self._held = 0, 0, False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Together with others who only read."""
        with self._changed:
            while self._held or self._waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers and self._waiting:
                    self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else inside."""
        with self._changed:
            self._waiting += 1
            try:
                while self._held or self._readers:
                    self._changed.wait()
                self._held = True
            finally:
                self._waiting -= 1
                if not self._held:  # interrupted: those who stood back for it may go on
                    self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()
