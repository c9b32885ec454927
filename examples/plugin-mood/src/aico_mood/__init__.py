"""How its person felt, and when: a sample plugin for AICO."""

import time
from dataclasses import dataclass, field
from uuid import uuid4

from aico.data.libsql.plugins import PluginTables


@dataclass(frozen=True, slots=True)
class Mood:
    """One feeling. `at` is microseconds since 1970 UTC."""

    feeling: str = field(repr=False)
    because: str | None = field(repr=False)
    at: int


class Moods:
    """Notes moods and finds them again. Any thread may use it."""

    def __init__(self, tables: PluginTables) -> None:
        self._tables = tables

    def note(self, person: str, feeling: str, *, because: str | None = None) -> None:
        """Keep how somebody feels now; durable when this returns."""
        self._tables.execute(
            "INSERT INTO mood_entries (id, person, feeling, because, at) VALUES (?, ?, ?, ?, ?)",
            (uuid4().bytes, person, feeling, because, time.time_ns() // 1000),
        )

    def latest(self, person: str, *, limit: int = 10) -> list[Mood]:
        """The newest moods first."""
        rows = self._tables.fetch_all(
            "SELECT feeling, because, at FROM mood_entries WHERE person = ? ORDER BY at DESC LIMIT ?", (person, limit)
        )
        return [Mood(*row) for row in rows]
