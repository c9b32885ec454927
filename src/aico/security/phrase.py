"""Recovery phrases: 24 words that carry 256 random bits and a checksum (BIP-39, English list)."""

import secrets
from typing import Any

from aico.errors import InvalidInput
from aico.security.keys import KeyEncryptionKey, Passphrase

WORDS, ENTROPY_BYTES = 24, 32


def new_phrase() -> Passphrase:
    """A new recovery phrase; show it once and keep nothing."""
    return Passphrase(_bip39().to_mnemonic(secrets.token_bytes(ENTROPY_BYTES)))


def looks_like_phrase(secret: Passphrase) -> bool:
    """Whether a typed secret has the shape of a recovery phrase, right or wrong."""
    return len(secret.reveal().split()) == WORDS


def phrase_key(phrase: Passphrase, *, salt: bytes) -> KeyEncryptionKey:
    """The key that wraps the root key in a recovery slot.

    HKDF is enough here: the phrase is 256 random bits, no cost makes guessing them harder.
    Raises InvalidInput when a word is not in the list or the checksum fails, before anything is tried.
    """
    bip39, words = _bip39(), " ".join(phrase.reveal().lower().split())
    if not bip39.check(words):
        raise InvalidInput(
            "this is not a recovery phrase: a word is misspelt or out of order; nothing was changed",
            hint="compare each word with what you wrote down",
        )
    entropy = KeyEncryptionKey(bytes(bip39.to_entropy(words)))
    return KeyEncryptionKey(entropy.derive(b"aico 1 recovery slot", salt=salt))


def _bip39() -> Any:  # the package carries no types
    from mnemonic import Mnemonic

    return Mnemonic("english")
