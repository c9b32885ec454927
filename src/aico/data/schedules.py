"""When a task is due: `every 15m`, `cron 30 3 * * MON Europe/Lisbon`, `once 2026-05-08T19:30+02:00`.

Cron expressions follow Debian's cron, daylight saving included: what falls into the hour that is left out runs right
after it, what falls into the hour that comes twice runs once, and expressions with a wildcard hour go by elapsed time.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from aico.clock import from_us, to_us
from aico.data.time_zones import find_zone
from aico.errors import InvalidInput, MissingExtra

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CRON_FIELDS = 5
_LONGEST_S = 100 * 366 * 86_400
HINT = "for example 'every 15m', 'cron 30 3 * * * Europe/Lisbon' or 'once 2026-05-08T19:30+02:00'"


class Schedule(Protocol):
    """Says when something is due. `str()` of it is what `parse_schedule` reads."""

    def next_after(self, now_us: int) -> int | None:
        """The next due instant after `now_us`, both in microseconds since 1970 UTC; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, so many seconds after the last run ended. Needs no extra package."""

    seconds: int

    def next_after(self, now_us: int) -> int | None:
        return now_us + self.seconds * 1_000_000

    def __str__(self) -> str:
        unit = next(unit for unit in "dhms" if self.seconds % _UNITS_S[unit] == 0)
        return f"every {self.seconds // _UNITS_S[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Once:
    """At one instant."""

    at: datetime

    def next_after(self, now_us: int) -> int | None:
        instant = to_us(self.at)
        return instant if instant > now_us else None

    def __str__(self) -> str:
        return f"once {self.at.isoformat()}"


@dataclass(frozen=True, slots=True)
class Cron:
    """By a cron expression of five fields, on the clocks of a time zone (IANA name)."""

    expression: str
    time_zone: str = "UTC"

    def next_after(self, now_us: int) -> int | None:
        """Raises MissingExtra without `aico[tasks]`, InvalidInput for an expression or a zone that nobody knows."""
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as exc:
            raise MissingExtra("cron schedules need cronsim", hint="pip install 'aico[tasks]'") from exc
        now = from_us(now_us).astimezone(_zone(self.time_zone))
        try:
            return to_us(next(CronSim(self.expression, now)).astimezone(UTC))
        except (CronSimError, StopIteration):
            raise _unreadable("the cron expression never comes due") from None

    def __str__(self) -> str:
        return f"cron {self.expression} {self.time_zone}"


def parse_schedule(text: str) -> Schedule:
    """The schedule that a text names. Raises InvalidInput; a cron expression is looked at when it is first asked."""
    kind, _, rest = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
    match kind:
        case "every":
            return _every(rest.strip())
        case "cron":
            return _cron(rest.split())
        case "once":
            return _once(rest.strip())
    raise _unreadable("a schedule begins with every, cron or once")


def _every(text: str) -> Every:
    found = re.fullmatch(r"([0-9]{1,10})\s*([smhd])", text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_S:
        raise _unreadable("an interval is a number and s, m, h or d, up to a hundred years")
    return Every(seconds)


def _cron(fields: list[str]) -> Cron:
    if len(fields) not in (_CRON_FIELDS, _CRON_FIELDS + 1):
        raise _unreadable("a cron schedule has five fields and, if it is not UTC, a time zone")
    zone = fields[_CRON_FIELDS] if len(fields) > _CRON_FIELDS else "UTC"
    _zone(zone)
    return Cron(" ".join(fields[:_CRON_FIELDS]), zone)


def _once(text: str) -> Once:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _unreadable("an instant is written in ISO 8601") from None
    if at.utcoffset() is None:
        raise _unreadable("an instant has a time zone, at its end")
    to_us(at)
    return Once(at)


def _zone(name: str) -> ZoneInfo:
    zone = find_zone(name)
    if zone is None:
        raise _unreadable("no time zone of this name is known on this machine")
    return zone


def _unreadable(problem: str) -> InvalidInput:
    return InvalidInput(f"{problem}; nothing was written", hint=HINT, field="schedule")
