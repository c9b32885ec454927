"""Every exception a caller may catch.

    AicoError                     message + hint + exit_code
    ├── UnlockError               WrongPassphrase · KeyslotMissing · KeyringUnavailable · KeysRotated
    ├── IntegrityError            Tampered · FormatTooNew · IndexOutOfStep · OlderState
    ├── StorageError              Busy · DiskFull · MigrationFailed · SchemaChanged · ForgottenInPart
    ├── InvalidInput (ValueError) Forgotten · PluginRefused · NotAsShown
    ├── AccessDenied              LockedOut
    ├── NotFound (LookupError) · MissingExtra (ImportError) · ModelUnavailable
    └── SyncError                 PeerRejected · WireMismatch

A message says what failed, on which thing, and what it means for the data; the hint says what to do
next. Neither ever holds a memory's text, a key or a passphrase.
"""

import errno
from datetime import datetime
from pathlib import Path


class AicoError(Exception):
    """The root of every error this library raises on purpose.

    `hint` is the next step for a person, empty where there is none; `exit_code` is what the command
    line ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnlockError(AicoError):
    """The vault could not be opened; nothing was changed."""

    exit_code = 3


class WrongPassphrase(UnlockError):
    """The given secret opens no keyslot."""


class KeyslotMissing(UnlockError):
    """No keyslot of the needed kind exists, or nothing was given to open one with."""


class KeyringUnavailable(UnlockError):
    """The operating system offers no keyring that keeps secrets."""


class KeysRotated(UnlockError):
    """The vault has new keys since it was opened here, and this process could not take them over. Open it again."""


class IntegrityError(AicoError):
    """Stored bytes are not what this vault wrote."""

    exit_code = 4


class Tampered(IntegrityError):
    """Stored bytes do not carry our seal: they were damaged, moved or changed from outside."""


class FormatTooNew(IntegrityError):
    """Written by a newer release; left untouched."""


class OlderState(IntegrityError):
    """The vault is an older copy of itself, by what was noted outside its folder; nothing was changed."""


class IndexOutOfStep(IntegrityError):
    """A view claims a change that the truth does not have."""


class StorageError(AicoError):
    """The store could not do what was asked; what was acknowledged before still holds."""

    exit_code = 5


def storage_error(error: OSError, path: Path, consequence: str) -> StorageError:
    """Ours for what the operating system said about `path`: DiskFull where room is missing, else StorageError."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"no room for {path}; {consequence}", hint="make room on the disk, then try again")
    reason = error.strerror or type(error).__name__
    return StorageError(
        f"{path} cannot be used: {reason}; {consequence}", hint="check the folder's owner and permissions"
    )


class Busy(StorageError):
    """Another process kept the store longer than the wait allows; nothing was written."""


class DiskFull(StorageError):
    """No room for the write; it was taken back whole."""


class MigrationFailed(StorageError):
    """A schema step failed and was taken back whole; the older schema is in place."""


class SchemaChanged(StorageError):
    """Another process changed the tables while they were open here; nothing was written. Open the vault again."""


class ForgottenInPart(StorageError):
    """The store let go of it for good, but some views could not yet. `receipt` is the id of the receipt, `views` names
    them. The same `forget` again, in any process, tries them once more."""

    exit_code = 4  # as when a second look finds something left

    def __init__(self, message: str, *, receipt: str, views: tuple[str, ...], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.receipt, self.views = receipt, views


class InvalidInput(AicoError, ValueError):
    """A value that cannot be kept faithfully; nothing was written. `field` names it where there are several."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class Forgotten(InvalidInput):
    """The message was forgotten on purpose and stays forgotten unless its return is asked for."""


class PluginRefused(InvalidInput):
    """A plugin's SQL reached for what is not its own; nothing of it was done."""


class NotAsShown(InvalidInput):
    """What would be forgotten is no longer exactly what the agreed preview shows; nothing was forgotten."""


class AccessDenied(AicoError):
    """The PIN or session does not let this person in. It never tells which part of a claim was wrong."""

    exit_code = 10


class LockedOut(AccessDenied):
    """Too many wrong PINs; `until` says when the next attempt is looked at."""

    def __init__(self, message: str, *, until: datetime, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.until = until


class NotFound(AicoError, LookupError):
    """What was asked for by name or id is not there."""

    exit_code = 6


class MissingExtra(AicoError, ImportError):
    """An optional package is not installed; the hint has the install line."""

    exit_code = 7


class ModelUnavailable(AicoError):
    """A model that was asked for cannot be used; recall goes on by words, and nothing recorded is lost."""

    exit_code = 9


class SyncError(AicoError):
    """Devices could not be brought in step; each keeps what it had."""

    exit_code = 8


class PeerRejected(SyncError):
    """The other device is not one this vault trusts."""


class WireMismatch(SyncError):
    """What a peer sent is not in the format it claims."""
