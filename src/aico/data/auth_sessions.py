"""Sessions: a token that stands for a login, for a while.

A token is 32 random bytes, shown once and stored only as a hash; the table holds sessions that are alive and nothing
else. A session that was ended or found expired is deleted, so that no clock brings it back.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aico.clock import IdSource, from_us
from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import LibSQLConnection, Row
from aico.data.row_ids import parsed_id
from aico.errors import AccessDenied, InvalidInput

TOKEN_BYTES = 32
SESSION_TTL = timedelta(hours=1)
"""Long enough for a conversation; `refresh_session` lengthens it."""
SESSION_LIFE_MAX = timedelta(days=30)
"""However often it is refreshed: then the PIN is asked for again."""

_MICROSECOND = timedelta(microseconds=1)
_ALIVE = "SELECT s.* FROM auth_sessions s JOIN users u ON u.id = s.user_id WHERE u.is_active = 1"


@dataclass(frozen=True, slots=True)
class AuthSession:
    """A live session. Ids are in hexadecimal."""

    id: str
    user_id: str
    device_id: str | None
    created_at: datetime
    renewed_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session and its token, which is shown here and nowhere else."""

    session: AuthSession
    token: str = field(repr=False)


class AuthSessions:
    """Begins, checks and ends sessions, in `auth_sessions`. Any thread may use it.

    It asks for no PIN: whoever begins a session has checked one, or has a reason not to.

    >>> mia = vault.users.create_user("mia")
    >>> token = vault.sessions.create_session(mia.id).token
    >>> vault.sessions.verify_session(token).user_id == mia.id
    True
    """

    def __init__(self, connection: LibSQLConnection, *, audit_log: AuditLog, ids: IdSource) -> None:
        self._connection, self._audit_log, self._ids = connection, audit_log, ids

    def create_session(self, user_id: str, *, device_id: str | None = None, ttl: timedelta = SESSION_TTL) -> NewSession:
        """Begin a session of an active user; expired ones of everybody are swept. Raises InvalidInput or AccessDenied.

        >>> new = vault.sessions.create_session(mia, ttl=timedelta(hours=1))
        >>> new.session.expires_at - new.session.created_at == timedelta(hours=1)
        True
        """
        wanted, span = parsed_id(user_id, what="user"), _checked_span(ttl)
        device = None if device_id is None else parsed_id(device_id, what="device")
        token, now = secrets.token_bytes(TOKEN_BYTES), self._ids.now_us()
        session_id = self._ids.new_id()
        with self._connection.transaction():
            if not self._connection.fetch_one("SELECT 1 FROM users WHERE id = ? AND is_active = 1", (wanted,)):
                raise AccessDenied("there is no active user of this id; no session was begun")
            self._sweep(now)
            self._connection.execute(
                "INSERT INTO auth_sessions (id, user_id, device_id, token_hash, created_at, renewed_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, wanted, device, _hashed(token), now, now, now + span),
            )
            self._audit_log.append(Action.SESSION_CREATED, user_id=wanted, subject_id=session_id)
            row = self._connection.fetch_one(f"{_ALIVE} AND s.id = ?", (session_id,))
        assert row is not None
        return NewSession(_session(row), _shown(token))

    def verify_session(self, token: str) -> AuthSession:
        """The live session of a token. Raises AccessDenied if it is over, was ended, or never was; which, is not told.

        >>> token = vault.sessions.create_session(mia).token
        >>> vault.sessions.verify_session(token).user_id == mia
        True
        """
        row = self._find(token)
        if row is None:
            raise _over()
        if self._now(row) >= row["expires_at"]:
            self._connection.execute("DELETE FROM auth_sessions WHERE id = ?", (row["id"],))
            raise _over()
        return _session(row)

    def refresh_session(self, token: str, *, ttl: timedelta = SESSION_TTL) -> NewSession:
        """Lengthen a live session, under a new token; the old one ends at once. Raises AccessDenied or InvalidInput.

        No session lives longer than 30 days.

        >>> new = vault.sessions.create_session(mia)
        >>> vault.sessions.refresh_session(new.token).token != new.token
        True
        """
        span, fresh = _checked_span(ttl), secrets.token_bytes(TOKEN_BYTES)
        self.verify_session(token)
        with self._connection.transaction():
            row = self._find(token)
            if row is None:
                raise _over()
            now = self._now(row)
            end = min(now + span, row["created_at"] + SESSION_LIFE_MAX // _MICROSECOND)
            self._connection.execute(
                "UPDATE auth_sessions SET token_hash = ?, renewed_at = ?, expires_at = ? WHERE id = ?",
                (_hashed(fresh), now, end, row["id"]),
            )
        return NewSession(self.verify_session(_shown(fresh)), _shown(fresh))

    def revoke_session(self, session_id: str) -> None:
        """End a session; its token opens nothing from here on. May be repeated.

        >>> vault.sessions.revoke_session(vault.sessions.create_session(mia).session.id)
        >>> vault.sessions.get_user_sessions(mia)
        []
        """
        wanted = parsed_id(session_id, what="session")
        self._revoke("id", wanted)

    def revoke_token(self, token: str) -> None:
        """End the session of a token, as a logout does. May be repeated.

        >>> vault.sessions.revoke_token(vault.sessions.create_session(mia).token)
        >>> vault.sessions.get_user_sessions(mia)
        []
        """
        self._revoke("token_hash", _hashed(_bytes(token)))

    def revoke_all_user_sessions(self, user_id: str) -> int:
        """End all sessions of a person; how many there were.

        >>> _ = vault.sessions.create_session(mia), vault.sessions.create_session(mia)
        >>> vault.sessions.revoke_all_user_sessions(mia)
        2
        """
        return self._revoke("user_id", parsed_id(user_id, what="user"))

    def get_user_sessions(self, user_id: str) -> list[AuthSession]:
        """The live sessions of a person, oldest first.

        >>> _ = vault.sessions.create_session(mia)
        >>> len(vault.sessions.get_user_sessions(mia))
        1
        """
        rows = self._connection.fetch_all(
            f"{_ALIVE} AND s.user_id = ? ORDER BY s.row_id", (parsed_id(user_id, what="user"),)
        )
        return [_session(row) for row in rows if self._now(row) < row["expires_at"]]

    def cleanup_expired_sessions(self) -> int:
        """Sweep what has expired; how many sessions that were.

        >>> vault.sessions.cleanup_expired_sessions()
        0
        """
        return self._sweep(self._ids.now_us())

    def _find(self, token: str) -> Row | None:
        return self._connection.fetch_one(f"{_ALIVE} AND s.token_hash = ?", (_hashed(_bytes(token)),))

    def _now(self, row: Row) -> int:
        """The time, and never before the session was last renewed: a clock that was set back gives no time back."""
        return max(self._ids.now_us(), int(row["renewed_at"]))

    def _sweep(self, now: int) -> int:
        return self._connection.execute("DELETE FROM auth_sessions WHERE expires_at <= ?", (now,)).rowcount

    def _revoke(self, column: str, value: bytes) -> int:
        with self._connection.transaction():
            rows = self._connection.fetch_all(f"SELECT id, user_id FROM auth_sessions WHERE {column} = ?", (value,))
            self._connection.execute(f"DELETE FROM auth_sessions WHERE {column} = ?", (value,))
            for session_id, user_id in rows:
                self._audit_log.append(Action.SESSION_REVOKED, user_id=user_id, subject_id=session_id)
        return len(rows)


def _checked_span(ttl: timedelta) -> int:
    if not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= SESSION_LIFE_MAX:
        raise InvalidInput("a session lasts for a moment at least and 30 days at most; none was begun", field="ttl")
    return ttl // _MICROSECOND


def _shown(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _bytes(token: str) -> bytes:
    """The bytes of a token, none for what cannot be one."""
    try:
        found = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        return b""
    return found if len(found) == TOKEN_BYTES and _shown(found) == token else b""


def _hashed(token: bytes) -> bytes:
    """No salt and no cost: 256 random bits are not guessed."""
    return hashlib.sha256(token).digest()


def _over() -> AccessDenied:
    return AccessDenied("the session is over, was ended, or never was", hint="log in again")


def _session(row: Row) -> AuthSession:
    return AuthSession(
        id=row["id"].hex(),
        user_id=row["user_id"].hex(),
        device_id=None if row["device_id"] is None else row["device_id"].hex(),
        created_at=from_us(row["created_at"]),
        renewed_at=from_us(row["renewed_at"]),
        expires_at=from_us(row["expires_at"]),
    )
