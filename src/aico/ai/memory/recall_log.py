"""What recall was asked and how it did, as lines of the vault's own log: what analytics counts, sealed like all else.

Of a question that was answered only figures are kept; one that found nothing is kept in its own words, so that its
person can see what the memory lacks. The lines belong to that person: they are forgotten with them, by subject too,
and go with age as all lines do. They are gathered and written now and then, so that a read never waits for the disk;
a crash loses the last few. Whoever forgets meanwhile cannot find them: their questions are then not written at all.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from aico.ai.memory.hits import Hit
from aico.clock import Clock
from aico.data.change_feed import ChangeFeed
from aico.data.logs import LogLine, LogRepository
from aico.errors import AicoError

TOPIC = "recall"
GATHER = 64
GATHER_S = 30.0
"""Lines are written once there are so many, or so many seconds after the first of them; and when the vault closes."""
WEAK = 0.02
"""A best hit that is less likely than this to be what was asked for is held to be none (docs/decisions/0049)."""


class RecallLog:
    """Keeps lines of recalls. Any thread may use it."""

    def __init__(self, logs: LogRepository, *, feed: ChangeFeed, clock: Clock, enabled: bool) -> None:
        self._logs, self._feed, self._clock, self._enabled = logs, feed, clock, enabled
        self._waiting: list[_Asked] = []
        self._lock, self._timer = threading.Lock(), None  # type: tuple[threading.Lock, threading.Timer | None]

    def position(self) -> int:
        """The newest change: to be asked for before a recall, and given to `note` after it. Costs microseconds."""
        return self._feed.newest() if self._enabled else 0

    def note(self, user_id: bytes, question: str, hits: Sequence[Hit], *, took_s: float, since: int) -> None:
        """Keep one recall, asked when `since` was the newest change. Never waits for the store and never raises."""
        if not self._enabled:
            return
        best = hits[0].score if hits else 0.0
        told = {"took_ms": round(took_s * 1000, 3), "hits": len(hits), "best_score": round(best, 4)}
        asked = _Asked(self._clock.now_us(), user_id, told, question if best < WEAK else None, since)
        with self._lock:
            self._waiting.append(asked)
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
            waiting, self._waiting = self._waiting, []
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not waiting:
            return
        try:
            self._logs.insert_lines(self._lines(waiting))
        except AicoError:
            return

    def _lines(self, waiting: Sequence["_Asked"]) -> Iterator[LogLine]:
        """Drawn within the transaction that writes them: nobody forgets between the look and the last of them."""
        quoted = not self._feed.takes_away(after=min(asked.since for asked in waiting))
        for asked in waiting:
            yield asked.line(quoted=quoted)


class _Asked(NamedTuple):
    at_us: int
    user_id: bytes
    told: dict[str, float]
    question: str | None
    since: int

    def line(self, *, quoted: bool) -> LogLine:
        quote = {"question": self.question} if quoted and self.question is not None else {}
        return LogLine(
            timestamp=self.at_us,
            level="DEBUG",
            message="a question was asked",
            subsystem="aico.memory",
            topic=TOPIC,
            user_id=self.user_id,
            extra=msgspec.json.encode(self.told | quote).decode(),
        )
