"""What memories mean, as embedding models see it: vectors of messages and facts, kept as rows of the truth.

A vector's id is a keyed hash of its owner and its model. Made anew it takes the place of the old one, and two
memories that say the same still have a vector each, so that forgetting one takes nothing from the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.row_ids import NaturalIds

STORED = np.dtype("<f2")
"""16-bit floats, little-endian: as precise as the models are."""

_ROWS_AT_ONCE = 5_000
_DROPPED_AT_ONCE = 2_000
_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Content:
    """What a message or fact says, as far as its vector depends on it."""

    id: bytes
    user_id: bytes
    text: str = field(repr=False)
    speaker: str | None = field(repr=False)
    """Who said it, the role where there is no name; None for a fact."""
    before_id: bytes | None = None
    """The turn before it in the same episode."""
    before_text: str | None = field(default=None, repr=False)
    before_speaker: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text: all of it, or as much as a model reads at once."""

    start: int
    """In characters."""
    length: int
    vector: npt.NDArray[np.float32] = field(repr=False)


class EmbeddingRepository:
    """Vectors of the truth, and how far each model has come. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, *, natural_ids: NaturalIds, episode_gap_s: int) -> None:
        self._connection, self._natural_ids = connection, natural_ids
        self._episode_gap_us = episode_gap_s * 1_000_000

    def add(self, model: str, content: Content, passages: Sequence[Passage]) -> None:
        """Keep the vectors of one memory, in place of those it had of this model. Call it inside a transaction.

        The first passage's vector is the memory's own; the further ones have rows in `passages`. If the turn that
        follows was embedded with another turn before it, its vector is emptied, to be made anew.
        """
        for passage in passages:
            owner = content.id
            if passage.start:
                owner = self._natural_ids.passage(content.id, passage.start)
                self._connection.execute(_INSERT_PASSAGE, (owner, content.id, passage.start, passage.length))
            vector, embedding_id = passage.vector.astype(STORED), self._natural_ids.embedding(owner, model)
            row = (embedding_id, content.user_id, owner, model, len(vector), vector.tobytes())
            self._connection.execute(_INSERT_VECTOR, row)
            if content.before_id is not None and not passage.start:
                self._connection.execute(
                    "INSERT OR REPLACE INTO vector_contexts VALUES (?, ?)", (embedding_id, content.before_id)
                )
        if content.speaker is not None:
            self._connection.execute(_EMPTY_NEXT, {"id": content.id, "model": model, "gap": self._episode_gap_us})

    def contents(self, ids: Iterable[bytes]) -> list[Content]:
        """What the memories with these ids say now; those that are gone are left out. Their order is not kept."""
        wanted, found = list(ids), []
        for first in range(0, len(wanted), _IDS_AT_ONCE):
            some = wanted[first : first + _IDS_AT_ONCE]
            sql = _CONTENTS.format(ids=", ".join("?" * len(some)))
            rows = self._connection.fetch_all(sql, [self._episode_gap_us, *some, *some])
            found += [Content(*row) for row in rows]
        return found

    def without_vector(self, model: str, dimension: int, *, after: int) -> list[bytes]:
        """The ids of memories changed after change number `after` that have no vector of this model, newest first.

        One of another length than `dimension` is none; with 0 any length will do.
        """
        if after < self._first_change() - 1:
            after = 0  # what the feed no longer tells is looked for in the tables
        sql = _MISSING if after == 0 else _MISSING_SINCE
        values: dict[str, Value] = {"model": model, "dimension": dimension, "after": after}
        return [row["id"] for row in self._connection.fetch_all(sql, values)]

    def dimension_of(self, model: str) -> int:
        """The length of this model's vectors here, 0 before its first. Asks no model, which may be out of reach."""
        rows = self._connection.fetch_committed("SELECT dimension FROM generations WHERE model = ?", (model,))
        return int(rows[0]["dimension"]) if rows else 0

    def of_user(
        self, user_id: bytes, model: str, dimension: int
    ) -> Iterator[tuple[list[bytes], npt.NDArray[np.float32]]]:
        """All of a person's committed vectors, some thousand at a time: the memories they belong to, and a row each."""
        last = 0
        while rows := self._connection.fetch_committed(
            f"{_VECTORS} WHERE e.user_id = ? AND e.model = ? AND e.dimension > 0 AND e.row_id > ? ORDER BY e.row_id LIMIT ?",
            (user_id, model, last, _ROWS_AT_ONCE),
        ):
            last = rows[-1]["row_id"]
            yield _as_matrix(rows, dimension)

    def of_memories(
        self, user_id: bytes, model: str, dimension: int, ids: Sequence[bytes]
    ) -> tuple[list[bytes], npt.NDArray[np.float32]]:
        """The committed vectors of some of a person's messages and facts."""
        rows: list[Row] = []
        for first in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[first : first + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            owners = (
                f"(e.owner_id IN ({marks}) OR e.owner_id IN (SELECT id FROM passages WHERE message_id IN ({marks})))"
            )
            rows += self._connection.fetch_committed(
                # The plus keeps SQLite from reading every vector of the person to find these few.
                f"{_VECTORS} WHERE {owners} AND +e.user_id = ? AND e.model = ? AND e.dimension > 0",
                [*some, *some, user_id, model],
            )
        return _as_matrix(rows, dimension)

    def memories_changed(self, user_id: bytes, model: str, *, after: int, up_to: int) -> list[bytes]:
        """The memories whose vectors of this model may be others since: committed changes in (after, up_to] gave or
        emptied one, or changed what a memory says. What was merely added has none yet."""
        rows = self._connection.fetch_committed(_OTHER_VECTORS, (after, up_to, user_id, model, after, up_to))
        return [memory_id for (memory_id,) in rows]

    def counts(self) -> dict[str, int]:
        """How many vectors there are of each model."""
        return dict(self._connection.fetch_all("SELECT model, count(*) FROM embeddings GROUP BY model"))

    def begin(self, model: str, dimension: int) -> int:
        """The change up to which everything has its vectors of this model, 0 for one that begins or has not finished.

        A model of another dimension than before begins anew.
        """
        self._connection.execute(
            "INSERT INTO generations (model, dimension, embedded_to) VALUES (?, ?, 0) ON CONFLICT (model) "
            "DO UPDATE SET dimension = excluded.dimension, embedded_to = 0 WHERE dimension <> excluded.dimension",
            (model, dimension),
        )
        return self.embedded_to(model) or 0

    def embedded_to(self, model: str) -> int | None:
        """The same; None for a model that never began, or was dropped."""
        row = self._connection.fetch_one("SELECT embedded_to FROM generations WHERE model = ?", (model,))
        return None if row is None else int(row[0])

    def reach(self, model: str, number: int) -> None:
        """Note that everything up to this change has its vectors."""
        self._connection.execute(
            "UPDATE generations SET embedded_to = max(embedded_to, ?) WHERE model = ?", (number, model)
        )

    def drop(self, model: str) -> int:
        """Remove all vectors of a model, some thousand at a time so that others may write; how many there were."""
        self._connection.execute("DELETE FROM generations WHERE model = ?", (model,))
        return self.drop_other_dimensions(model, -1)

    def drop_other_dimensions(self, model: str, dimension: int) -> int:
        """Remove the vectors of a model that have another length, as `drop` does; how many there were."""
        removed = 0
        while count := self._connection.execute(
            "DELETE FROM embeddings WHERE row_id IN "
            "(SELECT row_id FROM embeddings WHERE model = ? AND dimension <> ? LIMIT ?)",
            (model, dimension, _DROPPED_AT_ONCE),
        ).rowcount:
            removed += count
        return removed

    def _first_change(self) -> int:
        row = self._connection.fetch_one("SELECT min(number) FROM change_feed")
        return 0 if row is None else row[0] or 0


_INSERT_PASSAGE = """INSERT INTO passages (id, message_id, start, length) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET length = excluded.length"""
_INSERT_VECTOR = """INSERT INTO embeddings (id, user_id, owner_id, model, dimension, vector) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET dimension = excluded.dimension, vector = excluded.vector"""
_EMPTY_NEXT = """UPDATE embeddings SET vector = x'', dimension = 0
    WHERE model = :model AND dimension > 0 AND owner_id = (
        SELECT n.id FROM messages m JOIN messages n ON n.conversation_id = m.conversation_id AND n.user_id = m.user_id
        WHERE m.id = :id AND (n.at, n.position) > (m.at, m.position) AND n.at <= m.at + :gap
        ORDER BY n.at, n.position LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM vector_contexts c WHERE c.embedding_id = embeddings.id AND c.message_id = :id)"""
_CONTENTS = """SELECT m.id, m.user_id, m.text, coalesce(m.speaker, m.role), b.id, b.text, coalesce(b.speaker, b.role)
    FROM messages m LEFT JOIN messages b ON b.row_id = (
        SELECT q.row_id FROM messages q WHERE q.conversation_id = m.conversation_id AND +q.user_id = m.user_id
        AND (q.at, q.position) < (m.at, m.position) AND q.at >= m.at - ?
        ORDER BY q.at DESC, q.position DESC LIMIT 1)
    WHERE m.id IN ({ids})
    UNION ALL SELECT id, user_id, text, NULL, NULL, NULL, NULL FROM facts WHERE id IN ({ids})"""
_VECTORS = """SELECT e.row_id, coalesce(p.message_id, e.owner_id) AS memory_id, e.vector
    FROM embeddings e LEFT JOIN passages p ON p.id = e.owner_id"""
_OTHER_VECTORS = """SELECT DISTINCT coalesce(p.message_id, e.owner_id)
    FROM (SELECT DISTINCT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = 'embeddings') f
    CROSS JOIN embeddings e ON e.id = f.key LEFT JOIN passages p ON p.id = e.owner_id WHERE e.user_id = ? AND e.model = ?
    UNION SELECT key FROM change_feed WHERE number > ? AND number <= ? AND table_name IN ('messages', 'facts')
        AND column_mask <> 0 AND column_mask & 1 = 0"""
# Bit 0, the row id, is set by an insert alone. CROSS JOIN: else SQLite reads every vector of the person to find the few.
_WITHOUT = """NOT EXISTS (
    SELECT 1 FROM embeddings e WHERE e.owner_id = m.id AND e.model = :model AND e.dimension > 0
    AND :dimension IN (0, e.dimension))"""
_CHANGED = "(SELECT DISTINCT key FROM change_feed WHERE number > :after AND table_name = '{}') f"
_MISSING = f"""SELECT m.id, m.at FROM messages m WHERE {_WITHOUT}
    UNION ALL SELECT m.id, m.recorded_at AS at FROM facts m WHERE {_WITHOUT} ORDER BY at DESC"""
_MISSING_SINCE = f"""SELECT m.id, m.at FROM {_CHANGED.format("messages")} JOIN messages m ON m.id = f.key WHERE {_WITHOUT}
    UNION SELECT m.id, m.at FROM {_CHANGED.format("embeddings")} JOIN embeddings v ON v.id = f.key AND v.dimension = 0
        JOIN messages m ON m.id = v.owner_id WHERE {_WITHOUT}
    UNION SELECT m.id, m.recorded_at AS at FROM {_CHANGED.format("facts")} JOIN facts m ON m.id = f.key
        WHERE {_WITHOUT} ORDER BY at DESC"""


def _as_matrix(rows: Sequence[Row], dimension: int) -> tuple[list[bytes], npt.NDArray[np.float32]]:
    """Whose vectors these are, and a row each; those of another dimension are not this model's."""
    fitting = [row for row in rows if len(row["vector"]) == dimension * STORED.itemsize]
    stored = np.frombuffer(b"".join(row["vector"] for row in fitting), STORED)
    return [row["memory_id"] for row in fitting], stored.astype(np.float32).reshape(len(fitting), dimension)
