"""People: the short name that the API uses, and the profile behind it."""

from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import IdSource, from_us
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_name
from aico.data.row_ids import NaturalIds, parsed_id
from aico.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class UserProfile:
    """One person."""

    id: str
    name: str = field(repr=False)
    full_name: str | None = field(repr=False)
    nickname: str | None = field(repr=False)
    user_type: str
    time_zone: str | None
    is_active: bool
    created_at: datetime


class UserService:
    """Finds people and creates those named for the first time. Any thread may use it.

    A service made of a connection alone reads profiles; naming new people takes the vault's `natural_ids`.
    """

    def __init__(
        self, connection: LibSQLConnection, *, natural_ids: NaturalIds | None = None, ids: IdSource | None = None
    ) -> None:
        if (natural_ids is None) != (ids is None):
            raise InvalidInput("natural_ids and ids go together")
        self._connection, self._natural_ids, self._ids = connection, natural_ids, ids

    def get_profile(self, user_id: str) -> UserProfile:
        """The profile behind an id. Raises NotFound."""
        row = self._connection.fetch_one("SELECT * FROM users WHERE id = ?", (parsed_id(user_id, what="user"),))
        if row is None:
            raise NotFound("no user has this id")
        return _profile(row)

    def list_profiles(self) -> list[UserProfile]:
        """Everyone in this vault, in the order they came."""
        return [_profile(row) for row in self._connection.fetch_all("SELECT * FROM users ORDER BY row_id")]

    def find(self, name: str) -> bytes | None:
        """The id of the person with this short name, None if nobody has it yet."""
        user_id, _, exists = self._look_up(checked_name(name, field="user"))
        return user_id if exists else None

    def ensure(self, name: str) -> bytes:
        """The id of the person with this short name, who is created if new. Call it inside a transaction."""
        name = checked_name(name, field="user")
        user_id, generation, exists = self._look_up(name)
        if not exists:
            assert self._ids is not None
            now = self._ids.now_us()
            self._connection.execute(
                "INSERT INTO users (id, name, generation, user_type, is_active, created_at, updated_at) "
                "VALUES (?, ?, ?, 'person', 1, ?, ?)",
                (user_id, name, generation, now, now),
            )
        return user_id

    def _look_up(self, name: str) -> tuple[bytes, int, bool]:
        """Id and generation that the name has now, and whether they are in use. An erased name begins again."""
        if self._natural_ids is None:
            raise InvalidInput(
                "this service was made without a vault's keys and cannot name people", hint="use vault.users"
            )
        generation = 0
        while True:
            user_id = self._natural_ids.user(name, generation)
            if self._connection.fetch_one("SELECT 1 FROM users WHERE id = ?", (user_id,)):
                return user_id, generation, True
            if not self._connection.fetch_one("SELECT 1 FROM erasures WHERE id = ?", (user_id,)):
                return user_id, generation, False
            generation += 1


def _profile(row: Row) -> UserProfile:
    return UserProfile(
        id=row["id"].hex(),
        name=row["name"],
        full_name=row["full_name"],
        nickname=row["nickname"],
        user_type=row["user_type"],
        time_zone=row["time_zone"],
        is_active=bool(row["is_active"]),
        created_at=from_us(row["created_at"]),
    )
