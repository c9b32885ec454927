"""A vault that stays unlocked on this machine for some minutes: `aico unlock`, `aico lock`.

    keyring     32 random bytes for this session alone
    session     the root key sealed under them, with when it began and ends; a file of its own, in no backup

Neither opens anything without the other, and both are deleted when the time is over: by whoever looks then. Two clocks
must agree that it is not: the time of day, and the machine's uptime since the session began, which nobody sets back.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from aico.errors import IntegrityError, InvalidInput, KeyringUnavailable, storage_error
from aico.files import open_plain_file, replace_whole
from aico.security import keyring
from aico.security.envelope import Place, Sealer
from aico.security.kdf import SALT_BYTES
from aico.security.keys import KeyEncryptionKey, RootKey, ValueKey
from aico.security.keyslots import Unlocked, VaultFile

FILE = "session"
LONGEST_S = 12 * 3600
"""Longer than a day's work is what the keyring slot is for."""
_LARGEST_BYTES = 4096


class Now(NamedTuple):
    """This moment, by two clocks."""

    at_us: int
    """Microseconds since 1970 UTC, as the machine has it; may be set back."""
    boot: str
    """Which run of the machine this is, empty where the system does not say."""
    uptime_us: int
    """Since the machine began this run, sleep included where the system counts it."""


def machine_now() -> Now:
    """What the machine's clocks say."""
    clock = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        boot = ""
    return Now(time.time_ns() // 1000, boot, time.clock_gettime_ns(clock) // 1000)


class _Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    generation: int
    at_us: int
    boot: str
    uptime_us: int
    ttl_s: int
    salt: bytes
    wrapped: bytes

    def is_over(self, now: Now) -> bool:
        """Also where a clock was set back, or the machine was started again."""
        ttl_us = self.ttl_s * 1_000_000
        by_day, by_uptime = now.at_us - self.at_us, now.uptime_us - self.uptime_us
        return now.boot != self.boot or not (0 <= by_day < ttl_us and 0 <= by_uptime < ttl_us)


def begin(
    folder: Path, vault_file: VaultFile, root: RootKey, *, ttl_s: int, now: Callable[[], Now] = machine_now
) -> None:
    """Let this machine's keyring open the vault for `ttl_s` seconds; a session before it ends.

    Raises InvalidInput, KeyringUnavailable, DiskFull or StorageError; there is no session then.
    """
    if not 1 <= ttl_s <= LONGEST_S:
        raise InvalidInput(
            f"a vault stays unlocked for 1 second to {LONGEST_S // 3600} hours; nothing was changed",
            hint="for always, on this machine: `aico keys keyring`",
            field="ttl_s",
        )
    entry, moment, secret = _entry(vault_file), now(), KeyEncryptionKey.random()
    bare = _Session(vault_file.generation, *moment, ttl_s, secrets.token_bytes(SALT_BYTES), b"")
    sealer = _sealer(secret, bare)
    whole = msgspec.structs.replace(bare, wrapped=sealer.seal(root.reveal(), bound_to=_place(vault_file, bare)))
    keyring.store_secret(entry, secret)
    try:
        replace_whole(folder / FILE, msgspec.json.encode(whole))
    except OSError as exc:
        end(folder, vault_file)
        raise storage_error(exc, folder / FILE, "the vault was not left unlocked") from exc


def unlock(folder: Path, vault_file: VaultFile, *, now: Callable[[], Now] = machine_now) -> Unlocked | None:
    """What the session opens, None where there is none or its time is over; it is then deleted. Raises Tampered."""
    session = _read(folder / FILE)
    if session is None:
        return None
    root = None if session.is_over(now()) else _opened(session, vault_file)
    if root is None:
        end(folder, vault_file)
        return None
    return vault_file.verified(root)


def left_s(folder: Path, *, now: Callable[[], Now] = machine_now) -> int:
    """How many seconds the session has left, 0 where there is none."""
    session = _read(folder / FILE)
    if session is None or session.is_over(moment := now()):
        return 0
    return session.ttl_s - max(moment.at_us - session.at_us, moment.uptime_us - session.uptime_us) // 1_000_000


def end(folder: Path, vault_file: VaultFile) -> bool:
    """Delete the session, whether its time is over or not; whether there was one. Needs no key.

    The secret goes first: without it the file is worthless, wherever it was copied to. Raises StorageError.
    """
    there = os.path.lexists(folder / FILE)
    with suppress(KeyringUnavailable):
        keyring.forget_secret(_entry(vault_file))
    try:
        if there:  # a disk that is read-only refuses to delete what is not there, too
            (folder / FILE).unlink(missing_ok=True)
    except OSError as exc:
        raise storage_error(exc, folder / FILE, "it opens nothing any more, but lies there still") from exc
    return there


def _opened(session: _Session, vault_file: VaultFile) -> RootKey | None:
    if session.generation != vault_file.generation:
        return None  # the keys were rotated since
    try:
        secret = keyring.find_secret(_entry(vault_file))
        if secret is None:
            return None
        return RootKey(_sealer(secret, session).open(session.wrapped, bound_to=_place(vault_file, session)))
    except (KeyringUnavailable, IntegrityError, InvalidInput):
        return None


def _sealer(secret: KeyEncryptionKey, session: _Session) -> Sealer:
    return Sealer({session.generation: ValueKey(secret.derive(b"aico 1 session unlock", salt=session.salt))})


def _place(vault_file: VaultFile, session: _Session) -> Place:
    return (
        "session",
        vault_file.vault_id,
        session.generation,
        session.at_us,
        session.boot,
        session.uptime_us,
        session.ttl_s,
    )


def _entry(vault_file: VaultFile) -> str:
    return f"{vault_file.vault_id}/session"


def _read(path: Path) -> _Session | None:
    try:
        descriptor = open_plain_file(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(_LARGEST_BYTES), type=_Session)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
