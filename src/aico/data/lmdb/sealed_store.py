"""Named databases of sealed values that expire, under keys that tell nothing."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
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
FOR_EVER_S = 1e11
_LAST = b"\xff" * SEQUENCE_BYTES

T = TypeVar("T")


class SealedTransaction:
    """What one transaction sees. Expired values, and those that do not open, are not there."""

    def __init__(self, transaction: lmdb.Transaction, tables: Tables, sealer: Sealer, now_us: int) -> None:
        self._transaction, self._tables, self._sealer, self._now_us = transaction, tables, sealer, now_us

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, None if there is none."""
        found = self._transaction.get(key, db=self._tables[table])
        return None if found is None else self._open(table, key, bytes(found))

    def put(self, table: str, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep `value` for `ttl_s` seconds, in the place of what was there."""
        expires = (max(0, self._now_us) + int(min(max(ttl_s, 0), FOR_EVER_S) * 1_000_000)).to_bytes(EXPIRY_BYTES, "big")
        sealed = self._sealer.seal(expires + value, bound_to=("hot tier", table, key))
        self._transaction.put(key, sealed, db=self._tables[table])

    def delete(self, table: str, key: bytes) -> None:
        """Remove what is there, if anything."""
        self._transaction.delete(key, db=self._tables[table])

    def newest_first(self, table: str, prefix: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Sequence number and value of all keys that begin with `prefix`, the highest number first."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            there = cursor.prev() if cursor.set_range(prefix + _LAST) else cursor.last()
            while there and (key := bytes(cursor.key()))[:PREFIX_BYTES] == prefix:
                yield int.from_bytes(key[PREFIX_BYTES:], "big"), self._open(table, key, bytes(cursor.value()))
                there = cursor.prev()

    def values(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value, in the order of the keys."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            for key, sealed in cursor:
                value = self._open(table, bytes(key), bytes(sealed))
                if value is not None:
                    yield bytes(key), value

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
            plain = self._sealer.open(sealed, bound_to=("hot tier", table, key))
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
        self._environment = hold(folder, self._sealer, tables=tables, size_limit_bytes=size_limit_bytes)

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
        self._names = keys[self._generation].derive(b"names")
        return keys

    def key(self, place: Place, sequence: int = 0) -> bytes:
        """24 bytes that stand for a place: the keyed BLAKE2b-128 of its name, then a sequence number."""
        return self.prefix(place) + sequence.to_bytes(SEQUENCE_BYTES, "big")

    def prefix(self, place: Place) -> bytes:
        """The first 16 bytes of the keys of a place."""
        return hashlib.blake2b(canonical(place), digest_size=PREFIX_BYTES, key=self._names).digest()

    def read(self, work: Callable[[SealedTransaction], T]) -> T:
        """What `work` returns, from one snapshot. Raises StorageError."""
        self._check_usable()
        now_us, sealer = self._clock.now_us(), self._sealer
        return self._environment.read(lambda txn, tables: work(SealedTransaction(txn, tables, sealer, now_us)))

    def write(self, work: Callable[[SealedTransaction], T]) -> T:
        """What `work` returns, committed; it may run again, also on an emptied store. Raises DiskFull, StorageError."""
        self._check_usable()
        now_us, sealer = self._clock.now_us(), self._sealer
        return self._environment.write(lambda txn, tables: work(SealedTransaction(txn, tables, sealer, now_us)))

    def sweep(self) -> None:
        """Delete what has expired among the next few values of each table; the next call goes on from there."""

        def work(found: SealedTransaction) -> dict[str, bytes]:
            return {table: found.sweep(table, self._swept[table]) for table in self._tables}

        self._swept = self.write(work)

    def clear(self) -> None:
        """Delete the file itself, in every process, with every freed page of it. Raises StorageError."""
        self._check_usable()
        self._environment.clear()

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


def _too_new() -> StorageError:
    return StorageError("the hot tier has newer keys than this process; the truth answers instead")
