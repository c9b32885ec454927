"""Messages and facts by what they say and mean: one recall index for each person, kept in step with the truth."""

from collections.abc import Callable, Iterable

import numpy as np

from aico.ai.memory.candidates import Floats
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.hits import Hit, hit_of_fact, hit_of_message
from aico.ai.memory.importance import Importance, Liking, lifted
from aico.ai.memory.index import Filter, Meaning, Scored
from aico.ai.memory.indexes import Indexes
from aico.data.conversations import ConversationRepository
from aico.data.facts import FactRepository


class SemanticMemoryStore:
    """Searches what a person said and what is held true about them. Any thread may use it.

    An index lives in memory and is derived wholly from the truth. Before each answer it reads on from the change it
    had reached, so what this or another process committed a moment ago is found.
    """

    name = "recall index"
    trouble = ""

    def __init__(
        self,
        indexes: Indexes,
        *,
        conversations: ConversationRepository,
        facts: FactRepository,
        embeddings: Embeddings,
        importance: Importance,
    ) -> None:
        self.indexes = indexes
        self._conversations, self._facts, self._embeddings = conversations, facts, embeddings
        self._importance = importance

    def search(
        self,
        user_id: bytes,
        query: str,
        *,
        limit: int,
        where: Filter,
        meaning: Meaning | None = None,
        asked_at_us: int | None = None,
    ) -> list[Hit]:
        """The best hits, best first. Reads their texts from the truth, and only rows that belong to this user.

        The chosen model is asked what the query means, unless `meaning` is given. Where it cannot be used, words alone
        answer, and `Embeddings.problem` tells why. What time the question names is told by when it was asked.
        """
        index = self.indexes.current(user_id)
        if meaning is None and index.vector_count:
            meaning = self._embeddings.meaning_of(query)
        liked = dict[bytes, Liking]()

        def lift(ids: list[bytes], scores: Floats) -> Floats:
            liked.update(self._importance.of(user_id, ids))
            factors = np.array([liked[id_].factor if id_ in liked else 1 for id_ in ids], np.float32)
            return lifted(scores, factors) if liked else scores

        scored = index.search(query, limit=limit, where=where, meaning=meaning, asked_at_us=asked_at_us, lift=lift)
        messages = self._conversations.moments(user_id, _ids_of(scored, "message"))
        facts = self._facts.facts(user_id, _ids_of(scored, "fact"))
        hits = []
        for found in scored:
            if found.id in messages:
                hits.append(hit_of_message(messages[found.id], found, liked.get(found.id)))
            elif found.id in facts:
                hits.append(hit_of_fact(facts[found.id], found, liked.get(found.id)))
        return hits  # a row that was forgotten since the search is simply no hit

    def containing_all(self, user_id: bytes, text: str, where: Filter) -> list[bytes]:
        """The ids of all messages and facts that contain every content word of `text`, facts of the past included."""
        return self.indexes.current(user_id).containing_all(text, where)

    def holds_all(self, user_id: bytes, text: str) -> Callable[[str], bool]:
        """Whether another text contains every content word of `text`, judged like those of this user's memories."""
        return self.indexes.current(user_id).holds_all(text)

    def content_words(self, user_id: bytes, text: str) -> tuple[str, ...]:
        """The words of `text` that count for `containing_all`."""
        return self.indexes.current(user_id).content_words(text)

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Drop forgotten rows from this process's index and from the disk now; other processes follow by the feed."""
        self.indexes.erase(user_id, ids)

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether the index or its snapshot still has one of these rows."""
        return self.indexes.holds_any(user_id, ids)

    def lag(self) -> int:
        """How many changes the index furthest behind has not read yet; it does before it next answers."""
        return self.indexes.lag()

    def drop(self) -> None:
        """Let go of every index, here and on the disk; each is built anew when its person is asked about."""
        self.indexes.drop()

    def catch_up(self) -> None:
        """Bring every index in memory up to the newest change."""
        self.indexes.catch_up()


def _ids_of(scored: Iterable[Scored], kind: str) -> list[bytes]:
    return [found.id for found in scored if found.kind == kind]
