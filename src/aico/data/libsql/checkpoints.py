"""Moves the write-ahead log into the database in the background, so that no commit has to wait for it."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from queue import SimpleQueue

import apsw

from aico.data.libsql.engine import EngineConnection
from aico.errors import AicoError

DUE_PAGES = 1000
"""Pages of the log that the database does not have: SQLite's own default. A checkpoint of so many takes some 60 ms."""
LOOK_EVERY_PAGES = DUE_PAGES // 4
"""How much the log grows before one looks again. A checkpoint after each commit, once the log is long, costs more than
the commits themselves."""
OVERDUE_PAGES = 8 * DUE_PAGES
"""From here writers wait for it: under steady writing a log that is never restarted would only grow."""


class Checkpointer:
    """One thread, started when first needed. A checkpoint that fails loses nothing and comes again."""

    def __init__(
        self,
        writer: EngineConnection,
        connect: Callable[[], EngineConnection],
        exclusive: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._writer, self._connect, self._exclusive = writer, connect, exclusive
        # What is asked of the thread: true for a checkpoint, false to end. A queue of C and no Event: the hook runs
        # in the committing thread, and an interrupt inside an Event leaves it locked.
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._pending = False
        self._log_pages = self._looked_at = 0
        self._thread: threading.Thread | None = None
        writer.after_commits(self._after_commit)

    def stop(self) -> None:
        """End the thread, after the checkpoint it may be in. May be called twice."""
        self._pending = True
        self._asked.put(False)
        if self._thread is not None:
            self._thread.join()

    def _after_commit(self, log_pages: int) -> None:
        if log_pages < self._log_pages:  # the log was begun anew
            self._looked_at = 0
        self._log_pages = log_pages
        if self._pending or log_pages - self._looked_at < LOOK_EVERY_PAGES:
            return
        self._looked_at = log_pages
        if log_pages >= OVERDUE_PAGES or self._writer.log_backlog() >= DUE_PAGES:
            self._pending = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aico-checkpoints", daemon=True)
                self._thread.start()
            self._asked.put(True)

    def _run(self) -> None:
        while self._asked.get():
            self._pending = False  # before looking: what is asked for from here on is seen in the next round
            self._checkpoint()

    def _checkpoint(self) -> None:
        try:
            with closing(self._connect()) as connection:
                connection.checkpoint(restart=False)
                if self._log_pages >= OVERDUE_PAGES:
                    with self._exclusive():  # briefly: what came since is little
                        connection.checkpoint(restart=True)
        except (apsw.Error, AicoError):
            return  # busy, or a full disk that the next commit will report; the log still holds everything
