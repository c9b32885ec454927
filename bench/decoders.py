"""Everything that reads bytes from outside, each as a function of bytes: for `bench fuzz` and for the tests.

A decoder gives an answer or raises one of its own errors; anything else has escaped. What is sealed is read twice: as it
lies on the disk, where the seal is the first to refuse, and, under `inside`, sealed by us around whatever comes, so that
what lies behind the seal is reached too.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from aico.ai.memory import hot_pages, working
from aico.ai.memory.index.recall_index import RecallIndex
from aico.ai.memory.index.snapshot import Head, analysis_digest, read_head
from aico.analytics.snapshots import Snapshots
from aico.analytics.tables import TABLES
from aico.anchor import _InFile
from aico.backup import file as backup
from aico.data.duckdb.column_store import ColumnStore
from aico.data.libsql.sealed.page_cipher import DatabaseKeys, NotSealed, PageCipher
from aico.data.libsql.sealed.page_copies import PageCopy
from aico.data.libsql.sealed.page_map import PageMap, PageTampered
from aico.errors import AicoError
from aico.portability.jsonl import _records
from aico.security import handover, session_unlock
from aico.security.envelope import Place, Sealer
from aico.security.kdf import check_cost
from aico.security.keys import DatabaseKey, Passphrase, ValueKey
from aico.security.keyslots import VaultFile
from aico.security.stream import SealedReader, open_stream, seal_stream
from aico.settings import KdfCost

Decode = Callable[[bytes], object]
KEY, PLACE = ValueKey(bytes(range(32))), ("facts", b"\x01", 7)
KEYS = {1: KEY}
SALT = bytes([0x8C, *range(15)])
PAGE = 4096
CHEAP = KdfCost(memory_kib=8, passes=1, lanes=1)


@dataclass(frozen=True)
class Decoder:
    """What reads `share` of all inputs. `seeds` are right ones; `refuses` are the errors that it may raise."""

    make: Callable[[Path], tuple[Sequence[bytes], Decode]]
    share: float
    refuses: tuple[type[BaseException], ...] = (AicoError,)


def _vault_json(folder: Path) -> tuple[Sequence[bytes], Decode]:
    secret, path = Passphrase("passphrase"), folder / "vault.json"
    made, unlocked = VaultFile.new(secret, cost=CHEAP)
    two = made.with_recovery_phrase(unlocked.root)[0]

    def decode(raw: bytes) -> object:
        found = VaultFile.parse(raw, path)
        costs = [
            KdfCost(memory_kib=one.memory_kib, passes=one.passes, lanes=one.lanes)
            for slot in found.keyslots
            if (one := slot.argon2id)
        ]
        if any(_is_dear(cost) for cost in costs):
            return found  # allowed, and no input is worth a second of this
        return found.unlock(secret)

    return [msgspec.json.encode(made), msgspec.json.encode(two)], decode


def _is_dear(cost: KdfCost) -> bool:
    """Whether a derivation is allowed and would take long; one that is not allowed is left to be refused."""
    try:
        check_cost(cost)
    except AicoError:
        return False
    return cost.memory_kib * cost.passes > 64


def _sealed_value(folder: Path) -> tuple[Sequence[bytes], Decode]:
    sealer = Sealer(KEYS)
    return [sealer.seal(b"Lisbon", bound_to=PLACE)], lambda raw: sealer.open(raw, bound_to=PLACE)


def _stream(folder: Path) -> tuple[Sequence[bytes], Decode]:
    def decode(raw: bytes) -> object:
        try:
            return [*open_stream(io.BytesIO(raw), keys=KEYS, bound_to=PLACE)]
        finally:
            with SealedReader(io.BytesIO(raw), keys=KEYS, bound_to=PLACE) as reader:
                reader.seek(len(raw) % 100)
                reader.read(1000)

    return [sealed_stream(b"Lisbon"), sealed_stream(bytes(70_000))[: 1 << 16]], decode


def sealed_stream(plain: bytes, place: Any = PLACE) -> bytes:
    """A whole stream around these bytes."""
    target = io.BytesIO()
    seal_stream(io.BytesIO(plain), target, keys=KEYS, bound_to=place)
    return target.getvalue()


def _page(folder: Path) -> tuple[Sequence[bytes], Decode]:
    """The first byte says which page of a database the others are put in the place of."""
    database, keys = folder / "aico.db", DatabaseKeys({1: DatabaseKey(bytes(32))})
    with PageCopy(database, keys, create_with_page_size=PAGE) as copy:
        for number in (1, 2, 3):
            copy.write(number, bytes([number]) * (PAGE - 32))
        copy.finish(3)
    pages = [database.read_bytes()[start : start + PAGE] for start in range(0, 3 * PAGE, PAGE)]

    def decode(raw: bytes) -> object:
        number = raw[0] % 3 if raw else 0
        content = [*pages]
        content[number] = raw[1:]
        database.write_bytes(b"".join(content))
        with PageCopy(database, keys) as copy:
            return [copy.read(n) for n in range(1, copy.page_count + 1)]

    return [bytes([number]) + page for number, page in enumerate(pages)], decode


def _cipher(folder: Path) -> tuple[Sequence[bytes], Decode]:
    cipher = PageCipher(DatabaseKeys({1: DatabaseKey(bytes(32))}), SALT)
    sealed, plain = memoryview(bytearray(PAGE)), memoryview(bytearray(PAGE - 32))
    cipher.seal_into(bytes(PAGE - 32), b"place", sealed)

    def decode(raw: bytes) -> object:
        whole = memoryview(raw[:PAGE].ljust(PAGE, b"\0"))
        return cipher.open_into(whole, b"place", plain)

    return [bytes(sealed)], decode


def _log(folder: Path) -> tuple[Sequence[bytes], Decode]:
    """The whole log of a database that was killed; the first two bytes say where the others are put into it."""
    from tests.data.libsql.cases import count_if_right, sealed

    files = _killed_database(folder)
    log = files["aico.db-wal"]

    def decode(raw: bytes) -> object:
        at, part = int.from_bytes(raw[:2], "big") * 16 % len(log), raw[2:]
        _put(folder, files | {"aico.db-wal": log[:at] + part + log[at + len(part) :]})
        with sealed(folder / "aico.db", create=False) as connection:
            return count_if_right(connection)

    return [(at // 16).to_bytes(2, "big") + log[at : at + 64] for at in (0, 16, 32, 4128)], decode


def _killed_database(folder: Path) -> dict[str, bytes]:
    from tests.children import started
    from tests.data.libsql.cases import files_of, killed_while_open, make

    make(folder / "aico.db", 10)
    with started(killed_while_open, str(folder / "aico.db"), 10, 14) as child:
        child.process.communicate()
    return {name: content for name, content in files_of(folder).items() if not name.endswith("-shm")}


def _put(folder: Path, files: dict[str, bytes]) -> None:
    (folder / "aico.db-shm").unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _page_map(folder: Path) -> tuple[Sequence[bytes], Decode]:
    made = _map(folder)
    path = folder / "aico.db-map"
    whole = path.read_bytes()

    def decode(raw: bytes) -> object:
        path.write_bytes(raw)
        fresh = PageMap(str(folder / "aico.db"), made._keys, SALT)
        fresh.refresh()
        return fresh.is_newest(0, bytes(12))

    return [whole, whole[: made._first_end], whole[:10]], decode


def _map(folder: Path) -> PageMap:
    made = PageMap(str(folder / "aico.db"), DatabaseKeys({1: DatabaseKey(bytes(32))}), SALT)
    made.create()
    made.begin_run(bytes(8))
    made.add_pages({0: bytes(12), 2: b"b" * 12}, 3)
    made.set_whole(3)
    return made


def _page_map_inside(folder: Path) -> tuple[Sequence[bytes], Decode]:
    """Each input is the content of one more record of the map. The page numbers in it are made small: whoever has the keys
    may name any page, and memory for the nonces of all before it is taken then."""
    made = _map(folder)
    path, end = folder / "aico.db-map", made._end
    whole = path.read_bytes()

    def decode(raw: bytes) -> object:
        record = bytearray(raw)
        for at in range(5 if raw[:1] == b"\3" else 1, len(record), 16) if raw[:1] in (b"\3", b"\4") else ():
            record[at : at + 2] = bytes(2)
        path.write_bytes(whole + made._record(bytes(record), end.tag))
        fresh = PageMap(str(folder / "aico.db"), made._keys, SALT)
        fresh.refresh()
        return fresh.is_newest(0, bytes(12))

    return [made._state(9), b"\1" + bytes(8), b"\2", b"\3" + bytes(20), b"\4\0\0\0\1"], decode


def _hot_tier_value(folder: Path) -> tuple[Sequence[bytes], Decode]:
    sealer, place = Sealer(KEYS), ("hot tier", "session_memory", b"key")
    turns = [["1" * 16, "user", "Mia", "Hello", 1, 60, None, 3]]
    seeds = [
        [True, False, "c1", turns],
        [7, b"k" * 16, 5],
        [[7, b"k" * 16, 5], [b"i" * 16], b"{}"],
        ["s", '{"mood": "glad"}'],
    ]

    def decode(raw: bytes) -> object:
        value = sealer.open(sealer.seal(raw, bound_to=place), bound_to=place)
        mark = working._mark_of(_Holding(value))  # type: ignore[arg-type]
        return hot_pages.read_page(value), working._kept_context(value), working._state(value), mark

    return [msgspec.msgpack.encode(seed) for seed in seeds], decode


class _Holding:
    """Stands for a transaction that finds one value under every key."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self, place: Place, sequence: int = 0) -> bytes:
        return bytes(24)

    def get(self, table: str, key: bytes) -> bytes:
        return self._value


def _recall_index(folder: Path) -> tuple[Sequence[bytes], Decode]:
    return [sealed_stream(_snapshot())], lambda raw: _read_index(io.BytesIO(raw))


def _recall_index_inside(folder: Path) -> tuple[Sequence[bytes], Decode]:
    return [_snapshot()], lambda raw: _read_index(io.BytesIO(sealed_stream(raw)))


def _snapshot() -> bytes:
    target = io.BytesIO()
    index = RecallIndex(episode_gap_s=10_800)
    index.freeze().write(target, lambda arrays: Head(1, analysis_digest(), 10_800_000_000, "", 1, b"k", 1, arrays))
    return target.getvalue()


def _read_index(raw: io.BytesIO) -> object:
    with SealedReader(raw, keys=KEYS, bound_to=PLACE) as source:
        return RecallIndex.of_snapshot(source, read_head(source))


def _columns(folder: Path) -> tuple[Sequence[bytes], Decode]:
    snapshots, user = Snapshots(folder, lambda: KEYS), b"u" * 16
    path = snapshots._path(user)

    def decode(raw: bytes) -> object:
        path.write_bytes(raw)
        return snapshots.read(user)

    return [sealed_stream(_columns_plain(), ("columns", 1, user))], decode


def _columns_plain() -> bytes:
    head = json.dumps({"positions": {"messages": 1}, "zone": None, "sizes": {"messages": 4}}).encode()
    return len(head).to_bytes(4, "big") + head + b"rows"


def _columns_inside(folder: Path) -> tuple[Sequence[bytes], Decode]:
    """The head and, behind it, one table's stream, as the view takes them over."""
    snapshots, user = Snapshots(folder, lambda: KEYS), b"u" * 16
    path, store = snapshots._path(user), ColumnStore(TABLES.values(), memory_mib=64)
    rows = store.as_stream("messages")
    head = json.dumps({"positions": {"messages": 1}, "zone": None, "sizes": {"messages": len(rows)}}).encode()

    def decode(raw: bytes) -> object:
        path.write_bytes(sealed_stream(raw, ("columns", 1, user)))
        kept = snapshots.read(user)
        if kept is not None:
            for name, table in kept[1].items():
                store.take_stream(name, table)
        return kept

    return [_columns_plain(), len(head).to_bytes(4, "big") + head + rows], decode


def _backup(folder: Path) -> tuple[Sequence[bytes], Decode]:
    path, key = folder / "one.aicobackup", bytes(32)
    head = backup.Head("id", "vault", None, 0, 1, PAGE, 1, 1, key)
    page = bytes(PAGE - 32)
    backup.write_backup(
        path, vault_json=b"{}", head=head, digests=[head.digest(page)], pages=iter([(1, page)]), keys=KEYS
    )
    seed = path.read_bytes()
    return [seed], lambda raw: _read_backup(path, raw)


def _read_backup(path: Path, raw: bytes) -> object:
    path.write_bytes(raw)
    return [number for number, _ in backup.read_backup(path, KEYS).pages()]


def _backup_inside(folder: Path) -> tuple[Sequence[bytes], Decode]:
    """What the backup's stream holds: head, digests and pages."""
    path, vault_json = folder / "one.aicobackup", b"{}"
    start = backup.MAGIC + bytes([backup.VERSION]) + len(vault_json).to_bytes(4, "big") + vault_json
    head = backup.Head("id", "vault", None, 0, 1, PAGE, 1, 1, bytes(32))
    encoded, page = msgspec.json.encode(head), bytes(PAGE - 32)
    seed = len(encoded).to_bytes(4, "big") + encoded + head.digest(page) + bytes([0, 0, 0, 1]) + page
    return [seed], lambda raw: _read_backup(path, start + sealed_stream(raw, backup._place(vault_json)))


def _json_lines(folder: Path) -> tuple[Sequence[bytes], Decode]:
    line = b'{"text": "I moved.", "conversation": "c1", "at": "2026-05-08T19:30:00+02:00", "role": "user"}\n'
    more = b'{"text": "\\u00e9", "conversation": "c", "at": "2026-05-08T19:30:00Z", "speaker": "M", "source_id": "t", "x": 1}\n'
    return [line, line + more, b"\xef\xbb\xbf" + more], lambda raw: [*_records(io.BytesIO(raw), Counter(), None)]


def _session(folder: Path) -> tuple[Sequence[bytes], Decode]:
    path = folder / "session"
    seed = {"generation": 1, "at_us": 1, "boot": "b", "uptime_us": 1, "ttl_s": 60, "salt": "AAAA", "wrapped": "AAAA"}

    def decode(raw: bytes) -> object:
        path.write_bytes(raw)
        return session_unlock.left_s(folder)

    return [json.dumps(seed).encode()], decode


def _handover(folder: Path) -> tuple[Sequence[bytes], Decode]:
    path = folder / "0123456789abcdef.next"
    step = {"after": 1, "ephemeral": "AAAA", "sealed": "AAAA"}

    def decode(raw: bytes) -> object:
        path.write_bytes(raw)
        return handover._read_next(path)

    return [json.dumps({"announced": "AAAA", "steps": [step]}).encode()], decode


def _anchor(folder: Path) -> tuple[Sequence[bytes], Decode]:
    path = folder / "anchor.json"

    def decode(raw: bytes) -> object:
        path.write_bytes(raw)
        return _InFile(path, folder / "vault").find("a")

    return [b'{"a": 1}'], decode


PAGES = (AicoError, apsw.CorruptError)
DECODERS = {
    "vault.json": Decoder(_vault_json, 0.15),
    "sealed value": Decoder(_sealed_value, 0.12),
    "stream": Decoder(_stream, 0.12),
    "page cipher": Decoder(_cipher, 0.12, (NotSealed,)),
    "page": Decoder(_page, 0.04, PAGES),
    "log": Decoder(_log, 0.01, PAGES),
    "page map": Decoder(_page_map, 0.08, (PageTampered,)),
    "page map, inside": Decoder(_page_map_inside, 0.06, (PageTampered,)),
    "hot tier's value, inside": Decoder(_hot_tier_value, 0.06),
    "recall index": Decoder(_recall_index, 0.02),
    "recall index, inside": Decoder(_recall_index_inside, 0.02),
    "columns": Decoder(_columns, 0.02),
    "columns, inside": Decoder(_columns_inside, 0.01, (AicoError, KeyError)),
    "backup": Decoder(_backup, 0.03),
    "backup, inside": Decoder(_backup_inside, 0.02),
    "JSON Lines": Decoder(_json_lines, 0.08),
    "session": Decoder(_session, 0.02),
    "handover": Decoder(_handover, 0.01),
    "anchor": Decoder(_anchor, 0.01, (AicoError, ValueError)),
}
"""Every one that there is. `CommitAnchor` takes any error of the anchor's file for a file that cannot be used; the
view takes a KeyError of its columns for a table of another release."""
