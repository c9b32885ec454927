"""How a process that has a vault open gets its next root key, when another process rotates the keys.

    data/open/<name>        locked for as long as the process lives; the public half of a key of this process alone
    data/open/<name>.next   each next root key, sealed for that key

The process kept no passphrase, so vault.json does not open for it again. To seal the new root key under the old one
would undo the rotation: whoever has the old key, and a copy of that one file, would have the new one. Here it is sealed
under what an X25519 exchange (RFC 7748) *and* the old root key give together. The private half never leaves the memory
of the process, so no copy of the folder opens it later; without the old root key nobody can announce or hand over.
"""

import fcntl
import os
import secrets
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from aico.errors import IntegrityError, storage_error
from aico.files import read_plain_file, replace_whole, sync_folder
from aico.security.envelope import Place, Sealer
from aico.security.keys import KeyEncryptionKey, Purpose, RootKey, ValueKey

NEXT = ".next"
_LARGEST_BYTES = 64 * 1024
_PUBLIC_BYTES = 32


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The root key that follows on that of a generation, sealed for one process."""

    after: int
    ephemeral: bytes
    sealed: bytes


class _Next(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    announced: bytes
    """The process's public half once more, under the newest root key: the process may sleep through two rotations."""
    steps: tuple[_Step, ...]


class Announcement:
    """Says that this process has the vault open, until `close` or its end, and takes in what is handed over to it.

    Thread rule: one thread at a time. Raises StorageError where the folder cannot be written.
    """

    def __init__(self, folder: Path, *, vault_id: str, generation: int, root: RootKey) -> None:
        self._private, self._vault_id = X25519PrivateKey.generate(), vault_id
        self._process = os.getpid()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            _sweep(folder)
            self.path, self._descriptor = _new_locked_file(folder)
            place = _place(vault_id, self.path.name)
            os.write(self._descriptor, _sealer(generation, root).seal(self._public, bound_to=place))
        except OSError as exc:
            raise storage_error(exc, folder, "the vault was not opened") from exc

    def follow(self, generation: int, root: RootKey) -> RootKey | None:
        """The root key after that of `generation`, None if nobody handed it over or what lies there does not open."""
        found = _read_next(self._next)
        for step in found.steps if found is not None else ():
            if step.after != generation or len(step.ephemeral) != _PUBLIC_BYTES:
                continue
            exchanged = self._private.exchange(X25519PublicKey.from_public_bytes(step.ephemeral))
            key = _exchange_key(exchanged, root, step.ephemeral, self._public)
            place = (*_place(self._vault_id, self.path.name), "next", generation)
            try:
                return RootKey(Sealer({generation + 1: key}).open(step.sealed, bound_to=place))
            except IntegrityError:
                continue
        return None

    def close(self) -> None:
        """Take it back. May be called twice; in a forked child the parent's stays."""
        if self._descriptor >= 0:
            if os.getpid() == self._process:
                self.path.unlink(missing_ok=True)
                self._next.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @property
    def _next(self) -> Path:
        return self.path.with_name(self.path.name + NEXT)


def hand_over(folder: Path, *, vault_id: str, generation: int, old: RootKey, new: RootKey) -> int:
    """Give the root key after that of `generation` to every process that has the vault open now; returns how many.

    To be done before anything is sealed under it. A file that no living process of this machine holds locked is
    deleted: what was copied here from elsewhere is given nothing. Raises OSError.
    """
    if not folder.exists():
        return 0
    _sweep(folder)
    given = 0
    for path in _announcements(folder):
        place, target = _place(vault_id, path.name), path.with_name(path.name + NEXT)
        before = _read_next(target)
        public = _announced(path, before, _sealer(generation, old), place)
        if public is None:
            continue
        steps = () if before is None else tuple(step for step in before.steps if step.after < generation)
        step = _step(generation, public, old=old, new=new, place=place)
        announced = _sealer(generation + 1, new).seal(public, bound_to=place)
        replace_whole(target, msgspec.json.encode(_Next(announced, (*steps, step))))
        given += 1
    sync_folder(folder)
    return given


def _step(generation: int, public: bytes, *, old: RootKey, new: RootKey, place: Place) -> _Step:
    private = X25519PrivateKey.generate()
    ephemeral = private.public_key().public_bytes_raw()
    key = _exchange_key(private.exchange(X25519PublicKey.from_public_bytes(public)), old, ephemeral, public)
    sealed = Sealer({generation + 1: key}).seal(new.reveal(), bound_to=(*place, "next", generation))
    return _Step(generation, ephemeral, sealed)


def _exchange_key(exchanged: bytes, old: RootKey, ephemeral: bytes, public: bytes) -> ValueKey:
    """Of the exchange and of the old root key: without both it cannot be made."""
    salt = old.derive(Purpose.HANDOVER.encode() + b" exchange")
    return ValueKey(KeyEncryptionKey(exchanged).derive(b"aico 1 handover" + ephemeral + public, salt=salt))


def _announced(path: Path, before: _Next | None, sealer: Sealer, place: Place) -> bytes | None:
    """The public half that a process announced under the current root key, or that was sealed anew for it since."""
    for sealed in (_read(path), b"" if before is None else before.announced):
        try:
            public = sealer.open(sealed, bound_to=place)
        except IntegrityError:
            continue
        if len(public) == _PUBLIC_BYTES:
            return public
    return None


def _sealer(generation: int, root: RootKey) -> Sealer:
    return Sealer({generation: root.for_purpose(Purpose.HANDOVER)})


def _place(vault_id: str, name: str) -> Place:
    return ("open", vault_id, name)


# Files


def _new_locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / secrets.token_hex(8)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # else somebody took it for a dead process's before it was locked
            return path, descriptor
        os.close(descriptor)


def _announcements(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix == ""]


def _sweep(folder: Path) -> None:
    """Delete what processes left behind that are gone."""
    for path in _announcements(folder):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    for path in folder.glob(f"*{NEXT}*"):
        if not (folder / path.name.partition(".")[0]).exists():
            path.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return read_plain_file(path, _LARGEST_BYTES)
    except OSError:
        return b""


def _read_next(path: Path) -> _Next | None:
    try:
        return msgspec.json.decode(_read(path), type=_Next)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
