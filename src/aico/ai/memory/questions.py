"""What questions mean: their vectors, asked of the model once."""

import threading
import time
from collections import OrderedDict

from aico.ai.embedding import Embedder, Vectors
from aico.ai.memory.index import Meaning
from aico.ai.memory.passages import checked_vectors
from aico.errors import ModelUnavailable

KEPT = 64
RETRY_S = 30.0
"""How long a model that failed is left alone, so that each recall does not wait for it anew."""
STRANGERS = (
    "The train leaves at a quarter past nine.",
    "She bought new shoes for the wedding.",
    "Der Drucker hat kein Papier mehr.",
    "The soup needs a little more salt.",
    "On a repeint la cuisine en jaune.",
    "He plays chess with his uncle on Sundays.",
    "明天下午我要去看牙医。",
    "The dog barked half the night.",
    "Мы посмотрели старый фильм о море.",
    "I forgot my password again.",
    "El partido terminó sin goles.",
    "The museum is closed on Mondays.",
)
"""Sentences about nothing in particular. How like a question they are tells what no likeness looks like to this
model, which a handful of memories cannot; among many memories they hardly count."""


class Questions:
    """Turns questions into what the index compares. Any thread may use it. Nothing of it outlives the process."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()  # guards the two below
        self._known: OrderedDict[str, Meaning] = OrderedDict()
        self._strangers: Vectors | None = None
        self._not_before = 0.0
        self.problem: str | None = None

    def meaning_of(self, question: str) -> Meaning | None:
        """What the question means; None while the model cannot be used, and `problem` says why."""
        with self._lock:
            known = self._known.get(question)
            if known is not None:
                self._known.move_to_end(question)
                return known
        if time.monotonic() < self._not_before:
            return None
        try:
            meaning = self._asked(question)
        except ModelUnavailable as exc:
            self.problem, self._not_before = str(exc), time.monotonic() + RETRY_S
            return None
        self.problem = None
        with self._lock:
            self._known[question] = meaning
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return meaning

    def try_out(self) -> None:
        """Ask the model about one letter of nobody's; from then on it is used again. Raises ModelUnavailable."""
        checked_vectors(self._embedder, [self._embedder.query_prefix + "a"])
        self.problem, self._not_before = None, 0.0

    def _asked(self, question: str) -> Meaning:
        embedder = self._embedder
        if self._strangers is None:
            self._strangers = checked_vectors(embedder, [embedder.passage_prefix + text for text in STRANGERS])
        [vector] = checked_vectors(embedder, [embedder.query_prefix + question])
        return Meaning.of(vector, self._strangers)
