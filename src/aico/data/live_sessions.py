"""Live conversations: which are going on now, on which device, and until when they count as live."""

from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import IdSource, from_us
from aico.data.items import checked_ttl_us
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_limit, checked_name
from aico.data.merged_rows import conversation_named
from aico.data.row_ids import NaturalIds, parsed_id
from aico.data.user import UserService
from aico.errors import NotFound

LIVE_FOR_S = 30 * 60
"""How long a session counts as live after its last sign: as long as people leave a chat open and come back to it."""


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One live conversation. `device` is an id, None where none was named."""

    id: str
    conversation: str = field(repr=False)
    device: str | None
    started_at: datetime
    seen_at: datetime
    expires_at: datetime


class LiveSessions:
    """Live conversations of each user, named by the short name; this device's own, never synced. Any thread may use it.

    >>> _ = vault.memory.record("mia", "Good morning.", conversation="today")
    >>> _ = vault.live_sessions.start("mia", "today", ttl_s=3600)
    >>> [session.conversation for session in vault.live_sessions.list_live("mia")]
    ['today']
    """

    def __init__(
        self, connection: LibSQLConnection, *, users: UserService, natural_ids: NaturalIds, ids: IdSource
    ) -> None:
        self._connection, self._users = connection, users
        self._natural_ids, self._ids = natural_ids, ids

    def start(self, user: str, conversation: str, *, device: str | None = None, ttl_s: int = LIVE_FOR_S) -> str:
        """Begin a session in a conversation that has messages; its id. It is live for `ttl_s` seconds.

        Raises NotFound for a conversation or device that is not there, InvalidInput.

        >>> session = vault.live_sessions.start("mia", "move", ttl_s=600)
        >>> [live.id == session for live in vault.live_sessions.list_live("mia")]
        [True]
        """
        name, now = checked_name(conversation, field="conversation"), self._ids.now_us()
        expires_at = now + _ttl_us(ttl_s)
        device_id = None if device is None else parsed_id(device, what="device")
        user_id = self._users.find(user)

        def work() -> bytes:
            conversation_id = conversation_named(self._connection, self._natural_ids, user_id or b"", name)
            own = "SELECT 1 FROM conversations WHERE id = ? AND user_id = ?"
            if not self._connection.fetch_one(own, (conversation_id, user_id)):
                raise NotFound("the user has no such conversation; nothing was written")
            if device_id is not None:
                self._check_device(device_id)
            session_id = self._ids.new_id()
            self._connection.execute(
                "INSERT INTO session_metadata (id, user_id, conversation_id, device_id, started_at, seen_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, user_id, conversation_id, device_id, now, now, expires_at),
            )
            return session_id

        return self._connection.write(work).hex()

    def heartbeat(self, user: str, session: str, *, ttl_s: int = LIVE_FOR_S) -> None:
        """Say that a session goes on, for `ttl_s` seconds from now. Raises NotFound for one that has ended or expired.

        >>> vault.live_sessions.heartbeat("mia", vault.live_sessions.start("mia", "move"))
        """
        now = self._ids.now_us()
        self._update(user, session, "seen_at = ?, expires_at = ?", (now, now + _ttl_us(ttl_s)))

    def end(self, user: str, session: str) -> None:
        """End a session now. Raises NotFound for one that has ended or expired.

        >>> vault.live_sessions.end("mia", vault.live_sessions.start("mia", "move"))
        >>> vault.live_sessions.list_live("mia")
        []
        """
        self._update(user, session, "ended_at = ?", (self._ids.now_us(),))

    def list_live(self, user: str) -> list[LiveSession]:
        """The sessions that are live now, the newest first.

        >>> vault.live_sessions.list_live("mia")
        []
        """
        rows = self._connection.fetch_all(
            "SELECT s.*, c.name FROM session_metadata s JOIN conversations c ON c.id = s.conversation_id "
            "WHERE s.user_id = ? AND s.expires_at > ? AND s.ended_at IS NULL ORDER BY s.row_id DESC",
            (self._users.find(user), self._ids.now_us()),
        )
        return [_session(row) for row in rows]

    def sweep(self, *, keep_s: int = 24 * 3600) -> int:
        """Delete the rows of sessions, of all users, that expired more than `keep_s` seconds ago; how many there were.

        >>> vault.live_sessions.sweep()
        0
        """
        before = self._ids.now_us() - checked_limit(keep_s, least=0, field="keep_s") * 1_000_000
        return self._connection.execute("DELETE FROM session_metadata WHERE expires_at < ?", (before,)).rowcount

    def _update(self, user: str, session: str, assignments: str, values: tuple[int, ...]) -> None:
        session_id, user_id, now = parsed_id(session, what="session"), self._users.find(user), self._ids.now_us()
        changed = self._connection.execute(
            f"UPDATE session_metadata SET {assignments} "
            "WHERE id = ? AND user_id = ? AND expires_at > ? AND ended_at IS NULL",
            (*values, session_id, user_id, now),
        )
        if not changed.rowcount:
            raise NotFound("the user has no live session of this id; nothing was changed", hint="start a new one")

    def _check_device(self, device_id: bytes) -> None:
        if not self._connection.fetch_one("SELECT 1 FROM devices WHERE id = ?", (device_id,)):
            raise NotFound("no device has this id; nothing was written")


def _ttl_us(ttl_s: int) -> int:
    return checked_ttl_us(checked_limit(ttl_s, field="ttl_s") * 1_000_000, field="ttl_s")


def _session(row: Row) -> LiveSession:
    return LiveSession(
        id=row["id"].hex(),
        conversation=row["name"],
        device=row["device_id"].hex() if row["device_id"] else None,
        started_at=from_us(row["started_at"]),
        seen_at=from_us(row["seen_at"]),
        expires_at=from_us(row["expires_at"]),
    )
