"""Time and new ids, passed in wherever they are needed: real here, fixed or seeded in `aico.testing`."""

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Protocol

from aico.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Tells the time of day and draws ids. Safe to share between threads."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes, for ids only; keys and nonces come from the operating system."""
        ...


class SystemClock:
    """The machine's clock and its random source."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC; it may step back when the machine's clock is set."""
        return time.time_ns() // 1000

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes from the operating system."""
        return secrets.token_bytes(count)


class IdSource:
    """Draws UUIDv7 ids that rise with every call of one process, also when the clock stands still or steps back.

    Layout: RFC 9562 section 5.7 with method 3 of section 6.2: 48 bits of milliseconds, 12 bits of the
    millisecond's fraction, 62 random bits. Thread rule: any thread may draw.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_tick = 0
        self._lock = threading.Lock()

    def new_id(self) -> bytes:
        """A new 16-byte id, ordered by time."""
        milliseconds, fraction = divmod(self.tick(), 4096)
        random = int.from_bytes(self._clock.random_bytes(8), "big") >> 2
        return (milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random).to_bytes(16, "big")

    def now_us(self) -> int:
        """Microseconds since 1970 UTC, as the clock has them."""
        return self._clock.now_us()

    def tick(self) -> int:
        """The time in 1/4096 milliseconds since 1970 UTC, made to rise with every call."""
        now = self._clock.now_us() * 4096 // 1000
        with self._lock:
            self._last_tick = max(self._last_tick + 1, now)
            return self._last_tick


def to_us(instant: datetime, *, field: str = "at") -> int:
    """Microseconds since 1970 UTC of an aware datetime.

    Raises InvalidInput for a naive one: guessing its time zone would move a memory in time.
    """
    if not isinstance(instant, datetime):
        raise InvalidInput(f"{field} is not a datetime but {type(instant).__name__}; nothing was written", field=field)
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidInput(
            f"{field} is a datetime without a time zone; nothing was written",
            hint="pass an aware datetime, such as datetime.now(timezone.utc)",
            field=field,
        )
    try:
        return (instant.astimezone(UTC) - EPOCH) // _MICROSECOND
    except OverflowError:  # at the ends of the calendar: it could not be shown again
        problem = f"{field} lies outside the years 1 to 9999 in UTC; nothing was written"
        raise InvalidInput(problem, field=field) from None


def moment_from_text(text: str) -> datetime:
    """An aware datetime from ISO 8601; without a zone it is this machine's, and a date alone is its midnight.

    Raises InvalidInput, which does not repeat the text.
    """
    try:
        instant = datetime.fromisoformat(text)
        instant.astimezone(UTC)  # some moments at the ends of the calendar have no place in it
        return instant if instant.utcoffset() is not None else instant.astimezone()
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            "expected a date or time in ISO 8601, such as 2026-05-08 or 2026-05-08T19:30; nothing was done"
        ) from None


def utc_offset_minutes(instant: datetime) -> int:
    """How far the author's clock was from UTC, in whole minutes; seconds, which old time zones had, are cut off."""
    offset = instant.utcoffset()
    return 0 if offset is None else int(offset.total_seconds() / 60)


def from_us(microseconds: int, *, utc_offset_min: int = 0) -> datetime:
    """The aware datetime of an instant, on a clock `utc_offset_min` minutes ahead of UTC."""
    instant = EPOCH + timedelta(microseconds=microseconds)
    return instant if utc_offset_min == 0 else instant.astimezone(_zone(utc_offset_min))


@lru_cache
def _zone(utc_offset_min: int) -> timezone:
    return timezone(timedelta(minutes=utc_offset_min))
