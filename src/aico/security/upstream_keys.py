"""The key of an upstream AICO installation's database, from its master password or its master key.

Upstream keeps the master key and the password's salt in the operating system's keyring; the database's own salt lies
beside the database. Both derivations are upstream's, to the parameter: they are only ever used to read.
"""

import hashlib
import re

from aico.errors import KeyringUnavailable, KeyslotMissing
from aico.security.keyring import find_note
from aico.security.keys import Passphrase
from aico.settings import KdfCost

KEYRING_SERVICE, SALT_ENTRY = "AICO", "salt"
PASSWORD_COST = KdfCost(memory_kib=1024 * 1024, passes=3, lanes=4)
"""What upstream's defaults spend on a password: 1 GiB of memory and some seconds."""
PBKDF2_ROUNDS = 100_000
CONTEXT = b"aico-db-libsql"


def upstream_database_key(secret: Passphrase, *, database_salt: bytes, cost: KdfCost = PASSWORD_COST) -> bytes:
    """The 32 bytes of a database's key. 64 hexadecimal digits are the master key itself, all else is the password.

    Raises KeyslotMissing for a password whose salt this machine's keyring does not have.
    """
    digits = secret.reveal().strip()
    known = re.fullmatch(r"[0-9a-fA-F]{64}", digits)
    master = bytes.fromhex(digits) if known else _of_password(secret, cost)
    return hashlib.pbkdf2_hmac("sha256", master + CONTEXT, database_salt, PBKDF2_ROUNDS)


def _of_password(secret: Passphrase, cost: KdfCost) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    argon2 = Argon2id(
        salt=_password_salt(), length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return argon2.derive(secret.reveal().encode())


def _password_salt() -> bytes:
    try:
        salt = bytes.fromhex(find_note(SALT_ENTRY, service=KEYRING_SERVICE) or "")
    except (KeyringUnavailable, ValueError):
        salt = b""
    if not salt:
        raise KeyslotMissing(
            "the old installation's password opens nothing without its salt, which this machine's keyring does not have; "
            "nothing was imported",
            hint="import on the machine where it ran, or give its master key: the entry master_key of AICO in its keyring",
        )
    return salt
