"""Keeps the vectors of the chosen embedding model in step with what is recorded, in the background."""

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aico.ai.embedding import Embedder
from aico.ai.memory.background import Background
from aico.ai.memory.index import Meaning
from aico.ai.memory.passages import embedded
from aico.ai.memory.questions import Questions
from aico.data.change_feed import ChangeFeed
from aico.data.embeddings import Content, EmbeddingRepository, Passage
from aico.data.libsql import LibSQLConnection
from aico.errors import AicoError, Busy, InvalidInput, ModelUnavailable, StorageError, storage_error

CHUNK = 64
"""Memories whose vectors are committed together: about a second of work, which is all that a crash costs."""
NOTED_EVERY = 1_000
"""Changes after which it is noted how far the model has come: so many are looked through when a vault is opened."""
OTHERS_S = 2.0
"""How soon to look again while another process is at it."""
RETRY_S, RETRY_MOST_S = 5, 300
_POLL_S = 0.05

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class EmbeddingStatus:
    """What there is of one embedding model."""

    model: str
    vectors: int
    pending: int
    """Messages and facts that wait for their vectors; 0 for a model that is not chosen."""
    chosen: bool
    problem: str | None
    """Why the model cannot be used at the moment, None while nothing is wrong."""


class Embeddings:
    """The vectors of a vault: those of the chosen model, and what is left of others. Any thread may use it.

    Recall asks the chosen model alone and uses what is there of its vectors, complete or not: no other model's can be
    compared with its question. An earlier model's vectors stay until the new ones are complete, so that going back
    costs nothing; then they are removed. A model that answers with vectors of another length than before is another
    one under the same name: its earlier vectors are removed at once, and all are made anew.

    >>> vault.embeddings.catch_up()
    >>> [(one.vectors, one.pending, one.chosen) for one in vault.embeddings.status()]
    [(0, 0, True)]
    """

    name = "embeddings"

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        repository: EmbeddingRepository,
        feed: ChangeFeed,
        embedder: Embedder | None,
        tell: Callable[[str], object],
    ) -> None:
        self._connection, self._repository, self._feed, self._embedder = connection, repository, feed, embedder
        self._tell = tell
        self._questions = None if embedder is None else Questions(embedder)
        self._background = Background(self._work_unasked, name="aico-embedding")
        self._began, self._reached, self._looked_at = False, 0, 0
        self._left = 0  # of the round that this process is at
        self._problem: str | None = None
        self._failures = 0
        self._dimension_known, self._dimension_assumed = 0, 0  # the second where the model could not be asked

    @property
    def model(self) -> str | None:
        """The id of the chosen model, None where memories are found by their words alone.

        >>> vault.embeddings.model
        'hash/64'
        """
        return None if self._embedder is None else self._embedder.id

    @property
    def dimension(self) -> int:
        """The length of the chosen model's vectors, 0 without a model.

        >>> vault.embeddings.dimension
        64
        """
        return 0 if self._embedder is None else self._embedder.dimension

    def dimension_here(self) -> int:
        """The length of the stored vectors that compare with the chosen model's, 0 while there are none.

        As the model says; where it cannot be reached, as what is stored under its name: recall must not wait for it.
        Where the two differ all are made anew, in the background.
        """
        stored = 0 if self._embedder is None else self._repository.dimension_of(self._embedder.id)
        if self._embedder is None or not stored:
            return 0
        if not self._dimension_assumed:
            try:
                self._dimension_known = self._embedder.dimension
            except ModelUnavailable:
                self._dimension_assumed = stored
            else:
                if self._dimension_known != stored:
                    self.wake()
                return self._dimension_known
        return self._dimension_assumed

    def status(self) -> list[EmbeddingStatus]:
        """Each model that has vectors here, and the chosen one; that first.

        >>> vault.embeddings.catch_up()
        >>> [(one.model, one.vectors, one.pending) for one in vault.embeddings.status()]
        [('hash/64', 2, 0)]
        """
        counts = self._repository.counts()
        if self.model is not None:
            counts.setdefault(self.model, 0)
        return [
            EmbeddingStatus(model, counts[model], self.lag(), True, self.problem)
            if model == self.model
            else EmbeddingStatus(model, counts[model], 0, False, None)
            for model in sorted(counts, key=lambda model: (model != self.model, model))
        ]

    @property
    def problem(self) -> str | None:
        """Why the chosen model could not be used when it was last tried.

        >>> vault.embeddings.problem is None
        True
        """
        asked = None if self._questions is None else self._questions.problem
        return self._problem or asked

    def try_out(self) -> None:
        """Ask the chosen model about one letter of nobody's, if there is one. Raises ModelUnavailable.

        >>> vault.embeddings.try_out()
        """
        if self._questions is not None:
            self._questions.try_out()

    def lag(self) -> int:
        """How many messages and facts wait for their vectors.

        >>> vault.embeddings.catch_up()
        >>> vault.embeddings.lag()
        0
        """
        if self._left or self.model is None:
            return self._left
        return len(self._repository.without_vector(self.model, self._dimension_known, after=self._position()))

    def catch_up(self, on_progress: Progress | None = None, *, timeout_s: float | None = None) -> None:
        """Return once all that is recorded has its vectors, which this thread makes unless another is at it.

        `on_progress` is called with how many are done and how many there are. Does nothing where no model is chosen.
        Raises ModelUnavailable; Busy after `timeout_s` seconds and the second that a step may take, StorageError
        inside a transaction. What was done is kept.

        >>> vault.embeddings.catch_up(timeout_s=60)
        >>> vault.embeddings.lag()
        0
        """
        if self.model is None:
            return
        if self._connection.in_transaction:
            raise StorageError("vectors are not made inside a transaction; none was made", hint="end it first")
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        self.dimension_here()  # whose model gives others now than before has all to make anew
        most = 0
        while left := self.lag():
            most = max(most, left)
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{most - left} of {most} memories got their vectors in {timeout_s:g} s; the others are found by their words",
                    hint="wait again, or go on: they are made in the background",
                )
            round_of = _Round(most - left, lambda: time.monotonic() < deadline, on_progress)
            if not self._work_alone(round_of):
                if on_progress is not None:
                    on_progress(most - left, most)
                time.sleep(_POLL_S)

    def drop(self, model: str) -> int:
        """Remove all vectors of a model; how many there were. Those of the chosen model are made anew, if one is chosen.

        Raises InvalidInput for a model of which there is nothing.

        >>> vault.embeddings.catch_up()
        >>> vault.embeddings.drop("hash/64")  # all are made anew
        2
        """
        if model not in self._repository.counts():
            raise InvalidInput("there are no vectors of this model; nothing was removed", hint="`status` names them")
        removed = self._repository.drop(model)
        if model == self.model:
            self._began, self._reached = False, 0
            self.wake()
        return removed

    def meaning_of(self, question: str) -> Meaning | None:
        """What a question means to the chosen model; None where there is no model, or it cannot be used: see `problem`.

        >>> meaning = vault.embeddings.meaning_of("where do I live?")
        >>> meaning.question.shape
        (64,)
        """
        return None if self._questions is None else self._questions.meaning_of(question)

    def wake(self) -> None:
        """Something may have been recorded: its vectors are made in the background, soon."""
        if self._embedder is not None:
            self._background.wake()

    def wake_if_behind(self) -> None:
        """`wake` if something waits for its vector, or that cannot be told at a glance."""
        if self.model is None:
            return
        newest = self._feed.newest()
        if self._position() == 0 or self.lag():
            self.wake()
        else:
            self._looked_at = newest

    def wake_if_changed(self) -> None:
        """`wake` if anything was written since nothing was left to do, by this process or another. Costs microseconds."""
        if self._embedder is not None and self._feed.newest() != self._looked_at:
            self.wake()

    def close(self) -> None:
        """End the background work after the batch at hand. May be called twice."""
        self._background.stop()

    def _position(self) -> int:
        assert self.model is not None
        noted = self._repository.embedded_to(self.model)
        if noted is None:
            return 0
        stored = self._repository.dimension_of(self.model)
        return max(noted, self._reached) if self._dimension_known in (0, stored) else 0

    def _work_unasked(self) -> float | None:
        """What the background does: everything that is left. Returns when to try again."""
        try:
            at_it = self._work_alone(_Round(0, lambda: not self._background.stopping, None))
        except Exception as exc:  # noqa: BLE001  # the edge of a thread: what a model raises must not end it
            self._problem = str(exc) if isinstance(exc, AicoError) else f"the model failed: {type(exc).__name__}"
            self._failures += 1
            return float(min(RETRY_S * 2 ** (self._failures - 1), RETRY_MOST_S))
        return None if at_it else OTHERS_S

    def _work_alone(self, round_of: "_Round") -> bool:
        """Make vectors until none is missing, unless another thread or process is at it: false then.

        The kernel lets go of the lock when its holder is killed.
        """
        descriptor = _opened_lock(self._connection.db_path)
        try:
            if not _taken(descriptor):
                return False
            try:
                self._work(round_of)
            finally:
                self._left = 0
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing leaves it to a child that was forked meanwhile
        finally:
            os.close(descriptor)
        return True

    def _work(self, round_of: "_Round") -> None:
        embedder = self._embedder
        assert embedder is not None
        while round_of.go_on():
            newest = self._feed.newest()
            position = self._begin(embedder)
            missing = self._repository.without_vector(embedder.id, embedder.dimension, after=position)
            for first in range(0, len(missing), CHUNK):
                self._left = len(missing) - first
                round_of.tell(self._left)
                if not self._embed(embedder, missing[first : first + CHUNK], round_of.go_on):
                    return
                round_of.done += len(missing[first : first + CHUNK])
            self._problem, self._failures, self._left = None, 0, 0
            self._reach(embedder.id, newest)
            round_of.tell(0)
            if not missing:
                self._looked_at = newest
                return

    def _embed(self, embedder: Embedder, ids: list[bytes], go_on: Callable[[], bool]) -> bool:
        """Make and keep the vectors of some memories; false if it was not to go on."""
        while ids:
            contents = self._repository.contents(ids)
            made = embedded(embedder, contents, go_on)
            if made is None:
                return False
            ids = self._connection.write(partial(self._keep, embedder.id, contents, made))
        return True

    def _keep(self, model: str, contents: list[Content], made: list[list[Passage]]) -> list[bytes]:
        """Keep vectors, but none of what was forgotten or changed meanwhile; the ids of what has to be made again."""
        now = {content.id: content for content in self._repository.contents(content.id for content in contents)}
        for content, passages in zip(contents, made, strict=True):
            if now.get(content.id) == content:
                self._repository.add(model, content, passages)
        return [content.id for content in contents if now.get(content.id, content) != content]

    def _begin(self, embedder: Embedder) -> int:
        """The change from which to go on. Raises InvalidInput if another process put another model in this one's place.

        Two processes with different models would otherwise undo each other's work for ever.
        """
        known, dimension = self._repository.embedded_to(embedder.id), embedder.dimension
        stored = self._repository.dimension_of(embedder.id)
        is_another = known is not None and stored != dimension
        if self._began and (is_another or (known is None and self._repository.counts())):
            raise InvalidInput(
                f"another process removed the vectors of {embedder.id} for another model's; recall goes on by words",
                hint="open the vault again with the model it uses now",
            )
        position = self._repository.begin(embedder.id, dimension)
        self._began, self._dimension_known, self._dimension_assumed = True, dimension, 0
        if is_another:
            removed = self._repository.drop_other_dimensions(embedder.id, dimension)
            self._tell(
                f"the model {embedder.id} gives vectors of {dimension} numbers now, not of {stored}: it is another model "
                f"under the same name; the {removed:,} vectors it made before were removed, and all are made anew"
            )
        return 0 if known is None else max(position, self._reached)

    def _reach(self, model: str, number: int) -> None:
        """All up to this change have their vectors. When that is so for the first time, other models are done with."""
        noted = self._repository.embedded_to(model) or 0
        if noted == 0:
            for other in self._repository.counts():
                if other != model:
                    self._repository.drop(other)
            self._repository.drop_other_dimensions(model, self.dimension)  # a process that began anew may have died
        if number - noted >= NOTED_EVERY or noted == 0:
            self._repository.reach(model, number)
        self._reached = number


class _Round:
    """Whether to go on, and who is told of it."""

    def __init__(self, done: int, go_on: Callable[[], bool], on_progress: Progress | None) -> None:
        self.done, self.go_on, self._on_progress = done, go_on, on_progress

    def tell(self, left: int) -> None:
        if self._on_progress is not None:
            self._on_progress(self.done, self.done + left)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened_lock(database: Path) -> int:
    try:
        return os.open(f"{database}-embedding", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise storage_error(exc, database.parent, "no vector was made") from exc
