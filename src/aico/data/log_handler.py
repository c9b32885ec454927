"""From the standard `logging` into the vault, without ever holding up whoever logs.

    logging.getLogger("companion").addHandler(vault.logs.handler())

The caller's thread turns a record into a line and puts it into a queue; one thread writes the queue in batches. What of
a record cannot be kept as it is, is kept as text, with its template unformatted, or as the name of its type; the line
is. When the queue is full, new lines are dropped: the first lines of a trouble tell more than the last. How many were
lost becomes a line of its own. What the store itself logs never comes back here.
"""

import logging
import os
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from aico.data.logs import LEVELS, LogLine, LogRepository
from aico.data.row_ids import ID_BYTES

QUEUE_MAX = 10_000
BATCH_MAX = 500
GATHER_S = 0.1
"""How long a first line waits for others, so that a busy program commits a few times a second."""
END_WAIT_S = 5.0
LINE_MAX = 64 * 1024
"""Characters of one message that are kept."""
RETENTION_EVERY_S = 3600.0

OWN = ("aico.data", "aico.vault")
"""Loggers of the store itself: a line of theirs would cause the next one."""
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_INSTANT_MIN_US, _INSTANT_MAX_US = 10**14, 253_402_300_799_999_999
"""Of 1973 and 9999: a smaller number is seconds or milliseconds to the log."""
_COLUMNS = ("topic", "session_id", "trace_id")


class VaultLogHandler(logging.Handler):
    """Writes records to the vault's log. Any thread may log; after a fork the child's records go nowhere.

    `extra={"topic": …, "session_id": …, "trace_id": …, "user_id": …}` fills those columns, other names go to `extra`.
    An entry belongs to a person only if `user_id` (32 hexadecimal digits) was given.
    """

    def __init__(self, repository: LogRepository, *, level: int | str = 0, queue_max: int = QUEUE_MAX) -> None:
        super().__init__(level)
        self._repository, self._queue_max, self._process = repository, queue_max, os.getpid()
        self._queue: SimpleQueue[LogLine | threading.Event | None] = SimpleQueue()  # its `put` may interrupt itself
        self._lost, self._lost_lock = 0, threading.RLock()
        self._ended = False
        self._retained_at = -RETENTION_EVERY_S
        self._writer = threading.Thread(target=self._write_all, name="aico-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record. Never waits and never raises; a line that cannot be written is counted."""
        if self._is_not_ours(record):
            return
        if self._ended or self._queue.qsize() >= self._queue_max:
            self._count_lost(1)
            return
        try:
            self._queue.put(_line(record))
        except Exception:  # noqa: BLE001  # a record of another shape than logging makes; logging must not raise
            self._count_lost(1)

    def flush(self) -> None:
        """Wait until what was logged before is written, five seconds at most."""
        if self._works_here() and not self._ended:
            written = threading.Event()
            self._queue.put(written)
            written.wait(END_WAIT_S)

    def close(self) -> None:
        """Write what is left and end. May be called twice; what is logged afterwards goes nowhere."""
        if self._works_here() and not self._ended:
            self.acquire()  # nobody is between looking at `_ended` and the queue
            self._ended = True
            self.release()
            self._queue.put(None)
            self._writer.join(END_WAIT_S)
        super().close()

    @property
    def lost(self) -> int:
        """How many lines were lost and are not yet told of in the log."""
        return self._lost

    def _is_not_ours(self, record: logging.LogRecord) -> bool:
        inside = not self._works_here()
        return inside or any(record.name == name or record.name.startswith(f"{name}.") for name in OWN)

    def _works_here(self) -> bool:
        """Neither in a forked child, which has no writer, nor in the writer itself."""
        return os.getpid() == self._process and threading.current_thread() is not self._writer

    def _count_lost(self, count: int) -> None:
        with self._lost_lock:
            self._lost += count

    def _write_all(self) -> None:
        """The writer thread."""
        going_on = True
        while going_on:
            lines, flushed, going_on = self._gather()
            self._write(lines)
            for event in flushed:
                event.set()
            self._retain()

    def _gather(self) -> tuple[list[LogLine], list[threading.Event], bool]:
        """The next batch, who waits for it, and whether more will come."""
        lines: list[LogLine] = []
        flushed: list[threading.Event] = []
        wait: float | None = None
        until = 0.0
        while len(lines) < BATCH_MAX:
            try:
                item = self._queue.get(timeout=wait)
            except Empty:
                break
            if item is None:
                return lines, flushed, False
            if isinstance(item, threading.Event):
                flushed.append(item)
                break
            lines.append(item)
            until = until or time.monotonic() + GATHER_S
            wait = max(until - time.monotonic(), 0)
        return lines, flushed, True

    def _write(self, lines: list[LogLine]) -> None:
        with self._lost_lock:
            lost, self._lost = self._lost, 0
        if lost:
            lines = [*lines, _told_of(lost)]
        try:
            if lines:
                self._repository.insert_lines(lines)
        except Exception:  # noqa: BLE001  # the edge of a thread: the store is closed, busy or full, and logging goes on
            self._count_lost(len(lines) - bool(lost) + lost)

    def _retain(self) -> None:
        if time.monotonic() - self._retained_at >= RETENTION_EVERY_S:
            self._retained_at = time.monotonic()
            try:
                self._repository.apply_retention()
            except Exception:  # noqa: BLE001  # the edge of a thread; the next hour tries again
                return


def _line(record: logging.LogRecord) -> LogLine:
    given = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
    columns = {name: _text(given.pop(name)) for name in _COLUMNS if given.get(name) is not None}
    user_id = _user_id(given)
    if record.exc_info and record.exc_info[0] is not None:
        given["exception"] = logging.Formatter().formatException(record.exc_info)
    return LogLine(
        timestamp=_instant_us(record.created),
        level=LEVELS[min(max(record.levelno // 10 - 1, 0), len(LEVELS) - 1)],
        message=_message(record)[:LINE_MAX] or "(no text)",
        subsystem=_text(record.name),
        module=_text(record.module),
        function_name=_text(record.funcName or ""),
        file_path=_text(record.pathname),
        line_number=record.lineno if type(record.lineno) is int and 0 <= record.lineno < 1 << 63 else None,
        user_id=user_id,
        extra=_json(given) if given else None,
        **columns,
    )


def _user_id(given: dict[str, Any]) -> bytes | None:
    """The person an entry belongs to; anything but an id stays among the rest."""
    try:
        found = bytes.fromhex(given.get("user_id", ""))
    except (TypeError, ValueError):
        return None
    if len(found) != ID_BYTES:
        return None
    del given["user_id"]
    return found


def _message(record: logging.LogRecord) -> str:
    """What was logged; its template, where the arguments do not fit it."""
    try:
        return _text(record.getMessage())
    except Exception:  # noqa: BLE001  # a caller's own __str__ may raise anything
        return _text(record.msg)


def _json(given: dict[str, Any]) -> str:
    """What was given as JSON; a value that is none, as text."""
    try:
        return msgspec.json.encode(given, enc_hook=_text).decode()
    except Exception:  # noqa: BLE001  # half a character, a circle, too deep, keys that are no text, a caller's own code
        return msgspec.json.encode({_text(name): _raw(value) for name, value in given.items()}).decode()


def _raw(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value, enc_hook=_text))
    except Exception:  # noqa: BLE001  # the same
        return msgspec.Raw(msgspec.json.encode(_text(value)[:LINE_MAX]))


def _text(value: object) -> str:
    """Text that can be stored: half a character becomes a question mark, what has no text the name of its type."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  # a caller's own __str__ may raise anything
        text = f"({type(value).__name__})"
    return text.encode(errors="replace").decode()


def _instant_us(created_s: float) -> int:
    """The instant of a record; now, where it is none that the log can hold."""
    try:
        at = int(created_s * 1_000_000)
    except (OverflowError, TypeError, ValueError):
        at = 0
    return at if _INSTANT_MIN_US <= at <= _INSTANT_MAX_US else time.time_ns() // 1000


def _told_of(lost: int) -> LogLine:
    return LogLine(
        timestamp=time.time_ns() // 1000,
        level="WARNING",
        message=f"{lost:,} log lines were lost here: more came than could be written, or the store could not be written to",
        subsystem="aico.data.log_handler",
    )
