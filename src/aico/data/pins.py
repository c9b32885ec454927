"""PINs: how a person shows the companion who they are, inside a vault that is open already.

A PIN keeps people of one vault apart; it is no key. Whoever holds the vault's passphrase can read everything and take
any PIN back.

Every attempt is counted, durably, before the PIN is looked at. So neither a restart, nor a crash at the right moment,
nor many attempts at once buy one more guess.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from aico.clock import Clock, from_us
from aico.data.audit_log import Action, AuditLog
from aico.data.auth_sessions import AuthSessions
from aico.data.libsql import LibSQLConnection, Row
from aico.data.libsql.rows import Result
from aico.data.row_ids import ID_BYTES, parsed_id
from aico.data.user import UserProfile, UserService
from aico.errors import AccessDenied, InvalidInput, LockedOut, NotFound, StorageError, Tampered
from aico.security.kdf import SALT_BYTES, check_cost, derive_verifier
from aico.security.keys import Passphrase
from aico.settings import KdfCost

ATTEMPTS_MAX = 5
"""Wrong PINs in a row before a lockout."""
LOCKOUT_FIRST, LOCKOUT_MOST = timedelta(minutes=15), timedelta(days=1)
"""Each lockout without a success in between is twice as long as the one before. At five guesses a day, half of all
four-digit PINs take almost three years."""
PIN_DIGITS_MIN, PASSPHRASE_MIN, PIN_MAX_BYTES = 4, 8, 1024

_NOBODY = bytes(ID_BYTES)
_NO_SALT = bytes(SALT_BYTES)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Authentication:
    """How a person's PIN stands. Never the PIN, nor what it is recognised by."""

    has_pin: bool
    failed_attempts: int
    locked_until: datetime | None
    """None if the next attempt is looked at."""
    last_login: datetime | None


class _Attempt(NamedTuple):
    """What an attempt is compared with, and until when it locks if it fails."""

    salt: bytes
    expected: bytes
    cost: KdfCost
    locked_until: int | None


class Pins:
    """Sets and checks PINs, in `user_authentication`. Any thread and any number of processes may use it.

    >>> mia = vault.users.create_user("mia")
    >>> vault.pins.set_pin(mia.id, "8305")
    >>> vault.pins.authenticate_user(mia.id, "8305").name
    'mia'
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        sessions: AuthSessions,
        audit_log: AuditLog,
        clock: Clock,
        cost: KdfCost,
    ) -> None:
        self._connection, self._users, self._sessions = connection, users, sessions
        self._audit_log, self._clock, self._cost = audit_log, clock, cost

    def set_pin(self, user_id: str, new_pin: str, *, old_pin: str | None = None) -> None:
        """Give a person a PIN or passphrase, or another one, for which the old one is needed. Their sessions end.

        Only digits: at least four, neither all the same nor a run such as 1234. Anything else: at least eight
        characters. Raises InvalidInput, NotFound, AccessDenied or LockedOut; the old PIN then stays.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.authenticate_user(mia, "730519").name
        'mia'
        """
        secret, before = _checked_pin(new_pin), self._row(parsed_id(user_id, what="user"))
        if before is not None:
            self.authenticate_user(user_id, old_pin or "")
        self._replace(user_id, secret, instead_of=before)

    def reset_pin(self, user_id: str, new_pin: str) -> None:
        """Give a person another PIN without the old one, as whoever has opened the vault may. Raises as `set_pin`.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.reset_pin(mia, "281647")
        >>> vault.pins.authenticate_user(mia, "281647").name
        'mia'
        """
        secret = _checked_pin(new_pin)
        self._replace(user_id, secret, instead_of=self._row(parsed_id(user_id, what="user")))

    def clear_pin(self, user_id: str) -> None:
        """Take a forgotten PIN back, as whoever has opened the vault may. Their sessions end. Raises NotFound.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.clear_pin(mia)
        """
        wanted = parsed_id(user_id, what="user")
        with self._connection.transaction():
            if not self._connection.execute("DELETE FROM user_authentication WHERE user_id = ?", (wanted,)).rowcount:
                raise NotFound("this user has no PIN; nothing was changed")
            self._sessions.revoke_all_user_sessions(user_id)
            self._audit_log.append(Action.PIN_CLEARED, user_id=wanted)

    def authenticate_user(self, user_id: str, pin: str) -> UserProfile:
        """The person's profile, if the PIN is theirs and they are active.

        Takes one key derivation, also for somebody who is not there or has no PIN. Raises AccessDenied, or LockedOut
        after five wrong ones in a row; what was wrong is not told.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.authenticate_user(mia, "000000")
        Traceback (most recent call last):
        ...
        aico.errors.AccessDenied: this is not the PIN of this user
        """
        if self._connection.in_transaction:  # taken back with it, the attempt would be uncounted
            raise StorageError("a PIN is checked in a transaction of its own; it was not", hint="end yours first")
        wanted = _id_or_nobody(user_id)
        attempt = self._counted_attempt(wanted)
        given = derive_verifier(_secret(pin), salt=attempt.salt, cost=attempt.cost)
        if not secrets.compare_digest(given, attempt.expected):
            raise self._noted_failure(wanted, attempt)
        return self._let_in(wanted, attempt.salt)

    def unlock_user(self, user_id: str) -> None:
        """End a lockout, as whoever has opened the vault may. Raises NotFound.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.unlock_user(mia)
        """
        wanted = parsed_id(user_id, what="user")
        with self._connection.transaction():
            if not self._reset(wanted).rowcount:
                raise NotFound("this user has no PIN; nothing was changed")
            self._audit_log.append(Action.UNLOCKED, user_id=wanted)

    def get_user_authentication(self, user_id: str) -> Authentication:
        """How a person's PIN stands.

        >>> vault.pins.set_pin(mia, "730519")
        >>> vault.pins.get_user_authentication(mia).failed_attempts
        0
        """
        row = self._row(parsed_id(user_id, what="user"))
        if row is None:
            return Authentication(False, 0, None, None)
        until = row["locked_until"] if self._is_locked(row) else None
        return Authentication(
            True, row["failed_attempts"], _or_none(until, from_us), _or_none(row["last_login"], from_us)
        )

    def _replace(self, user_id: str, secret: Passphrase, *, instead_of: Row | None) -> None:
        self._users.get_profile(user_id)
        wanted, salt = parsed_id(user_id, what="user"), secrets.token_bytes(SALT_BYTES)
        verifier = derive_verifier(secret, salt=salt, cost=self._cost)
        with self._connection.transaction():
            self._users.get_profile(user_id)
            found = self._row(wanted)
            if (found and found["salt"]) != (instead_of and instead_of["salt"]):
                raise AccessDenied("the PIN was changed by somebody else meanwhile; theirs stays")
            self._store(wanted, salt, verifier)
            self._sessions.revoke_all_user_sessions(user_id)
            self._audit_log.append(Action.PIN_SET, user_id=wanted)

    def _counted_attempt(self, user_id: bytes) -> "_Attempt":
        """Count an attempt, before it is looked at. For nobody: what no PIN gives. Raises LockedOut."""
        with self._connection.transaction():
            row = self._row(user_id)
            if row is None:
                return _Attempt(_NO_SALT, secrets.token_bytes(32), self._cost, None)
            if self._is_locked(row):
                raise _locked(row["locked_until"])
            cost = _sane_cost(row)
            failed, until = row["failed_attempts"] + 1, None
            if failed >= ATTEMPTS_MAX:  # locked from here on; if the PIN is right after all, it unlocks
                failed, until = 0, self._clock.now_us() + _lockout(row["lockouts"]) // _MICROSECOND
            self._connection.execute(
                "UPDATE user_authentication SET failed_attempts = ?, lockouts = lockouts + ?, locked_until = ? "
                "WHERE user_id = ?",
                (failed, int(until is not None), until, user_id),
            )
        return _Attempt(row["salt"], row["verifier"], cost, until)

    def _noted_failure(self, user_id: bytes, attempt: "_Attempt") -> AccessDenied:
        """The error to raise, once the failure stands in the audit log. Who is not there has no entry."""
        if attempt.salt != _NO_SALT:
            locked = attempt.locked_until is not None
            self._audit_log.append(Action.LOCKED_OUT if locked else Action.LOGIN_FAILED, user_id=user_id)
        return _denied() if attempt.locked_until is None else _locked(attempt.locked_until)

    def _let_in(self, user_id: bytes, salt: bytes) -> UserProfile:
        """Forget the wrong attempts, unless the PIN was changed or the person left while we computed."""
        with self._connection.transaction():
            row = self._row(user_id)
            if row is None or row["salt"] != salt:
                raise _denied()
            try:
                profile = self._users.get_profile(user_id.hex())
            except NotFound:
                raise _denied() from None
            if not profile.is_active:
                raise _denied()
            self._reset(user_id)
            self._connection.execute(
                "UPDATE user_authentication SET last_login = ? WHERE user_id = ?", (self._clock.now_us(), user_id)
            )
            self._audit_log.append(Action.LOGIN, user_id=user_id)
        return profile

    def _reset(self, user_id: bytes) -> Result:
        return self._connection.execute(
            "UPDATE user_authentication SET failed_attempts = 0, lockouts = 0, locked_until = NULL WHERE user_id = ?",
            (user_id,),
        )

    def _store(self, user_id: bytes, salt: bytes, verifier: bytes) -> None:
        cost, now = self._cost, self._clock.now_us()
        self._connection.execute("DELETE FROM user_authentication WHERE user_id = ?", (user_id,))
        self._connection.execute(
            "INSERT INTO user_authentication (user_id, salt, verifier, memory_kib, passes, lanes, failed_attempts, "
            "lockouts, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?)",
            (user_id, salt, verifier, cost.memory_kib, cost.passes, cost.lanes, now, now),
        )

    def _row(self, user_id: bytes) -> Row | None:
        return self._connection.fetch_one("SELECT * FROM user_authentication WHERE user_id = ?", (user_id,))

    def _is_locked(self, row: Row) -> bool:
        """Also with the clock set back: the end is an instant, and stays where it is."""
        return row["locked_until"] is not None and self._clock.now_us() < row["locked_until"]


def _lockout(before: int) -> timedelta:
    """How long a lockout lasts after this many others without a success."""
    return min(LOCKOUT_FIRST * (1 << min(before, 16)), LOCKOUT_MOST)


def _checked_pin(pin: str) -> Passphrase:
    """A PIN worth having. Raises InvalidInput, which never shows it."""
    secret = Passphrase(pin)
    if len(pin.encode()) > PIN_MAX_BYTES:
        raise InvalidInput("the PIN is longer than 1,024 bytes; nothing was changed", field="pin")
    if not pin.isdecimal():
        if len(pin) < PASSPHRASE_MIN:
            hint = "use digits alone, or more characters"
            raise InvalidInput(
                "a passphrase has at least eight characters; nothing was changed", hint=hint, field="pin"
            )
        return secret
    steps = {int(after) - int(before) for before, after in pairwise(pin)}
    if len(pin) < PIN_DIGITS_MIN or steps in ({0}, {1}, {-1}):
        raise InvalidInput(
            "a PIN has at least four digits, not all the same and no run such as 1234; nothing was changed",
            hint="six digits that are no date are better",
            field="pin",
        )
    return secret


def _secret(pin: str) -> Passphrase:
    """What was typed, or something nobody has, where it cannot be a PIN at all: it costs an attempt as well."""
    try:
        secret = Passphrase(pin)
    except InvalidInput:
        return Passphrase("\0")
    return secret if len(pin.encode()) <= PIN_MAX_BYTES else Passphrase("\0")


def _sane_cost(row: Row) -> KdfCost:
    """The cost in the row. Raises Tampered before any memory is taken."""
    cost = KdfCost(memory_kib=row["memory_kib"], passes=row["passes"], lanes=row["lanes"])
    try:
        check_cost(cost)
    except InvalidInput as exc:
        raise Tampered(f"a PIN's entry is not sane: {exc}", hint="take the PIN back and set it anew") from exc
    return cost


def _id_or_nobody(user_id: str) -> bytes:
    try:
        return parsed_id(user_id, what="user")
    except NotFound:
        return _NOBODY


def _denied() -> AccessDenied:
    return AccessDenied("this is not the PIN of this user", hint="five wrong ones in a row lock it for a while")


def _locked(until_us: int) -> LockedOut:
    until = from_us(until_us)
    return LockedOut(
        f"too many wrong PINs: locked until {until:%Y-%m-%d %H:%M} UTC", until=until, hint="wait, or unlock the user"
    )


def _or_none(value: int | None, shown: Callable[[int], datetime]) -> datetime | None:
    return None if value is None else shown(value)
