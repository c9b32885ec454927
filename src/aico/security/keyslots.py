"""`vault.json`: which vault this is, and the root key wrapped once for each way to unlock it.

The file is public. Format, vault id and a slot's own parameters are bound into that slot's wrap, and the whole
document carries a seal under a key below the root, so a changed byte is told at the next unlocking.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec

from aico.errors import (
    FormatTooNew,
    InvalidInput,
    KeyslotMissing,
    NotFound,
    StorageError,
    Tampered,
    WrongPassphrase,
    storage_error,
)
from aico.files import NotAPlainFile, place_new_file, read_plain_file, sync_folder
from aico.security import keyring
from aico.security.envelope import Place, Sealer
from aico.security.kdf import SALT_BYTES, derive_key_encryption_key
from aico.security.keys import (
    KEY_BYTES,
    ChainKey,
    DatabaseKey,
    KeyEncryptionKey,
    NaturalKey,
    Passphrase,
    Purpose,
    RootKey,
    ValueKey,
)
from aico.security.phrase import looks_like_phrase, new_phrase, phrase_key
from aico.settings import KdfCost

FORMAT, LIBSQL_FORMAT = 1, 2
"""What new vaults are made in: 2 says that `engine` is there, for releases that know of one engine only. Format 0, before page map and commit anchor, is read and written as it is: its number is
bound into every keyslot, whose secrets are not all at hand (docs/decisions/0028)."""
LARGEST_FILE_BYTES = 1024 * 1024
SLOTS_MAX = 16
"""More would make a wrong passphrase take minutes: each passphrase slot costs one derivation."""

SlotKind = Literal["passphrase", "recovery", "keyring"]


class Argon2Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passphrase slot's own cost, as it lies in the file."""

    memory_kib: int
    passes: int
    lanes: int


class Keyslot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to the root key."""

    id: str
    kind: SlotKind
    generation: int
    salt: bytes
    wrapped: bytes
    argon2id: Argon2Cost | None = None


class Unlocked(NamedTuple):
    """What an opened keyslot gives."""

    generation: int
    root: RootKey
    natural: NaturalKey
    chain: ChainKey
    previous: RootKey | None = None
    """The root key of the generation before, as long as something may still be sealed under it."""
    older_files: Mapping[int, ValueKey] = {}
    """What opens files that were sealed before a rotation and not written since."""

    def roots(self) -> dict[int, RootKey]:
        """The root keys in use, by generation."""
        older = {} if self.previous is None else {self.generation - 1: self.previous}
        return {**older, self.generation: self.root}

    def for_purpose(self, purpose: Purpose) -> dict[int, ValueKey]:
        """The keys of one purpose, by generation."""
        return {generation: root.for_purpose(purpose) for generation, root in self.roots().items()}

    def for_pages(self) -> dict[int, DatabaseKey]:
        """The keys of `aico.db`, by generation."""
        return {generation: root.for_pages() for generation, root in self.roots().items()}

    def for_files(self) -> dict[int, ValueKey]:
        """The keys of sealed files, by generation: also of those that no rotation could find."""
        return {**self.older_files, **self.for_purpose(Purpose.FILES)}


class VaultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The content of vault.json. Changing it gives a new one; `write` replaces the file whole."""

    format: int
    vault_id: str
    engine: Literal["sqlite", "libsql"] = "sqlite"
    """What writes `aico.db`; in the file where it is not SQLite with sealed pages."""
    generation: int
    keyslots: tuple[Keyslot, ...]
    natural_key: bytes
    chain_key: bytes = b""
    """Once the keys were rotated: the key of the audit log's chain, which no rotation changes."""
    older_file_keys: bytes = b""
    """Once the keys were rotated: the keys of files that were not written since."""
    previous: bytes = b""
    """While a rotation is unfinished: the root key of the generation before."""
    seal: bytes

    @classmethod
    def new(
        cls, passphrase: Passphrase, *, cost: KdfCost, engine: Literal["sqlite", "libsql"] = "sqlite"
    ) -> tuple[Self, Unlocked]:
        """A new vault's file with one passphrase slot, and the keys it stands for."""
        root, vault_id = RootKey.random(), secrets.token_hex(16)
        number = FORMAT if engine == "sqlite" else LIBSQL_FORMAT
        empty = cls(
            format=number, vault_id=vault_id, engine=engine, generation=1, keyslots=(), natural_key=b"", seal=b""
        )
        made = empty.with_natural_key(root, NaturalKey.random()).with_passphrase(root, passphrase, cost=cost)
        return made, made.verified(root)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What lies in the file. Raises NotFound, StorageError, Tampered if it is not what aico writes, or FormatTooNew."""
        return cls.parse(_read_regular_file(path), path)

    @classmethod
    def parse(cls, raw: bytes, path: Path) -> Self:
        """What these bytes say, which were read from `path`. Raises Tampered or FormatTooNew."""
        try:
            if msgspec.json.decode(raw, type=_JustFormat).format > LIBSQL_FORMAT:
                raise FormatTooNew(f"{path} was written by a newer release; nothing was changed", hint="update aico")
            found = msgspec.json.decode(raw, type=cls)
            if not 1 <= len(found.keyslots) <= SLOTS_MAX or (found.engine == "libsql") != (
                found.format == LIBSQL_FORMAT
            ):
                raise _damaged(path)
            return found
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _damaged(path) from None

    def write(self, path: Path) -> None:
        """Replace the file whole; a crash leaves the old one or the new one. Raises DiskFull or StorageError."""
        self._write(path, lambda fresh: fresh.replace(path))

    def write_new(self, path: Path) -> None:
        """Write the first file there is. Raises InvalidInput if there is one, DiskFull or StorageError."""
        try:
            self._write(path, lambda fresh: place_new_file(fresh, path))
        except StorageError as exc:
            if isinstance(exc.__cause__, FileExistsError):
                raise InvalidInput(f"{path} exists; nothing was changed", hint="unlock it instead") from None
            raise

    def _write(self, path: Path, give_the_name: Callable[[Path], object]) -> None:
        fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            give_the_name(fresh)
            sync_folder(path.parent)
        except OSError as exc:
            raise storage_error(exc, path, "it is as it was") from exc
        finally:
            fresh.unlink(missing_ok=True)

    def with_passphrase(self, root: RootKey, passphrase: Passphrase, *, cost: KdfCost) -> Self:
        """The same vault with one more passphrase. Takes one key derivation."""
        kdf = Argon2Cost(cost.memory_kib, cost.passes, cost.lanes)
        return self._with_slot(
            "passphrase", root, lambda salt: derive_key_encryption_key(passphrase, salt=salt, cost=cost), kdf
        )

    def with_changed_passphrase(self, root: RootKey, old: Passphrase, new: Passphrase, *, cost: KdfCost) -> Self:
        """The same vault with `new` in the place of `old`. Raises WrongPassphrase if `old` opens no passphrase slot."""
        found = next((slot for slot in self.keyslots if slot.kind == "passphrase" and self.opens(slot, old)), None)
        if found is None:
            raise WrongPassphrase(
                "the old passphrase does not open any keyslot of this vault; nothing was changed", hint="try again"
            )
        return self._keeping(lambda slot: slot.id != found.id).with_passphrase(root, new, cost=cost)

    def with_slot_removed(self, root: RootKey, slot_id: str) -> tuple[Self, Keyslot]:
        """The same vault without one keyslot, and that slot.

        Raises NotFound, or InvalidInput where neither passphrase nor recovery phrase would be left: a keyring is lost
        with its machine.
        """
        removed = next((slot for slot in self.keyslots if slot.id == slot_id), None)
        if removed is None:
            raise NotFound("no keyslot has this id; nothing was changed", hint="`aico keys list` shows the ids")
        left = self._keeping(lambda slot: slot.id != slot_id)
        if not any(slot.kind != "keyring" for slot in left.keyslots):
            raise InvalidInput(
                "this is the last passphrase or recovery phrase of the vault; nothing was changed",
                hint="add another one first, or change it",
            )
        return left._sealed(root), removed

    def with_recovery_phrase(self, root: RootKey, phrase: Passphrase | None = None) -> tuple[Self, Passphrase]:
        """The same vault with a recovery phrase, new unless one is given, and the phrase: show it once.

        An older phrase stops working.
        """
        chosen = phrase or new_phrase()
        fresh = self._keeping(lambda slot: slot.kind != "recovery")._with_slot(
            "recovery", root, lambda salt: phrase_key(chosen, salt=salt)
        )
        return fresh, chosen

    def with_keyring(self, root: RootKey) -> Self:
        """The same vault, unlocked by this machine's keyring. Raises KeyringUnavailable.

        The secret is stored beside that of an older slot: until the new file is written, the old one still opens.
        """
        secret = KeyEncryptionKey.random()
        fresh = self._keeping(lambda slot: slot.kind != "keyring")._with_slot(
            "keyring", root, lambda salt: _keyring_key(secret, salt)
        )
        keyring.store_secret(fresh.keyring_entries()[0], secret)
        return fresh

    def keyring_entries(self) -> list[str]:
        """The names under which this machine's keyring may hold the secrets of keyring slots."""
        return [self.keyring_entry(slot) for slot in self.keyslots if slot.kind == "keyring"]

    def keyring_entry(self, slot: Keyslot) -> str:
        """The name under which a keyring holds the secret of a keyring slot."""
        return f"{self.vault_id}/{slot.id}"

    def kinds(self) -> list[SlotKind]:
        """The kinds of keyslot there are, in the order they were made."""
        return [slot.kind for slot in self.keyslots]

    def unlock(self, secret: Passphrase) -> Unlocked:
        """Open with a passphrase or a recovery phrase.

        Takes one key derivation for each passphrase slot it has to try. Raises WrongPassphrase if none opens,
        InvalidInput for a misspelt recovery phrase that is no passphrase either, Tampered if the file asks for
        an insane cost or was changed; nothing is changed in any case.
        """
        misspelt: InvalidInput | None = None
        for slot in sorted(self.keyslots, key=lambda slot: slot.kind != "recovery"):
            try:
                if slot.kind == "passphrase" and slot.argon2id is not None:
                    key = _passphrase_key(slot, slot.argon2id, secret)
                elif slot.kind == "recovery" and looks_like_phrase(secret):
                    key = phrase_key(secret, salt=slot.salt)
                else:
                    continue
            except InvalidInput as exc:
                misspelt = exc
                continue
            if (root := self._open_slot(slot, key)) is not None:
                return self.verified(root)
        raise misspelt or WrongPassphrase(
            "the passphrase does not open any keyslot of this vault; nothing was changed",
            hint="try again, or use your recovery phrase; if you are sure, vault.json may have been changed",
        )

    def unlock_by_keyring(self) -> Unlocked:
        """Open with this machine's keyring. Raises KeyslotMissing or KeyringUnavailable."""
        for slot in self.keyslots:
            if slot.kind != "keyring" or (secret := keyring.find_secret(self.keyring_entry(slot))) is None:
                continue
            if (root := self._open_slot(slot, _keyring_key(secret, slot.salt))) is not None:
                return self.verified(root)
        raise KeyslotMissing(
            "this machine's keyring does not open the vault; nothing was changed", hint="use the passphrase"
        )

    def with_next_root(self, unlocked: Unlocked) -> tuple[Self, RootKey]:
        """The same vault under a new root key, and that key: no keyslot yet, and the old key sealed under the new one.

        What rows are named by and the audit log's chain go on; files that no rotation finds stay readable.
        """
        root = RootKey.random()
        bare = msgspec.structs.replace(self, generation=self.generation + 1, keyslots=())
        files = {**unlocked.older_files, unlocked.generation: unlocked.root.for_purpose(Purpose.FILES)}
        packed = b"".join(number.to_bytes(2, "big") + key.reveal() for number, key in files.items())
        seal = bare._sealer(root, Purpose.VALUES).seal
        return msgspec.structs.replace(
            bare,
            natural_key=seal(unlocked.natural.reveal(), bound_to=bare._place_of("natural key")),
            chain_key=seal(unlocked.chain.reveal(), bound_to=bare._place_of("chain key")),
            older_file_keys=seal(packed, bound_to=bare._place_of("older file keys")),
            previous=seal(unlocked.root.reveal(), bound_to=bare._place_of("previous root key")),
        ), root

    def without_previous(self, root: RootKey) -> Self:
        """The same vault once nothing is sealed under the generation before."""
        return msgspec.structs.replace(self, previous=b"")._sealed(root)

    def with_natural_key(self, root: RootKey, natural: NaturalKey) -> Self:
        """The document with another key of natural ids: for a vault that holds nothing named by the old one."""
        sealed = self._sealer(root, Purpose.VALUES).seal(natural.reveal(), bound_to=self._place_of("natural key"))
        return msgspec.structs.replace(self, natural_key=sealed)._sealed(root)

    def _with_slot(
        self,
        kind: SlotKind,
        root: RootKey,
        key_for: Callable[[bytes], KeyEncryptionKey],
        argon2id: Argon2Cost | None = None,
    ) -> Self:
        if len(self.keyslots) >= SLOTS_MAX:
            raise InvalidInput(
                f"a vault has at most {SLOTS_MAX} keyslots; nothing was changed", hint="remove one first"
            )
        bare = Keyslot(secrets.token_hex(8), kind, self.generation, secrets.token_bytes(SALT_BYTES), b"", argon2id)
        wrapped = _wrapper(key_for(bare.salt), self.generation).seal(root.reveal(), bound_to=self._place(bare))
        grown = (*self.keyslots, msgspec.structs.replace(bare, wrapped=wrapped))
        return msgspec.structs.replace(self, keyslots=grown)._sealed(root)

    def _keeping(self, stays: Callable[[Keyslot], bool]) -> Self:
        kept = tuple(slot for slot in self.keyslots if stays(slot))
        return msgspec.structs.replace(self, keyslots=kept)

    def opens(self, slot: Keyslot, secret: Passphrase) -> bool:
        """Whether a passphrase or recovery phrase opens this slot. A passphrase costs one key derivation.

        Raises InvalidInput for a misspelt recovery phrase, Tampered for an insane cost.
        """
        if slot.kind == "passphrase" and slot.argon2id is not None:
            return self._open_slot(slot, _passphrase_key(slot, slot.argon2id, secret)) is not None
        if slot.kind == "recovery" and looks_like_phrase(secret):
            return self._open_slot(slot, phrase_key(secret, salt=slot.salt)) is not None
        return False

    def _open_slot(self, slot: Keyslot, key: KeyEncryptionKey) -> RootKey | None:
        try:
            return RootKey(_wrapper(key, slot.generation).open(slot.wrapped, bound_to=self._place(slot)))
        except (Tampered, FormatTooNew):
            return None

    def _place(self, slot: Keyslot) -> Place:
        cost = msgspec.json.encode(slot.argon2id)
        return ("keyslot", self.format, self.vault_id, slot.id, slot.kind, slot.generation, slot.salt, cost)

    def _place_of(self, what: str) -> Place:
        return (what, self.vault_id)

    def _sealed(self, root: RootKey) -> Self:
        bare = msgspec.structs.replace(self, seal=b"")
        seal = self._sealer(root, Purpose.VAULT_FILE).seal(b"", bound_to=("vault.json", msgspec.json.encode(bare)))
        return msgspec.structs.replace(self, seal=seal)

    def _sealer(self, root: RootKey, purpose: Purpose) -> Sealer:
        return Sealer({self.generation: root.for_purpose(purpose)})

    def verified(self, root: RootKey) -> Unlocked:
        """The keys below `root`, once the document's seal has shown that nobody else changed it. Raises Tampered."""
        bare = msgspec.structs.replace(self, seal=b"")
        values = self._sealer(root, Purpose.VALUES)

        def opened(sealed: bytes, what: str) -> bytes:
            return values.open(sealed, bound_to=self._place_of(what)) if sealed else b""

        try:
            self._sealer(root, Purpose.VAULT_FILE).open(self.seal, bound_to=("vault.json", msgspec.json.encode(bare)))
            natural = NaturalKey(values.open(self.natural_key, bound_to=self._place_of("natural key")))
            chain, previous = opened(self.chain_key, "chain key"), opened(self.previous, "previous root key")
            packed = opened(self.older_file_keys, "older file keys")
        except (Tampered, FormatTooNew):
            raise Tampered(
                "vault.json was changed by something other than aico; the vault was not opened",
                hint="restore vault.json from a backup",
            ) from None
        return Unlocked(
            self.generation,
            root,
            natural,
            ChainKey(chain) if chain else root.for_audit_log(),
            RootKey(previous) if previous else None,
            _unpacked(packed),
        )


class _JustFormat(msgspec.Struct):
    format: int


def _read_regular_file(path: Path) -> bytes:
    """At most one byte more than a vault file may have. A folder or a pipe in its place neither crashes nor hangs us."""
    try:
        return read_plain_file(path, LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no vault in {path.parent}", hint="`aico init` makes one") from None
    except NotAPlainFile:
        raise _damaged(path) from None
    except OSError as exc:
        raise storage_error(exc, path, "the vault was not opened") from exc


def _wrapper(key: KeyEncryptionKey, generation: int) -> Sealer:
    return Sealer({generation: ValueKey(key.reveal())})


def _unpacked(packed: bytes) -> dict[int, ValueKey]:
    """Keys by generation: 2 bytes and a key, for each."""
    step = 2 + KEY_BYTES
    parts = [packed[start : start + step] for start in range(0, len(packed), step)]
    return {int.from_bytes(part[:2], "big"): ValueKey(part[2:]) for part in parts}


def _keyring_key(secret: KeyEncryptionKey, salt: bytes) -> KeyEncryptionKey:
    return KeyEncryptionKey(secret.derive(b"aico 1 keyring slot", salt=salt))


def _passphrase_key(slot: Keyslot, cost: Argon2Cost, passphrase: Passphrase) -> KeyEncryptionKey:
    asked = KdfCost(memory_kib=cost.memory_kib, passes=cost.passes, lanes=cost.lanes)
    try:
        return derive_key_encryption_key(passphrase, salt=slot.salt, cost=asked)
    except InvalidInput as exc:
        raise Tampered(f"a keyslot in vault.json is not sane: {exc}", hint="restore vault.json from a backup") from exc


def _damaged(path: Path) -> Tampered:
    return Tampered(
        f"{path} is damaged: it is not what aico writes; the vault was not opened and nothing was changed",
        hint="restore it from a backup; without it the data cannot be opened",
    )
