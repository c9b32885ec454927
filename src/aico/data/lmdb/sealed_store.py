"""Named databases of sealed values that expire, under keys that tell nothing."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TypeVar

import lmdb

from aico.clock import Clock
from aico.data.lmdb.environment import Tables, hold, release
from aico.errors import IntegrityError, StorageError, UnlockError
from aico.security.envelope import Place, Sealer, canonical
from aico.security.keys import ValueKey

PREFIX_BYTES, SEQUENCE_BYTES, EXPIRY_BYTES = 16, 8, 8
SWEEP_AT_ONCE = 64
RECENCY = "recency"
"""Where it is noted when each place was last used: time in microseconds, under the place's prefix."""
NOTED_EVERY_US = 60_000_000
"""A use is noted so often at most, and with a write that happens anyway: reading stays reading."""
FULL_SHARE, EMPTIED_SHARE = 0.7, 0.5
"""Of the size limit: above the first the places unused for longest go, down to the second. LMDB needs room to delete."""
LOOKED_AT_SHARE = 0.02
"""How much is put, as a share of the limit, between two looks at how much is in use."""
_PLACES_NOTED_MAX = 10_000
_NAMES_KEPT = 4096
FOR_EVER_S = 1e11
_LAST = b"\xff" * SEQUENCE_BYTES

T = TypeVar("T")
Names = Callable[[Place], bytes]


class SealedTransaction:
    """What one transaction sees. Expired values, and those that do not open, are not there.

    Its names are those of one generation of keys throughout: what is put under them together is found together.
    """

    __slots__ = ("_now_us", "_sealer", "_tables", "_transaction", "prefix", "put_bytes", "used")

    def __init__(
        self, transaction: lmdb.Transaction, tables: Tables, sealer: Sealer, names: "Names", now_us: int
    ) -> None:
        self._transaction, self._tables, self._sealer, self._now_us = transaction, tables, sealer, now_us
        self.prefix = names
        """The first 16 bytes of the keys of a place."""
        self.put_bytes = 0
        self.used: set[bytes] = set()
        """The prefixes of the places that something was put into."""

    def key(self, place: Place, sequence: int = 0) -> bytes:
        """24 bytes that stand for a place: its prefix, then a sequence number."""
        return self.prefix(place) + sequence.to_bytes(SEQUENCE_BYTES, "big")

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none."""
        found = self._transaction.get(key, db=self._tables[table])
        return None if found is None else self._open(table, key, bytes(found))

    def put(self, table: str, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep `value` for `ttl_s` seconds, in the place of what was there."""
        expires = (max(0, self._now_us) + int(min(max(ttl_s, 0), FOR_EVER_S) * 1_000_000)).to_bytes(EXPIRY_BYTES, "big")
        sealed = self._sealer.seal(expires + value, bound_to=_bound_to(table, key))
        self._transaction.put(key, sealed, db=self._tables[table])
        self.put_bytes += len(sealed)
        if len(key) > PREFIX_BYTES:
            self.used.add(key[:PREFIX_BYTES])

    def delete(self, table: str, key: bytes) -> None:
        """Remove what is there, if anything."""
        self._transaction.delete(key, db=self._tables[table])

    def empty(self, table: str) -> None:
        """Remove everything in a table. Its pages stay in the file until they are used again."""
        self._transaction.drop(self._tables[table], delete=False)

    def newest_first(self, table: str, prefix: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Sequence number and value of all keys that begin with `prefix`, the highest number first."""
        cursor = self._transaction.cursor(db=self._tables[table])
        end = prefix + _LAST
        there = cursor.set_key(end) or (cursor.prev() if cursor.set_range(end) else cursor.last())
        while there:
            key = bytes(cursor.key())
            if not key.startswith(prefix):
                return
            yield int.from_bytes(key[PREFIX_BYTES:], "big"), self._open(table, key, bytes(cursor.value()))
            there = cursor.prev()

    def values(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value, in the order of the keys."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            for key, sealed in cursor:
                value = self._open(table, bytes(key), bytes(sealed))
                if value is not None:
                    yield bytes(key), value

    def size(self, table: str) -> tuple[int, int]:
        """How many values a table has, expired ones too, and the bytes of the pages they lie in. Costs a microsecond."""
        found = self._transaction.stat(self._tables[table])
        pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return found["entries"], pages * found["psize"]

    @property
    def live_bytes(self) -> int:
        """The bytes of all pages in use."""
        return sum(self.size(table)[1] for table in self._tables)

    def note_uses(self, prefixes: Iterable[bytes]) -> None:
        """Keep it that these places were used now."""
        time = max(0, self._now_us).to_bytes(EXPIRY_BYTES, "big")
        for prefix in prefixes:
            self.put(RECENCY, prefix, time, ttl_s=FOR_EVER_S)

    def evict(self, down_to_bytes: int) -> None:
        """Delete whole places, those unused for longest first, until no more is in use. Not what was just put."""
        times = {prefix: int.from_bytes(time, "big") for prefix, time in self.values(RECENCY)}
        places: dict[bytes, list[tuple[str, bytes]]] = {prefix: [] for prefix in times}
        for table in self._tables:
            with self._transaction.cursor(db=self._tables[table]) as cursor:
                for key in cursor.iternext(values=False):
                    if table == RECENCY or len(key) > PREFIX_BYTES:
                        places.setdefault(bytes(key[:PREFIX_BYTES]), []).append((table, bytes(key)))
        for prefix in sorted(places.keys() - self.used, key=lambda prefix: times.get(prefix, 0)):
            if self.live_bytes <= down_to_bytes:
                return
            for table, key in places[prefix]:
                self.delete(table, key)

    def sweep(self, table: str, after: bytes) -> bytes:
        """Delete what has expired among the next few keys; returns the last one looked at, empty at the end."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            there = cursor.set_range(after) if after else cursor.first()
            for _ in range(SWEEP_AT_ONCE):
                if not there:
                    return b""
                if self._open(table, bytes(cursor.key()), bytes(cursor.value())) is None:
                    there = cursor.delete() and bool(cursor.key())  # moves on to the next
                else:
                    there = cursor.next()
            return bytes(cursor.key()) if there else b""

    def _open(self, table: str, key: bytes, sealed: bytes) -> bytes | None:
        try:
            plain = self._sealer.open(sealed, bound_to=_bound_to(table, key))
        except IntegrityError:
            return None
        return plain[EXPIRY_BYTES:] if int.from_bytes(plain[:EXPIRY_BYTES], "big") > self._now_us else None


class SealedStore:
    """A cache on the disk that all processes share. Any thread may use it; in a forked child it raises StorageError.

    Work runs inside one transaction and must not call the store. Losing everything at any moment is its right.
    """

    def __init__(
        self,
        folder: Path,
        keys: Callable[[], Mapping[int, ValueKey]],
        *,
        newest: Callable[[], int],
        tables: tuple[str, ...],
        clock: Clock,
        size_limit_bytes: int,
    ) -> None:
        """`keys` gives the keys as they are now, and `newest` the number of the newest, at hardly any cost."""
        self._keys, self._newest, self._clock, self._tables = keys, newest, clock, tables
        self._sealer = Sealer(self._taken_in(), look_again=self._taken_in)
        self._process, self._closed = os.getpid(), False
        self._swept = dict.fromkeys(tables, b"")
        self._touched: set[bytes] = set()  # read since it was last noted
        self._noted: set[bytes] = set()  # noted since the time below
        self._noted_since_us = 0
        self._limit_bytes, self._look_after_bytes = size_limit_bytes, int(size_limit_bytes * LOOKED_AT_SHARE)
        self._put_bytes = size_limit_bytes  # so that the first write looks
        self._environment = hold(folder, self._sealer, tables=(*tables, RECENCY), size_limit_bytes=size_limit_bytes)

    def begin_anew(self) -> None:
        """Go on under the newest keys, with an empty file: nothing is left that older keys open. Raises StorageError."""
        self._check_usable()
        self.clear()
        self.read(lambda _: None)  # so that nobody who has not heard of the keys makes the next file

    def _taken_in(self) -> Mapping[int, ValueKey]:
        """The keys as they are now; names are made with the newest from here on."""
        try:
            keys = self._keys()
        except UnlockError as exc:
            raise _too_new() from exc
        self._generation = max(keys)
        self._names = _names(keys[self._generation].derive(b"names"))
        return keys

    def read(self, work: Callable[[SealedTransaction], T]) -> T:
        """What `work` returns, from one snapshot. Raises StorageError."""
        self._check_usable()
        sealer, names, now_us = self._sealer, self._names, self._clock.now_us()
        return self._environment.read(lambda txn, tables: work(SealedTransaction(txn, tables, sealer, names, now_us)))

    def touch(self, prefix: bytes) -> None:
        """Say that a place was read, so that it is not among the first to go when room is needed. Costs nothing yet."""
        if len(self._touched) < _PLACES_NOTED_MAX:
            self._touched.add(prefix)

    def write(self, work: Callable[[SealedTransaction], T]) -> T:
        """What `work` returns, committed; it may run again, also on an emptied store. Raises DiskFull, StorageError.

        Where the store is nearly full, the places unused for longest make room.
        """
        self._check_usable()
        names, now_us, touched = self._names, self._clock.now_us(), frozenset(self._touched)
        if not 0 <= now_us - self._noted_since_us < NOTED_EVERY_US or len(self._noted) > _PLACES_NOTED_MAX:
            self._noted.clear()
            self._noted_since_us = now_us

        def whole(transaction: lmdb.Transaction, tables: Tables) -> tuple[T, set[bytes]]:
            found = SealedTransaction(transaction, tables, self._sealer, names, now_us)
            value = work(found)
            due = (found.used | touched) - self._noted
            if due:
                found.note_uses(due)
            self._put_bytes += found.put_bytes
            if self._put_bytes > self._look_after_bytes:
                self._put_bytes = 0
                if found.live_bytes > self._limit_bytes * FULL_SHARE:
                    found.evict(int(self._limit_bytes * EMPTIED_SHARE))
            return value, due

        value, noted = self._environment.write(whole)
        if noted:
            self._noted |= noted
        if touched:
            self._touched -= touched
        return value

    def sweep(self, *, everything: bool = False) -> None:
        """Delete what has expired among the next few values of each table; the next call goes on from there.

        With `everything` it goes on until all were looked at, in steps between which others write.
        """

        for table in self._tables:
            after = b"" if everything else self._swept[table]
            after = self.write(partial(SealedTransaction.sweep, table=table, after=after))
            while everything and after:
                after = self.write(partial(SealedTransaction.sweep, table=table, after=after))
            self._swept[table] = after

    def clear(self) -> None:
        """Delete the file itself, in every process, with every freed page of it. Raises StorageError."""
        self._check_usable()
        self._noted.clear()
        self._environment.clear()

    @property
    def file_bytes(self) -> int:
        """How long the file is on the disk; 0 where there is none."""
        return self._environment.file_bytes

    @property
    def limit_bytes(self) -> int:
        """How long it may become."""
        return self._limit_bytes

    @property
    def trouble(self) -> str:
        """Why nothing is kept at the moment, empty while all is well."""
        return self._environment.trouble

    def close(self) -> None:
        """Give it back. May be called twice."""
        if not self._closed:
            self._closed = True
            release(self._environment)

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise StorageError(
                "this process was forked after the hot tier was opened; nothing was done",
                hint="open the vault in the child, after the fork",
            )
        if self._closed:
            raise StorageError("the hot tier was closed; nothing was done", hint="open the vault again")
        try:
            outdated = self._newest() != self._generation
        except UnlockError as exc:
            raise _too_new() from exc
        if outdated:
            self._sealer.use(self._taken_in())


def _names(key: bytes) -> Names:
    """The keyed BLAKE2b-128 of a place; those asked for last are kept."""

    @lru_cache(_NAMES_KEPT)
    def name(place: Place) -> bytes:
        return hashlib.blake2b(canonical(place), digest_size=PREFIX_BYTES, key=key).digest()

    return name


def _bound_to(table: str, key: bytes) -> bytes:
    """`canonical` of "hot tier", table and key, of which all but the key is the same again and again."""
    return _table_place(table, len(key)) + key


@cache
def _table_place(table: str, key_bytes: int) -> bytes:
    return canonical(("hot tier", table, bytes(key_bytes)))[: -key_bytes or None]


def _too_new() -> StorageError:
    return StorageError("the hot tier has newer keys than this process; the truth answers instead")
