"""People: the short name that the API uses, the profile behind it, and what they are to each other."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict, Unpack
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aico.clock import IdSource, SystemClock, from_us
from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_label, checked_name
from aico.data.row_ids import NaturalIds, parsed_id
from aico.errors import InvalidInput, NotFound

PERSON = "person"


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


@dataclass(frozen=True, slots=True)
class Relationship:
    """What `related_user_id` is to `user_id`: a mother, a friend."""

    user_id: str
    related_user_id: str
    related_name: str | None = field(repr=False)
    """None while that person's profile is not here, or no longer."""
    relationship_type: str = field(repr=False)
    created_at: datetime


class ProfileChanges(TypedDict, total=False):
    """What may be said about a person. None takes it back."""

    full_name: str | None
    nickname: str | None
    user_type: str
    time_zone: str | None
    """A name of the IANA time zone database."""


class UserService:
    """Keeps people's profiles, and creates those named for the first time. Any thread may use it.

    A service made of a connection alone reads and corrects profiles; naming, deactivating and erasing people takes
    the vault's (`vault.users`).

    >>> mia = vault.users.create_user("mia", full_name="Mia Silva")
    >>> vault.users.get_profile(mia.id).full_name
    'Mia Silva'
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        natural_ids: NaturalIds | None = None,
        ids: IdSource | None = None,
        audit_log: AuditLog | None = None,
    ) -> None:
        if len({natural_ids is None, ids is None, audit_log is None}) > 1:
            raise InvalidInput("natural_ids, ids and audit_log go together")
        self._connection = connection
        self._of_vault = (
            None if natural_ids is None or ids is None or audit_log is None else (natural_ids, ids, audit_log)
        )

    def get_profile(self, user_id: str) -> UserProfile:
        """The profile behind an id. Raises NotFound.

        >>> vault.users.get_profile(mia).name
        'mia'
        """
        row = self._connection.fetch_one("SELECT * FROM users WHERE id = ?", (parsed_id(user_id, what="user"),))
        if row is None:
            raise NotFound("no user has this id")
        return _profile(row)

    def find_by_name(self, name: str) -> UserProfile | None:
        """The profile of the person with this short name, None if nobody has it.

        >>> vault.users.find_by_name("mia").id == mia
        True
        >>> vault.users.find_by_name("nobody") is None
        True
        """
        user_id = self.find(name)
        return None if user_id is None else self.get_profile(user_id.hex())

    def list_profiles(self, *, user_type: str | None = None, active_only: bool = False) -> list[UserProfile]:
        """Everyone in this vault, in the order they came; of one type, or only those who are active.

        >>> [profile.name for profile in vault.users.list_profiles()]
        ['mia']
        """
        rows = self._connection.fetch_all(
            "SELECT * FROM users WHERE (? IS NULL OR user_type = ?) AND is_active >= ? ORDER BY row_id",
            (user_type, user_type, int(active_only)),
        )
        return [_profile(row) for row in rows]

    def create_user(self, name: str, **about: Unpack[ProfileChanges]) -> UserProfile:
        """Make a person with a short name and what is known about them. Raises InvalidInput if the name is taken.

        >>> vault.users.create_user("tom", full_name="Tom Ripley").full_name
        'Tom Ripley'
        """
        columns = _checked(about)
        with self._connection.transaction():
            if self.find(name) is not None:
                raise InvalidInput("there is a user of this name already; nothing was changed", field="name")
            user_id = self.ensure(name)
            self._change(user_id, columns)
        return self.get_profile(user_id.hex())

    def update_user(self, user_id: str, **changes: Unpack[ProfileChanges]) -> UserProfile:
        """Change what is known about a person; what is not named stays. Raises InvalidInput or NotFound.

        >>> vault.users.update_user(mia, time_zone="Europe/Lisbon").time_zone
        'Europe/Lisbon'
        """
        wanted, columns = parsed_id(user_id, what="user"), _checked(changes)
        with self._connection.transaction():
            self.get_profile(user_id)
            self._change(wanted, columns)
        return self.get_profile(user_id)

    def deactivate(self, user_id: str) -> None:
        """Let this person in no more, and record nothing new about them, be it a message, a fact, a correction or a mark.

        What is known stays, is found, and can be merged and forgotten.

        Their sessions end. May be repeated. Raises NotFound.

        >>> vault.users.deactivate(mia)
        >>> vault.users.get_profile(mia).is_active
        False
        """
        self._set_active(user_id, active=False)

    def activate(self, user_id: str) -> None:
        """Take `deactivate` back; sessions stay ended. May be repeated. Raises NotFound.

        >>> vault.users.deactivate(mia)
        >>> vault.users.activate(mia)
        >>> vault.users.get_profile(mia).is_active
        True
        """
        self._set_active(user_id, active=True)

    def erase(self, user_id: str) -> dict[str, int]:
        """Remove profile, PIN, sessions and relationships; how many rows went, by table.

        The name is free again, for somebody who shares nothing with who had it. Memories are not in its reach:
        raises InvalidInput while there are any, see `Vault.erase_user`. Raises NotFound.
        """
        audit_log, wanted = self._vaults()[2], parsed_id(user_id, what="user")
        with self._connection.transaction():
            self.get_profile(user_id)
            self._check_has_no_memories(wanted)
            removed = {
                table: self._connection.execute(
                    f"DELETE FROM {table} WHERE {where}", (wanted,) * where.count("?")
                ).rowcount
                for table, where in _OF_USER
            }
            removed = {table: count for table, count in removed.items() if count}
            receipt, now = self._vaults()[1].new_id(), self._vaults()[1].now_us()
            self._connection.execute(  # the next of this name is another generation
                "INSERT INTO erasures (id, user_id, receipt_id, kind, at) VALUES (?, ?, ?, 'user', ?) "
                "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, receipt_id = excluded.receipt_id, "
                "kind = excluded.kind, at = excluded.at",
                (wanted, wanted, receipt, now),
            )
            audit_log.append(Action.USER_ERASED, user_id=wanted, subject_id=receipt, counts=removed)
        return removed

    def add_relationship(self, user_id: str, related_user_id: str, relationship_type: str) -> Relationship:
        """Note what somebody is to this person. Repeating it changes nothing. Raises InvalidInput or NotFound.

        >>> tom = vault.users.create_user("tom")
        >>> vault.users.add_relationship(mia, tom.id, "brother").related_name
        'tom'
        """
        natural_ids, ids, _ = self._vaults()
        kind = checked_name(relationship_type, field="relationship_type")
        pair = parsed_id(user_id, what="user"), parsed_id(related_user_id, what="user")
        if pair[0] == pair[1]:
            raise InvalidInput("nobody is related to themselves; nothing was changed", field="related_user_id")
        with self._connection.transaction():
            for one in (user_id, related_user_id):
                self.get_profile(one)
            self._connection.execute(
                "INSERT INTO user_relationships (id, user_id, related_user_id, relationship_type, created_at) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (natural_ids.relationship(*pair, kind), *pair, kind, ids.now_us()),
            )
            return next(
                found
                for found in self.get_user_relationships(user_id)
                if (found.related_user_id, found.relationship_type) == (pair[1].hex(), kind)
            )

    def get_user_relationships(self, user_id: str) -> list[Relationship]:
        """What others are to this person, in the order it was noted.

        >>> vault.users.get_user_relationships(mia)
        []
        """
        rows = self._connection.fetch_all(
            "SELECT r.user_id, r.related_user_id, u.name, r.relationship_type, r.created_at "
            "FROM user_relationships r LEFT JOIN users u ON u.id = r.related_user_id WHERE r.user_id = ? ORDER BY r.row_id",
            (parsed_id(user_id, what="user"),),
        )
        return [Relationship(one.hex(), other.hex(), name, kind, from_us(at)) for one, other, name, kind, at in rows]

    def remove_relationship(self, user_id: str, related_user_id: str, relationship_type: str) -> None:
        """Take a relationship back. Raises NotFound if it is not there.

        >>> tom = vault.users.create_user("tom")
        >>> _ = vault.users.add_relationship(mia, tom.id, "brother")
        >>> vault.users.remove_relationship(mia, tom.id, "brother")
        """
        wanted = self._vaults()[0].relationship(
            parsed_id(user_id, what="user"), parsed_id(related_user_id, what="user"), relationship_type
        )
        if not self._connection.execute("DELETE FROM user_relationships WHERE id = ?", (wanted,)).rowcount:
            raise NotFound("there is no such relationship; nothing was changed")

    def find(self, name: str) -> bytes | None:
        """The id of the person with this short name, None if nobody has it yet."""
        user_id, _, is_active = self._look_up(checked_name(name, field="user"))
        return None if is_active is None else user_id

    def find_active(self, name: str) -> bytes | None:
        """`find`, for whoever is about to write: raises InvalidInput for somebody who was deactivated.

        >>> vault.users.find_active("mia").hex() == mia
        True
        """
        user_id, _, is_active = self._look_up(checked_name(name, field="user"))
        if is_active is False:
            raise _deactivated()
        return user_id if is_active else None

    def ensure(self, name: str) -> bytes:
        """The id of the person with this short name, who is created if new. Call it inside a transaction.

        Raises InvalidInput for somebody who was deactivated: nothing new is recorded about them.
        """
        name = checked_name(name, field="user")
        user_id, generation, is_active = self._look_up(name)
        if is_active is None:
            now = self._vaults()[1].now_us()
            self._connection.execute(
                "INSERT INTO users (id, name, generation, user_type, is_active, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, 1, ?, ?)",
                (user_id, name, generation, PERSON, now, now),
            )
        elif not is_active:
            raise _deactivated()
        return user_id

    def _look_up(self, name: str) -> tuple[bytes, int, bool | None]:
        """Id and generation that the name has now, and whether its person is active; None if there is none yet.

        An erased name begins again.
        """
        natural_ids, generation = self._vaults()[0], 0
        while True:
            user_id = natural_ids.user(name, generation)
            found = self._connection.fetch_one("SELECT is_active FROM users WHERE id = ?", (user_id,))
            if found is not None:
                return user_id, generation, bool(found[0])
            if not self._connection.fetch_one("SELECT 1 FROM erasures WHERE id = ?1 AND user_id = ?1", (user_id,)):
                return user_id, generation, None
            generation += 1

    def _vaults(self) -> tuple[NaturalIds, IdSource, AuditLog]:
        """What only a vault can give. Raises InvalidInput."""
        if self._of_vault is None:
            raise InvalidInput(
                "this service was made without a vault's keys and cannot name people", hint="use vault.users"
            )
        return self._of_vault

    def _change(self, user_id: bytes, columns: dict[str, str | None]) -> None:
        for column, value in columns.items():
            self._connection.execute(f"UPDATE users SET {column} = ? WHERE id = ?", (value, user_id))
        if columns:
            now = self._of_vault[1].now_us() if self._of_vault else SystemClock().now_us()
            self._connection.execute("UPDATE users SET updated_at = ? WHERE id = ?", (now, user_id))

    def _set_active(self, user_id: str, *, active: bool) -> None:
        (_, ids, audit_log), wanted = self._vaults(), parsed_id(user_id, what="user")
        with self._connection.transaction():
            if self.get_profile(user_id).is_active == active:
                return
            self._connection.execute(
                "UPDATE users SET is_active = ?, updated_at = ? WHERE id = ?", (int(active), ids.now_us(), wanted)
            )
            self._connection.execute("DELETE FROM auth_sessions WHERE user_id = ?", (wanted,))
            audit_log.append(Action.USER_ACTIVATED if active else Action.USER_DEACTIVATED, user_id=wanted)

    def _check_has_no_memories(self, user_id: bytes) -> None:
        for table in ("conversations", "facts"):
            if self._connection.fetch_one(f"SELECT 1 FROM {table} WHERE user_id = ?", (user_id,)):
                raise InvalidInput(
                    "there are memories of this user, which would be left behind; nothing was erased",
                    hint="`vault.erase_user(name)` erases both",
                )


def _deactivated() -> InvalidInput:
    return InvalidInput("this user was deactivated; nothing was recorded", hint="activate the user first", field="user")


_OF_USER = (
    ("user_authentication", "user_id = ?"),
    ("auth_sessions", "user_id = ?"),
    ("user_relationships", "user_id = ? OR related_user_id = ?"),
    ("preferences", "user_id = ?"),
    ("logs", "user_id = ?"),
    ("users", "id = ?"),
)
"""Every row that is about a person and is no memory."""


def _checked(about: ProfileChanges) -> dict[str, str | None]:
    """Column and value of each change. Raises InvalidInput."""
    unknown = set(about) - set(ProfileChanges.__annotations__)
    if unknown:
        raise InvalidInput(
            f"a profile has no field {sorted(unknown)[0]!r}; nothing was changed", field=sorted(unknown)[0]
        )
    columns = {name: checked_label(value, field=name) for name, value in about.items() if isinstance(value, str | None)}
    if len(columns) < len(about):
        raise InvalidInput("what is said about a person is text; nothing was changed", field="about")
    if "user_type" in columns:
        columns["user_type"] = checked_name(columns["user_type"] or "", field="user_type")
    if zone := columns.get("time_zone"):
        _check_time_zone(zone)
    return columns


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            "time_zone is no name of the IANA time zone database; nothing was changed",
            hint="for example Europe/Lisbon",
            field="time_zone",
        ) from None


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
