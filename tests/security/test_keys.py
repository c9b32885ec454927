"""Keys refuse to leave the process: no repr, pickle, copy, hash or traceback ever shows one."""

import copy
import logging
import pickle
import traceback

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aico.errors import InvalidInput
from aico.security.envelope import Sealer
from aico.security.kdf import derive_key_encryption_key
from aico.security.keys import DatabaseKey, KeyEncryptionKey, NaturalKey, Passphrase, Purpose, RootKey, ValueKey
from aico.settings import KdfCost

SECRET = b"canary-of-thirty-two-bytes-long!"
KINDS = [RootKey, ValueKey, DatabaseKey, KeyEncryptionKey, NaturalKey]
HIDDEN = [*(kind(SECRET) for kind in KINDS), Passphrase("canary passphrase")]
hidden = pytest.mark.parametrize("secret", HIDDEN, ids=lambda secret: type(secret).__name__)


def shows_nothing(text: str) -> None:
    assert "canary" not in text
    assert SECRET.hex() not in text


@hidden
def test_no_way_of_printing_shows_a_secret(secret, caplog):
    logging.getLogger("test").warning("%s %r", secret, [secret])
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr({"k": secret}),
        ascii(secret),
        caplog.text,
    ):
        shows_nothing(text)


@hidden
def test_no_way_of_copying_works(secret):
    for attempt in (
        *(lambda protocol=protocol: pickle.dumps(secret, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        lambda: copy.copy(secret),
        lambda: copy.deepcopy(secret),
        lambda: hash(secret),
        lambda: {secret},
    ):
        with pytest.raises(TypeError) as refused:
            attempt()
        shows_nothing(str(refused.value))
    shows_nothing(repr(getattr(secret, "__dict__", {})))


@hidden
def test_a_traceback_does_not_show_a_secret(secret):
    def fails(key):
        raise RuntimeError(f"while working with {key}")

    try:
        fails(secret)
    except RuntimeError as exc:
        shows_nothing("".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format()))


def test_a_passphrase_with_half_a_character_is_refused_without_being_shown():
    typed = SECRET.decode() + "\ud800"
    with pytest.raises(InvalidInput) as refused:
        Passphrase(typed)
    shows_nothing("".join(traceback.format_exception(refused.value)))
    shows_nothing(str(refused.value.hint))


def test_an_empty_passphrase_is_refused():
    with pytest.raises(InvalidInput):
        Passphrase("")


@pytest.mark.parametrize("text", [None, b"bytes", 5])
def test_a_passphrase_that_is_no_text_is_refused(text):
    with pytest.raises(InvalidInput):
        Passphrase(text)


@pytest.mark.parametrize("secret", [b"", b"short", bytes(31), bytes(33), "x" * 32, bytearray(32), None, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_another_length_or_type_is_refused(kind, secret):
    with pytest.raises(InvalidInput):
        kind(secret)


def test_keys_are_equal_only_within_their_type():
    assert RootKey(SECRET) == RootKey(SECRET)
    assert RootKey(SECRET) != RootKey(bytes(32))
    assert RootKey(SECRET) != ValueKey(SECRET)
    assert RootKey(SECRET) != SECRET
    assert Passphrase("ä") == Passphrase("ä")
    assert Passphrase("ä") != Passphrase("a")


def test_no_two_purposes_share_a_key():
    root = RootKey(SECRET)
    derived = [root.for_purpose(purpose).reveal() for purpose in Purpose]
    assert len({SECRET, *derived}) == len(Purpose) + 1
    assert root.for_pages().reveal() == root.for_purpose(Purpose.PAGES).reveal()


def test_random_keys_differ():
    assert RootKey.random() != RootKey.random()


# Standards: our use gives the published values.


def test_derivation_is_hkdf_sha256_of_rfc_5869():
    # Test case 1: our keys are always 32 bytes, so the published 22-byte input goes through the same primitive …
    vector = HKDF(SHA256(), 42, bytes(range(13)), bytes(range(0xF0, 0xFA))).derive(b"\x0b" * 22)
    assert vector.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    # … and `derive` is HMAC by hand, as section 2 writes it, with and without a salt.
    import hashlib
    import hmac

    for salt in (b"", b"salt", bytes(64)):
        extracted = hmac.digest(salt or bytes(32), SECRET, hashlib.sha256)
        expected = hmac.digest(extracted, b"info" + b"\x01", hashlib.sha256)
        assert RootKey(SECRET).derive(b"info", salt=salt) == expected


def test_the_passphrase_derivation_is_argon2id_of_rfc_9106():
    # Section 5.3, with the secret and associated data that a passphrase slot leaves out.
    vector = Argon2id(
        salt=b"\x02" * 16, length=32, iterations=3, lanes=4, memory_cost=32, secret=b"\x03" * 8, ad=b"\x04" * 12
    ).derive(b"\x01" * 32)
    assert vector.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    derived = derive_key_encryption_key(
        Passphrase("\x01" * 32), salt=b"\x02" * 16, cost=KdfCost(memory_kib=32, passes=3, lanes=4)
    )
    # Checked against the reference implementation (argon2-cffi's low level, same inputs).
    assert derived.reveal().hex() == "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e"


def test_a_sealed_value_is_plain_aes_256_gcm():
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = Sealer({1: ValueKey(SECRET)}).seal(b"a memory", bound_to=("a", 1))
    place = b"s\0\0\0\x01a" + b"i\0\0\0\x011"
    assert AESGCM(SECRET).decrypt(sealed[3:15], sealed[15:], sealed[:3] + place) == b"a memory"
