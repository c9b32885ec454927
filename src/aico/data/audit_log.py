"""The audit log: who came in, which keys changed, what was exported or forgotten. Only ever added to.

Every entry carries a keyed BLAKE2b-256 (RFC 7693) over itself and the seal of the entry before, under a key below the
root. So an entry that was changed, left out, put in or moved is found by whoever opens the vault. That entries are
missing at the **end** is found only with a `Head` that was kept elsewhere.

It keeps no content: an action of a fixed list, ids, and counts. Forgetting a person leaves those entries, which name
nobody once the profile is gone.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from aico.clock import Clock, from_us
from aico.data.libsql import LibSQLConnection, Row
from aico.errors import InvalidInput, NotFound
from aico.security.envelope import canonical
from aico.security.keys import ChainKey

SEAL_BYTES = 32
_BEFORE_THE_FIRST = bytes(SEAL_BYTES)
_AT_ONCE = 1000
_SUBJECT_MAX_BYTES = 64
_GUARDS = ("audit_log_keeps_entries", "audit_log_keeps_rows", "audit_log_goes_on")


class Action(StrEnum):
    """All that is ever recorded."""

    PASSPHRASE_ADDED = "passphrase added"  # noqa: S105  # a name, no passphrase
    PASSPHRASE_CHANGED = "passphrase changed"  # noqa: S105
    RECOVERY_PHRASE_MADE = "recovery phrase made"
    KEYRING_ADDED = "keyring added"
    KEYSLOT_REMOVED = "keyslot removed"
    KEYS_ROTATED = "keys rotated"
    DEVICE_ADDED = "device added"
    DEVICE_REMOVED = "device removed"
    EXPORTED = "exported"
    BACKED_UP = "backed up"
    RESTORED = "restored"
    FORGOTTEN = "forgotten"
    USER_DEACTIVATED = "user deactivated"
    USER_ACTIVATED = "user activated"
    USER_ERASED = "user erased"
    PIN_SET = "PIN set"
    PIN_CLEARED = "PIN cleared"
    LOGIN = "login"
    LOGIN_FAILED = "login failed"
    LOCKED_OUT = "locked out"
    UNLOCKED = "unlocked"
    SESSION_CREATED = "session created"
    SESSION_REVOKED = "session revoked"
    SETTINGS_APPROVED = "settings approved"
    VAULT_LEFT_UNLOCKED = "vault left unlocked"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that happened. Ids are in hexadecimal."""

    id: int
    at: datetime
    action: str
    user_id: str | None
    subject_id: str | None
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log reaches: the number of entries and the seal of the last. Kept elsewhere, it proves the end."""

    count: int
    seal: bytes

    def __str__(self) -> str:
        return f"{self.count}:{self.seal.hex()}"

    @classmethod
    def parsed(cls, text: str) -> "Head":
        """A head as it was printed. Raises InvalidInput."""
        count, _, seal = text.partition(":")
        try:
            found = cls(int(count), bytes.fromhex(seal))
        except ValueError:
            found = cls(-1, b"")
        if found.count < 0 or len(found.seal) != SEAL_BYTES:
            raise InvalidInput("a head is a number, a colon and 64 hexadecimal digits; nothing was checked")
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `broken_at` is the first entry that is not as it was written, or where one is missing."""

    intact: bool
    head: Head
    """As far as the chain holds."""
    broken_at: int | None = None
    reason: str = ""


class AuditLog:
    """Writes and proves `audit_log`. Any thread may use it.

    >>> known = vault.audit_log.head()
    >>> _ = vault.devices.ensure_this()
    >>> [entry.action for entry in vault.audit_log.entries(after=known.count)]
    ['device added']
    >>> vault.audit_log.verify(known).intact
    True
    """

    def __init__(self, connection: LibSQLConnection, *, key: ChainKey, clock: Clock) -> None:
        self._connection, self._key, self._clock = connection, key, clock

    def append(
        self,
        action: Action,
        *,
        user_id: bytes | None = None,
        subject_id: bytes | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> int:
        """Add an entry and return its number. Inside a transaction it stands or falls with what it records.

        Raises InvalidInput for anything that could hold content; nothing is written then.
        """
        _check(action, subject_id, counts or {})
        written = msgspec.json.encode(dict(counts or {}), order="deterministic").decode()
        with self._connection.transaction():  # nobody adds between the last seal and ours
            last, at = self.head(), self._clock.now_us()
            entry = (last.count + 1, at, str(action), user_id, subject_id, written)
            self._connection.execute(
                "INSERT INTO audit_log (id, at, action, user_id, subject_id, counts, seal) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*entry, self._seal(last.seal, *entry)),
            )
        return last.count + 1

    def entries(
        self, *, user_id: str | None = None, action: Action | None = None, after: int = 0, limit: int | None = None
    ) -> list[AuditEntry]:
        """Entries behind number `after`, oldest first: of one person, of one kind, or all. Raises InvalidInput.

        >>> before = vault.audit_log.head().count
        >>> _ = vault.sessions.create_session(mia)
        >>> [entry.action for entry in vault.audit_log.entries(user_id=mia, after=before)]
        ['session created']
        """
        where, values = ["id > ?"], [after, *(() if user_id is None else (_hex(user_id),))]
        where += [] if user_id is None else ["user_id = ?"]
        where += [] if action is None else ["action = ?"]
        rows = self._connection.fetch_all(
            f"SELECT id, at, action, user_id, subject_id, counts FROM audit_log WHERE {' AND '.join(where)} "
            "ORDER BY id LIMIT ?",
            (*values, *(() if action is None else (str(action),)), -1 if limit is None else limit),
        )
        return [_entry(row) for row in rows]

    def last_entries(self, count: int, *, user_id: str | None = None) -> list[AuditEntry]:
        """The last entries, oldest first. Raises as `entries`.

        >>> _ = vault.sessions.create_session(mia)
        >>> [entry.action for entry in vault.audit_log.last_entries(1)]
        ['session created']
        """
        rows = self._connection.fetch_all(
            "SELECT id, at, action, user_id, subject_id, counts FROM audit_log "
            f"{'' if user_id is None else 'WHERE user_id = ?'} ORDER BY id DESC LIMIT ?",
            (*(() if user_id is None else (_hex(user_id),)), count),
        )
        return [_entry(row) for row in reversed(rows)]

    def last(self, action: Action) -> AuditEntry | None:
        """The last entry of one kind, None if there is none.

        >>> vault.audit_log.last(Action.RESTORED) is None
        True
        """
        row = self._connection.fetch_one(
            "SELECT id, at, action, user_id, subject_id, counts FROM audit_log WHERE action = ? ORDER BY id DESC LIMIT 1",
            (str(action),),
        )
        return None if row is None else _entry(row)

    def head(self) -> Head:
        """How far the log reaches now. Note it down where whoever changes the vault cannot change it.

        >>> vault.audit_log.head().count == len(vault.audit_log.entries())
        True
        """
        row = self._connection.fetch_one("SELECT id, seal FROM audit_log ORDER BY id DESC LIMIT 1")
        return Head(0, _BEFORE_THE_FIRST) if row is None else Head(row["id"], row["seal"])

    def verify(self, known: Head | None = None) -> Verdict:
        """Compute every seal anew, oldest first; with a `known` head also that nothing up to it is missing.

        Takes about 10 µs an entry.

        >>> known = vault.audit_log.head()
        >>> vault.audit_log.verify(known).intact
        True
        """
        head = Head(0, _BEFORE_THE_FIRST)
        met = known is None or known == head
        for row in self._rows():
            number, seal = row["id"], bytes(row["seal"])
            if number != head.count + 1:
                return Verdict(False, head, head.count + 1, "an entry is missing")
            if not secrets.compare_digest(seal, self._seal(head.seal, *row[:6])):
                return Verdict(False, head, number, "the entry, or the one before it, is not as it was written")
            head = Head(number, seal)
            met = met or head == known
        if not met:
            return Verdict(
                False, head, None, "the log does not reach the known head: its end is missing or another one"
            )
        if not self._is_guarded():
            return Verdict(False, head, None, "the rules that keep entries from being changed are gone")
        return Verdict(True, head)

    def _rows(self) -> Iterator[Row]:
        last = -(1 << 63)
        while rows := self._connection.fetch_all(
            "SELECT id, at, action, user_id, subject_id, counts, seal FROM audit_log WHERE id > ? ORDER BY id LIMIT ?",
            (last, _AT_ONCE),
        ):
            yield from rows
            last = rows[-1]["id"]

    def _seal(self, before: bytes, *entry: str | bytes | float | None) -> bytes:
        """Over the canonical encoding, in which a value that is missing is like no value that is there."""
        parts: list[str | bytes | int] = [before]
        for value in entry:
            parts += ["missing"] if value is None else ["there", repr(value) if isinstance(value, float) else value]
        key, encoded = self._key.reveal(), canonical(tuple(parts))
        return hashlib.blake2b(encoded, digest_size=SEAL_BYTES, key=key, person=b"audit_log").digest()

    def _is_guarded(self) -> bool:
        found = self._connection.fetch_all(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit_log'"
        )
        return set(_GUARDS) <= {name for (name,) in found}


def _check(action: Action, subject_id: bytes | None, counts: Mapping[str, int]) -> None:
    if not isinstance(action, Action):
        raise InvalidInput("an audit entry's action is one of a fixed list; nothing was written", field="action")
    if subject_id is not None and (not isinstance(subject_id, bytes) or len(subject_id) > _SUBJECT_MAX_BYTES):
        raise InvalidInput("an audit entry's subject is the bytes of an id; nothing was written", field="subject_id")
    if not all(name.isidentifier() and type(count) is int for name, count in counts.items()):
        raise InvalidInput("an audit entry counts in whole numbers; nothing was written", field="counts")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NotFound("no user has this id", hint="an id has 32 hexadecimal digits") from None


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at=from_us(row["at"]),
        action=row["action"],
        user_id=None if row["user_id"] is None else row["user_id"].hex(),
        subject_id=None if row["subject_id"] is None else row["subject_id"].hex(),
        counts=msgspec.json.decode(row["counts"], type=dict[str, int]),
    )
