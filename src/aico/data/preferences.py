"""How a person wants it: small JSON values under keys such as `companion.tone` or `ui.theme`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aico.clock import IdSource, from_us
from aico.data.json_values import checked_json, read_json
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_name
from aico.data.row_ids import NaturalIds, same_name
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound

COMPANION = "companion."
"""Keys that begin with it are for the companion itself: `memory.context` tells it their values. All others are for programs."""
_NONE = object()


@dataclass(frozen=True, slots=True)
class Preference:
    """One preference; `value` is any JSON."""

    id: str
    key: str = field(repr=False)
    value: Any = field(repr=False)  # any JSON
    updated_at: datetime

    def as_text(self) -> str | None:
        """How a companion is told: `tone: gentle`. None for what is not for it, or is no text, number, yes or no."""
        if not self.key.startswith(COMPANION) or not isinstance(self.value, str | int | float):
            return None
        value = ("yes" if self.value else "no") if isinstance(self.value, bool) else str(self.value)
        return f"{self.key.removeprefix(COMPANION).replace('_', ' ')}: {value}"


class PreferenceRepository:
    """Preferences of each user, named by the short name. Any thread may use it.

    >>> vault.preferences.set("mia", "companion.tone", "gentle")
    >>> vault.preferences.get("mia", "companion.tone")
    'gentle'
    """

    def __init__(
        self, connection: LibSQLConnection, *, users: UserService, natural_ids: NaturalIds, ids: IdSource
    ) -> None:
        self._connection, self._users = connection, users
        self._natural_ids, self._ids = natural_ids, ids

    def get(self, user: str, key: str, *, default: Any = _NONE) -> Any:  # any JSON
        """The value under a key, or `default` if one is given. Raises NotFound, InvalidInput for an impossible key.

        >>> vault.preferences.get("mia", "companion.tone", default="plain")
        'plain'
        """
        key, user_id = checked_name(key, field="key"), self._users.find(user)
        row = user_id and self._connection.fetch_one(
            "SELECT value FROM preferences WHERE id = ? AND user_id = ?",
            (self._natural_ids.preference(user_id, key), user_id),
        )
        if row:
            return read_json(row["value"])
        if default is not _NONE:
            return default
        raise NotFound("the user has no preference under this key", hint="`aico prefs ls` shows those there are")

    def set(self, user: str, key: str, value: Any) -> None:  # any JSON
        """Keep a JSON value of at most 64 KiB under a key, in the place of an older one. Raises InvalidInput.

        >>> vault.preferences.set("mia", "companion.tone", "gentle")
        >>> vault.preferences.get("mia", "companion.tone")
        'gentle'
        """
        key, kept = checked_name(key, field="key"), checked_json(value, field="value")

        def work() -> None:
            user_id = self._users.ensure(user)
            self._connection.execute(
                "INSERT INTO preferences (id, user_id, key, value, updated_at) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, key = excluded.key, value = excluded.value, "
                "updated_at = excluded.updated_at",
                (self._natural_ids.preference(user_id, key), user_id, key, kept, self._ids.now_us()),
            )

        self._connection.write(work)

    def delete(self, user: str, key: str) -> None:
        """Forget a preference. Raises NotFound.

        >>> vault.preferences.set("mia", "companion.tone", "gentle")
        >>> vault.preferences.delete("mia", "companion.tone")
        >>> vault.preferences.list("mia")
        []
        """
        key, user_id = checked_name(key, field="key"), self._users.find(user)

        def work() -> int:
            assert user_id is not None
            preference_id = self._natural_ids.preference(user_id, key)
            own = "DELETE FROM preferences WHERE id = ? AND user_id = ?"
            return self._connection.execute(own, (preference_id, user_id)).rowcount

        if user_id is None or not self._connection.write(work):
            raise NotFound("the user has no preference under this key; nothing was deleted")

    def list(self, user: str, *, prefix: str = "") -> Sequence[Preference]:
        """The preferences whose keys begin with `prefix`, by key. Raises InvalidInput.

        >>> vault.preferences.set("mia", "companion.tone", "gentle")
        >>> [(one.key, one.value) for one in vault.preferences.list("mia", prefix="companion.")]
        [('companion.tone', 'gentle')]
        """
        if not isinstance(prefix, str):
            raise InvalidInput("prefix is not text", field="prefix")
        user_id = self._users.find(user)
        if user_id is None:
            return []
        rows = self._connection.fetch_all("SELECT * FROM preferences WHERE user_id = ?", (user_id,))
        found = [_preference(row) for row in rows if row["key"].startswith(same_name(prefix))]
        return sorted(found, key=lambda preference: preference.key)


def _preference(row: Row) -> Preference:
    return Preference(row["id"].hex(), row["key"], read_json(row["value"]), from_us(row["updated_at"]))
