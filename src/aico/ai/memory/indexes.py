"""The recall indexes of a vault: one for each person asked about, in step with the truth, within a budget of memory.

An index comes from its sealed snapshot, or from the truth where there is none that can be used, and reads on from there.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import BinaryIO

from aico.ai.memory.background import Background
from aico.ai.memory.index import RecallIndex
from aico.ai.memory.index.snapshot import FORMAT as SNAPSHOT_FORMAT
from aico.ai.memory.index.snapshot import Frozen, Head, analysis_digest, read_head, read_ids
from aico.ai.memory.reading import MemoryReader
from aico.ai.memory.snapshots import SnapshotFiles
from aico.data.change_feed import ChangeFeed
from aico.data.libsql import LibSQLConnection
from aico.errors import AicoError, IndexOutOfStep
from aico.security.stream import SealedReader

SNAPSHOT_FROM = 2_000
"""A smaller index is built faster than anybody waits for; it is not kept."""
SNAPSHOT_EVERY, SNAPSHOT_SHARE = 2_000, 20
"""Changes after which a snapshot is written anew: so many, and at least one for every `SNAPSHOT_SHARE` documents."""
SNAPSHOT_REST_S = 60.0
"""How long a snapshot stands at least before it is written anew: it may be a gigabyte."""


@dataclass(slots=True)
class UserIndex:
    """One person's index, and the change it has reached."""

    index: RecallIndex = field(repr=False)
    position: int = 0
    kept: int = 0
    """The change that the snapshot on the disk reflects, as far as this process knows; 0 for none."""
    kept_codes: int = 0
    tried_codes: int = 0
    """Rows that had a code when a snapshot was last begun."""
    kept_at_s: float = float("-inf")
    size_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held by whoever reads on."""

    def begin(self, index: RecallIndex, position: int) -> None:
        """Go on with another index."""
        self.index, self.position, self.kept = index, position, position
        self.kept_codes = self.tried_codes = index.coded_count

    def has_first_codes(self) -> bool:
        """Whether it was coded since a snapshot was last begun, which has no code at all."""
        return not self.tried_codes and not self.kept_codes and self.index.coded_count > 0


class Indexes:
    """Keeps the indexes. Any thread may use it; searches wait only while an index reads on."""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        reader: MemoryReader,
        files: SnapshotFiles,
        model: str | None,
        episode_gap_s: int,
        users_in_memory: int,
        memory_mib: int,
        tell: Callable[[str], object],
    ) -> None:
        self._connection, self._feed, self._reader, self.files = connection, feed, reader, files
        self._model, self._episode_gap_s = model or "", episode_gap_s
        self._users_most, self._size_most_bytes = users_in_memory, memory_mib << 20
        self._users: OrderedDict[bytes, UserIndex] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()  # guards the line above
        self._background = Background(self._work_unasked, name="aico-index")
        self._writing = threading.Lock()
        self._tell, self._untold, self.problems = tell, SimpleQueue[str](), list[str]()
        """The last says what went wrong with snapshots since the vault was opened; nothing of the truth is lost by it."""
        self._process = os.getpid()

    def current(self, user_id: bytes) -> RecallIndex:
        """A person's index, which holds everything committed before the call. Microseconds when nothing changed."""
        with self._lock:
            user = self._users.get(user_id)
            if user is None:
                user = self._users[user_id] = UserIndex(RecallIndex(episode_gap_s=self._episode_gap_s))
            self._users.move_to_end(user_id)
        if user.position != self._feed.newest():
            with user.lock:
                self._read_on(user_id, user)
            self._keep_within_budget()
        return user.index

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Drop forgotten rows from this process's index, and the snapshot that may hold them, now.

        The indexes of other processes follow by the change feed.
        """
        with self._lock:
            user = self._users.get(user_id)
        if user is not None:
            user.index.remove(ids)
            with user.lock:
                self._read_on(user_id, user)  # the turns that followed lost vectors which told of these
        self._forget_snapshot(user_id)

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether the index or its snapshot still has one of these rows."""
        wanted, index = set(ids), self.current(user_id)
        if any(id_ in index for id_ in wanted):
            return True
        try:
            with self.files.opened(user_id) as source:
                return source is not None and not wanted.isdisjoint(read_ids(source, read_head(source)))
        except AicoError:  # what does not open holds nothing for anybody
            return False

    def lag(self) -> int:
        """How many changes the index furthest behind has not read yet; it does before it next answers."""
        newest = self._feed.newest()
        with self._lock:
            return max((newest - user.position for user in self._users.values()), default=0)

    def drop(self) -> None:
        """Let go of every index in memory and every snapshot. Raises StorageError."""
        with self._lock:
            self._users.clear()
        self.files.delete_others(set())

    def catch_up(self) -> None:
        """Bring every index in memory up to the newest change."""
        with self._lock:
            users = list(self._users)
        for user_id in users:
            self.current(user_id)

    def snapshot_positions(self) -> dict[bytes, int]:
        """The change that the snapshot of each person in memory reflects: it needs those after it to read on."""
        with self._lock:
            return {user_id: user.kept for user_id, user in self._users.items() if user.kept}

    def examine(self, user_ids: Iterable[bytes]) -> tuple[int, list[str]]:
        """Open every byte of these people's snapshots: how many there are, and what is wrong with some of them."""
        count, wrong = 0, set(self.problems)
        for user_id in user_ids:
            try:
                with self.files.opened(user_id) as source:
                    if source is not None:
                        count += 1
                        self._check(source)
            except AicoError as exc:
                wrong.add(str(exc))
        return count, sorted(wrong)

    def sweep(self, user_ids: Iterable[bytes]) -> None:
        """Write what is worth keeping of the indexes in memory, and remove what belongs to none of these people."""
        self._look_after_all(lambda: True)
        self.files.delete_others(set(user_ids))

    def close(self) -> None:
        """End the background work. An index that had to be built is written down first, for the next process."""
        self._background.stop()
        if os.getpid() != self._process or self._connection.in_transaction:
            return
        with self._lock:
            users = list(self._users.items())
        for user_id, user in users:
            if (not user.kept or user.has_first_codes()) and self._worth_keeping(user):
                self._try_to_keep(user_id, user)
        self._tell_all()

    # Reading on

    def _read_on(self, user_id: bytes, user: UserIndex) -> None:
        newest = self._feed.newest()
        if user.position == newest:
            return
        if user.position > newest or not self._feed.tells_from(user.position):
            user.position = 0  # the truth was replaced by an older copy of itself, or no longer tells what changed
        if not self._reader.fits(user.index):
            user.position = 0  # the model gives vectors of another length under the same name
        if user.position == 0:
            self._begin(user_id, user)
        if user.position == 0:
            self._reader.read_all(user_id, user.index)
        elif user.position < newest:
            left = self._reader.read_on(user_id, user.index, after=user.position, up_to=newest)
            if not self._feed.tells_from(user.position):  # it was pruned while it was read
                user.begin(RecallIndex(episode_gap_s=self._episode_gap_s), 0)
                self._reader.read_all(user_id, user.index)
            if left and user.kept:
                self._forget_snapshot(user_id)
        user.position, user.size_bytes = newest, user.index.size_bytes()
        if user.index.worth_coding() or self._worth_keeping(user):
            self._background.wake()

    def _begin(self, user_id: bytes, user: UserIndex) -> None:
        """Begin with the snapshot, or with nothing where there is none that can be used."""
        user.begin(RecallIndex(episode_gap_s=self._episode_gap_s), 0)
        try:
            with self.files.opened(user_id) as source:
                if source is not None:
                    head = self._check_head(read_head(source))
                    index = RecallIndex.of_snapshot(source, head)
                    if not self._reader.fits(index):
                        raise IndexOutOfStep("its vectors have another length than the model's")
                    user.begin(index, head.number)
        except AicoError as exc:
            self._note(f"the snapshot of a recall index was refused, the index is built anew from the truth: {exc}")

    def _check_head(self, head: Head) -> Head:
        if head.model != self._model:
            raise IndexOutOfStep("it has the vectors of another model")
        if head.gap_us != self._episode_gap_s * 1_000_000:
            raise IndexOutOfStep("its episodes end after another pause")
        if self._feed.mark_of(head.number) != (head.key, head.at):
            raise IndexOutOfStep(
                "the truth does not tell of the change that it reflects: it was put back, or is long past it"
            )
        return head

    def _check(self, source: SealedReader) -> None:
        self._check_head(read_head(source))
        while source.read(1 << 20):
            pass

    def _keep_within_budget(self) -> None:
        """Drop the least recently used, but never the one in use."""
        with self._lock:
            total = sum(user.size_bytes for user in self._users.values())
            while len(self._users) > 1 and (len(self._users) > self._users_most or total > self._size_most_bytes):
                total -= self._users.popitem(last=False)[1].size_bytes

    # Keeping

    def _work_unasked(self) -> float | None:
        return self._look_after_all(lambda: not self._background.stopping)

    def _look_after_all(self, go_on: Callable[[], bool]) -> float | None:
        """Code what is worth it and write what is worth keeping; when to look again."""
        self._tell_all()
        with self._lock:
            users = list(self._users.items())
        for user_id, user in users:
            if not go_on():
                return None
            user.index.code_vectors()
            if self._worth_keeping(user):
                self._try_to_keep(user_id, user)
        return SNAPSHOT_REST_S if any(self._worth_keeping(user, rested=False) for _, user in users) else None

    def _worth_keeping(self, user: UserIndex, *, rested: bool = True) -> bool:
        count = len(user.index)
        if count < SNAPSHOT_FROM:
            return False
        if user.has_first_codes():  # without them the next process would spend seconds to find the code book again
            return True
        if rested and monotonic() - user.kept_at_s < SNAPSHOT_REST_S:
            return False
        if not user.kept or user.index.coded_count > user.kept_codes:
            return True
        return user.position - user.kept >= max(SNAPSHOT_EVERY, count // SNAPSHOT_SHARE)

    def _try_to_keep(self, user_id: bytes, user: UserIndex) -> None:
        """Write a person's index to its snapshot. What goes wrong costs the next process some time, and is said."""
        user.kept_at_s, user.tried_codes = monotonic(), user.index.coded_count
        try:
            with self._writing:
                self._keep(user_id, user)
        except AicoError as exc:
            self._note(str(exc))

    def _keep(self, user_id: bytes, user: UserIndex) -> None:
        with user.lock:
            position, codes, frozen = user.position, user.index.coded_count, user.index.freeze()
        mark = self._feed.mark_of(position)
        if mark is None:
            return

        def place(give_name: Callable[[], bool]) -> bool:
            with self._connection.exclusive():  # nobody forgets between the look and the step
                return not self._feed.takes_away(after=position) and give_name()

        if self.files.write(user_id, self._filler(frozen, (position, *mark)), place):
            user.kept, user.kept_codes = position, codes

    def _filler(self, frozen: Frozen, mark: tuple[int, bytes, int]) -> Callable[[BinaryIO], None]:
        number, key, at = mark

        def head(arrays: list[tuple[str, str, list[int]]]) -> Head:
            gap_us = self._episode_gap_s * 1_000_000
            return Head(SNAPSHOT_FORMAT, analysis_digest(), gap_us, self._model, number, key, at, arrays)

        return lambda target: frozen.write(target, head)

    def _forget_snapshot(self, user_id: bytes) -> None:
        with self._lock:
            user = self._users.get(user_id)
        if user is not None:
            user.kept = 0
        try:
            self.files.delete(user_id)
        except AicoError as exc:
            self._note(str(exc))
        if user is not None and self._worth_keeping(user, rested=False):
            self._background.wake()

    def _note(self, problem: str) -> None:
        self.problems = [*self.problems[-9:], problem]
        self._untold.put(problem)
        self._background.wake()

    def _tell_all(self) -> None:
        with suppress(Empty, AicoError):
            while True:
                self._tell(self._untold.get_nowait())
