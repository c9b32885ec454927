"""The test vectors in docs/format.md: made here from the words of the page, opened by the library, printed in the page.

python -m tests.vectors.test_vectors        prints the table anew
"""

import hashlib
import io
import re
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from aico.data.libsql.sealed.page_cipher import DatabaseKeys, PageCipher
from aico.data.libsql.sealed.page_map import PageMap
from aico.security.envelope import Sealer, canonical
from aico.security.kdf import derive_key_encryption_key
from aico.security.keys import DatabaseKey, Passphrase, Purpose, RootKey, ValueKey
from aico.security.phrase import phrase_key
from aico.security.stream import open_stream
from aico.settings import KdfCost
from tests.independent.decryptor import encoded, hkdf, page_map

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"
ROOT, SALT, NONCE = bytes(range(32)), bytes(range(16)), bytes(range(0x40, 0x4C))
PASSPHRASE, COST = "correct horse", KdfCost(memory_kib=64, passes=2, lanes=1)
PHRASE = "abandon " * 23 + "art"
DATABASE_SALT, SESSION = bytes([0x8C]) + bytes(range(1, 16)), bytes([1, 2, 3, 4])
MAP_KEY, RUN = bytes(range(0x60, 0x80)), bytes.fromhex("a1a2a3a4b1b2b3b4")
PLACE, FILE_PLACE = ("facts", b"\x01\x02", 7), ("file", "diary")


def made() -> dict[str, bytes]:
    """Every vector by name, computed with the ciphers alone."""
    keys = {purpose.name: hkdf(ROOT, purpose.value.encode()) for purpose in Purpose}
    page_key = hkdf(keys["PAGES"], b"aico 1 page key" + SESSION, DATABASE_SALT)
    header = b"AICOstrm\x01\x00\x01"
    stream_key = hkdf(keys["FILES"], b"aico 1 stream" + header + encoded(*FILE_PLACE), ROOT)
    value_header = bytes([1, 0, 1])
    hot_key = hashlib.blake2b(encoded(b"u", b"c"), digest_size=16, key=hkdf(keys["HOT_TIER"], b"names")).digest()
    hot_place = value_header + encoded("hot tier", "session_memory", hot_key + bytes(7) + b"\x01")
    return {
        "root key": ROOT,
        "passphrase key": Argon2id(salt=SALT, length=32, iterations=2, lanes=1, memory_cost=64).derive(
            PASSPHRASE.encode()
        ),
        "recovery key": hkdf(bytes(32), b"aico 1 recovery slot", SALT),
        "database key": keys["PAGES"],
        "values key": keys["VALUES"],
        "files key": keys["FILES"],
        "hot tier key": keys["HOT_TIER"],
        "place": encoded(*PLACE),
        "sealed value": value_header + NONCE + AESGCM(keys["VALUES"]).encrypt(
            NONCE, b"Lisbon", value_header + encoded(*PLACE)
        ),
        "sealed stream": header + ROOT + AESGCM(stream_key).encrypt(bytes(11) + b"\x01", b"Lisbon", None),
        "page key": page_key,
        "page 2, SHA-256": hashlib.sha256(sealed_page(page_key)).digest(),
        "frame at 32, SHA-256": hashlib.sha256(sealed_frame(page_key)).digest(),
        "page map": sealed_map(keys["PAGES"]),
        "hot tier's key": hot_key + bytes(7) + b"\x01",
        "hot tier's value": value_header + NONCE + AESGCM(keys["HOT_TIER"]).encrypt(
            NONCE, bytes(8) + b"\x93\x01\x02\x03", hot_place
        ),
    }  # fmt: skip


def sealed_page(key: bytes) -> bytes:
    """Page 2, 4,064 bytes of 0x2A."""
    bound_to = b"aico page 1" + (1).to_bytes(8, "big") + DATABASE_SALT
    return AESGCM(key).encrypt(NONCE, b"\x2a" * 4064, bound_to) + NONCE + SESSION


def sealed_frame(key: bytes) -> bytes:
    """The first frame of the log: a header of 24 bytes of 0x18, and the same page."""
    bound_to = b"aico wal 1" + (32).to_bytes(8, "big") + DATABASE_SALT
    return AESGCM(key).encrypt(NONCE, b"\x18" * 24 + b"\x2a" * 4064, bound_to) + NONCE + SESSION


def sealed_map(database_key: bytes) -> bytes:
    """One page, then a run of the log that begins."""
    wrap = AESGCM(hkdf(database_key, b"aico 1 page map\x01", DATABASE_SALT))
    head = b"AICOpmap\x01\x01\x01" + NONCE + wrap.encrypt(NONCE, MAP_KEY, b"aico map 1" + DATABASE_SALT + b"\x01")
    state = b"\x00" + (1).to_bytes(8, "big") + b"\x01\x00" + bytes(8) + NONCE
    first = record(state, bytes(16), NONCE)
    return head + first + record(b"\x01" + RUN, first[-16:], bytes(12))


def record(plain: bytes, before: bytes, nonce: bytes) -> bytes:
    sealed = AESGCM(MAP_KEY).encrypt(nonce, plain, b"aico map 1" + DATABASE_SALT + before)
    return len(sealed).to_bytes(4, "big") + nonce + sealed


def printed() -> dict[str, bytes]:
    """The vectors as the page has them."""
    [block] = re.findall(r"```vectors\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, digits = line.partition(" = ") if " = " in line else (list(found)[-1], "", line)
        found[name.strip()] = found.get(name.strip(), "") + digits.strip()
    return {name: bytes.fromhex(digits) for name, digits in found.items()}


def table() -> str:
    lines = []
    for name, value in made().items():
        digits = value.hex()
        lines += [
            f"{name if not at else '':<20} {' ' if at else '='} {digits[at : at + 96]}".rstrip()
            for at in range(0, len(digits), 96)
        ]
    return "\n".join(lines)


def test_the_page_has_the_vectors_that_follow_from_its_words():
    assert printed() == made()


def test_the_library_derives_and_opens_the_vectors():
    vectors = printed()
    root = RootKey(vectors["root key"])
    derived = derive_key_encryption_key(Passphrase(PASSPHRASE), salt=SALT, cost=COST)
    assert derived.reveal() == vectors["passphrase key"]
    assert phrase_key(Passphrase(PHRASE), salt=SALT).reveal() == vectors["recovery key"]
    assert root.for_pages().reveal() == vectors["database key"]
    for name, purpose in (("values", Purpose.VALUES), ("files", Purpose.FILES), ("hot tier", Purpose.HOT_TIER)):
        assert root.for_purpose(purpose).reveal() == vectors[f"{name} key"]
    assert canonical(PLACE) == vectors["place"]
    values = Sealer({1: ValueKey(vectors["values key"])})
    assert values.open(vectors["sealed value"], bound_to=PLACE) == b"Lisbon"
    stream = io.BytesIO(vectors["sealed stream"])
    keys = {1: ValueKey(vectors["files key"])}
    assert b"".join(open_stream(stream, keys=keys, bound_to=FILE_PLACE)) == b"Lisbon"
    hot = Sealer({1: ValueKey(vectors["hot tier key"])})
    place = ("hot tier", "session_memory", vectors["hot tier's key"])
    assert hot.open(vectors["hot tier's value"], bound_to=place) == bytes(8) + b"\x93\x01\x02\x03"


def test_the_library_opens_the_page_the_frame_and_the_map_of_the_vectors(tmp_path):
    vectors = printed()
    keys = DatabaseKeys({1: DatabaseKey(vectors["database key"])})
    cipher = PageCipher(keys, DATABASE_SALT)
    page, frame = sealed_page(vectors["page key"]), sealed_frame(vectors["page key"])
    assert hashlib.sha256(page).digest() == vectors["page 2, SHA-256"]
    assert hashlib.sha256(frame).digest() == vectors["frame at 32, SHA-256"]
    for sealed, bound_to, plain in (
        (page, b"aico page 1" + (1).to_bytes(8, "big"), b"\x2a" * 4064),
        (frame, b"aico wal 1" + (32).to_bytes(8, "big"), b"\x18" * 24 + b"\x2a" * 4064),
    ):
        opened = memoryview(bytearray(len(plain)))
        cipher.open_into(memoryview(sealed), bound_to, opened)
        assert bytes(opened) == plain
    (tmp_path / "aico.db-map").write_bytes(vectors["page map"])
    read = PageMap(str(tmp_path / "aico.db"), keys, DATABASE_SALT)
    assert read.is_newest(0, NONCE)
    assert (read.whole, read.begun, read.frames, read.runs) == (True, False, 0, [RUN])
    state = page_map(vectors["page map"], vectors["database key"], DATABASE_SALT)
    assert (state["counter"], state["runs"], state["nonces"]) == (2, [RUN], {0: NONCE})


if __name__ == "__main__":
    print(table())
