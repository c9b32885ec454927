"""From a passphrase to a key: Argon2id, with its cost kept inside sane bounds."""

import unicodedata

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from aico.errors import InvalidInput
from aico.security.keys import KeyEncryptionKey, Passphrase
from aico.settings import KdfCost

SALT_BYTES = 16
# A changed vault.json must not make opening it take all memory or forever: what lies outside is refused
# before any memory is taken. The upper ends leave room for four times today's default.
MEMORY_KIB = range(8, 1024 * 1024 + 1)
PASSES = range(1, 17)
LANES = range(1, 17)


def derive_key_encryption_key(passphrase: Passphrase, *, salt: bytes, cost: KdfCost) -> KeyEncryptionKey:
    """Turn a passphrase into the key that wraps the root key.

    Takes about half a second and `cost.memory_kib` of memory by design (Argon2id, RFC 9106 section 4).
    The same inputs always give the same key; a passphrase is compared in Unicode's NFC, so that
    keyboards which compose letters differently type the same one.

    Raises InvalidInput if `salt` is not 16 bytes or the cost is out of bounds; no memory is taken then.
    """
    return KeyEncryptionKey(_derived(passphrase, salt=salt, cost=cost))


def derive_verifier(secret: Passphrase, *, salt: bytes, cost: KdfCost) -> bytes:
    """32 bytes by which a PIN is recognised and from which it can only be guessed; they open nothing.

    The same derivation as for a passphrase, and raises as that does; HKDF-SHA256 (RFC 5869) with a name of its own
    behind it keeps the two apart.
    """
    return KeyEncryptionKey(_derived(secret, salt=salt, cost=cost)).derive(b"aico 1 PIN verifier")


def _derived(secret: Passphrase, *, salt: bytes, cost: KdfCost) -> bytes:
    check_cost(cost)
    if len(salt) != SALT_BYTES:
        raise InvalidInput(f"the salt of a passphrase or PIN has {SALT_BYTES} bytes, not {len(salt)}")
    argon2 = Argon2id(salt=salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib)
    return argon2.derive(unicodedata.normalize("NFC", secret.reveal()).encode())


def check_cost(cost: KdfCost) -> None:
    """Refuse a cost that would take too much memory or time, or that Argon2id does not allow (RFC 9106 section 3.1)."""
    sane = cost.memory_kib in MEMORY_KIB and cost.passes in PASSES and cost.lanes in LANES
    if not sane or cost.memory_kib < 8 * cost.lanes:
        raise InvalidInput(
            f"the key derivation cost is out of bounds: {cost.memory_kib} KiB, {cost.passes} passes, {cost.lanes} lanes; "
            "nothing was derived",
            hint=f"memory {MEMORY_KIB.start} to {MEMORY_KIB[-1]} KiB and at least 8 a lane, passes 1 to 16, lanes 1 to 16",
        )
