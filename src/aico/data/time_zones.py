"""Time zones by their IANA names, of which every machine knows its own set."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of this name, None where this machine knows none."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # whichever zoneinfo finds first in a name that is none
        return None


def zone_or_utc(name: str | None) -> tzinfo:
    """The zone that a person's profile names; UTC where it names none, or none that this machine knows."""
    return (find_zone(name) if name else None) or UTC
