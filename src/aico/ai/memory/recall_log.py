"""What recall was asked and how it did, as lines of the vault's own log: what analytics counts, sealed like all else.

Of a question that was answered only figures are kept; one that found nothing is kept in its own words, so that its
person can see what the memory lacks. The lines belong to that person: they are forgotten with them, by subject too,
and go with age as all lines do. They are gathered and written now and then, so that a read never waits for the disk;
a crash loses the last few.
"""

import threading
from collections.abc import Sequence

import msgspec

from aico.ai.memory.hits import Hit
from aico.clock import Clock
from aico.data.logs import LogLine, LogRepository
from aico.errors import AicoError

TOPIC = "recall"
GATHER = 64
GATHER_S = 30.0
"""Lines are written once there are so many, or so many seconds after the first of them; and when the vault closes."""
WEAK = 0.2
"""A best hit below this score is held to be none."""


class RecallLog:
    """Keeps lines of recalls. Any thread may use it."""

    def __init__(self, logs: LogRepository, *, clock: Clock, enabled: bool) -> None:
        self._logs, self._clock, self._enabled = logs, clock, enabled
        self._waiting: list[LogLine] = []
        self._lock, self._timer = threading.Lock(), None  # type: tuple[threading.Lock, threading.Timer | None]

    def note(self, user_id: bytes, question: str, hits: Sequence[Hit], *, took_s: float) -> None:
        """Keep one recall. Never waits for the store and never raises."""
        if not self._enabled:
            return
        best = hits[0].score if hits else 0.0
        told = {"took_ms": round(took_s * 1000, 3), "hits": len(hits), "best_score": round(best, 4)}
        if best < WEAK:
            told["question"] = question  # type: ignore[assignment]
        line = LogLine(
            timestamp=self._clock.now_us(),
            level="DEBUG",
            message="a question was asked",
            subsystem="aico.memory",
            topic=TOPIC,
            user_id=user_id,
            extra=msgspec.json.encode(told).decode(),
        )
        with self._lock:
            self._waiting.append(line)
            full = len(self._waiting) >= GATHER
            if self._timer is None and not full:
                self._timer = threading.Timer(GATHER_S, self.flush)
                self._timer.daemon = True
                self._timer.start()
        if full:
            threading.Thread(target=self.flush, name="aico-recall-log", daemon=True).start()

    def flush(self) -> None:
        """Write what waits. Where the store cannot be written the lines are lost: they are figures, not memories."""
        with self._lock:
            lines, self._waiting = self._waiting, []
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not lines:
            return
        try:
            self._logs.insert_lines(lines)
        except AicoError:
            return
