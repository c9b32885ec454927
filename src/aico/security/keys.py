"""Keys as types that refuse to be shown, and the tree that hangs from one root key.

passphrase · recovery phrase · keyring secret ─▶ KeyEncryptionKey ─▶ RootKey ─ HKDF ─▶ one key per purpose
"""

import secrets
from enum import StrEnum
from typing import Never, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aico.errors import InvalidInput

KEY_BYTES = 32


class Purpose(StrEnum):
    """What a key below the root is for. Each value is the HKDF info string: two purposes never share a key."""

    PAGES = "aico 1 database pages"
    VALUES = "aico 1 sealed values"
    FILES = "aico 1 sealed files"
    SNAPSHOTS = "aico 1 view snapshots"
    BACKUPS = "aico 1 backups"
    HOT_TIER = "aico 1 hot tier"
    CHROMA = "aico 1 chroma"
    VAULT_FILE = "aico 1 vault.json"
    AUDIT_LOG = "aico 1 audit log"
    HANDOVER = "aico 1 handover"


class _Hidden:
    """Keeps a secret out of reprs, logs, tracebacks, pickles and comparisons that leak time."""

    __slots__ = ("_secret",)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> Never:
        raise TypeError(f"a {type(self).__name__} does not leave the process")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and secrets.compare_digest(self._secret, other._secret)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        raise TypeError(f"a {type(self).__name__} cannot be hashed")


class Passphrase(_Hidden):
    """What a person typed. Raises InvalidInput when it is empty or not text that can be encoded."""

    _secret: str

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidInput(f"a passphrase is text, not {type(text).__name__}; nothing was changed")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(
                "the passphrase holds half of a character (a lone surrogate); nothing was changed"
            ) from None
        if not text:
            raise InvalidInput("the passphrase is empty; nothing was changed", hint="type at least one character")
        self._secret = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Passphrase) and secrets.compare_digest(self._secret.encode(), other._secret.encode())

    __hash__ = _Hidden.__hash__

    def reveal(self) -> str:
        """The text itself, for key derivation only."""
        return self._secret


class _Key(_Hidden):
    """32 secret bytes."""

    __slots__ = ()
    _secret: bytes

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            raise InvalidInput(f"a key is {KEY_BYTES} bytes; nothing was stretched or cut to fit")
        self._secret = secret

    @classmethod
    def random(cls) -> Self:
        """A new key from the operating system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def reveal(self) -> bytes:
        """The bytes themselves, for a cipher or derivation only."""
        return self._secret

    def derive(self, info: bytes, *, salt: bytes = b"") -> bytes:
        """32 bytes below this key by HKDF-SHA256 (RFC 5869), bound to `info` and `salt`."""
        return HKDF(SHA256(), KEY_BYTES, salt or None, info).derive(self._secret)


class KeyEncryptionKey(_Key):
    """Wraps the root key in one keyslot and does nothing else."""


class DatabaseKey(_Key):
    """The key above all page keys of one database, in one key generation."""


class ValueKey(_Key):
    """Seals values or streams of one purpose."""


class ChainKey(_Key):
    """Seals each entry of the audit log to the one before it."""


class NaturalKey(_Key):
    """Names rows: the key of the keyed BLAKE2b that turns a caller's name into a row's id."""


class RootKey(_Key):
    """The one key of a vault; everything at rest hangs from it. It is stored only wrapped."""

    def for_pages(self) -> DatabaseKey:
        """The key of `aico.db`."""
        return DatabaseKey(self.derive(Purpose.PAGES.encode()))

    def for_audit_log(self) -> ChainKey:
        """The key of the audit log's chain. Whoever has the page keys alone cannot continue it."""
        return ChainKey(self.derive(Purpose.AUDIT_LOG.encode()))

    def for_purpose(self, purpose: Purpose) -> ValueKey:
        """The key that seals everything of one purpose."""
        return ValueKey(self.derive(purpose.encode()))
