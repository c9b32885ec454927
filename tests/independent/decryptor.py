"""Opens a vault with nothing of ours: only the words of `docs/format.md`, and a library for the ciphers.

Imports nothing from `aico` on purpose, so it proves that the description says everything.
"""

import base64
import hashlib
import json
import sqlite3
import struct
import unicodedata
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def open_vault(folder: Path, secret: str) -> sqlite3.Connection:
    """The whole database of the vault, in memory and in the clear, from a passphrase or the 24 words.

    Closed cleanly, the database file holds every page; after a crash, the newest lie in the log.
    """
    vault = json.loads((folder / "vault.json").read_bytes())
    root = root_key(vault, secret)
    check_seal(vault, root)
    database_key = hkdf(root, b"aico 1 database pages")
    content = (folder / "data" / "aico.db").read_bytes()
    image = bytearray(decrypted_database(content, database_key, vault["generation"]))
    if content[0] & 0x80:
        check_against_map(content, page_map((folder / "data" / "aico.db-map").read_bytes(), database_key, content[:16]))
    if (folder / "data" / "aico.db-wal").exists():
        apply_log(image, log_frames(folder, secret))
    image[18:20] = b"\x01\x01"  # from WAL to rollback journal: an image in memory has no log
    connection = sqlite3.connect(":memory:")
    connection.deserialize(image)
    return connection


def natural_key(folder: Path, secret: str) -> bytes:
    """The key that names rows, sealed beside the keyslots."""
    vault = json.loads((folder / "vault.json").read_bytes())
    values = hkdf(root_key(vault, secret), b"aico 1 sealed values")
    return opened(values, unbase64(vault["natural_key"]), "natural key", vault["vault_id"])


def older_keys(folder: Path, secret: str) -> tuple[bytes, dict[int, bytes], bytes | None]:
    """After a rotation: the key of the audit log's chain, the older keys of files, the older root key while there is one."""
    vault = json.loads((folder / "vault.json").read_bytes())
    values = hkdf(root_key(vault, secret), b"aico 1 sealed values")
    chain = opened(values, unbase64(vault["chain_key"]), "chain key", vault["vault_id"])
    files = opened(values, unbase64(vault["older_file_keys"]), "older file keys", vault["vault_id"])
    before = vault.get("previous")
    previous = opened(values, unbase64(before), "previous root key", vault["vault_id"]) if before else None
    by_generation = {
        int.from_bytes(files[at : at + 2], "big"): files[at + 2 : at + 34] for at in range(0, len(files), 34)
    }
    return chain, by_generation, previous


def handed_over(secret_half: bytes, step: dict, before: bytes, vault_id: str, name: str) -> bytes:
    """The root key after `before`, from one step of a handover and the private half of the process it is for."""
    private, ephemeral = X25519PrivateKey.from_private_bytes(secret_half), unbase64(step["ephemeral"])
    exchanged = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    salt = hkdf(before, b"aico 1 handover exchange")
    key = hkdf(exchanged, b"aico 1 handover" + ephemeral + private.public_key().public_bytes_raw(), salt)
    return opened(key, unbase64(step["sealed"]), "open", vault_id, name, "next", step["after"])


def session_root_key(session: dict, secret: bytes, vault_id: str) -> bytes:
    """The root key of a session of `aico unlock`, by the keyring's secret."""
    key = hkdf(secret, b"aico 1 session unlock", unbase64(session["salt"]))
    bound = [session[name] for name in ("generation", "at_us", "boot", "uptime_us", "ttl_s")]
    return opened(key, unbase64(session["wrapped"]), "session", vault_id, *bound)


def root_key(vault: dict, secret: str) -> bytes:
    """Unwrapped from the first keyslot that the secret opens."""
    for slot in vault["keyslots"]:
        salt, cost = unbase64(slot["salt"]), slot["argon2id"]
        if slot["kind"] == "passphrase":
            wrapping = Argon2id(
                salt=salt, length=32, iterations=cost["passes"], lanes=cost["lanes"], memory_cost=cost["memory_kib"]
            ).derive(unicodedata.normalize("NFC", secret).encode())
        elif slot["kind"] == "recovery" and len(secret.split()) == 24:
            wrapping = hkdf(entropy_of(secret), b"aico 1 recovery slot", salt)
        else:
            continue
        cost_text = json.dumps(cost, separators=(",", ":")).encode()
        place = (
            "keyslot",
            vault["format"],
            vault["vault_id"],
            slot["id"],
            slot["kind"],
            slot["generation"],
            salt,
            cost_text,
        )
        try:
            return opened(wrapping, unbase64(slot["wrapped"]), *place)
        except Exception:  # not this slot's secret
            continue
    raise ValueError("the secret opens no keyslot")


def check_seal(vault: dict, root: bytes) -> None:
    """The whole document, with an empty seal, is what the seal was made over."""
    bare = json.dumps({**vault, "seal": ""}, separators=(",", ":")).encode()
    assert opened(hkdf(root, b"aico 1 vault.json"), unbase64(vault["seal"]), "vault.json", bare) == b""


def opened(key: bytes, sealed: bytes, *place: str | bytes | int) -> bytes:
    """A sealed value: version 1, generation 2, nonce 12, ciphertext, tag 16; bound to its place."""
    version, generation = struct.unpack(">BH", sealed[:3])
    assert version == 1
    assert generation >= 1
    return AESGCM(key).decrypt(sealed[3:15], sealed[15:], sealed[:3] + encoded(*place))


def encoded(*place: str | bytes | int) -> bytes:
    """A canonical place: each part as its kind, its length and its data."""
    kinds = {str: (b"s", str.encode), bytes: (b"b", bytes), int: (b"i", lambda number: str(number).encode())}
    parts = ((kinds[type(part)][0], kinds[type(part)][1](part)) for part in place)
    return b"".join(kind + struct.pack(">I", len(data)) + data for kind, data in parts)


def decrypted_database(content: bytes, database_key: bytes, generation: int) -> bytes:
    """A plain SQLite file: every page opened, its 32 reserved bytes zero, the salt replaced by SQLite's magic."""
    salt = content[:16]
    page_size, pages = page_size_of(salt), []
    assert len(content) % page_size == 0
    for number in range(len(content) // page_size):
        page = content[number * page_size : (number + 1) * page_size]
        start = 0 if number else 16
        sealed, nonce, session = page[start:-16], page[-16:-4], page[-4:]
        assert session[0] == generation & 0xFF
        key = hkdf(database_key, b"aico 1 page key" + session, salt)
        plain = AESGCM(key).decrypt(nonce, sealed, b"aico page 1" + struct.pack(">Q", number) + salt)
        pages.append((b"" if number else b"SQLite format 3\0") + plain + bytes(32))
    image = b"".join(pages)
    assert image[20] == 32  # reserved bytes of each page, in SQLite's own header
    return image


def page_size_of(salt: bytes) -> int:
    """The first byte: whether there is a page map, and the logarithm of the page size."""
    return 1 << (salt[0] & 0x7F)


def page_map(content: bytes, database_key: bytes, salt: bytes) -> dict:
    """The state that the map's records add up to."""
    assert content[:9] == b"AICOpmap\x01"
    wraps = [content[10 + 61 * number : 71 + 61 * number] for number in range(content[9])]
    generation, nonce, wrapped = wraps[-1][:1], wraps[-1][1:13], wraps[-1][13:]
    cipher = AESGCM(hkdf(database_key, b"aico 1 page map" + generation, salt))
    records = AESGCM(cipher.decrypt(nonce, wrapped, b"aico map 1" + salt + generation))
    at, before, state = 10 + 61 * len(wraps), bytes(16), {}
    while at + 4 <= len(content) and (size := struct.unpack_from(">I", content, at)[0]):
        sealed = content[at + 16 : at + 16 + size]
        try:
            plain = records.decrypt(content[at + 4 : at + 16], sealed, b"aico map 1" + salt + before)
        except Exception:  # torn by a crash
            break
        add_record(state, plain)
        at, before = at + 16 + size, sealed[-16:]
    return state


def add_record(state: dict, plain: bytes) -> None:
    """What one record says, added to what was said before."""
    kind, rest = plain[0], plain[1:]
    if kind == 0:
        counter, whole, begun, frames, count = struct.unpack_from(">Q??II", rest)
        runs = [rest[18 + 8 * number : 26 + 8 * number] for number in range(count)]
        nonces = rest[18 + 8 * count :]
        pages = {number: nonces[12 * number : 12 * number + 12] for number in range(len(nonces) // 12)}
        state.update(counter=counter, whole=whole, begun=begun, frames=frames, runs=runs, nonces=pages)
        return
    state["counter"] += 1
    if kind == 1:
        state.update(runs=[*state["runs"], rest], frames=0, begun=False)
    elif kind == 2:
        state.update(begun=True)
    elif kind == 3:
        state.update(whole=False, frames=max(state["frames"], struct.unpack_from(">I", rest)[0]))
        for at in range(4, len(rest), 16):
            state["nonces"][struct.unpack_from(">I", rest, at)[0]] = rest[at + 4 : at + 16]
    else:
        (count,) = struct.unpack(">I", rest)
        state.update(whole=True, begun=False, runs=state["runs"][-1:])
        state["nonces"] = {number: nonce for number, nonce in state["nonces"].items() if number < count}


def check_against_map(content: bytes, state: dict) -> None:
    """Each page carries the nonce that the map names: none is an older copy. For a file whose log holds nothing newer."""
    size = page_size_of(content[:16])
    for number in range(len(content) // size):
        assert content[(number + 1) * size - 16 : (number + 1) * size - 4] == state["nonces"][number]


def apply_log(image: bytearray, frames: list[tuple[bytes, bytes]]) -> None:
    """Put the pages of every whole transaction in the log over those of the file, as SQLite reads them."""
    last_commit = max(place for place, (header, _) in enumerate(frames) if header[4:8] != bytes(4))
    for header, page in frames[: last_commit + 1]:
        number, size = struct.unpack_from(">I", header)[0], len(page) + 32
        image.extend(bytes(max(0, number * size - len(image))))
        image[(number - 1) * size : number * size] = page + bytes(32)


def log_frames(folder: Path, secret: str) -> list[tuple[bytes, bytes]]:
    """The frames of the write-ahead log that a crash left: SQLite's header and the page's bytes, in order."""
    root = root_key(json.loads((folder / "vault.json").read_bytes()), secret)
    database_key = hkdf(root, b"aico 1 database pages")
    salt = (folder / "data" / "aico.db").read_bytes()[:16]
    log = (folder / "data" / "aico.db-wal").read_bytes()
    frame_size, frames = 24 + page_size_of(salt), []
    for offset in range(32, len(log), frame_size):
        frame = log[offset : offset + frame_size]
        key = hkdf(database_key, b"aico 1 page key" + frame[-4:], salt)
        bound = b"aico wal 1" + struct.pack(">Q", offset) + salt
        plain = AESGCM(key).decrypt(frame[-16:-4], frame[:-16], bound)
        assert plain[8:16] == log[16:24]  # the salts of this run of the log
        frames.append((plain[:24], plain[24:]))
    return frames


def full_backup(content: bytes, secret: str) -> tuple[dict, sqlite3.Connection]:
    """The head of a backup that builds on no other, and its database."""
    assert content[:9] == b"AICObkup\x01"
    size = int.from_bytes(content[9:13], "big")
    vault_json, stream = content[13 : 13 + size], content[13 + size :]
    key = hkdf(root_key(json.loads(vault_json), secret), b"aico 1 backups")
    plain = opened_stream(key, stream, encoded("backup", 1, hashlib.sha256(vault_json).digest()))
    head_size = int.from_bytes(plain[:4], "big")
    head, rest = json.loads(plain[4 : 4 + head_size]), plain[4 + head_size :]
    digests, pages = rest[: 16 * head["page_count"]], rest[16 * head["page_count"] :]
    step, image = 4 + head["page_size"] - 32, b""
    for place, start in enumerate(range(0, len(pages), step)):
        page = pages[start + 4 : start + step]
        assert int.from_bytes(pages[start : start + 4], "big") == place + 1
        digest = hashlib.blake2b(page, digest_size=16, key=unbase64(head["digest_key"])).digest()
        assert digest == digests[16 * place : 16 * place + 16]
        image += page + bytes(32)
    connection = sqlite3.connect(":memory:")
    connection.deserialize(image[:18] + b"\x01\x01" + image[20:])  # no write-ahead log in memory
    return head, connection


def hot_tier(folder: Path, secret: str) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every value of the hot tier of a vault that was closed cleanly: by database, key and content in MessagePack."""
    import lmdb  # only its file format

    key = hkdf(root_key(json.loads((folder / "vault.json").read_bytes()), secret), b"aico 1 hot tier")
    place = folder / "data" / "lmdb"
    digest = hashlib.sha256((place / "data.mdb").read_bytes()).digest()
    assert opened(key, (place / "seal").read_bytes(), "hot tier", "closed", digest) == b""
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    with lmdb.open(str(place), max_dbs=2, readonly=True, lock=False) as environment:
        for name in ("session_memory", "session_state"):
            database = environment.open_db(name.encode(), create=False)
            with environment.begin(db=database) as transaction:
                values = [(k, opened(key, sealed, "hot tier", name, k)) for k, sealed in transaction.cursor()]
            found[name] = [(k, plain[8:]) for k, plain in values]
    return found


def hot_tier_prefix(folder: Path, secret: str, *place: str | bytes | int) -> bytes:
    """The first 16 bytes of the keys of a place."""
    key = hkdf(root_key(json.loads((folder / "vault.json").read_bytes()), secret), b"aico 1 hot tier")
    return hashlib.blake2b(encoded(*place), digest_size=16, key=hkdf(key, b"names")).digest()


def snapshot(folder: Path, secret: str, user_id: bytes, stream: bytes) -> bytes:
    """The snapshot of a person's recall index, in the clear."""
    vault = json.loads((folder / "vault.json").read_bytes())
    key = hkdf(root_key(vault, secret), b"aico 1 view snapshots")
    return opened_stream(key, stream, encoded("view snapshot", "recall index", vault["vault_id"], user_id))


def columns(folder: Path, secret: str, user_id: bytes, stream: bytes) -> bytes:
    """The kept columns of a person: a head, then Arrow streams one after the other."""
    vault = json.loads((folder / "vault.json").read_bytes())
    key = hkdf(root_key(vault, secret), b"aico 1 view snapshots")
    return opened_stream(key, stream, encoded("columns", 2, user_id))


def opened_stream(key: bytes, stream: bytes, encoded_place: bytes) -> bytes:
    """A sealed stream: header of 11 bytes, salt of 32, then chunks under a counter with a flag on the last."""
    header, salt, body = stream[:11], stream[11:43], stream[43:]
    assert header[:9] == b"AICOstrm\x01"
    cipher = AESGCM(hkdf(key, b"aico 1 stream" + header + encoded_place, salt))
    chunks = [body[start : start + 65_552] for start in range(0, len(body), 65_552)]
    return b"".join(
        cipher.decrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    )


def hkdf(key: bytes, info: bytes, salt: bytes | None = None) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869)."""
    return HKDF(SHA256(), 32, salt, info).derive(key)


def entropy_of(words: str) -> bytes:
    """The 256 bits of a BIP-39 phrase: 24 numbers of 11 bits, the last 8 bits a checksum."""
    import mnemonic  # only its list of words

    listed = (Path(mnemonic.__file__).parent / "wordlist" / "english.txt").read_text().split()
    bits = 0
    for word in words.lower().split():
        bits = bits << 11 | listed.index(word)
    entropy = (bits >> 8).to_bytes(32, "big")
    assert bits & 0xFF == hashlib.sha256(entropy).digest()[0]
    return entropy


def unbase64(text: str) -> bytes:
    """Bytes as they lie in JSON."""
    return base64.b64decode(text, validate=True)
