"""Analytics as others meet it: SQL over columns, reports with a question for a name, and what leaves for training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.recall_log import TOPIC, RecallLog
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.analytics import topics
from aico.analytics.reports import REPORTS, Report, Span, checked_span
from aico.analytics.training import TrainingExport, TrainingReport
from aico.analytics.view import ColumnView
from aico.data.duckdb import Answer
from aico.data.embeddings import EmbeddingRepository
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import rows_by_id
from aico.errors import InvalidInput, NotFound

UNANSWERED_SHOWN = 100


class AnalyticsEngine:
    """What a person's memory tells when it is looked at as a whole. Any thread may use it. Needs the extra `analytics`.

    >>> _ = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    >>> vault.analytics.sql("mia", "SELECT role, count(*) FROM messages GROUP BY role").rows
    [('user', 1)]
    >>> vault.analytics.report("activity", "mia", by="month").answer.columns
    ('from', 'messages', 'by_user', 'by_companion')
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        view: ColumnView,
        semantic: SemanticMemoryStore,
        embeddings: Embeddings,
        vectors: EmbeddingRepository,
        recall_log: RecallLog,
        training: TrainingExport,
    ) -> None:
        self._connection, self._view = connection, view
        self._semantic, self._embeddings, self._vectors = semantic, embeddings, vectors
        self._recall_log, self._training = recall_log, training

    @property
    def names(self) -> Sequence[str]:
        """The reports there are.

        >>> "activity" in vault.analytics.names
        True
        """
        return (*REPORTS, "topics", "unanswered")

    def sql(self, user: str, sql: str, parameters: Sequence[Any] = (), *, seconds_max: float = 60.0) -> Answer:
        """One statement that reads, over the tables that `tables` names, which hold this person's rows alone.

        Times are UTC; those that end in `_local` are what the person's clock showed. Raises InvalidInput for anything
        but one reading statement or for more than 100,000 rows, Busy after `seconds_max` seconds, StorageError where
        memory does not suffice, NotFound for a user.

        >>> vault.analytics.sql("mia", "SELECT count(*) FROM facts WHERE category = ?", ["home"]).rows
        [(1,)]
        """
        return self._view.sql(user, sql, parameters, seconds_max=seconds_max)

    def tables(self) -> Mapping[str, Sequence[str]]:
        """The tables that `sql` may name, with their columns.

        >>> "said_local" in vault.analytics.tables()["messages"]
        True
        """
        return self._view.tables()

    def report(self, /, name: str, user: str, **options: Any) -> Report:
        """One report by name. Most take `by`: "day", "week" or "month". Raises NotFound, InvalidInput.

        >>> vault.analytics.report("activity", "mia", by="month").answer.records()[0]["messages"]
        1
        """
        self._recall_log.flush()
        if name == "topics":
            return self.topics(user, **options)
        if name == "unanswered":
            return self.unanswered(user)
        made = REPORTS.get(name)
        if made is None:
            raise InvalidInput("there is no such report", hint=f"there are: {', '.join(self.names)}", field="name")
        try:
            return made(self._view, user, **options)
        except TypeError as exc:
            raise InvalidInput("the report does not know that option", field="by") from exc

    def topics(self, user: str, *, by: Span = "month") -> Report:
        """What was talked about in each day, week or month: clusters of what messages mean, named by their own words.

        Raises NotFound where there are no vectors: without an embedding model, or before it got to work.

        >>> for text in ("The tram is late.", "The tram is slow.", "Where is the tram?"):
        ...     _ = vault.memory.record("mia", text, conversation="tram")
        >>> vault.views.wait()
        >>> sum(count for month, topic, count in vault.analytics.topics("mia").answer.rows)
        4
        """
        user_id = self._view.user_id(user)
        said = self._view.ask(
            user_id,
            'SELECT id, CAST(date_trunc($1, said_local) AS DATE) AS "from" FROM messages',
            (checked_span(by),),
            tables=("messages",),
            rows_max=None,
        )
        months = {id_.bytes: when for id_, when in said.rows}
        ids, vectors = self._message_vectors(user_id, months.keys())
        labels, middles = topics.clusters(vectors)
        typical = [
            [ids[place] for place in topics.nearest(vectors, labels, middles, topic)] for topic in range(len(middles))
        ]
        named = topics.names(
            [self._texts(user_id, some) for some in typical],
            lambda text: self._semantic.content_words(user_id, text),
        )
        counts: dict[tuple[Any, str], int] = {}
        for id_, label in zip(ids, labels.tolist(), strict=True):
            place = (months[id_], named[label])
            counts[place] = counts.get(place, 0) + 1
        rows = [(when, topic, count) for (when, topic), count in sorted(counts.items())]
        return Report("topics", f"Topics by {by}", Answer(("from", "topic", "messages"), rows), "lines")

    def unanswered(self, user: str) -> Report:
        """What was asked and not found, as far as the log goes back: the question, how often, and when last.

        >>> vault.analytics.unanswered("mia").answer.columns
        ('question', 'times', 'last_asked')
        """
        self._recall_log.flush()
        rows = self._connection.fetch_all(
            "SELECT extra ->> '$.question' AS question, count(*) AS times, max(timestamp) AS last FROM logs "
            "WHERE user_id = ? AND topic = ? AND json_valid(extra) AND extra ->> '$.question' IS NOT NULL "
            "GROUP BY 1 ORDER BY times DESC, last DESC LIMIT ?",
            (self._view.user_id(user), TOPIC, UNANSWERED_SHOWN),
        )
        found = [(question, times, np.datetime64(last, "us").item()) for question, times, last in rows]
        return Report("unanswered", "Asked and not found", Answer(("question", "times", "last_asked"), found))

    def export(
        self,
        user: str,
        file: Path | str,
        *,
        format: Literal["jsonl", "parquet"] = "jsonl",
        redact: bool = True,
    ) -> TrainingReport:
        """Write what the person agreed to, **in the clear**, for training a model. See `aico.analytics.training`.

        >>> vault.preferences.set("mia", "training.consent", True)
        >>> vault.analytics.export("mia", folder / "training.jsonl").messages
        1
        """
        return self._training.write(user, Path(file).expanduser().absolute(), format=format, redact=redact)

    def _message_vectors(self, user_id: bytes, wanted: Any) -> tuple[list[bytes], Vectors]:
        model = self._embeddings.model
        ids, parts = list[bytes](), []
        if model is not None:
            for some, vectors in self._vectors.of_user(user_id, model, self._embeddings.dimension):
                of_messages = [place for place, id_ in enumerate(some) if id_ in wanted]
                ids += [some[place] for place in of_messages]
                parts.append(vectors[of_messages])
        if len(ids) < 2:
            raise NotFound(
                "topics are clusters of what messages mean, and none has a vector yet",
                hint="install aico[embed], or wait until `aico models ls` says that all is embedded",
            )
        whole = np.concatenate(parts)
        if len(ids) <= topics.MESSAGES_MAX:
            return ids, whole
        evenly = np.linspace(0, len(ids) - 1, topics.MESSAGES_MAX).astype(int)
        return [ids[place] for place in evenly], whole[evenly]

    def _texts(self, user_id: bytes, ids: Sequence[bytes]) -> list[str]:
        rows = rows_by_id(
            self._connection, "SELECT text FROM messages WHERE id IN ({ids}) AND +user_id = ?", ids, user_id
        )
        return [row["text"] for row in rows]
